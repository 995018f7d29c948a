"""Where voxels lie in the patient: a value without pixels.

Index convention: array axes in the order (d, h, w) or (h, w); an integer index is a voxel centre.
World convention: R, A, S in millimetres, as nibabel. Voxel (d, h, w) has the world position that
nibabel gives (w, h, d): a test holds this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Space = Literal["patient", "detector", "none"]
Floats = npt.NDArray[np.float64]

# Two grids are the same when no corner lies further apart than this part of a voxel.
SAME_GRID_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Geometry:
    """A regular grid of voxels.

    shape: voxels along each array axis, (D, H, W) or (H, W).
    affine: float64 (4, n+1); column k is the world step (R, A, S, 0) in mm of one index along array axis k, the last
        column the world position of index 0. A 2D grid keeps its plane in the patient this way.
    space: "patient" (mm in the patient), "detector" (mm on an X-ray detector) or "none" (no spacing known: one unit is
        one pixel and distances say so).
    Raises InputError BAD_AFFINE for a singular or non-finite affine.
    """

    shape: tuple[int, ...]
    affine: Floats
    space: Space = "patient"

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(s) for s in self.shape))
        n = len(self.shape)
        if n not in (2, 3) or affine.shape != (4, n + 1) or min(self.shape) < 1:
            raise InputError(
                "WRONG_DIMENSION",
                "geometry",
                found=f"shape {self.shape} with an affine of {affine.shape}",
                expected="2 or 3 axes of at least one voxel and an affine of (4, axes + 1)",
                fix="choose a slice or a volume",
            )
        if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :n]) < n:
            raise InputError(
                "BAD_AFFINE",
                "geometry",
                found=f"affine {np.round(affine, 4).tolist()}",
                expected="finite, linearly independent axes",
                fix="repair the header",
            )

    @classmethod
    def none(cls, shape: Sequence[int]) -> Geometry:
        """A grid of which no spacing is known: w along R, h along A, d along S, one unit a pixel."""
        return cls.from_spacing(shape, (1.0,) * len(shape), space="none")

    @classmethod
    def from_spacing(
        cls, shape: Sequence[int], spacing: Sequence[float], origin: Sequence[float] = (0.0, 0.0, 0.0), space: Space = "patient"
    ) -> Geometry:
        """An axis-aligned grid: spacing in mm per array axis, origin (R, A, S) of index 0."""
        n = len(shape)
        affine = np.zeros((4, n + 1))
        for k in range(n):
            affine[n - 1 - k, k] = spacing[k]
        affine[:3, n] = origin
        affine[3, n] = 1.0
        return cls(tuple(shape), affine, space)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Step length in mm along each array axis (px where space is "none")."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, : self.ndim], axis=0))

    @property
    def unit(self) -> str:
        return "px" if self.space == "none" else "mm"

    @property
    def orientation(self) -> str:
        """Nearest anatomical direction of each array axis, such as "SAR" for (d, h, w) = (up, forward, right)."""
        axes, signs = self._closest_axes()
        return "".join("RAS"[a] if s > 0 else "LPI"[a] for a, s in zip(axes, signs, strict=True))

    @property
    def diagonal(self) -> float:
        """Length of the extent's diagonal in mm: the worst distance that two voxels can have."""
        return float(np.linalg.norm([n * s for n, s in zip(self.shape, self.spacing, strict=True)]))

    def index_to_world(self, index: npt.ArrayLike) -> Floats:
        """(N, n) array indices -> (N, 3) R, A, S in mm."""
        points = np.atleast_2d(np.asarray(index, dtype=np.float64))
        return points @ self.affine[:3, : self.ndim].T + self.affine[:3, self.ndim]

    def world_to_index(self, world: npt.ArrayLike) -> Floats:
        """(N, 3) R, A, S in mm -> (N, n) array indices; for a 2D grid, of the point's projection on the plane."""
        points = np.atleast_2d(np.asarray(world, dtype=np.float64))
        return (points - self.affine[:3, self.ndim]) @ np.linalg.pinv(self.affine[:3, : self.ndim]).T

    def crop(self, start: Sequence[int], shape: Sequence[int]) -> Geometry:
        """The grid of array[start : start + shape]; a negative start or a larger shape pads."""
        affine = self.affine.copy()
        affine[:3, self.ndim] = self.index_to_world([start])[0]
        return Geometry(tuple(shape), affine, self.space)

    def flip(self, axis: int) -> Geometry:
        """The grid of np.flip(array, axis)."""
        affine = self.affine.copy()
        affine[:3, self.ndim] += (self.shape[axis] - 1) * affine[:3, axis]
        affine[:3, axis] *= -1
        return Geometry(self.shape, affine, self.space)

    def permute(self, axes: Sequence[int]) -> Geometry:
        """The grid of np.transpose(array, axes)."""
        affine = self.affine[:, [*axes, self.ndim]]
        return Geometry(tuple(self.shape[a] for a in axes), affine, self.space)

    def resize(self, shape: Sequence[int]) -> Geometry:
        """The grid of `shape` voxels over the same extent: old index = (new index + 1/2) old/new - 1/2."""
        scale = np.array([o / s for o, s in zip(self.shape, shape, strict=True)])
        affine = self.affine.copy()
        affine[:3, self.ndim] = self.index_to_world([scale / 2 - 0.5])[0]
        affine[:3, : self.ndim] *= scale
        return Geometry(tuple(shape), affine, self.space)

    def canonical_axes(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """The permutation, then the flips, that bring a 3D grid nearest to axes (S, A, R); the identity in 2D.

        Example: array.transpose(axes), then np.flip along every k with flips[k].
        """
        if self.ndim == 2 or self.space == "none":
            return tuple(range(self.ndim)), (False,) * self.ndim
        closest, signs = self._closest_axes()
        order = tuple(int(np.flatnonzero(np.array(closest) == world)[0]) for world in (2, 1, 0))
        return order, tuple(signs[k] < 0 for k in order)

    def canonical(self) -> Geometry:
        """This grid after `canonical_axes`."""
        axes, flips = self.canonical_axes()
        out = self.permute(axes)
        for k, flip in enumerate(flips):
            out = out.flip(k) if flip else out
        return out

    def same_grid(self, other: Geometry, tolerance: float = SAME_GRID_TOLERANCE) -> bool:
        """Same shape, and no corner further apart than `tolerance` of the smaller voxel side."""
        if self.shape != other.shape:
            return False
        if "none" in (self.space, other.space):
            return True
        corners = np.stack(np.meshgrid(*[(0, s - 1) for s in self.shape], indexing="ij"), -1).reshape(-1, self.ndim)
        apart = np.linalg.norm(self.index_to_world(corners) - other.index_to_world(corners), axis=1).max()
        return bool(apart <= tolerance * min(self.spacing))

    def _closest_axes(self) -> tuple[list[int], list[int]]:
        """World axis (0 R, 1 A, 2 S) and sign nearest to each array axis, each world axis at most once."""
        steps = self.affine[:3, : self.ndim] / np.linalg.norm(self.affine[:3, : self.ndim], axis=0)
        # The rotation nearest to the (perhaps sheared) axes decides, as nibabel's io_orientation does.
        u, _, vt = np.linalg.svd(steps, full_matrices=False)
        rotation = u @ vt
        world = [-1] * self.ndim
        signs = [1] * self.ndim
        left = np.abs(rotation)
        for _ in range(self.ndim):
            row, axis = np.unravel_index(int(np.argmax(left)), left.shape)
            world[axis] = int(row)
            signs[axis] = 1 if rotation[row, axis] >= 0 else -1
            left[row, :] = -1
            left[:, axis] = -1
        return world, signs

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Geometry)
            and self.shape == other.shape
            and self.space == other.space
            and bool(np.array_equal(self.affine, other.affine))
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.space, self.affine.tobytes()))
