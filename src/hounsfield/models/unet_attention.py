"""The segmenter `unet` with coarse levels that attend instead of convolving, in two and three dimensions.

Convolutions see edges and texture from few images and keep the map sharp; where it is coarse, attention relates what they saw,
in windows (Liu et al., "Swin transformer", ICCV 2021) and on the coarsest level over the whole map. Hybrids of this shape are
Cao et al., "Swin-Unet", ECCV Workshops 2022, and Gao, Zhou, Metaxas, "UTNet", MICCAI 2021, whose order this is: convolutions
first, so that it learns from scratch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn

from hounsfield.core import plan
from hounsfield.models.parts import tokens, ushape
from hounsfield.models.parts.attention import WHOLE, attention_blocks, begin_without_places, window_of
from hounsfield.models.parts.blocks import ConvBlock, in_a_row
from hounsfield.models.parts.depth import rates
from hounsfield.models.parts.halving import SMALLEST_SIDE, halvings
from hounsfield.models.parts.ushape import UShape

OUTPUT: Literal["dense"] = "dense"


class Options(plan.Options):
    """width, max_width, strides: as those of `unet`. blocks: of each level, convolutions, or attention after the step.
    attend: how many of the coarsest levels attend; the finest never does. window: places a side of the windows of attention in
    2D, half as many in 3D; the coarsest level attends as a whole. norm: as that of `unet`.
    drop_path: part of the branches of the deepest block that a training step leaves out; the first that attends has none."""

    width: int = Field(default=32, ge=8, multiple_of=8)
    max_width: int = Field(default=320, ge=8, multiple_of=8)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,), (2,), (2,), (2,)), min_length=1)
    blocks: int = Field(default=2, ge=1)
    attend: int = Field(default=2, ge=1)
    window: int = Field(default=8, ge=2)
    norm: ushape.Norm = "instance"
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class UNetAttention(UShape):
    """See UShape."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        ones = (1,) * ndim
        steps = ushape.steps_of(options.strides, ndim)
        levels = len(steps) + 1
        widths = [min(options.width * 2**level, options.max_width) for level in range(levels)]
        kernels = ushape.flat_kernels(steps)
        style = ushape.STYLES[options.norm]
        drops = rates(options.drop_path, options.blocks * min(options.attend, levels - 1))
        encoder: list[nn.Module] = []
        channels = in_channels
        for level, width in enumerate(widths):
            step = steps[level - 1] if level else ones
            if level and level >= levels - options.attend:
                window = (WHOLE,) * ndim if level == levels - 1 else window_of(options.window, ndim)
                first = ConvBlock(style, channels, width, kernels[level], step)
                own, drops = drops[: options.blocks], drops[options.blocks :]
                encoder.append(nn.Sequential(first, *attention_blocks(width, window, own)))
            else:
                encoder.append(in_a_row(style, ConvBlock, channels, width, kernels[level], step, options.blocks))
            channels = width
        super().__init__(options.norm, nn.Identity(), encoder, widths, kernels, steps, 1, out_channels, deep_supervision=False)
        begin_without_places(self)


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels, *spatial) scores without softmax."""
    return UNetAttention(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return ushape.stride(ushape.steps_of(options.strides, ndim))


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """Levels as those of `unet`, and stochastic depth."""
    strides = halvings(shape, voxel) or [(1,) * len(shape)]
    why = f"windows of {'×'.join(map(str, shape))} halved while an axis keeps {SMALLEST_SIDE} voxels, fine axes first"
    reasons = {"strides": why, "drop_path": tokens.WHY_DROPPED}
    return plan.Decision({"strides": strides, "drop_path": tokens.DROPPED}, reasons)


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """The widths of `unet`."""
    return tuple(options.model_copy(update={"width": width}) for width in (32, 16, 8))
