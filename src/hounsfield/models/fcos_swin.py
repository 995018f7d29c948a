"""The detector `fcos` on a hierarchical transformer whose windows shift, in two and three dimensions.

Liu et al., "Swin transformer: hierarchical vision transformer using shifted windows", ICCV 2021, section 4.2: each stage is a
level of the pyramid. Pyramid and head are those of `parts/pyramid.py`.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import hierarchy, pyramid, stems, tokens
from hounsfield.models.parts.attention import HEAD
from hounsfield.models.parts.blocks import GROUP, STANDARDISED
from hounsfield.models.parts.pyramid import Detector

OUTPUT: Literal["boxes"] = "boxes"

PLACES = {2: 64, 3: 16}  # patches a side of a window, by dimensions
LARGEST = 4  # voxels


class Options(plan.Options):
    """width, depth, patch, cut, window, drop_path: as those of `swin`; each stage is a level, of which boxes are drawn on all.
    channels: of the pyramid and the head. convolutions: of the head."""

    width: int = Field(default=96, ge=HEAD, multiple_of=HEAD)
    depth: tuple[PositiveInt, ...] = Field(default=(2, 2, 6, 2), min_length=1)
    patch: tuple[PositiveInt, ...] = Field(default=(4,), min_length=1)
    cut: stems.Cut = "patch"
    window: int = Field(default=8, ge=2)
    channels: int = Field(default=64, ge=2 * GROUP, multiple_of=2 * GROUP)
    convolutions: int = Field(default=2, ge=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class OnSwin(Detector):
    """See Detector."""

    def __init__(self, options: Options, in_channels: int, classes: int, ndim: int) -> None:
        widths = [options.width * 2**number for number in range(len(options.depth))]
        whole = stride(options, ndim)
        super().__init__(STANDARDISED, (), widths, 1, whole, options.channels, options.convolutions, classes)
        # After what Detector initialises: attention begins in its own way.
        patch = tokens.sides(options.patch, ndim)
        self.stages = nn.ModuleList(
            hierarchy.stages(options.cut, in_channels, options.width, patch, options.depth, options.window, options.drop_path)
        )
        hierarchy.begin_stages(self.stages)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)

    def levels(self, x: Tensor) -> list[Tensor]:
        maps = zip(super().levels(x), self.norms, strict=True)
        return [norm(level.movedim(1, -1)).movedim(-1, 1) for level, norm in maps]


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Detector; out_channels: classes. Raises InputError BAD_PLAN."""
    return OnSwin(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """That of the coarsest level."""
    return tuple(side * 2 ** (len(options.depth) - 1) for side in tokens.sides(options.patch, ndim))


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The patch by the size of the image and the smallest usual box, and what lets it learn from few."""
    made = tokens.rules(shape, PLACES[len(shape)], LARGEST)
    if smallest is None:
        return made
    held = [2 ** max(1, math.floor(math.log2(max(1.0, side / pyramid.PLACES)))) for side in smallest]
    patch = tuple(min(p, most) for p, most in zip(made.changes["patch"], held, strict=True))
    small = "×".join(f"{s:.0f}" for s in smallest)
    held_by = f"a box of {small}, as the smallest tenth, holds {pyramid.PLACES:g} of them a side"
    why = f"{made.reasons['patch']}; {held_by}, as far as they are of 2 or more"
    return plan.Decision({**made.changes, "patch": patch}, {**made.reasons, "patch": why})


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """Swin-T, two thirds and a third of its width, with as much narrower a pyramid."""
    wide = ((96, 96), (64, 64), (32, 32))
    return tuple(options.model_copy(update={"width": width, "channels": channels}) for width, channels in wide)
