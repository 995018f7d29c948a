"""A modern adversarial pair: residual networks without normalisation, self-attention at a coarse level, in 2D and 3D.

Huang, Gokaslan, Kuleshov, Tompkin: "The GAN is dead; long live the GAN! A modern GAN baseline" (R3GAN), NeurIPS 2024: leaky
ReLU, no normalisation, residual blocks that begin as their shortcuts (Zhang, Dauphin, Ma, "Fixup initialization", ICLR 2019), a
loss of pairs with zero-centred gradient penalties on real and fake (`tasks/parts/adversarial.py`). Attention relates what lies
far apart (Zhang et al., "Self-attention generative adversarial networks", ICML 2019), at the level before the coarsest, where
it is cheap. What is asked for stands beside the critic's image, and enters every level of the generator.

On a CPU the finest level is most of the work, so there is none: the first step is taken by one strided convolution in the
critic, and in the generator by an interpolation before its last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from hounsfield.core import plan
from hounsfield.models.parts import growth
from hounsfield.models.parts.attention import AttentionBlock
from hounsfield.models.parts.blocks import CONV, Shrink
from hounsfield.models.parts.pyramid import steps

OUTPUT: Literal["generator"] = "generator"

LEAK = 0.2


class Options(plan.Options):
    """size: of the images, per axis, or one number for all. strides: the step to each coarser level, in the same way.
    width: channels of the level after the first step, doubled at each coarser one up to max_width. blocks: residual ones of
    each level. attention: at the level before the coarsest. latent: numbers that an image is drawn from."""

    size: tuple[PositiveInt, ...] = (64,)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,),) * 4, min_length=1)
    width: int = Field(default=32, ge=8, multiple_of=8)
    max_width: int = Field(default=256, ge=8, multiple_of=8)
    blocks: int = Field(default=1, ge=1)
    attention: bool = True
    latent: int = Field(default=64, ge=1)


class Block(nn.Module):
    """(B, C, *s) -> the same: two convolutions beside a shortcut; the second is zero at first."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.first = CONV[ndim](channels, channels, 3, padding=1)
        self.second = CONV[ndim](channels, channels, 3, padding=1, bias=False)
        for weight in self.second.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.leaky_relu(self.first(F.leaky_relu(x, LEAK)), LEAK)
        out: Tensor = x + self.second(inner)
        return out


class Generator(nn.Module):
    """(B, latent) and what is asked for (B, K, *size) -> (B, C, *size), about in [-1, 1]."""

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        self.steps, self.size = steps(options.strides, ndim), growth.of_axes(options.size, ndim)
        grids = growth.grids(self.size, self.steps)
        self.grid, self.whole = grids[-1], growth.whole(grids, self.steps)
        wide = growth.widths(options.width, options.max_width, len(self.steps))
        self.first = nn.Linear(options.latent, wide[-1] * prod(self.grid))
        levels = list(reversed(range(len(wide))))
        self.enter = nn.ModuleList(CONV[ndim](wide[k] + asked, wide[k], 1) if asked else nn.Identity() for k in levels)
        self.levels = nn.ModuleList(_level(options, wide, grids, k, ndim) for k in levels)
        self.narrow = nn.ModuleList(CONV[ndim](wide[k], wide[k - 1], 1) for k in levels[:-1])
        self.last = CONV[ndim](wide[0], channels, 3, padding=1)

    def forward(self, noise: Tensor, asked: Tensor | None = None) -> Tensor:
        asked = None if asked is None else growth.around(asked, self.whole)
        x = self.first(noise).reshape(len(noise), -1, *self.grid)
        for k, (enter, level) in enumerate(zip(self.enter, self.levels, strict=True)):
            if k:
                x = _finer(self.narrow[k - 1](x), self.steps[-k])
            x = level(enter(growth.beside(x, asked)))
        drawn: Tensor = self.last(F.leaky_relu(_finer(x, self.steps[0]), LEAK))
        return growth.middle(drawn, self.size)


def _finer(x: Tensor, step: Sequence[int]) -> Tensor:
    """Size n becomes n * step, by linear interpolation: channels that become voxels leave a pattern of their grid (Odena,
    Dumoulin, Olah, "Deconvolution and checkerboard artifacts", Distill 2016)."""
    size = [n * s for n, s in zip(x.shape[2:], step, strict=True)]
    return F.interpolate(x, size=size, mode="bilinear" if x.ndim == 4 else "trilinear")


