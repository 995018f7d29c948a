"""One DICOM file without its pixels: the tags that an image needs, and nothing about the patient."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hounsfield.core.errors import InputError
from hounsfield.io.series import opened

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNDEFINED = 0xFFFFFFFF
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # FloatPixelData, DoubleFloatPixelData, PixelData
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "LossyImageCompression",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, eq=False)
class File:
    """tags: the elements of `_TAGS` that are there. pixels: bytes of pixel data present, None where there is no such
    element. syntax: transfer syntax UID. start: byte of the file at which whole-number pixels begin, None where it is not known
    (a deflated file, pixels in floating point)."""

    path: Path
    tags: Dataset
    pixels: int | None
    syntax: str
    start: int | None = None

    def get(self, keyword: str, default: Any = None) -> Any:
        """The tag's value, or `default` where it is absent or empty. Raises InputError BAD_HEADER."""
        return value_of(self.path, self.tags, keyword, default)

    def number(self, keyword: str, default: int = 0) -> int:
        """The tag's value as a whole number. Raises InputError BAD_HEADER."""
        value = self.get(keyword, default)
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise _unreadable("BAD_HEADER", self.path, f"{label(keyword)} = {value}", "one whole number") from error

    @property
    def count(self) -> int:
        """Number of frames that the header claims."""
        return max(1, self.number("NumberOfFrames", 1))

    @property
    def is_image(self) -> bool:
        """Whether it holds pixels, and not a report, a plan, a directory or a dose grid."""
        return "Rows" in self.tags and self.get("Modality") != "RTDOSE"

    @property
    def is_localizer(self) -> bool:
        return self._is_of_type("LOCALIZER")

    @property
    def is_mosaic(self) -> bool:
        """Whether slices lie side by side in its one plane (Siemens)."""
        return self._is_of_type("MOSAIC")

    def _is_of_type(self, word: str) -> bool:
        return word in [str(value).upper() for value in listed(self.get("ImageType", ()))]

    @property
    def modality(self) -> str | None:
        value = self.get("Modality")
        return str(value) if value else None


def label(keyword: str) -> str:
    """(gggg,eeee) Keyword."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def value_of(path: Path, tags: Dataset, keyword: str, default: Any = None) -> Any:
    """A tag's value. Raises InputError BAD_HEADER where it is not of the tag's type."""
    try:
        value = tags.get(keyword)
    except Exception as error:  # pydicom converts on access, and raises whatever the conversion raises
        raise _unreadable("BAD_HEADER", path, f"an unreadable {label(keyword)}", "a value of its type") from error
    return default if value is None or (hasattr(value, "__len__") and not len(value)) else value


def missing(path: Path, keyword: str) -> InputError:
    """The error MISSING_TAG."""
    return InputError(
        "MISSING_TAG", path, found=f"no {label(keyword)}", expected="a value", fix="export it again, or write the true value"
    )


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Whatever pydicom's parsers raise in the block as InputError NESTED_TOO_DEEP or BAD_HEADER: their texts may quote the
    patient."""
    try:
        yield
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(
            "NESTED_TOO_DEEP",
            path,
            found="sequences nested too deep to read",
            expected="a few levels",
            fix="export it again",
        ) from error
    except Exception as error:
        raise InputError(
            "BAD_HEADER",
            path,
            found=f"an unreadable header ({type(error).__name__})",
            expected="DICOM",
            fix="export it again",
        ) from error


def read_file(path: Path) -> File:
    """The tags of a DICOM file, with a preamble or without.

    Raises InputError EXPANDS_TOO_FAR, TRUNCATED (of a deflated file), NESTED_TOO_DEEP, BAD_HEADER.
    """
    from pydicom.filereader import read_partial
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        with parsing(path):
            # .real: pydicom compares its tags as Python code, plain numbers take a fifth of the time.
            tags = read_partial(file, lambda tag, vr, length: tag.real in _PIXELS, force=True, specific_tags=_tags())
            syntax = str(tags.file_meta.get("TransferSyntaxUID") or "")
        implicit, little = tags.original_encoding
        pixels, start = _pixel_bytes(file, size, bool(implicit), bool(little))
        start = None if isinstance(file, io.BytesIO) else start
    guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return File(path, tags, pixels, syntax or str(guessed), start)


@cache
def _tags() -> list[Any]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in _TAGS]


def _pixel_bytes(file: BinaryIO, size: int, implicit: bool, little: bool) -> tuple[int | None, int | None]:
    """Bytes of the pixel data element that `file` stands before, None where there is none, and of whole numbers their place."""
    order = "<" if little else ">"
    head = file.read(8)
    tag = struct.unpack(f"{order}HH", head[:4]) if len(head) == 8 else ()
    if tag not in ((number >> 16, number & 0xFFFF) for number in _PIXELS):
        return None, None
    packed = head[4:] if implicit else file.read(4)
    if len(packed) < 4:
        return 0, None
    (length,) = struct.unpack(f"{order}L", packed)
    there = size - file.tell()
    found = there if length == _UNDEFINED else min(int(length), there)
    return found, file.tell() if tag == (0x7FE0, 0x0010) else None


def listed(value: Any) -> tuple[Any, ...]:
    """The values of an element with one or several."""
    return tuple(value) if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else (value,)


def _unreadable(code: str, path: Path, found: str, expected: str) -> InputError:
    return InputError(code, path, found=found, expected=expected, fix="copy or export the file again")
