"""The detector `fcos` on a plain vision transformer, in two and three dimensions.

Li, Mao, Girshick, He: "Exploring plain vision transformer backbones for object detection", ECCV 2022, section 3: maps of all
strides come from the transformer's last one, finer ones by a transposed convolution, coarser ones by a convolution with a step.
Pyramid and head are those of `parts/pyramid.py`.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import pyramid, stems, tokens
from hounsfield.models.parts.blocks import CONV_TRANSPOSE, GROUP, STANDARDISED, ConvBlock, initialise
from hounsfield.models.parts.pyramid import Detector
from hounsfield.models.parts.tokens import UNIT, Encoder

OUTPUT: Literal["boxes"] = "boxes"

PLACES = {2: 20, 3: 8}  # patches a side of a window, by dimensions
LARGEST = 16  # voxels


class Options(plan.Options):
    """width, depth, cut, drop_path: as those of `vit`. patch: voxels a side, per axis, or one number for all; powers of two, of
    which one is 2 or more. finest: the first level on which boxes are drawn, counted from 1, the level of stride 2, to that of
    the patches. coarser: levels of further steps of 2. channels: of the pyramid and the head. convolutions: of the head."""

    width: int = Field(default=192, ge=UNIT, multiple_of=UNIT)
    depth: PositiveInt | None = None
    patch: tuple[PositiveInt, ...] = Field(default=(8,), min_length=1)
    cut: stems.Cut = "patch"
    finest: int = Field(default=3, ge=1)
    coarser: int = Field(default=1, ge=0)
    channels: int = Field(default=64, ge=2 * GROUP, multiple_of=2 * GROUP)
    convolutions: int = Field(default=2, ge=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if max(self.patch) < 2 or any(side & (side - 1) for side in self.patch):
            raise ValueError(f"patch = {list(self.patch)}: powers of two, not all of them 1")
        if self.finest > (levels := len(tokens.steps(self.patch))):
            raise ValueError(f"finest = {self.finest} of {levels} levels to patches of {list(self.patch)}")
        return self


class OnViT(Detector):
    """See Detector."""

    def __init__(self, options: Options, in_channels: int, classes: int, ndim: int) -> None:
        steps = _steps(options, ndim)
        levels = len(steps) - options.coarser
        patch, width, wide = tokens.sides(options.patch, ndim), options.width, options.channels
        finer = range(options.finest, levels)
        channels = [wide // 2] * len(finer) + [width] + [wide] * options.coarser
        super().__init__(STANDARDISED, (), channels, 1, stride(options, ndim), wide, options.convolutions, classes)
        # After what Detector initialises: tokens begin in their own way.
        self.encoder = Encoder(
            in_channels,
            width,
            patch,
            (options.depth or tokens.depth(width),),
            drop_path=options.drop_path,
            cut=options.cut,
        )
        rest = [tuple(math.prod(step[axis] for step in steps[level:levels]) for axis in range(ndim)) for level in finer]
        self.finer = nn.ModuleList(
            nn.Sequential(CONV_TRANSPOSE[ndim](width, wide // 2, up, up, bias=False), STANDARDISED.norm(wide // 2), nn.GELU())
            for up in rest
        )
        threes = (3,) * ndim
        self.coarser = nn.ModuleList(
            ConvBlock(STANDARDISED, width if number == 0 else wide, wide, threes, step)
            for number, step in enumerate(steps[levels:])
        )
        initialise(self.finer)
        initialise(self.coarser)

    def levels(self, x: Tensor) -> list[Tensor]:
        known = self.encoder.maps(self.encoder(x)[-1], x.shape[2:])
        maps = [*(up(known) for up in self.finer), known]
        for down in self.coarser:
            maps.append(down(maps[-1]))
        return maps


def _steps(options: Options, ndim: int) -> list[tuple[int, ...]]:
    """To each level: down to the patches, and along their longest axes beyond."""
    patch = tokens.sides(options.patch, ndim)
    return tokens.steps(patch) + [tuple(2 if side == max(patch) else 1 for side in patch)] * options.coarser


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Detector; out_channels: classes. Raises InputError BAD_PLAN."""
    return OnViT(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """That of the coarsest level."""
    return pyramid.stride(_steps(options, ndim), ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The patch by the size of the image, the finest level by the smallest usual box, and what lets it learn from few."""
    made = tokens.rules(shape, PLACES[len(shape)], LARGEST)
    patch = made.changes["patch"]
    if max(patch) == 1:  # nothing is finer than its patches, and boxes are no smaller than a few voxels
        patch = tuple(2 if n == max(shape) else 1 for n in shape)
    steps = tokens.steps(patch)
    finest, why = pyramid.first_level([*steps, (2,) * len(shape)], smallest)
    return plan.Decision({**made.changes, "patch": patch, "finest": finest}, {**made.reasons, "finest": why})


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """The published small and tiny ones, and half of that, with as much narrower a pyramid."""
    wide = ((384, 96), (192, 64), (96, 32))
    return tuple(options.model_copy(update={"width": width, "channels": channels}) for width, channels in wide)
