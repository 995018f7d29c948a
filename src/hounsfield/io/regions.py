"""Labelled regions that DICOM files draw on images: what they are called, what they refer to, and which voxels they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Ints = npt.NDArray[np.int64]
Voxels = tuple[Ints, Ints, Ints]  # d, h, w of voxels in the volume of a grid: see `volume_of`

# A plane lies on a slice of a grid when it is no further from it than this part of the step between slices ...
SLICE_TOLERANCE: Final = 0.2
# ... and its pixels no further from the grid's than this part of a pixel.
PIXEL_TOLERANCE: Final = 0.1

# Sequences in which SEG, RTSTRUCT and SR name the images and series that they were drawn on.
_REFERRING: Final = (
    "ReferencedSeriesSequence",
    "ReferencedInstanceSequence",
    "SourceImageSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DerivationImageSequence",
    "ReferencedFrameOfReferenceSequence",
    "RTReferencedStudySequence",
    "RTReferencedSeriesSequence",
    "ContourImageSequence",
    "ROIContourSequence",
    "ContourSequence",
    "StructureSetROISequence",
    "CurrentRequestedProcedureEvidenceSequence",
    "PertinentOtherEvidenceSequence",
    "ReferencedSOPSequence",
)


@dataclass(frozen=True)
class Region:
    """number: in its file. name: for people. code: (scheme, value, meaning) of what it is, None where the file gives none."""

    number: int
    name: str
    code: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class References:
    """UIDs that a file refers to: of series, of images (SOP Instance UIDs), of frames of reference."""

    series: frozenset[str] = field(default_factory=frozenset)
    images: frozenset[str] = field(default_factory=frozenset)
    frames: frozenset[str] = field(default_factory=frozenset)


class Drawn(Protocol):
    """The regions of one file. notes: what was decided while reading it."""

    @property
    def regions(self) -> tuple[Region, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def references(self) -> References: ...

    def voxels(self, grid: Geometry) -> Iterator[tuple[int, Voxels]]:
        """For each plane the number of a region and its voxels on `grid`. Raises InputError GRID_MISMATCH for a plane that lies
        on no slice of it."""


def references(tags: Dataset) -> References:
    """What the data set says that it was drawn on."""
    found: dict[str, set[str]] = {"series": set(), "images": set(), "frames": set()}

    def note(item: Any, keyword: str, kind: str) -> None:
        if value := item.get(keyword):
            found[kind].add(str(value))

    def collect(item: Any, top: bool) -> None:
        if not top:
            note(item, "SeriesInstanceUID", "series")
        note(item, "ReferencedSOPInstanceUID", "images")
        note(item, "FrameOfReferenceUID", "frames")
        note(item, "ReferencedFrameOfReferenceUID", "frames")
        for keyword in _REFERRING:
            for below in item.get(keyword) or ():
                collect(below, top=False)

    collect(tags, top=True)
    return References(*(frozenset(found[kind]) for kind in ("series", "images", "frames")))


def volume_of(grid: Geometry) -> Geometry:
    """A 3D grid itself; a 2D one as a volume of one slice, 1 mm thick."""
    if grid.ndim == 3:
        return grid
    down, across = (grid.affine[:3, k] / np.linalg.norm(grid.affine[:3, k]) for k in (0, 1))
    affine = np.zeros((4, 4))
    affine[:3] = np.column_stack([np.cross(across, down), grid.affine[:3]])
    affine[3, 3] = 1.0
    return Geometry((1, *grid.shape), affine, grid.space)


def on_grid(pixels: npt.NDArray[np.bool_], plane: Geometry, grid: Geometry, where: Path) -> Voxels:
    """The voxels of `grid` that the true pixels (h, w) of `plane` are: a plane of the same voxels, perhaps turned, mirrored, or
    larger or smaller.

    Raises InputError GRID_MISMATCH where its pixels are no voxels of the grid, or a true one lies outside.
    """
    volume = volume_of(grid)
    h, w = plane.shape
    if "patient" not in (plane.space, grid.space) and volume.shape == (1, h, w):  # neither has a place: pixel is pixel
        plane = Geometry(plane.shape, volume.affine[:, 1:], grid.space)
    corners = volume.world_to_index(plane.index_to_world([(0, 0), (h - 1, 0), (0, w - 1)]))
    steps = np.linalg.inv(volume.affine[:3, :3]) @ plane.affine[:3, :2]
    start, down, across = np.rint(corners[0]), *np.rint(steps).T
    tolerance = np.array([SLICE_TOLERANCE, PIXEL_TOLERANCE, PIXEL_TOLERANCE]) + 1e-6
    apart = np.abs(corners - [start, start + (h - 1) * down, start + (w - 1) * across])
    straight = all(np.abs(step).sum() == 1 for step in (down, across)) and np.abs(down) @ np.abs(across) == 0
    if plane.space != grid.space or not straight or (apart > tolerance).any():
        raise mismatch(where, f"a plane of {h}x{w} pixels, {_offset(corners[0], start, straight)}", volume)
    rows, columns = np.nonzero(pixels)
    d, i, j = (
        (first + rows * one + columns * other).astype(np.int64) for first, one, other in zip(start, down, across, strict=True)
    )
    for index, size in zip((d, i, j), volume.shape, strict=True):
        if index.size and (index.min() < 0 or index.max() >= size):
            raise mismatch(where, f"labelled pixels outside of the image, at slice {int(start[0])}", volume)
    return d, i, j


def mismatch(where: Path, found: str, grid: Geometry) -> InputError:
    """The error GRID_MISMATCH of what is drawn beside the voxels of `grid`."""
    return InputError(
        "GRID_MISMATCH",
        where,
        found=found,
        expected=f"voxels of the image's grid {grid.shape} (within {SLICE_TOLERANCE} of a slice, {PIXEL_TOLERANCE} of a pixel)",
        fix="name the series that it was drawn on, or resample it to the image",
    )


def _offset(corner: npt.NDArray[np.float64], start: npt.NDArray[np.float64], straight: bool) -> str:
    if not straight:
        return "of another size or direction"
    return f"{', '.join(f'{x:+.2f}' for x in corner - start)} voxels from the nearest"


def paint(drawn: Drawn, grid: Geometry, values: Mapping[int, int], labels: npt.NDArray[Any]) -> bool:
    """Writes each region's value, by its number, into `labels` (D, H, W), the volume of `grid`. Whether regions of different
    values overlap; of those the last wins. Raises InputError GRID_MISMATCH."""
    overlap = False
    for number, where in drawn.voxels(grid):
        there = labels[where]
        overlap = overlap or bool(((there != 0) & (there != values[number])).any())
        labels[where] = values[number]
    return overlap


def mark(drawn: Drawn, grid: Geometry, places: Mapping[int, int], channels: npt.NDArray[Any]) -> None:
    """Writes 1 into the channel of each region, by its number, of `channels` (R, D, H, W), over the volume of `grid`.

    Raises InputError GRID_MISMATCH.
    """
    for number, where in drawn.voxels(grid):
        channels[places[number]][where] = 1
