"""The first layers of a classifier, and the choice between them by the size of the image (He et al., CVPR 2016)."""

from __future__ import annotations

from typing import Literal

from torch import nn

from hounsfield.core.plan import Decision
from hounsfield.models.parts.blocks import MAX_POOL, ConvBlock, Style

Kind = Literal["small", "large"]
# Longest side, by dimensions, that keeps its size in the stem: above, full-size maps cost more than they tell.
SMALL_IMAGE = {2: 96, 3: 40}


def stem(kind: Kind, style: Style, in_channels: int, width: int, ndim: int) -> nn.Module:
    """(B, in_channels, *s) -> (B, width, *s) by a kernel of 3, or fourfold smaller by one of 7 with stride 2 and pooling."""
    if kind == "small":
        return ConvBlock(style, in_channels, width, (3,) * ndim, (1,) * ndim)
    return nn.Sequential(ConvBlock(style, in_channels, width, (7,) * ndim, (2,) * ndim), MAX_POOL[ndim](3, 2, 1))


def rules(shape: tuple[int, ...]) -> Decision:
    """The stem by the size of the image."""
    limit = SMALL_IMAGE[len(shape)]
    small = max(shape) <= limit
    side = f"longest side {max(shape)}, {'at most' if small else 'above'} {limit}"
    why = f"{side}: {'keep the size' if small else 'reduce it fourfold at once'}"
    return Decision({"stem": "small" if small else "large"}, {"stem": why})
