"""The detector `fcos` on a backbone of which the coarse levels attend instead of convolving.

Convolutions see edges and texture from few images; attention in windows (`parts/attention.py`) then relates what they saw. A
hybrid of this kind learns from scratch where a pure transformer needs millions of images (Xiao et al., "Early convolutions
help transformers see better", NeurIPS 2021).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from hounsfield.core import plan
from hounsfield.models.parts import pyramid
from hounsfield.models.parts.attention import attention_blocks, window_of
from hounsfield.models.parts.blocks import STANDARDISED, ConvBlock, ResidualBlock
from hounsfield.models.parts.pyramid import Detector

OUTPUT: Literal["boxes"] = "boxes"

UNIT = 32  # channels: a head of attention, or two
CONVOLVED = 2  # levels before attention begins


class Options(plan.Options):
    """width, max_width, strides, finest, depth: as those of `fcos`. blocks: of each level: residual ones up to stride 4,
    attention after. window: places a side of the windows of attention."""

    width: int = Field(default=32, ge=UNIT, multiple_of=UNIT)
    max_width: int = Field(default=256, ge=UNIT, multiple_of=UNIT)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,),) * 5, min_length=2)
    blocks: int = Field(default=2, ge=1)
    finest: int = Field(default=3, ge=1)
    depth: int = Field(default=2, ge=1)
    window: int = Field(default=8, ge=2)

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if self.finest > len(self.strides):
            raise ValueError(f"finest = {self.finest} of {len(self.strides)} levels")
        return self


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Detector; out_channels: classes."""
    steps = pyramid.steps(options.strides, ndim)
    widths = pyramid.widths(options.width, options.max_width, len(steps))
    window = window_of(options.window, ndim)
    stages: list[nn.Module] = [ConvBlock(STANDARDISED, in_channels, widths[0], (5,) * ndim, steps[0])]
    for k in range(1, len(steps)):
        blocks: list[nn.Module] = []
        if k < CONVOLVED:
            blocks.append(ResidualBlock(STANDARDISED, widths[k - 1], widths[k], (3,) * ndim, steps[k]))
            more = options.blocks - 1
            blocks += [ResidualBlock(STANDARDISED, widths[k], widths[k], (3,) * ndim, (1,) * ndim) for _ in range(more)]
        else:
            blocks.append(ConvBlock(STANDARDISED, widths[k - 1], widths[k], (3,) * ndim, steps[k]))
            blocks += attention_blocks(widths[k], window, [0.0] * options.blocks)
        stages.append(nn.Sequential(*blocks))
    wide = 2 * options.width
    return Detector(STANDARDISED, stages, widths, options.finest, stride(options, ndim), wide, options.depth, out_channels)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return pyramid.stride(options.strides, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """Levels by the size of the image, and the finest one by the smallest usual box."""
    return pyramid.rules(shape, voxel, smallest)


def sizes(options: Options) -> tuple[Options, ...]:
    """Two widths."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32))
