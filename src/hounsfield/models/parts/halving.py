"""Which axes a network halves from level to level."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST_SIDE = 4  # voxels that the coarsest level keeps along an axis
MOST_STEPS = 5


def halvings(shape: Sequence[int], voxel: Sequence[float]) -> list[tuple[int, ...]]:
    """The step to each level, per axis: each that is long enough and not still much coarser than the finest one is halved; at
    most MOST_STEPS of them. voxel: its sides (mm or px)."""
    size, side = list(map(float, shape)), list(voxel)
    strides: list[tuple[int, ...]] = []
    while len(strides) < MOST_STEPS:
        long = [k for k, n in enumerate(size) if n >= 2 * SMALLEST_SIDE]
        step = tuple(2 if k in long and side[k] < 2 * min(side[j] for j in long) else 1 for k in range(len(size)))
        if max(step) == 1:
            break
        strides.append(step)
        size = [n / s for n, s in zip(size, step, strict=True)]
        side = [v * s for v, s in zip(side, step, strict=True)]
    return strides
