"""A rectified flow: a U-Net that says in which direction noise becomes an image, followed in a few steps; in 2D and 3D.

Liu, Gong, Liu: "Flow straight and fast: learning to generate and transfer data with rectified flow", ICLR 2023, section 2: on
the straight line between noise and image the velocity is their difference, which a network learns to tell from place and
time; an image is drawn by following it. Heun's method takes two velocities a step (Karras et al., "Elucidating the design space
of diffusion-based generative models", NeurIPS 2022, algorithm 1). The time scales and shifts the normalised features (Dhariwal,
Nichol, NeurIPS 2021), what is asked for stands beside the image, and attention works at the level before the coarsest. As in
`gan`, the finest level is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core import plan
from hounsfield.models.parts import growth
from hounsfield.models.parts.attention import AttentionBlock
from hounsfield.models.parts.blocks import CONV, GROUP, group_norm
from hounsfield.models.parts.pyramid import steps

OUTPUT: Literal["generator"] = "generator"

WAVES = 32  # frequencies in which the time is told
FASTEST = 1000.0  # of them, in radians over the whole of the time


class Options(plan.Options):
    """size: of the images, per axis, or one number for all. strides: the step to each coarser level, in the same way.
    width: channels of the level after the first step, doubled at each coarser one up to max_width. blocks: of each level,
    on the way down and on the way up. attention: at the level before the coarsest. evaluations: of the network for an image."""

    size: tuple[PositiveInt, ...] = (64,)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,),) * 4, min_length=1)
    width: int = Field(default=32, ge=GROUP, multiple_of=GROUP)
    max_width: int = Field(default=256, ge=GROUP, multiple_of=GROUP)
    blocks: int = Field(default=1, ge=1)
    attention: bool = True
    evaluations: int = Field(default=20, ge=2, multiple_of=2)


class Block(nn.Module):
    """(B, C, *s) and what is told (B, D) -> (B, out, *s): two convolutions beside a shortcut, the second zero at first; what is
    told scales and shifts between them."""

    def __init__(self, channels: int, out: int, told: int, ndim: int) -> None:
        super().__init__()
        self.first = nn.Sequential(group_norm(channels), nn.SiLU(), CONV[ndim](channels, out, 3, padding=1))
        self.norm, self.told = group_norm(out), nn.Linear(told, 2 * out)
        self.second = CONV[ndim](out, out, 3, padding=1)
        self.shortcut = CONV[ndim](channels, out, 1) if channels != out else nn.Identity()
        for weight in self.second.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.told(told).reshape(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        inner = F.silu(self.norm(self.first(x)) * (1 + scale) + shift)
        out: Tensor = self.shortcut(x) + self.second(inner)
        return out


class Level(nn.Module):
    """Blocks of one level, and attention over the whole map where a window is given."""

    def __init__(self, channels: int, out: int, told: int, count: int, window: Sequence[int] | None, ndim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels if k == 0 else out, out, told, ndim) for k in range(count))
        self.attention = nn.Identity() if window is None else AttentionBlock(out, window, shift=False)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, told)
        out: Tensor = self.attention(x)
        return out


class Flow(nn.Module):
    """Noise (B, *noise_shape), standard normal, and what is asked for (B, K, *size), None for K = 0 -> images (B, C, *size) in
    [-1, 1].

    objective: what it is trained for, see hounsfield.models.Model.
    """

    objective: Literal["flow"] = "flow"

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        strides = steps(options.strides, ndim)
        self.size, self.steps = growth.of_axes(options.size, ndim), strides
        self.noise_shape = (channels, *self.size)
        self.evaluations = options.evaluations
        wide = growth.widths(options.width, options.max_width, len(strides))
        told = 4 * wide[0]
        self.time = nn.Sequential(nn.Linear(2 * WAVES, told), nn.SiLU(), nn.Linear(told, told))
        grids = growth.grids(self.size, strides)
        self.whole = growth.whole(grids, strides)
        windows = [grids[k] if options.attention and k == max(0, len(wide) - 2) else None for k in range(len(wide))]

        def level(k: int, channels: int) -> Level:
            return Level(channels, wide[k], told, options.blocks, windows[k], ndim)

        first = strides[0]
        self.first = CONV[ndim](channels + asked, wide[0], tuple(s + 2 for s in first), first, 1)
        self.down = nn.ModuleList(level(k, wide[k]) for k in range(len(wide)))
        self.shrink = nn.ModuleList(_shrink(wide[k], wide[k + 1], step) for k, step in enumerate(strides[1:]))
        self.narrow = nn.ModuleList(CONV[ndim](wide[k + 1], wide[k], 1) for k in range(len(wide) - 1))
        self.up = nn.ModuleList(level(k, 2 * wide[k]) for k in range(len(wide) - 1))
        self.norm = group_norm(wide[0])
        self.last = CONV[ndim](wide[0], channels * prod(first), 3, padding=1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def velocity(self, x: Tensor, time: Tensor, asked: Tensor | None = None) -> Tensor:
        """(B, C, *size) at times (B,) from 0, noise, to 1, image -> how it changes, per unit of time."""
        waves = torch.exp(torch.linspace(0, math.log(FASTEST), WAVES, device=x.device)) * time[:, None]
        told = F.silu(self.time(torch.cat([waves.sin(), waves.cos()], dim=1)))
        x = self.first(growth.around(growth.beside(x, asked), self.whole))
        skips = []
        for k, level in enumerate(self.down):
            x = level(self.shrink[k - 1](x) if k else x, told)
            skips.append(x)
        for k in reversed(range(len(self.up))):
            wider = F.interpolate(self.narrow[k](x), scale_factor=tuple(map(float, self.steps[k + 1])), mode="nearest")
            x = self.up[k](torch.cat([wider, skips[k]], dim=1), told)
        out = growth.unfolded(self.last(F.silu(self.norm(x))), self.steps[0])
        return growth.middle(out, self.size)

    def forward(self, noise: Tensor, asked: Tensor | None = None) -> Tensor:
        x, count = noise, self.evaluations // 2
        for k in range(count):
            now, then = (torch.full((len(x),), at / count, device=x.device) for at in (k, k + 1))
            here = self.velocity(x, now, asked)
            there = self.velocity(x + here / count, then, asked)
            x = x + (here + there) / (2 * count)
        return x.clamp(-1, 1)


def _shrink(channels: int, out: int, step: Sequence[int]) -> nn.Module:
    """Size n becomes n // step."""
    return CONV[len(step)](channels, out, tuple(s + 2 for s in step), tuple(step), 1)


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Flow; in_channels: of the images; out_channels: of what is asked for, 0 for nothing."""
    return Flow(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """Any size will do."""
    return (1,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The size of the images and the steps to it."""
    return growth.rules(shape, voxel)


def training() -> plan.Decision:
    """A rate as for other U-Nets of this size, and averaged weights, without which samples are grainy."""
    return plan.Decision(
        {"lr": 1e-3, "weight_decay": 0.0, "ema": 0.999},
        {
            "lr": "one network that regresses: no adversary asks for a small rate",
            "ema": "samples of averaged weights are cleaner",
        },
    )


def sizes(options: Options) -> tuple[Options, ...]:
    """Widths that oneDNN and tensor cores compute without waste."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32, 16))
