"""One DICOM file without its pixels: the tags that an image needs, and nothing about the patient."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.stream import Inflated

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DEFLATED = "1.2.840.10008.1.2.1.99"
# A deflated file may expand to this, or to a hundred times its size where that is more.
_DEFLATE_FLOOR = 64 << 20
_DEFLATE_FACTOR = 100
_UNDEFINED = 0xFFFFFFFF
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
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
    element. syntax: transfer syntax UID."""

    path: Path
    tags: Dataset
    pixels: int | None
    syntax: str

    def get(self, keyword: str, default: Any = None) -> Any:
        """The tag's value, or `default` where it is absent or empty. Raises InputError BAD_HEADER."""
        return value_of(self.path, self.tags, keyword, default)

    @property
    def count(self) -> int:
        """Number of frames that the header claims."""
        return max(1, int(self.get("NumberOfFrames", 1)))

    @property
    def is_image(self) -> bool:
        """Whether it holds pixels, and not a report, a plan, a directory or a dose grid."""
        return "Rows" in self.tags and self.get("Modality") != "RTDOSE"

    @property
    def is_localizer(self) -> bool:
        return "LOCALIZER" in [str(value).upper() for value in listed(self.get("ImageType", ()))]

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


def read_file(path: Path) -> File:
    """The tags of a DICOM file, with a preamble or without.

    Raises InputError EXPANDS_TOO_FAR, TRUNCATED (of a deflated file), NESTED_TOO_DEEP, BAD_HEADER.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            tags = dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(_TAGS))
        except RecursionError as error:
            raise InputError(
                "NESTED_TOO_DEEP",
                path,
                found="sequences nested too deep to read",
                expected="a few levels",
                fix="export it again",
            ) from error
        except Exception as error:  # whatever pydicom's parsers raise; their texts may quote the patient
            raise InputError(
                "BAD_HEADER",
                path,
                found=f"an unreadable header ({type(error).__name__})",
                expected="DICOM",
                fix="export it again",
            ) from error
        implicit, little = tags.original_encoding
        pixels = _pixel_bytes(file, size, bool(implicit), bool(little))
    guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return File(path, tags, pixels, str(tags.file_meta.get("TransferSyntaxUID") or guessed))


def _pixel_bytes(file: BinaryIO, size: int, implicit: bool, little: bool) -> int | None:
    """Bytes of the pixel data element that `file` stands before; None where there is none."""
    order = "<" if little else ">"
    head = file.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) not in ((0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010)):
        return None
    packed = head[4:] if implicit else file.read(4)
    if len(packed) < 4:
        return 0
    (length,) = struct.unpack(f"{order}L", packed)
    there = size - file.tell()
    return there if length == _UNDEFINED else min(int(length), there)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes; of a deflated one what they stand for, as Explicit VR Little Endian."""
    with path.open("rb") as file:
        deflated = _DEFLATED.encode() in file.read(2048)
        file.seek(0)
        if not deflated:
            yield file
            return
        yield _inflated(path, file)


def _inflated(path: Path, file: io.BufferedReader) -> BinaryIO:
    """A deflated file as an ordinary one in memory. pydicom inflates without a limit, so it is done here.

    Raises InputError EXPANDS_TOO_FAR, TRUNCATED, CORRUPT_PIXELS.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomIO
    from pydicom.filereader import read_dataset
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import ExplicitVRLittleEndian

    file.seek(132)
    try:
        found = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2).get("TransferSyntaxUID")
    except Exception as error:
        raise _unreadable("BAD_HEADER", path, f"unreadable file meta information ({type(error).__name__})", "DICOM") from error
    if found != _DEFLATED:
        file.seek(0)
        return file
    size = path.stat().st_size
    allowed = min(limits.max_bytes(), max(_DEFLATE_FLOOR, _DEFLATE_FACTOR * size))
    stream = Inflated(file, path, raw=True)
    out = io.BytesIO()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(DicomIO(out), meta, enforce_standard=False)
    piece = memoryview(bytearray(1 << 20))
    while got := stream.fill(piece):
        out.write(piece[:got])
        if out.tell() > allowed:
            raise InputError(
                "EXPANDS_TOO_FAR",
                path,
                found=f"{size} bytes that inflate to more than {limits.size_text(allowed)}",
                expected="at most that",
                fix="check where the file came from, or save it without compression",
            )
    if not stream.whole:
        raise InputError(
            "TRUNCATED",
            path,
            found=f"{size} bytes without the end of the deflated data",
            expected="more bytes",
            fix="copy it again",
        )
    out.seek(0)
    return out


def listed(value: Any) -> tuple[Any, ...]:
    """The values of an element with one or several."""
    return tuple(value) if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else (value,)


def _unreadable(code: str, path: Path, found: str, expected: str) -> InputError:
    return InputError(code, path, found=found, expected=expected, fix="copy or export the file again")
