"""Boxes that DICOM structured reports draw around findings: regions of TID 1410 and their kin, on images or in the patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.regions import PIXEL_TOLERANCE, SLICE_TOLERANCE, References, mismatch, references, volume_of
from hounsfield.io.series import opened

Floats = npt.NDArray[np.float64]
Slices = Mapping[tuple[str, int], int]  # SOP Instance UID and frame number, from 1 -> slice of the array

_FINDING: Final = "121071"  # DCM codes of what a measurement group says of itself
_TRACKING: Final = "112040"
_LINES: Final = ("POLYLINE", "POLYGON")
UNNAMED: Final = "finding"


@dataclass(frozen=True, eq=False)
class Finding:
    """A closed line around something. name: of the finding. lesion: tracking UID, "" where there is none; one lesion may be
    drawn on several slices. points: (N, 2) row, column with the image's upper left corner at 0, 0; or (N, 3) R, A, S in mm.
    image: SOP Instance UID and frame that the (N, 2) are on."""

    name: str
    lesion: str
    points: Floats
    image: tuple[str, int]


class Report:
    """A structured report. findings: its closed lines. others: regions that are none (points, circles).

    Raises InputError BAD_HEADER for what cannot be read as a report.
    """

    def __init__(self, path: Path) -> None:
        from pydicom import dcmread

        self.path = path
        self.others = 0
        try:
            with opened(path) as file:
                tags = dcmread(file, force=True)
            self.references: References = references(tags)
            self.findings = tuple(self._within(tags, UNNAMED, ""))
        except Exception as error:  # pydicom raises whatever its parsers raise, and its texts may quote the patient
            raise InputError(
                "BAD_HEADER",
                path,
                found=f"an unreadable report ({type(error).__name__})",
                expected="a structured report",
                fix="export it again",
            ) from error

    def _within(self, item: Any, name: str, lesion: str) -> Iterator[Finding]:
        """The lines of a content item and those below it, which inherit what it is called."""
        children = list(item.get("ContentSequence") or ())
        for child in children:
            code = _concept(child)
            if code == _FINDING and child.get("ConceptCodeSequence"):
                name = str(child.ConceptCodeSequence[0].get("CodeMeaning") or name)
            elif code == _TRACKING and child.get("UID"):
                lesion = str(child.UID)
        for child in children:
            if child.get("ValueType") in ("SCOORD", "SCOORD3D"):
                if (finding := _line(child, name, lesion)) is not None:
                    yield finding
                else:
                    self.others += 1
            yield from self._within(child, name, lesion)

    def boxes(self, grid: Geometry, slices: Slices) -> tuple[list[tuple[str, tuple[float, ...]]], int]:
        """(name, corners) as `core.boxes.Boxes` has them, of the lines that are boxes along the grid's axes; and how many lines
        are none. Those of one lesion on several slices of a volume are one box. slices: where each image stands in the array.

        Lines on images that are not among `slices` belong to another image. Raises InputError GRID_MISMATCH for lines in the
        patient that lie on no slice of the grid.
        """
        found: dict[tuple[str, str], Floats] = {}
        odd = 0
        for k, finding in enumerate(self.findings):
            if finding.points.shape[1] == 2 and finding.image not in slices:
                continue
            corners = self._corners(finding, grid, slices)
            if corners is None:
                odd += 1
                continue
            key = (finding.name, finding.lesion or str(k))
            other = found.get(key)
            n = len(corners) // 2
            joined = corners if other is None else np.r_[np.minimum(corners, other)[:n], np.maximum(corners, other)[n:]]
            found[key] = joined
        return [(name, tuple(corners.tolist())) for (name, _), corners in found.items()], odd

    def _corners(self, finding: Finding, grid: Geometry, slices: Slices) -> Floats | None:
        if finding.points.shape[1] == 2:
            k, plane = slices[finding.image], finding.points
        else:
            volume = volume_of(grid)
            at = volume.world_to_index(finding.points)
            k, plane = round(float(at[:, 0].mean())), at[:, 1:] + 0.5
            off = float(np.abs(at[:, 0] - k).max())
            if grid.space != "patient" or off > SLICE_TOLERANCE or not 0 <= k < volume.shape[0]:
                raise mismatch(self.path, f"a region {off:.2f} of a slice off slice {k}", volume)
        low, high = plane.min(axis=0), plane.max(axis=0)
        at_low, at_high = np.abs(plane - low) <= PIXEL_TOLERANCE, np.abs(plane - high) <= PIXEL_TOLERANCE
        distinct = {tuple(corner) for corner in at_high.tolist()}
        if not (at_low | at_high).all() or len(distinct) != 4 or len(plane) > 5:
            return None
        corners: Floats = np.r_[low, high] if grid.ndim == 2 else np.r_[k, low, k + 1, high]
        return corners


def _concept(item: Any) -> str:
    codes = item.get("ConceptNameCodeSequence")
    return str(codes[0].get("CodeValue") or "") if codes else ""


def _line(item: Any, name: str, lesion: str) -> Finding | None:
    """A SCOORD or SCOORD3D that is a closed line; None for another."""
    flat = item.ValueType == "SCOORD"
    points = np.array([float(x) for x in item.GraphicData], dtype=np.float64).reshape(-1, 2 if flat else 3)
    closed = item.GraphicType == "POLYGON" or (len(points) > 3 and np.array_equal(points[0], points[-1]))
    if item.GraphicType not in _LINES or not closed or not np.isfinite(points).all():
        return None
    if not flat:
        return Finding(name, lesion, points * [-1.0, -1.0, 1.0], ("", 0))  # L, P, S -> R, A, S
    for child in item.get("ContentSequence") or ():
        for reference in child.get("ReferencedSOPSequence") or ():
            frame = reference.get("ReferencedFrameNumber") or 1
            number = int(frame) if isinstance(frame, int | str) else int(frame[0])
            return Finding(name, lesion, points[:, ::-1], (str(reference.ReferencedSOPInstanceUID), number))
    return None
