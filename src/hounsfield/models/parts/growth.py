"""How an image grows from a small grid and shrinks back to one, whatever its size: what generators share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.plan import Decision
from hounsfield.models.parts.halving import SMALLEST_SIDE, halvings


def of_axes(size: Sequence[int], ndim: int) -> tuple[int, ...]:
    """A number for each axis; a single one stands for all."""
    return tuple(size) * ndim if len(size) == 1 else tuple(size)


def grids(size: Sequence[int], strides: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Sizes of the levels after each of `strides`, fine to coarse: multiples of the coarsest, the smallest of which the steps
    make `size` or more."""
    whole = [prod(step[axis] for step in strides) for axis in range(len(size))]
    sizes = [tuple(-(-n // s) for n, s in zip(size, whole, strict=True))]
    for step in reversed(strides[1:]):
        sizes.append(tuple(n * s for n, s in zip(sizes[-1], step, strict=True)))
    return sizes[::-1]


def whole(levels: Sequence[tuple[int, ...]], strides: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What the finest of the levels grows to by the first step: the size of the image or more."""
    return tuple(n * s for n, s in zip(levels[0], strides[0], strict=True))


def middle(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, *s) -> (B, C, *size), s >= size: what grew beyond the image is left out on all sides."""
    cuts = [slice((have - n) // 2, (have - n) // 2 + n) for have, n in zip(x.shape[2:], size, strict=True)]
    return x[(slice(None), slice(None), *cuts)]


def around(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, *s) -> (B, C, *size), s <= size: zeros where `middle` leaves out."""
    wanting = [n - have for have, n in zip(x.shape[2:], size, strict=True)]
    return F.pad(x, [part for w in reversed(wanting) for part in (w // 2, w - w // 2)])


def beside(x: Tensor, asked: Tensor | None) -> Tensor:
    """(B, C, *s) and what is asked for (B, K, *size), of the same extent -> (B, C + K, *s), its mean in each voxel of x; x
    itself where nothing is asked for."""
    if asked is None:
        return x
    pool: Callable[..., Tensor] = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    return torch.cat([x, pool(asked, list(x.shape[2:])).to(x.dtype)], dim=1)


def unfolded(x: Tensor, step: Sequence[int]) -> Tensor:
    """(B, C * prod(step), *s) -> (B, C, *(s * step)): channels become voxels (Shi et al., CVPR 2016, figure 1)."""
    n, size = len(step), x.shape[2:]
    apart = x.reshape(len(x), -1, *step, *size)
    order = [0, 1, *(axis for k in range(n) for axis in (2 + n + k, 2 + k))]
    return apart.permute(order).reshape(len(x), x.shape[1] // prod(step), *(s * t for s, t in zip(size, step, strict=True)))


def widths(width: int, most: int, levels: int) -> list[int]:
    """Channels of each level from fine to coarse, doubled at each; from 64 on multiples of 32, as attention wants them."""
    each = [min(width * 2**k, most) for k in range(levels)]
    return [c if c < 64 else c // 32 * 32 for c in each]


def rules(shape: Sequence[int], voxel: Sequence[float]) -> Decision:
    """The size that is drawn, and the steps to it."""
    strides = halvings(shape, voxel) or [(1,) * len(shape)]
    by = "×".join(map(str, shape))
    why = f"images of {by} halved while an axis keeps {SMALLEST_SIDE} voxels, fine axes first"
    return Decision({"size": tuple(shape), "strides": strides}, {"size": f"the model grid, {by}", "strides": why})
