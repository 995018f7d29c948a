"""DICOM RT Structure Sets: the outlines of regions, as voxels of the image that they were drawn on (PS3.3 C.8.8.6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.polygons import inside
from hounsfield.io.regions import SLICE_TOLERANCE, References, Region, Voxels, mismatch, references, volume_of
from hounsfield.io.series import opened

Floats = npt.NDArray[np.float64]
_AREAS: Final = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


class Contours:
    """An RTSTRUCT file. regions: its ROIs that enclose an area. See `hounsfield.io.regions.Drawn`.

    Raises InputError BAD_HEADER for what cannot be read as contours.
    """

    def __init__(self, path: Path) -> None:
        from pydicom import dcmread

        self.path = path
        self.outlines: dict[int, list[Floats]] = {}
        self.other = 0
        try:
            with opened(path) as file:
                tags = dcmread(file, force=True)
            names = {int(item.ROINumber): str(item.get("ROIName") or "").strip() for item in tags.StructureSetROISequence}
            for item in tags.ROIContourSequence:
                self._add(int(item.ReferencedROINumber), item.get("ContourSequence") or ())
            self.references: References = references(tags)
        except Exception as error:  # pydicom raises whatever its parsers raise, and its texts may quote the patient
            raise InputError(
                "BAD_HEADER",
                path,
                found=f"unreadable contours ({type(error).__name__})",
                expected="an RT Structure Set",
                fix="export it again",
            ) from error
        self.regions = tuple(Region(number, names.get(number) or f"ROI {number}") for number in sorted(self.outlines))

    def _add(self, roi: int, contours: Any) -> None:
        for contour in contours:
            points = np.array([float(x) for x in contour.ContourData], dtype=np.float64).reshape(-1, 3)
            if str(contour.ContourGeometricType) not in _AREAS or len(points) < 3:
                self.other += 1
                continue
            if not np.isfinite(points).all():
                raise ValueError("a point that is not finite")
            self.outlines.setdefault(roi, []).append(points * [-1.0, -1.0, 1.0])  # L, P, S -> R, A, S

    @cached_property
    def notes(self) -> tuple[str, ...]:
        return (f"{self.other} contours that enclose no area (points, open lines) were left out",) if self.other else ()

    def voxels(self, grid: Geometry) -> Iterator[tuple[int, Voxels]]:
        """Contours of one ROI on one slice are joined by the even-odd rule (see `polygons.inside`); one that is there twice
        counts once. Raises InputError GRID_MISMATCH for a contour off the slices, or beyond the first or last."""
        volume = volume_of(grid)
        if grid.space != "patient":
            raise mismatch(self.path, "contours in the patient, of an image without a place", volume)
        names = {region.number: region.name for region in self.regions}
        for roi, outlines in self.outlines.items():
            slices: dict[int, dict[bytes, Floats]] = defaultdict(dict)
            for points in outlines:
                at = volume.world_to_index(points)
                k = round(float(at[:, 0].mean()))
                off = float(np.abs(at[:, 0] - k).max())
                if off > SLICE_TOLERANCE:
                    raise mismatch(self.path, f"a contour of {names[roi]!r} {off:.2f} of a slice off slice {k}", volume)
                if not 0 <= k < volume.shape[0]:
                    raise mismatch(self.path, f"a contour of {names[roi]!r} at slice {k}", volume)
                slices[k][at[:, 1:].tobytes()] = at[:, 1:]
            for k, polygons in sorted(slices.items()):
                rows, columns = np.nonzero(inside(list(polygons.values()), volume.shape[1:]))  # type: ignore[arg-type]
                yield roi, (np.full(len(rows), k), rows, columns)
