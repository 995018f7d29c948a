"""Restormer: a map of the input's size by self-attention between channels, in two and three dimensions.

Zamir, Arora, Khan, Hayat, Khan, Yang: "Restormer: efficient transformer for high-resolution image restoration", CVPR 2022,
figure 2, smaller: one block a level by default, and levels that step by convolution in place of rearranged pixels. The sum of
input and output, which makes it predict a change, is left to who uses it.
"""

from __future__ import annotations

from math import prod
from typing import Literal, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import pyramid
from hounsfield.models.parts.blocks import CONV, CONV_TRANSPOSE
from hounsfield.models.parts.channel_attention import HEAD, ChannelBlock
from hounsfield.models.parts.halving import halvings

OUTPUT: Literal["dense"] = "dense"
MOST_STEPS = 3  # to the coarsest level, as in the paper


class Options(plan.Options):
    """width: channels of the finest level, doubled at each coarser one. strides: the step from each level to the next coarser
    one, per axis, or one number for all axes. blocks: of each level on either side. wider: times the channels within the gated
    layers."""

    width: int = Field(default=32, ge=HEAD, multiple_of=HEAD)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,), (2,), (2,)), min_length=1)
    blocks: int = Field(default=1, ge=1)
    wider: float = Field(default=2.0, gt=0)


class Restormer(nn.Module):
    """(B, C, *spatial) -> (B, K, *spatial); every size a multiple of the axis's whole stride, else ValueError."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        steps = pyramid.steps(options.strides, ndim)
        self.stride = stride(options, ndim)
        widths = [options.width * 2**level for level in range(len(steps) + 1)]

        def level(channels: int) -> nn.Module:
            return nn.Sequential(*(ChannelBlock(channels, options.wider, ndim) for _ in range(options.blocks)))

        conv, back = CONV[ndim], CONV_TRANSPOSE[ndim]
        self.stem = conv(in_channels, widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(level(w) for w in widths)
        pairs = list(zip(widths, widths[1:], steps, strict=False))
        self.down = nn.ModuleList(conv(fine, coarse, step, step, bias=False) for fine, coarse, step in pairs)
        self.up = nn.ModuleList(back(coarse, fine, step, step, bias=False) for fine, coarse, step in pairs)
        self.join = nn.ModuleList(conv(2 * fine, fine, 1, bias=False) for fine in widths[:-1])
        self.decoder = nn.ModuleList(level(w) for w in widths[:-1])
        head = conv(widths[0], out_channels, 3, padding=1)
        nn.init.normal_(cast(nn.Conv2d, head).weight, std=1e-3)  # near no change
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        pyramid.check_size(x.shape[2:], self.stride)
        x = self.stem(x)
        skips = []
        for encode, down in zip(self.encoder[:-1], self.down, strict=True):
            x = encode(x)
            skips.append(x)
            x = down(x)
        x = self.encoder[-1](x)
        for up, join, decode in zip(reversed(self.up), reversed(self.join), reversed(self.decoder), strict=True):
            x = decode(join(torch.cat([up(x), skips.pop()], dim=1)))
        out: Tensor = self.head(x)
        return out


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Restormer."""
    return Restormer(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return pyramid.stride(options.strides, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """Per level, halve each axis that is long enough and not still much coarser than the finest one; at most MOST_STEPS."""
    strides = halvings(shape, voxel)[:MOST_STEPS] or [(1,) * len(shape)]
    reach = "×".join(str(prod(step[k] for step in strides)) for k in range(len(shape)))
    return plan.Decision({"strides": strides}, {"strides": f"windows of {'×'.join(map(str, shape))}: {reach} times coarser"})


def sizes(options: Options) -> tuple[Options, ...]:
    """Three widths."""
    return tuple(options.model_copy(update={"width": width}) for width in (48, 32, 16))
