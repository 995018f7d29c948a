"""Stages of attention in windows that shift, from fine to coarse, in two and three dimensions.

Liu et al., "Swin transformer: hierarchical vision transformer using shifted windows", ICCV 2021, section 3. Places are told by
a depth-wise convolution before each block instead of a table for the window, and what pads a window is masked, so that maps
need no particular size (see `parts/attention.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.models.parts.attention import attention_blocks, begin_without_places, window_of
from hounsfield.models.parts.depth import rates
from hounsfield.models.parts.stems import Cut, patches
from hounsfield.models.parts.tokens import begin


class Merge(nn.Module):
    """(B, C, *s) -> (B, 2C, *s / 2): neighbours side by side, normed, and a linear layer; odd sides are padded by zeros."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2**ndim * channels)
        self.reduce = nn.Linear(2**ndim * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, [amount for n in reversed(x.shape[2:]) for amount in (0, n % 2)])
        corners = product((slice(0, None, 2), slice(1, None, 2)), repeat=x.ndim - 2)
        beside = torch.cat([x[(slice(None), slice(None), *corner)] for corner in corners], dim=1)
        out: Tensor = self.reduce(self.norm(beside.movedim(1, -1))).movedim(-1, 1)
        return out


def stages(
    cut: Cut,
    in_channels: int,
    width: int,
    patch: Sequence[int],
    depth: Sequence[int],
    window: int,
    drop_path: float,
) -> list[nn.Module]:
    """The first cuts the image into patches of `width` channels, each further one halves the map and doubles them; `depth` has
    the blocks of each. window: places a side of a window in 2D, half as many in 3D. drop_path: of the deepest block's branches.
    Weights are as they are to begin with; what initialises the network that holds these stages comes before `begin_stages`."""
    ndim = len(patch)
    drops = rates(drop_path, sum(depth))
    made: list[nn.Module] = []
    for number, blocks in enumerate(depth):
        first = Merge(width * 2 ** (number - 1), ndim) if number else patches(cut, in_channels, width, patch)
        own, drops = drops[:blocks], drops[blocks:]
        made.append(nn.Sequential(first, *attention_blocks(width * 2**number, window_of(window, ndim), own)))
    return made


def begin_stages(made: nn.Module) -> None:
    """First weights of `stages`, and of whatever linear layers lie beside them in `made`."""
    begin(made)
    begin_without_places(made)
