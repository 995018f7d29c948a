"""DCGAN: a generator of transposed convolutions against a discriminator of strided ones, in two and three dimensions.

Radford, Metz, Chintala: "Unsupervised representation learning with deep convolutional generative adversarial networks", ICLR
2016, section 3 and figure 1: no pooling, batch normalisation in all but the last layer of the generator and the first and last
of the discriminator, ReLU and tanh in the one, leaky ReLU in the other, weights of standard deviation 0.02, Adam of rate 2e-4
with a first beta of 0.5. Kernels are two wider than their stride, so that sizes divide (the paper's are 5 wide). Where steps do
not divide the image, the generator grows beyond it and keeps the middle. What is asked for (Mirza, Osindero, "Conditional
generative adversarial nets", 2014) stands beside the image, and beside the maps of every level that it grows from.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import growth
from hounsfield.models.parts.blocks import CONV, CONV_TRANSPOSE, Layer
from hounsfield.models.parts.pyramid import steps

OUTPUT: Literal["generator"] = "generator"

BATCH_NORM: dict[int, Layer] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DEVIATION = 0.02  # of first weights
LEAK = 0.2


class Options(plan.Options):
    """size: of the images, per axis, or one number for all. strides: the step to each coarser level, in the same way.
    width: channels of the finest level, doubled at each coarser one up to max_width. latent: numbers that an image is drawn
    from."""

    size: tuple[PositiveInt, ...] = (64,)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,),) * 4, min_length=1)
    width: int = Field(default=64, ge=1)
    max_width: int = Field(default=512, ge=1)
    latent: int = Field(default=100, ge=1)


class Generator(nn.Module):
    """(B, latent) and what is asked for (B, K, *size) -> (B, C, *size) in [-1, 1]."""

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        strides = steps(options.strides, ndim)
        wide = growth.widths(options.width, options.max_width, len(strides))
        self.size = growth.of_axes(options.size, ndim)
        grids = growth.grids(self.size, strides)
        self.grid, self.whole = grids[-1], growth.whole(grids, strides)
        self.first = nn.Linear(options.latent, wide[-1] * prod(self.grid), bias=False)
        self.norm = nn.Sequential(BATCH_NORM[ndim](wide[-1]), nn.ReLU(inplace=True))
        self.layers = nn.ModuleList()
        for k in reversed(range(1, len(strides))):
            grow = _grow(wide[k] + asked, wide[k - 1], strides[k])
            self.layers.append(nn.Sequential(grow, BATCH_NORM[ndim](wide[k - 1]), nn.ReLU(inplace=True)))
        self.layers.append(nn.Sequential(_grow(wide[0] + asked, channels, strides[0]), nn.Tanh()))
        _initialise(self)

    def forward(self, noise: Tensor, asked: Tensor | None = None) -> Tensor:
        asked = None if asked is None else growth.around(asked, self.whole)
        x = self.norm(self.first(noise).reshape(len(noise), -1, *self.grid))
        for layer in self.layers:
            x = layer(growth.beside(x, asked))
        return growth.middle(x, self.size)


class Discriminator(nn.Module):
    """(B, C, *size) and what was asked for (B, K, *size) -> (B,) logits, above 0 for what looks real."""

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        strides = steps(options.strides, ndim)
        wide = growth.widths(options.width, options.max_width, len(strides))
        layers: list[nn.Module] = [_shrink(channels + asked, wide[0], strides[0]), nn.LeakyReLU(LEAK, inplace=True)]
        for level in range(1, len(strides)):
            layers += [_shrink(wide[level - 1], wide[level], strides[level]), BATCH_NORM[ndim](wide[level])]
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
        left = list(growth.of_axes(options.size, ndim))
        for step in strides:
            left = [n // s for n, s in zip(left, step, strict=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide[-1] * prod(left), 1))
        _initialise(self)

    def forward(self, image: Tensor, asked: Tensor | None = None) -> Tensor:
        logits: Tensor = self.layers(growth.beside(image, asked))
        return logits[:, 0]


class DCGAN(nn.Module):
    """Noise (B, *noise_shape), standard normal, and what is asked for (B, K, *size), None for K = 0 -> images (B, C, *size) in
    [-1, 1].

    objective: what the two are trained for, see hounsfield.models.Model.
    """

    objective: Literal["logistic"] = "logistic"

    def __init__(self, options: Options, channels: int, asked: int, ndim: int) -> None:
        super().__init__()
        self.noise_shape = (options.latent,)
        self.generator = Generator(options, channels, asked, ndim)
        self.discriminator = Discriminator(options, channels, asked, ndim)

    def forward(self, noise: Tensor, asked: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise, asked)
        return images


def _grow(channels: int, out: int, step: Sequence[int]) -> nn.Module:
    """Size n becomes n * step."""
    return CONV_TRANSPOSE[len(step)](channels, out, tuple(s + 2 for s in step), tuple(step), 1, bias=False)


def _shrink(channels: int, out: int, step: Sequence[int]) -> nn.Module:
    """Size n becomes n // step."""
    return CONV[len(step)](channels, out, tuple(s + 2 for s in step), tuple(step), 1, bias=False)


def _initialise(network: nn.Module) -> None:
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=DEVIATION)
        elif name.endswith("weight"):  # of a normalisation
            nn.init.normal_(weight, mean=1.0, std=DEVIATION)
        else:
            nn.init.zeros_(weight)


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See DCGAN; in_channels: of the images; out_channels: of what is asked for, 0 for nothing."""
    return DCGAN(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """Any size will do."""
    return (1,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The size of the images and the steps to it."""
    return growth.rules(shape, voxel)


def training() -> plan.Decision:
    """The published optimiser; the average of the weights is a later custom that costs nothing."""
    player = {"rate": 1.0, "betas": (0.5, 0.999)}
    why = "as published for DCGAN"
    return plan.Decision(
        {
            "lr": 2e-4,
            "warmup": 0.0,
            "weight_decay": 0.0,
            "clip": 0.0,
            "ema": 0.999,
            "players": {"discriminator": player, "generator": player},
        },
        {
            "lr": why,
            "players": why,
            "weight_decay": f"none, {why}",
            "ema": "adversaries circle each other: their mean is steadier",
        },
    )


def sizes(options: Options) -> tuple[Options, ...]:
    """The published width, and two that a CPU can train."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32, 16))
