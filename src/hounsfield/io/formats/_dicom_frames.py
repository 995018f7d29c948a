"""The frames of a DICOM file: each plane's place, spacing and rescale, and the checks before pixels are decoded.

Attributes are those of DICOM PS3.3; world coordinates here are DICOM's own, L, P, S in mm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.formats._dicom_file import File, label, listed, missing, value_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# JPEG and its kin and video, RLE, encapsulated uncompressed.
_ENCAPSULATED = ("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.98")
_REQUIRED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
# Modalities whose stored values mean nothing without slope and intercept (type 1 in their IODs).
_RESCALED = ("CT", "PT")


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of pixels. position: L, P, S of its first pixel's centre; orientation: directions of increasing column,
    then row; spacing: between rows, then columns, in mm; each None where the file has none.
    dimensions: its DimensionIndexValues."""

    file: File
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float
    inter: float
    dimensions: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.file.path.name if self.file.count == 1 else f"frame {self.index} of {self.file.path.name}"


def check(file: File) -> None:
    """Raises InputError for what makes the pixels unreadable: WRONG_FORMAT (no image), WRONG_DIMENSION (a mosaic), MISSING_TAG,
    BAD_HEADER, TOO_LARGE (before anything is allocated), TRUNCATED."""
    path = file.path
    if not file.is_image:
        kind = file.get("SOPClassUID")
        raise InputError(
            "WRONG_FORMAT",
            path,
            found=f"DICOM without an image ({getattr(kind, 'name', 'no SOP class')})",
            expected="a DICOM image",
            fix="choose the image files",
        )
    if file.is_mosaic:
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found="a mosaic: slices side by side in one plane",
            expected="one slice a plane",
            fix="unfold it with dcm2niix, or export it as an enhanced multi-frame file",
        )
    for keyword in _REQUIRED:
        if file.get(keyword) is None:
            raise missing(path, keyword)
    rows, columns, samples, bits = (file.number(k) for k in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"))
    if min(rows, columns) < 1 or samples not in (1, 3) or bits not in (1, 8, 16, 32, 64):
        raise InputError(
            "BAD_HEADER",
            path,
            found=f"{rows} rows, {columns} columns, {samples} samples of {bits} bits",
            expected="at least one pixel, 1 or 3 samples, 1, 8, 16, 32 or 64 bits",
            fix="export it again",
        )
    if samples > 1 and file.get("PlanarConfiguration") is None:
        raise missing(path, "PlanarConfiguration")
    needed = limits.claimed(path, (file.count, samples, rows, columns), bits)
    native = not file.syntax.startswith(_ENCAPSULATED)
    if native and file.get("PhotometricInterpretation") == "YBR_FULL_422":
        needed = needed * 2 // 3
    # A compressed frame takes an item tag and a length at least.
    needed = needed if native else 8 * file.count
    present = file.pixels or 0
    if present < needed:
        raise limits.truncated(path, present, needed, "pixels")


def frames_of(file: File) -> list[Frame]:
    """Its frames in the order stored. Those of a cine have no place. Raises InputError MISSING_TAG, BAD_SPACING, BAD_HEADER."""
    per_frame = file.get("PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        place = [file.tags] if file.count == 1 else []
        return [_frame(file, index, place, place or [file.tags]) for index in range(file.count)]
    if len(per_frame) != file.count:
        raise InputError(
            "BAD_HEADER",
            file.path,
            found=f"{file.count} frames and {len(per_frame)} functional groups",
            expected="one group a frame",
            fix="export it again",
        )
    shared = list(file.get("SharedFunctionalGroupsSequence", ()))
    frames = []
    for index, own in enumerate(per_frame):
        macros = [item[0] for group in (own, *shared) for item in _macros(group)]
        frames.append(_frame(file, index, macros, macros))
    return frames


def _macros(group: Dataset) -> Iterator[Any]:
    keywords = (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "FrameContentSequence",
    )
    return (item for item in (group.get(keyword) for keyword in keywords) if item)


def _frame(file: File, index: int, place: list[Dataset], values: list[Dataset]) -> Frame:
    path = file.path
    slope = _numbers(path, values, "RescaleSlope", 1)
    inter = _numbers(path, values, "RescaleIntercept", 1)
    if file.modality in _RESCALED and "ModalityLUTSequence" not in file.tags:
        for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", inter)):
            if value is None:
                raise missing(path, keyword)
    if slope is not None and slope[0] == 0:
        raise bad_number(path, "BAD_HEADER", "RescaleSlope", slope, "a slope other than 0")
    spacing = _numbers(path, place, "PixelSpacing", 2, "BAD_SPACING")
    if spacing is not None and min(spacing) <= 0:
        raise bad_number(path, "BAD_SPACING", "PixelSpacing", spacing, "positive numbers")
    content = next((item for item in place if "DimensionIndexValues" in item), None)
    dimensions = listed(content.DimensionIndexValues) if content is not None else ()
    return Frame(
        file=file,
        index=index,
        position=_numbers(path, place, "ImagePositionPatient", 3),
        orientation=_numbers(path, place, "ImageOrientationPatient", 6),
        spacing=spacing,
        slope=slope[0] if slope else 1.0,
        inter=inter[0] if inter else 0.0,
        dimensions=tuple(int(value) for value in dimensions),
    )


def _numbers(path: Path, items: list[Dataset], keyword: str, count: int, code: str = "BAD_HEADER") -> tuple[float, ...] | None:
    """`count` finite numbers from the first of `items` that has the tag; None where none has it."""
    found = next((value for item in items if (value := value_of(path, item, keyword)) is not None), None)
    if found is None:
        return None
    try:
        numbers = tuple(float(value) for value in listed(found))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise bad_number(path, code, keyword, numbers, f"{count} finite numbers")
    return numbers


def bad_number(path: Path, code: str, keyword: str, numbers: Iterable[float], expected: str) -> InputError:
    """The error for a tag whose numbers are not what they must be."""
    told = "\\".join(f"{number:g}" for number in numbers) or "no number"
    return InputError(code, path, found=f"{label(keyword)} = {told}", expected=expected, fix="write the true value")
