"""A detector of one stage and without anchors: boxes from an image of any size, in two and three dimensions.

Tian, Shen, Chen, He: "FCOS: fully convolutional one-stage object detection", ICCV 2019, on residual blocks (He et al., CVPR
2016) with a feature pyramid (Lin et al., CVPR 2017). Without centre-ness: which places learn a box is decided by how well they
find it (`tasks/parts/assign.py`), so that their scores say it already.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from hounsfield.core import plan
from hounsfield.models.parts import pyramid
from hounsfield.models.parts.blocks import GROUP, STANDARDISED, ConvBlock, ResidualBlock
from hounsfield.models.parts.pyramid import Detector

OUTPUT: Literal["boxes"] = "boxes"


class Options(plan.Options):
    """width: channels of the level of stride 4, doubled at each further one up to max_width; half of it before.
    strides: the step to each level, per axis, or one number for all. blocks: residual blocks of each level but the first.
    finest: the first level, counted from 1, on which boxes are drawn; all coarser ones follow. depth: convolutions of the head.
    """

    width: int = Field(default=32, ge=2 * GROUP, multiple_of=2 * GROUP)
    max_width: int = Field(default=256, ge=2 * GROUP, multiple_of=2 * GROUP)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,),) * 5, min_length=2)
    blocks: int = Field(default=2, ge=1)
    finest: int = Field(default=3, ge=1)
    depth: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if self.finest > len(self.strides):
            raise ValueError(f"finest = {self.finest} of {len(self.strides)} levels")
        return self


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Detector; out_channels: classes."""
    steps = pyramid.steps(options.strides, ndim)
    widths = pyramid.widths(options.width, options.max_width, len(steps))
    stages: list[nn.Module] = [ConvBlock(STANDARDISED, in_channels, widths[0], (5,) * ndim, steps[0])]
    for k in range(1, len(steps)):
        first = ResidualBlock(STANDARDISED, widths[k - 1], widths[k], (3,) * ndim, steps[k])
        more = (ResidualBlock(STANDARDISED, widths[k], widths[k], (3,) * ndim, (1,) * ndim) for _ in range(options.blocks - 1))
        stages.append(nn.Sequential(first, *more))
    wide = 2 * options.width
    return Detector(STANDARDISED, stages, widths, options.finest, stride(options, ndim), wide, options.depth, out_channels)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return pyramid.stride(options.strides, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """Levels by the size of the image, and the finest one by the smallest usual box."""
    return pyramid.rules(shape, voxel, smallest)


def sizes(options: Options) -> tuple[Options, ...]:
    """Three widths."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32, 16))
