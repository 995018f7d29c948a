"""Windowed inference with Gaussian blending, streamed as slabs so that memory stays bounded on large volumes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise, product

import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.plan import Plan

Slab = tuple[int, int, Tensor]  # start along axis 0, first along axis 1, values (K, d, h, ...)

ACCUMULATOR_BYTES = 2**31  # of accumulated outputs at a time; above it axis 1 is cut into tiles
SLAB_BYTES = 2**24  # of outputs that are handed on at a time: so small that the allocator uses the memory again, unfaulted


def flips(plan: Plan) -> list[tuple[int, ...]]:
    """Axes of (B, C, *spatial) to turn for each view over which the plan averages, the untouched one first."""
    axes = [axis + 2 for axis in plan.augment.mirror] if plan.inference.mirror else []
    return list(chain.from_iterable(combinations(axes, k) for k in range(len(axes) + 1)))


def starts(size: int, patch: int, overlap: float, of: int = 1) -> list[int]:
    """First indices of windows that cover [0, size), evenly spaced, neighbours overlapping by at least `overlap` of a patch.
    A smaller image lies in the middle of its one window, as it does in training. of: whose multiples they are, as size and
    patch then must be; where that is not 1, they are as even and overlap as much as that allows."""
    if size <= patch:
        return [(size - patch) // 2 // of * of]
    count = -(-(size - patch) // max(1, int(patch * (1 - overlap)))) + 1
    return sorted({round(k * (size - patch) / (count - 1) / of) * of for k in range(count)})


def gaussian(patch: Sequence[int], device: torch.device) -> Tensor:
    """(*patch) blending weights: sigma an eighth of the patch, at least 1e-3 of the peak, so that every voxel has a vote."""
    weight = torch.ones(tuple(patch), device=device)
    for axis, size in enumerate(patch):
        at = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
        line = torch.exp(-0.5 * (at / max(size / 8, 1e-6)) ** 2)
        weight = weight * line.reshape([-1 if k == axis else 1 for k in range(len(patch))])
    return weight.clamp_min(1e-3)


def slabs(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    patch: Sequence[int],
    overlap: float,
    channels: int,
    device: torch.device,
    of: Sequence[int] | None = None,
) -> Iterator[Slab]:
    """Blended outputs of `model` over x (C, *grid), finished slab by slab. of: along each axis what windows begin at multiples
    of, as `starts` takes it; None for 1.

    model: (1, C, *patch) on `device` -> (1, channels, *patch). Smaller inputs are padded by their border on both sides. Yields
    values (channels, d, h, ...) float32 whose slabs cover the grid along axis 0; where the accumulator would pass its limit,
    once per tile along axis 1, with tiles that share one row.
    """
    size = x.shape[1:]
    grid = [starts(s, p, overlap, k) for s, p, k in zip(size, patch, of or (1,) * len(size), strict=True)]
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
    """The slabs of one tile: every window that touches it, row of windows by row of windows.

    Sums are kept by slabs, each its own memory, from the first window that reaches a slab to the last: nothing is moved, and
    what is handed on is the sums themselves, divided in place.
    """
    size = x.shape[1:]
    first, last = tile
    touching = [s for s in grid[1] if s < last and s + patch[1] > first]
    row = 4 * channels * (last - first) * math.prod(size[2:])
    rows = max(1, patch[0] // 16, SLAB_BYTES // row)  # not so few that adding becomes many small steps
    pending: deque[_Sums] = deque()
    begun = 0
    for start, following in pairwise([*grid[0], size[0]]):
        stop = min(start + patch[0], size[0])
        while begun < stop:
            # A slab ends where a row of windows begins: then nothing more is added to it.
            end = min(begun + rows, *(s for s in (*grid[0], size[0]) if s > begun))
            shape = (end - begun, last - first, *size[2:])
            pending.append(_Sums(begun, torch.zeros((channels, *shape), device=device), torch.zeros(shape, device=device)))
            begun = end
        for corner in product([start], touching, *grid[2:]):
            out = model(window(x, corner, patch).to(device)[None])[0].float()
            here, there = [], []
            for axis, c in enumerate(corner[1:], start=1):
                low, high = (first, last) if axis == 1 else (0, size[axis])
                a, b = max(c, low), min(c + patch[axis], high)
                here.append(slice(a - c, b - c))
                there.append(slice(a - low, b - low))
            for sums in pending:
                sums.add(out[(slice(None), slice(None), *here)], weight[(slice(None), *here)], start, there)
        del out
        while pending and pending[0].start < following:
            done = pending.popleft()
            yield done.start, first, done.total.div_(done.votes)
            del done  # before the next row of windows needs the memory


@dataclass(frozen=True, eq=False)
class _Sums:
    """Weighted outputs total (K, rows, h, ...) and the sum of their weights votes (rows, h, ...), from row `start` on."""

    start: int
    total: Tensor
    votes: Tensor

    def add(self, out: Tensor, weight: Tensor, start: int, there: Sequence[slice]) -> None:
        """A window's outputs (K, patch rows, ...) and weights, which begin at row `start` and lie at `there` on the others."""
        low = max(self.start, start)
        high = min(self.start + len(self.votes), start + len(weight))
        if low < high:
            mine, its = slice(low - self.start, high - self.start), slice(low - start, high - start)
            self.total[(slice(None), mine, *there)].addcmul_(out[:, its], weight[its])
            self.votes[(mine, *there)] += weight[its]


def window(x: Tensor, corner: Sequence[int], patch: Sequence[int]) -> Tensor:
    """x[corner : corner + patch], its border repeated where x is smaller."""
    window = x[(slice(None), *[slice(max(0, c), c + p) for c, p in zip(corner, patch, strict=True)])]
    before = [max(0, -c) for c in corner]
    after = [max(0, c + p - s) for c, p, s in zip(corner, patch, x.shape[1:], strict=True)]
    if any(before) or any(after):
        pads = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
        window = F.pad(window[None], pads, mode="replicate")[0]
    return window
