"""Axis-aligned boxes in voxel indices, in any number of dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError


@dataclass(frozen=True, eq=False)
class Boxes:
    """corners: float64 (N, 2n), first corner then last in array-axis order, voxel index, half-open: the voxel (3, 4) alone
    is (3, 4, 4, 5). labels: int64 (N,) class indices. scores: float64 (N,) in [0, 1], or None for a truth.

    Raises InputError BAD_LABEL where the shapes disagree or a box has no extent.
    """

    corners: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        corners = np.asarray(self.corners, dtype=np.float64)
        labels = np.asarray(self.labels, dtype=np.int64)
        object.__setattr__(self, "corners", corners)
        object.__setattr__(self, "labels", labels)
        n = corners.shape[1] // 2 if corners.ndim == 2 else 0
        sizes_fit = corners.ndim == 2 and corners.shape[1] in (4, 6) and labels.shape == (len(corners),)
        if not sizes_fit or (corners[:, n:] <= corners[:, :n]).any():
            raise InputError(
                "BAD_LABEL",
                "boxes",
                found=f"corners of {corners.shape} with labels of {labels.shape}, or a box without extent",
                expected="(N, 4) or (N, 6) corners whose last exceeds the first, and one label each",
                fix="drop or repair the degenerate boxes",
            )

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def ndim(self) -> int:
        return int(self.corners.shape[1] // 2)

    @property
    def sizes(self) -> npt.NDArray[np.float64]:
        """(N, n) extent along each array axis in voxels."""
        return self.corners[:, self.ndim :] - self.corners[:, : self.ndim]

    @property
    def voxels(self) -> npt.NDArray[np.int64]:
        """(N, 2n) first and last index, half-open, of the voxels whose middles each box holds; at least of the one that its
        own middle lies in."""
        n = self.ndim
        low, high = (np.ceil(edge - 0.5).astype(np.int64) for edge in (self.corners[:, :n], self.corners[:, n:]))
        middle = np.floor((self.corners[:, :n] + self.corners[:, n:]) / 2).astype(np.int64)
        thin = high <= low
        return np.concatenate([np.where(thin, middle, low), np.where(thin, middle + 1, high)], axis=1)

    @classmethod
    def around(cls, labels: npt.NDArray[np.integer], values: tuple[int, ...]) -> Boxes:
        """One box around every connected component of each of `values` in a label array (*spatial); class index = position
        in `values`. Components touch by face, edge or corner."""
        from scipy import ndimage

        corners: list[list[int]] = []
        classes: list[int] = []
        structure = np.ones((3,) * labels.ndim)
        for index, value in enumerate(values):
            parts, _ = ndimage.label(labels == value, structure)
            for part in ndimage.find_objects(parts):
                corners.append([s.start for s in part] + [s.stop for s in part])
                classes.append(index)
        return cls(np.array(corners, dtype=np.float64).reshape(-1, 2 * labels.ndim), np.array(classes, dtype=np.int64))
