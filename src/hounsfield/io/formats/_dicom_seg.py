"""DICOM segmentations (binary, fractional, label map): their segments, and which voxels of a grid these take (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats._dicom_file import File, missing, parsing, value_of
from hounsfield.io.formats._dicom_frames import Frame, bad_number, check, frames_of
from hounsfield.io.formats._dicom_pixels import check_decoder, planes_of
from hounsfield.io.formats._dicom_stack import SAME_POSITION, single
from hounsfield.io.regions import References, Region, Voxels, mark, on_grid, paint, references, volume_of
from hounsfield.io.series import opened

# Of the largest value that a fractional segmentation can store: where a voxel counts from.
THRESHOLD = 0.5
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


class Segmentation:
    """A SEG file. regions: its segments, by number. See `hounsfield.io.regions.Drawn`.

    Raises InputError MISSING_TAG, BAD_HEADER, and what `_dicom_frames.check` names.
    """

    def __init__(self, file: File) -> None:
        check(file)
        check_decoder(file)
        self.path = file.path
        self.tags = _read(file.path)
        self.file = replace(file, tags=self.tags)
        self.kind = str(self.file.get("SegmentationType", ""))
        if self.kind not in _KINDS:
            raise InputError(
                "BAD_HEADER",
                file.path,
                found=f"SegmentationType {self.kind!r}",
                expected=" or ".join(_KINDS),
                fix="export it again",
            )
        if "PerFrameFunctionalGroupsSequence" not in self.tags:
            raise missing(file.path, "PerFrameFunctionalGroupsSequence")
        self.regions = _regions(file.path, self.tags)
        self.frames = frames_of(self.file)
        with parsing(file.path):
            self.segments = [_segment(frame) if self.kind != "LABELMAP" else 0 for frame in self.frames]
        self._check_described(self.segments if self.kind != "LABELMAP" else ())

    @cached_property
    def references(self) -> References:
        with parsing(self.path):
            return references(self.tags)

    @property
    def notes(self) -> tuple[str, ...]:
        if self.kind != "FRACTIONAL":
            return ()
        meaning = str(self.tags.get("SegmentationFractionalType", "")).lower() or "fraction"
        return (f"fractional segments: a voxel counts from a {meaning} of {THRESHOLD} on",)

    def voxels(self, grid: Geometry) -> Iterator[tuple[int, Voxels]]:
        largest = self.file.number("MaximumFractionalValue")
        if self.kind == "FRACTIONAL" and largest < 1:
            raise missing(self.path, "MaximumFractionalValue")
        for frame, segment, stored in zip(self.frames, self.segments, planes_of(self.frames), strict=True):
            pixels, plane = stored[0], single(frame).geometry
            if self.kind == "LABELMAP":
                values = np.unique(pixels[pixels != 0]).tolist()
                self._check_described(values)
                for value in values:
                    yield value, on_grid(pixels == value, plane, grid, self.path)
            else:
                inside = pixels >= THRESHOLD * largest if self.kind == "FRACTIONAL" else pixels != 0
                yield segment, on_grid(inside, plane, grid, self.path)

    def image(self) -> Image:
        """Labels (1, *grid) whose values are the segments' numbers; where segments overlap a channel of 0 and 1 for each."""
        grid = self.grid()
        numbers = [region.number for region in self.regions]
        names = "; ".join(f"{region.number} {region.name}" for region in self.regions)
        kind = np.dtype(np.uint8 if max(numbers, default=0) < 256 else np.uint16)
        limits.claimed(self.path, grid.shape, 8 * kind.itemsize)
        labels = np.zeros(volume_of(grid).shape, dtype=kind)
        if not paint(self, grid, {number: number for number in numbers}, labels):
            meta = Meta("dicom", "SEG", notes=(*self.notes, f"segments: {names}"))
            return Image(labels.reshape(1, *grid.shape), grid, meta)
        limits.claimed(self.path, (len(numbers), *grid.shape), 8)
        channels = np.zeros((len(numbers), *labels.shape), dtype=np.uint8)
        mark(self, grid, {number: k for k, number in enumerate(numbers)}, channels)
        notes = (*self.notes, f"segments overlap, a channel for each: {names}")
        meta = Meta("dicom", "SEG", channels=tuple(region.name for region in self.regions), notes=notes)
        return Image(channels.reshape(-1, *grid.shape), grid, meta)

    def grid(self) -> Geometry:
        """The grid that its frames span: frames without any labelled pixel are often left out, and are empty slices here.

        Raises InputError GRID_MISMATCH where frames are not parallel planes of one grid, WRONG_DIMENSION for several without
        a place.
        """
        first = single(self.frames[0]).geometry
        if first.space != "patient":
            if len(set(self.segments)) < len(self.frames):
                raise InputError(
                    "WRONG_DIMENSION",
                    self.path,
                    found=f"{len(self.frames)} frames without a position",
                    expected="one for each segment, or positions",
                    fix="read it as the label of its image",
                )
            return first
        across, down = (first.affine[:3, k] / np.linalg.norm(first.affine[:3, k]) for k in (1, 0))
        normal = np.cross(across, down)
        origins = np.array([single(frame).geometry.affine[:3, 2] for frame in self.frames])
        heights = origins @ normal
        low, high = origins[heights.argmin()], origins[heights.argmax()]
        extent = float(heights.max() - heights.min())
        if extent < SAME_POSITION:
            return first
        step = self._step(heights)
        count = max(1, round(extent / step)) + 1
        affine = np.zeros((4, 4))
        affine[:3] = np.column_stack([(high - low) / (count - 1), first.affine[:3, :2], low])
        affine[3, 3] = 1.0
        return Geometry((count, *first.shape), affine)

    def _step(self, heights: Any) -> float:
        """mm between slices: as the file says, else the smallest step between its frames."""
        groups = (*self.file.get("SharedFunctionalGroupsSequence", ()), self.tags.PerFrameFunctionalGroupsSequence[0])
        with parsing(self.path):
            items = [item for group in groups for item in group.get("PixelMeasuresSequence") or ()]
            said = [float(item.SpacingBetweenSlices) for item in items if item.get("SpacingBetweenSlices") is not None]
        if said and not said[0] > 0:
            raise bad_number(self.path, "BAD_SPACING", "SpacingBetweenSlices", said[:1], "a positive number")
        if said:
            return said[0]
        steps = np.diff(np.unique(np.round(heights, 3)))
        return float(steps[steps >= SAME_POSITION].min())

    def _check_described(self, numbers: Iterable[int]) -> None:
        """Raises InputError BAD_LABEL for a segment that is drawn but not described."""
        known = [region.number for region in self.regions]
        if strange := sorted(set(numbers) - set(known)):
            raise InputError(
                "BAD_LABEL",
                self.path,
                found=f"pixels of segment {strange[0]}, which is not described",
                expected=f"segments {', '.join(map(str, known))}",
                fix="export it again",
            )


