"""DCGAN: a generator of transposed convolutions against a discriminator of strided ones, in two and three dimensions.

Radford, Metz, Chintala: "Unsupervised representation learning with deep convolutional generative adversarial networks", ICLR
2016, section 3 and figure 1: no pooling, batch normalisation in all but the last layer of the generator and the first and last
of the discriminator, ReLU and tanh in the one, leaky ReLU in the other, weights of standard deviation 0.02, Adam of rate 2e-4
with a first beta of 0.5. Kernels are two wider than their stride, so that sizes divide (the paper's are 5 wide). Where steps do
not divide the image, the generator grows beyond it and keeps the middle. Classes are told as in Mirza, Osindero:
"Conditional generative adversarial nets", 2014: beside the latent, and as planes beside the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

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
    """(B, latent) and labels (B,) -> (B, C, *size) in [-1, 1]."""

    def __init__(self, options: Options, channels: int, classes: int, ndim: int) -> None:
        super().__init__()
        strides = steps(options.strides, ndim)
        wide = growth.widths(options.width, options.max_width, len(strides))
        self.classes, self.size = classes, growth.of_axes(options.size, ndim)
        self.grid = growth.grids(self.size, strides)[-1]
        self.first = nn.Linear(options.latent + classes, wide[-1] * prod(self.grid), bias=False)
        layers: list[nn.Module] = [BATCH_NORM[ndim](wide[-1]), nn.ReLU(inplace=True)]
        for level in reversed(range(1, len(strides))):
            layers += [_grow(wide[level], wide[level - 1], strides[level]), BATCH_NORM[ndim](wide[level - 1])]
            layers.append(nn.ReLU(inplace=True))
        self.layers = nn.Sequential(*layers, _grow(wide[0], channels, strides[0]), nn.Tanh())
        _initialise(self)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        told = noise if labels is None else torch.cat([noise, F.one_hot(labels, self.classes).to(noise.dtype)], dim=1)
        return growth.middle(self.layers(self.first(told).reshape(len(noise), -1, *self.grid)), self.size)


class Discriminator(nn.Module):
    """(B, C, *size) and labels (B,) -> (B,) logits, above 0 for what looks real."""

    def __init__(self, options: Options, channels: int, classes: int, ndim: int) -> None:
        super().__init__()
        strides = steps(options.strides, ndim)
        wide = growth.widths(options.width, options.max_width, len(strides))
        self.classes = classes
        layers: list[nn.Module] = [_shrink(channels + classes, wide[0], strides[0]), nn.LeakyReLU(LEAK, inplace=True)]
        for level in range(1, len(strides)):
            layers += [_shrink(wide[level - 1], wide[level], strides[level]), BATCH_NORM[ndim](wide[level])]
            layers.append(nn.LeakyReLU(LEAK, inplace=True))
        left = list(growth.of_axes(options.size, ndim))
        for step in strides:
            left = [n // s for n, s in zip(left, step, strict=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide[-1] * prod(left), 1))
        _initialise(self)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            planes = F.one_hot(labels, self.classes).to(image.dtype).reshape(len(image), -1, *[1] * (image.ndim - 2))
            image = torch.cat([image, planes.expand(-1, -1, *image.shape[2:])], dim=1)
        logits: Tensor = self.layers(image)
        return logits[:, 0]


class DCGAN(nn.Module):
    """Noise (B, *noise_shape), standard normal, and labels (B,), None without classes -> images (B, C, *size) in [-1, 1].

    objective: what the two are trained for, see hounsfield.models.Model.
    """

    objective: Literal["logistic"] = "logistic"

    def __init__(self, options: Options, channels: int, classes: int, ndim: int) -> None:
        super().__init__()
        self.noise_shape = (options.latent,)
        self.generator = Generator(options, channels, classes, ndim)
        self.discriminator = Discriminator(options, channels, classes, ndim)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise, labels)
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
    """See DCGAN; in_channels: of the images; out_channels: classes, 0 for none."""
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
