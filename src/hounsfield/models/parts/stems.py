"""The first layers of a network: of residual ones (He et al., CVPR 2016), and of those that cut an image into patches.

A patch's embedding is one matrix for all patches (Dosovitskiy et al., ICLR 2021), or a few convolutions that overlap, with
which transformers learn faster and from fewer images (Xiao et al., "Early convolutions help transformers see better",
NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from hounsfield.core.plan import Decision
from hounsfield.models.parts.blocks import CONV, GROUP, MAX_POOL, STANDARDISED, ConvBlock, Style, initialise

Kind = Literal["small", "large"]
Cut = Literal["patch", "conv"]
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


def patches(cut: Cut, in_channels: int, width: int, patch: Sequence[int]) -> nn.Module:
    """(B, in_channels, *s) -> (B, width, *s / patch), s being multiples of the patch's sides.

    "conv": kernels of 3 that halve the long sides of a patch first, with twice the channels after each; then a layer for each
    place, or for what is left of a patch whose sides are no powers of two.
    """
    if cut == "patch":
        return CONV[len(patch)](in_channels, width, tuple(patch), tuple(patch))
    steps, rest = [], list(patch)
    while max(rest) % 2 == 0:
        steps.append(tuple(2 if side == max(rest) else 1 for side in rest))
        rest = [side // step for side, step in zip(rest, steps[-1], strict=True)]
    steps = steps or [(1,) * len(patch)]
    layers, channels = nn.Sequential(), in_channels
    for number, step in enumerate(steps, start=1):
        out = max(GROUP, width // 2 ** (len(steps) - number) // GROUP * GROUP)
        layers.append(ConvBlock(STANDARDISED, channels, out, (3,) * len(patch), step))
        channels = out
    initialise(layers)
    return layers.append(CONV[len(patch)](channels, width, tuple(rest), tuple(rest)))
