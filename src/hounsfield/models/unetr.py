"""A segmenter on a plain vision transformer: a map of scores of the input's size, in two and three dimensions.

Hatamizadeh et al., "UNETR: transformers for 3D medical image segmentation", WACV 2022, figure 2: what the transformer knows
after a part of its blocks goes to each level of a convolutional decoder. Patches are small and positions rotary, as in Wald et
al., "Primus: enforcing attention usage for 3D medical image segmentation", 2025; the way back from tokens to a level is one
transposed convolution.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.core.errors import InputError
from hounsfield.models.parts import stems, tokens, ushape
from hounsfield.models.parts.blocks import CONV, CONV_TRANSPOSE, ConvBlock, in_a_row, initialise
from hounsfield.models.parts.tokens import UNIT, Encoder

OUTPUT: Literal["dense"] = "dense"

PLACES = {2: 16, 3: 8}  # patches a side of a window, by dimensions
LARGEST = 16  # voxels


class Options(plan.Options):
    """width: channels of a token. depth: blocks; None for as many as published networks of the width have.
    patch: voxels a side, per axis, or one number for all; powers of two, of which one is 2 or more.
    cut, dropout, drop_path: as those of `vit`. channels: of the decoder's finest level, doubled at each coarser one. norm: as
    that of `unet`, of the decoder."""

    width: int = Field(default=192, ge=UNIT, multiple_of=UNIT)
    depth: PositiveInt | None = None
    patch: tuple[PositiveInt, ...] = Field(default=(8,), min_length=1)
    cut: stems.Cut = "patch"
    channels: int = Field(default=16, ge=1)
    norm: ushape.Norm = "instance"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if max(self.patch) < 2 or any(side & (side - 1) for side in self.patch):
            raise ValueError(f"patch = {list(self.patch)}: powers of two, not all of them 1")
        return self


class UNETR(nn.Module):
    """(B, C, *spatial) -> (B, K, *spatial) scores without softmax.

    Raises ValueError for sides that are no multiples of the patch's; InputError BAD_PLAN for fewer blocks than levels.
    """

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        patch = tokens.sides(options.patch, ndim)
        steps = tokens.steps(patch)
        levels, depth = len(steps), options.depth or tokens.depth(options.width)
        if depth < levels:
            raise InputError(
                "BAD_PLAN",
                "model_options.depth",
                found=f"{depth} blocks",
                expected=f"one for each of the {levels} levels to patches of {list(patch)}",
                fix=f"--set model_options.depth={levels}",
            )
        taps = [math.ceil(depth * level / levels) for level in range(1, levels + 1)]
        self.encoder = Encoder(
            in_channels,
            options.width,
            patch,
            taps,
            dropout=options.dropout,
            drop_path=options.drop_path,
            cut=options.cut,
        )
        style = ushape.STYLES[options.norm]
        widths = [options.channels * 2**level for level in range(levels)]
        threes, ones = (3,) * ndim, (1,) * ndim
        self.stem = ConvBlock(style, in_channels, widths[0], threes, ones)
        self.skips, self.up, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        above = options.width
        for level in reversed(range(levels)):
            if level:
                rest = tuple(math.prod(step[axis] for step in steps[level:]) for axis in range(ndim))
                self.skips.append(CONV_TRANSPOSE[ndim](options.width, widths[level], rest, rest, bias=False))
            self.up.append(CONV_TRANSPOSE[ndim](above, widths[level], steps[level], steps[level], bias=False))
            self.decoder.append(in_a_row(style, ConvBlock, 2 * widths[level], widths[level], threes, ones, 1))
            above = widths[level]
        self.head = CONV[ndim](above, out_channels, 1)
        for part in (self.stem, self.skips, self.up, self.decoder, self.head):
            initialise(part)
        if options.norm == "none":
            ushape.begin_unchanged(self.head)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        *known, coarsest = (self.encoder.maps(told, size) for told in self.encoder(x))
        skips = [self.stem(x), *(skip(told) for skip, told in zip(reversed(self.skips), known, strict=True))]
        x = coarsest
        for up, decode in zip(self.up, self.decoder, strict=True):
            x = decode(torch.cat((up(x), skips.pop()), dim=1))
        out: Tensor = self.head(x)
        return out


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels, *spatial) scores without softmax. Raises InputError BAD_PLAN."""
    return UNETR(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The patch's sides."""
    return tokens.sides(options.patch, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The patch by the size of the window, and what lets it learn from few."""
    made = tokens.rules(shape, PLACES[len(shape)], LARGEST)
    if max(made.changes["patch"]) > 1:
        return made
    halved = tuple(2 if n == max(shape) else 1 for n in shape)  # else there is nothing to decode
    return plan.Decision({**made.changes, "patch": halved}, made.reasons)


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """Widths of the published small and tiny vision transformers, and half of that."""
    return tuple(options.model_copy(update={"width": width}) for width in (384, 192, 96))
