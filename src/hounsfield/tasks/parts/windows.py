"""Windowed inference with Gaussian blending, streamed as slabs so that memory stays bounded on large volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations, product

import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.plan import Plan

Slab = tuple[int, int, Tensor]  # start along axis 0, first along axis 1, values (K, d, h, ...)

ACCUMULATOR_BYTES = 2**31  # of accumulated outputs at a time; above it axis 1 is cut into tiles
SLAB_BYTES = 2**26  # of finished outputs that are handed on at a time


def flips(plan: Plan) -> list[tuple[int, ...]]:
    """Axes of (B, C, *spatial) to turn for each view over which the plan averages, the untouched one first."""
    axes = [axis + 2 for axis in plan.augment.mirror] if plan.inference.mirror else []
    return list(chain.from_iterable(combinations(axes, k) for k in range(len(axes) + 1)))


def starts(size: int, patch: int, overlap: float) -> list[int]:
    """First indices of windows that cover [0, size), evenly spaced, neighbours overlapping by at least `overlap` of a patch."""
    if size <= patch:
        return [0]
    count = -(-(size - patch) // max(1, int(patch * (1 - overlap)))) + 1
    return [round(k * (size - patch) / (count - 1)) for k in range(count)]


def gaussian(patch: Sequence[int], device: torch.device) -> Tensor:
    """(*patch) blending weights: sigma an eighth of the patch, at least 1e-3 of the peak, so that every voxel has a vote."""
    weight = torch.ones(tuple(patch), device=device)
    for axis, size in enumerate(patch):
        at = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
        line = torch.exp(-0.5 * (at / max(size / 8, 1e-6)) ** 2)
        weight = weight * line.reshape([-1 if k == axis else 1 for k in range(len(patch))])
    return weight.clamp_min(1e-3)


def slabs(
    model: Callable[[Tensor], Tensor], x: Tensor, patch: Sequence[int], overlap: float, channels: int, device: torch.device
) -> Iterator[Slab]:
    """Blended outputs of `model` over x (C, *grid), finished slab by slab.

    model: (1, C, *patch) on `device` -> (1, channels, *patch). Smaller inputs are padded by their border. Yields values
    (channels, d, h, ...) float32 whose slabs cover the grid along axis 0; where the accumulator would pass its limit, once
    per tile along axis 1, with tiles that share one row.
    """
    size = x.shape[1:]
    grid = [starts(s, p, overlap) for s, p in zip(size, patch, strict=True)]
    weight = gaussian(patch, device)
    for first, last in _tiles(size, patch, channels):
        yield from _stream(model, x, patch, grid, weight, channels, (first, last), device)


def _tiles(size: Sequence[int], patch: Sequence[int], channels: int) -> list[tuple[int, int]]:
    """Half-open ranges along axis 1 whose accumulators stay under the limit; neighbours share one row for interpolation."""
    row = channels * 4 * max(patch[0], 1)
    for s in size[2:]:
        row *= s
    rows = max(2, min(size[1], ACCUMULATOR_BYTES // row))
    return [(a, min(size[1], a + rows)) for a in range(0, max(1, size[1] - 1), rows - 1)]


def _stream(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    patch: Sequence[int],
    grid: list[list[int]],
    weight: Tensor,
    channels: int,
    tile: tuple[int, int],
    device: torch.device,
) -> Iterator[Slab]:
    """The slabs of one tile: every window that touches it, row of windows by row of windows."""
    size = x.shape[1:]
    first, last = tile
    depth = min(patch[0], size[0])
    shape = (depth, last - first, *size[2:])
    total = torch.zeros((channels, *shape), device=device)
    votes = torch.zeros(shape, device=device)
    touching = [s for s in grid[1] if s < last and s + patch[1] > first]
    for index, start in enumerate(grid[0]):
        for corner in product([start], touching, *grid[2:]):
            out = model(_window(x, corner, patch).to(device)[None])[0].float()
            here, there = [], []
            for axis, (c, p, s) in enumerate(zip(corner, patch, size, strict=True)):
                low, high = (first, last) if axis == 1 else (0, s)
                a, b = max(c, low), min(c + p, high)
                origin = start if axis == 0 else low
                here.append(slice(a - c, b - c))
                there.append(slice(a - origin, b - origin))
            w = weight[tuple(here)]
            total[(slice(None), *there)].addcmul_(out[(slice(None), *here)], w)
            votes[tuple(there)] += w
        following = grid[0][index + 1] if index + 1 < len(grid[0]) else size[0]
        done = min(following - start, depth)
        rows = max(1, SLAB_BYTES // (4 * total[:, 0].numel()))
        for row in range(0, done, rows):
            few = slice(row, min(row + rows, done))
            yield start + row, first, total[:, few] / votes[few]
        for buffer, axis in ((total, 1), (votes, 0)):
            for row in range(depth - done):  # row by row: a move in place, without a second buffer
                buffer.select(axis, row).copy_(buffer.select(axis, row + done))
            buffer.narrow(axis, depth - done, done).zero_()


def _window(x: Tensor, corner: Sequence[int], patch: Sequence[int]) -> Tensor:
    """x[corner : corner + patch], its border repeated where x is smaller."""
    window = x[(slice(None), *[slice(c, c + p) for c, p in zip(corner, patch, strict=True)])]
    lacking = [p - s for p, s in zip(patch, window.shape[1:], strict=True)]
    if any(lacking):
        pads = [amount for n in reversed(lacking) for amount in (0, n)]
        window = F.pad(window[None], pads, mode="replicate")[0]
    return window