class Discriminator(nn.Module):
    """(B, C, *size) and what was asked for (B, K, *size) -> (B,) logits, of which only differences mean anything: higher is
    more real."""

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        strides = steps(options.strides, ndim)
        wide = growth.widths(options.width, options.max_width, len(strides))
        first = tuple(n // s for n, s in zip(growth.of_axes(options.size, ndim), strides[0], strict=True))
        self.first = CONV[ndim](channels + asked, wide[0], tuple(s + 2 for s in strides[0]), strides[0], 1)
        grids = [first]
        for step in strides[1:]:
            grids.append(tuple(-(-n // s) for n, s in zip(grids[-1], step, strict=True)))
        self.levels = nn.ModuleList(_level(options, wide, grids, k, ndim) for k in range(len(wide)))
        self.shrink = nn.ModuleList(
            nn.Sequential(Shrink(step), CONV[ndim](wide[k], wide[k + 1], 1)) for k, step in enumerate(strides[1:])
        )
        self.features = nn.Linear(wide[-1] * prod(grids[-1]), wide[-1])
        self.last = nn.Linear(wide[-1], 1)

    def forward(self, image: Tensor, asked: Tensor | None = None) -> Tensor:
        # Only the plain kernel of attention can be differentiated twice, as gradient penalties want it.
        with sdpa_kernel(SDPBackend.MATH):
            x = self.levels[0](self.first(growth.beside(image, asked)))
            for shrink, level in zip(self.shrink, self.levels[1:], strict=True):
                x = level(shrink(x))
        features = F.leaky_relu(self.features(F.leaky_relu(x, LEAK).flatten(1)), LEAK)
        logits: Tensor = self.last(features)[:, 0]
        return logits


class GAN(nn.Module):
    """Noise (B, *noise_shape), standard normal, and what is asked for (B, K, *size), None for K = 0 -> images (B, C, *size) in
    [-1, 1].

    objective: what the two are trained for, see hounsfield.models.Model. changed: probability with which images are changed
    before the critic sees them, which the training adapts.
    """

    objective: Literal["relativistic"] = "relativistic"
    changed: Tensor

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        self.noise_shape = (options.latent,)
        self.generator = Generator(options, channels, asked, ndim)
        self.discriminator = Discriminator(options, channels, asked, ndim)
        self.register_buffer("changed", torch.zeros(()))

    def forward(self, noise: Tensor, asked: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise, asked)
        return images.clamp(-1, 1)


def _level(options: Options, wide: Sequence[int], grids: Sequence[tuple[int, ...]], level: int, ndim: int) -> nn.Module:
    """The blocks of one level, counted from fine to coarse; grids: the sizes of all."""
    blocks: list[nn.Module] = [Block(wide[level], ndim) for _ in range(options.blocks)]
    if options.attention and level == max(0, len(wide) - 2):
        blocks.append(AttentionBlock(wide[level], grids[level], shift=False))
    return nn.Sequential(*blocks)


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See GAN; in_channels: of the images; out_channels: of what is asked for, 0 for nothing."""
    return GAN(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """Any size will do."""
    return (1,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The size of the images and the steps to it."""
    return growth.rules(shape, voxel)


def training() -> plan.Decision:
    """The published moments, and a larger rate for short trainings: on chest X-rays KID 2.95 after 130 steps of 32, and 5,025
    after 112 steps at the published 2e-4."""
    player = {"rate": 1.0, "betas": (0.0, 0.99)}
    why = "as published for R3GAN: no momentum between adversaries"
    return plan.Decision(
        {
            "lr": 1e-3,
            "warmup": 0.02,
            "weight_decay": 0.0,
            "clip": 0.0,
            "ema": 0.999,
            "players": {"discriminator": player, "generator": player},
        },
        {
            "lr": "five times the rate published for R3GAN, which hardly moved in a short training",
            "players": why,
            "ema": "adversaries circle each other: their mean is steadier",
        },
    )


def sizes(options: Options) -> tuple[Options, ...]:
    """Widths that oneDNN and tensor cores compute without waste."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32, 16))
