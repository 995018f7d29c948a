"""What detectors share: a feature pyramid over the levels of a backbone, and a head that scores and draws boxes on each.

Lin et al., "Feature pyramid networks for object detection", CVPR 2017; the head without anchors is that of Tian et al.,
"FCOS", ICCV 2019: every place of a map says how likely each class is there, and how far the box's sides lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core.plan import Decision
from hounsfield.models.parts.blocks import CONV, ConvBlock, Style, initialise
from hounsfield.models.parts.halving import SMALLEST_SIDE, halvings

RARE = 0.01  # what every class scores at first, so that the many places without a box do not drown the few with one
FARTHEST = 6.0  # exponent of a distance in strides
PLACES = 2.5  # strides of the finest map that the smallest usual box is wide
COARSEST_START = 3  # the level on which boxes begin at the latest


class Pyramid(nn.Module):
    """Maps of one number of channels: each level and what the coarser ones say of it, and one more smoothing of the sum."""

    def __init__(self, style: Style, channels: Sequence[int], width: int, ndim: int) -> None:
        super().__init__()
        ones, threes = (1,) * ndim, (3,) * ndim
        self.lateral = nn.ModuleList(ConvBlock(style, c, width, ones, ones) for c in channels)
        self.smooth = nn.ModuleList(ConvBlock(style, width, width, threes, ones) for _ in channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """levels: fine to coarse, (B, C_k, *s_k); gives (B, width, *s_k)."""
        above: Tensor | None = None
        out = []
        for level, lateral, smooth in zip(reversed(levels), reversed(self.lateral), reversed(self.smooth), strict=True):
            own = lateral(level)
            if above is not None:
                own = own + F.interpolate(above, size=own.shape[2:], mode="nearest")
            above = own
            out.append(smooth(own))
        return out[::-1]


class Head(nn.Module):
    """The same convolutions on every level: (B, K + 2n, *s), K logits and the distances to a box's first and last sides, in
    strides of the level, above 0."""

    def __init__(self, style: Style, width: int, classes: int, levels: int, ndim: int, depth: int) -> None:
        super().__init__()
        ones, threes = (1,) * ndim, (3,) * ndim

        def tower() -> nn.Sequential:
            return nn.Sequential(*(ConvBlock(style, width, width, threes, ones) for _ in range(depth)))

        self.classes, self.sides = tower(), tower()
        self.class_scores = CONV[ndim](width, classes, 3, padding=1)
        self.side_distances = CONV[ndim](width, 2 * ndim, 3, padding=1)
        self.scale = nn.Parameter(torch.zeros(levels))

    def begin(self) -> None:
        """First values, after the network's own initialisation: every class rare, every box two strides wide on each side."""
        for layer, first in ((self.class_scores, -math.log((1 - RARE) / RARE)), (self.side_distances, math.log(2))):
            weight, bias = layer.parameters()
            nn.init.normal_(weight, std=0.01)
            nn.init.constant_(bias, first)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        out = []
        for level, scale in zip(levels, self.scale, strict=True):
            distances = (self.side_distances(self.sides(level)) + scale).clamp_max(FARTHEST).exp()
            out.append(torch.cat([self.class_scores(self.classes(level)), distances], dim=1))
        return tuple(out)


class Detector(nn.Module):
    """(B, C, *spatial) -> a tuple of maps (B, K + 2n, *spatial / stride), from fine to coarse.

    stages: each makes the next coarser level of the last. channels: of each level; boxes are drawn from level number `finest`
    on, counted from 1. stride: of the coarsest level, per axis. width, depth: of the pyramid and of the head.
    """

    def __init__(
        self,
        style: Style,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        finest: int,
        stride: Sequence[int],
        width: int,
        depth: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.stride, self.finest = tuple(stride), finest - 1
        self.stages = nn.ModuleList(stages)
        shown, ndim = channels[self.finest :], len(self.stride)
        self.pyramid = Pyramid(style, shown, width, ndim)
        self.head = Head(style, width, classes, len(shown), ndim, depth)
        initialise(self)
        self.head.begin()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        check_size(x.shape[2:], self.stride)
        out: tuple[Tensor, ...] = self.head(self.pyramid(self.levels(x)[self.finest :]))
        return out

    def levels(self, x: Tensor) -> list[Tensor]:
        """Maps of `channels`, from fine to coarse."""
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


def steps(strides: Sequence[tuple[int, ...]], ndim: int) -> list[tuple[int, ...]]:
    """The step to each level per axis; one number stands for all axes."""
    return [step * ndim if len(step) == 1 else step for step in strides]


def stride(strides: Sequence[tuple[int, ...]], ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return tuple(math.prod(step[axis] for step in steps(strides, ndim)) for axis in range(ndim))


def check_size(size: Sequence[int], multiple: Sequence[int]) -> None:
    """Raises ValueError for an input whose sides are no multiples of the strides."""
    if any(n % m for n, m in zip(size, multiple, strict=True)):
        raise ValueError(f"found input of {tuple(size)}, expected multiples of {tuple(multiple)}")


def widths(width: int, most: int, levels: int) -> list[int]:
    """Channels of each level: `width` at the second, doubled at each further one up to `most`; half of it at the first."""
    return [width // 2 if k == 0 else min(width * 2 ** (k - 1), most) for k in range(levels)]


def rules(shape: Sequence[int], voxel: Sequence[float], smallest: Sequence[float] | None) -> Decision:
    """Steps that halve an axis while it is long enough and not still much coarser than the finest one; and the first level on
    which boxes are drawn, the coarsest of whose places the smallest usual box holds PLACES along each axis."""
    strides = halvings(shape, voxel)
    strides += [(1,) * len(shape)] * (2 - len(strides))
    why = f"windows of {'×'.join(map(str, shape))} halved while an axis keeps {SMALLEST_SIDE} voxels"
    finest, because = first_level(strides, smallest)
    return Decision({"strides": strides, "finest": finest}, {"strides": why, "finest": because})


def first_level(strides: Sequence[tuple[int, ...]], smallest: Sequence[float] | None) -> tuple[int, str]:
    """Number of the first level on which boxes are drawn, and why: see `rules`."""
    finest = latest = max(1, min(COARSEST_START, len(strides) - 1))
    if smallest is None:
        return finest, f"boxes on the levels from number {finest} on, as nothing is known of their sizes"
    finest, reach = 1, [1.0] * len(smallest)
    for level, step in enumerate(strides[:latest], start=1):
        reach = [r * s for r, s in zip(reach, step, strict=True)]
        if all(r == 1 or PLACES * r <= s for r, s in zip(reach, smallest, strict=True)):
            finest = level
    small = "×".join(f"{s:.0f}" for s in smallest)
    why = f"a box of {small} voxels, as the smallest tenth, holds {PLACES:g} places a side where a level has them"
    return finest, why
