"""How large a region is: its volume, or area in 2D, and the largest diameter of any of its parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FEW = 64  # points whose distances are measured without a hull


@dataclass(frozen=True)
class Size:
    """voxels: how many. content: mm³, in 2D mm² (px² where steps are pixels). diameter: mm, largest distance between the
    centres of two voxels of one connected part (by face, edge or corner); 0 for a single voxel or none."""

    voxels: int
    content: float
    diameter: float


def size_of(region: npt.NDArray[np.bool_], steps: Floats) -> Size:
    """region: (*spatial), in 2D or 3D. steps: (3, n), the world step in mm of one index along each array axis."""
    from scipy import ndimage

    gram = steps.T @ steps
    content = math.sqrt(max(0.0, float(np.linalg.det(gram))))
    count = int(np.count_nonzero(region))
    if count == 0:
        return Size(0, 0.0, 0.0)
    region = region[ndimage.find_objects(region.astype(np.uint8))[0]]
    parts, _ = ndimage.label(region, np.ones((3,) * region.ndim))
    largest = 0.0
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        corner = np.array([s.stop - s.start - 1 for s in box], dtype=np.float64)
        if _longest(corner, steps) <= largest:
            continue  # not even across its box
        largest = max(largest, _diameter(_ends(parts[box] == part), steps))
    return Size(count, count * content, largest)


def _longest(corner: Floats, steps: Floats) -> float:
    """An upper bound of any distance within a box of indices: the longest of its diagonals."""
    signs = np.stack(np.meshgrid(*[(-1.0, 1.0)] * len(corner), indexing="ij"), -1).reshape(-1, len(corner))
    return float(np.linalg.norm((signs * corner) @ steps.T, axis=1).max())


def _ends(region: npt.NDArray[np.bool_]) -> Floats:
    """(N, n) indices of the first and last voxel of each line along the last axis: two of them are farthest apart."""
    lines = region.any(axis=-1)
    first, last = region.argmax(axis=-1), region.shape[-1] - 1 - region[..., ::-1].argmax(axis=-1)
    at = np.argwhere(lines)
    ends = [np.column_stack([at, end[lines]]) for end in (first, last)]
    return np.unique(np.concatenate(ends), axis=0).astype(np.float64)


def _diameter(points: Floats, steps: Floats) -> float:
    """Largest distance in mm between two of the indices `points` (N, n)."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    wide = [k for k in range(points.shape[1]) if np.ptp(points[:, k]) > 0]
    if len(points) > _FEW and len(wide) > 1:
        # Joggled by less than rounding, so that points in one plane have a hull too.
        points = points[ConvexHull(points[:, wide], qhull_options="QJ").vertices]
    elif len(wide) == 1:
        points = points[[points[:, wide[0]].argmin(), points[:, wide[0]].argmax()]]
    return float(pdist(points @ steps.T).max()) if len(points) > 1 else 0.0