def is_segmentation(file: File) -> bool:
    """Whether the file is a SEG of pixels (there are some of surfaces)."""
    return file.is_image and file.get("Modality") == "SEG"


def _read(path: Path) -> Any:
    from pydicom import dcmread

    with opened(path) as file, parsing(path):
        return dcmread(file, stop_before_pixels=True, force=True)


def _regions(path: Path, tags: Any) -> tuple[Region, ...]:
    """The described segments but a label map's background. Raises InputError MISSING_TAG, BAD_HEADER."""
    if not tags.get("SegmentSequence"):
        raise missing(path, "SegmentSequence")
    found = []
    with parsing(path):
        for item in tags.SegmentSequence:
            number = int(item.SegmentNumber)
            name = str(item.get("SegmentLabel") or "").strip() or f"segment {number}"
            kinds = item.get("SegmentedPropertyTypeCodeSequence")
            found.append(Region(number, name, _code(kinds[0]) if kinds else None))
    return tuple(sorted((region for region in found if region.number != 0), key=lambda region: region.number))


def _code(item: Any) -> tuple[str, str, str] | None:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    scheme = item.get("CodingSchemeDesignator")
    return (str(scheme), str(value), str(item.get("CodeMeaning") or "")) if scheme and value else None


def _segment(frame: Frame) -> int:
    """The number of the segment that a frame is of. Raises InputError MISSING_TAG."""
    tags = frame.file.tags
    groups = (tags.PerFrameFunctionalGroupsSequence[frame.index], *(tags.get("SharedFunctionalGroupsSequence") or ()))
    for group in groups:
        for item in group.get("SegmentIdentificationSequence") or ():
            if (number := value_of(frame.file.path, item, "ReferencedSegmentNumber")) is not None:
                return int(number)
    raise missing(frame.file.path, "ReferencedSegmentNumber")
