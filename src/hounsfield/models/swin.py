"""A hierarchical vision transformer with windows that shift: a vector of scores from an image of any size, in 2D and 3D.

Liu et al., "Swin transformer: hierarchical vision transformer using shifted windows", ICCV 2021, section 3: widths, depths and
the merging of neighbours are those of its table 7. Places are told by a depth-wise convolution before each block instead of a
table for the window, and what pads a window is masked, so that maps need no particular size (see `parts/attention.py`).
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core import plan
from hounsfield.models.parts import tokens
from hounsfield.models.parts.attention import HEAD, attention_blocks, begin_without_places, window_of
from hounsfield.models.parts.blocks import CONV
from hounsfield.models.parts.pyramid import check_size

OUTPUT: Literal["vector"] = "vector"

PLACES = {2: 32, 3: 14}  # patches a side, by dimensions
LARGEST = 4  # voxels


class Options(plan.Options):
    """width: channels of the first stage, doubled at each further one. depth: blocks of each stage; (2, 2, 6, 2) is Swin-T.
    patch: voxels a side, per axis, or one number for all. window: places a side of a window in 2D, half as many in 3D."""

    width: int = Field(default=96, ge=HEAD, multiple_of=HEAD)
    depth: tuple[PositiveInt, ...] = Field(default=(2, 2, 6, 2), min_length=1)
    patch: tuple[PositiveInt, ...] = Field(default=(4,), min_length=1)
    window: int = Field(default=8, ge=2)


class Merge(nn.Module):
    """(B, C, *s) -> (B, 2C, *s / 2): neighbours side by side, normed, and a linear layer; odd sides are padded by zeros."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2**ndim * channels)
        self.reduce = nn.Linear(2**ndim * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, [amount for n in reversed(x.shape[2:]) for amount in (0, n % 2)])
        corners = product((0, 1), repeat=x.ndim - 2)
        beside = torch.cat([x[(..., *(slice(first, None, 2) for first in corner))] for corner in corners], dim=1)
        out: Tensor = self.reduce(self.norm(beside.movedim(1, -1))).movedim(-1, 1)
        return out


class Swin(nn.Module):
    """(B, C, *spatial) -> (B, K) scores. Raises ValueError for sides that are no multiples of the patch's."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        self.patch = stride(options, ndim)
        window = window_of(options.window, ndim)
        width = options.width
        self.embed = CONV[ndim](in_channels, width, self.patch, self.patch)
        stages: list[nn.Module] = []
        for number, blocks in enumerate(options.depth):
            merge = [Merge(width, ndim)] if number else []
            width = options.width * 2**number
            stages.append(nn.Sequential(*merge, *attention_blocks(width, window, blocks)))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out_channels)
        tokens.begin(self)
        begin_without_places(self)

    def maps(self, x: Tensor) -> Tensor:
        """(B, features, *s), before they are normed and averaged. Raises ValueError as the network."""
        check_size(x.shape[2:], self.patch)
        features: Tensor = self.stages(self.embed(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.maps(x).flatten(2).transpose(1, 2))
        scores: Tensor = self.head(features.mean(dim=1))
        return scores


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels) scores without softmax. Raises InputError BAD_PLAN."""
    return Swin(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The patch's sides; what is merged need be no multiple of 2."""
    return tokens.sides(options.patch, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The patch by the size of the image."""
    places = PLACES[len(shape)]
    why = f"images of {'×'.join(map(str, shape))} cut into about {places} patches a side, of at most {LARGEST} voxels"
    return plan.Decision({"patch": tokens.patch_of(shape, places, LARGEST)}, {"patch": why})


def sizes(options: Options) -> tuple[Options, ...]:
    """Swin-T, two thirds and a third of its width."""
    return tuple(options.model_copy(update={"width": width}) for width in (96, 64, 32))
