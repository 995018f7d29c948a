"""DICOM files before they are images: their bytes, and which patient and series they belong to."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.stream import Inflated

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DEFLATED = "1.2.840.10008.1.2.1.99"
# A deflated file may expand to this, or to a hundred times its size where that is more.
_DEFLATE_FLOOR = 64 << 20
_DEFLATE_FACTOR = 100
_TAGS: Final = (
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "Rows",
)
_LAST: Final = 0x00280010  # Rows: beyond it nothing is read
_LARGE: Final = 1 << 20  # bytes of one read
_NO_IMAGE: Final = ("RTDOSE", "SEG")
_NUMBER: Final = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Header:
    """patient: PatientID, for comparing only. series: SeriesInstanceUID, or the file's path. number, description: the
    series', "" where there is none. modality: "" where unknown. image: not a report, a dose, a segmentation. localizer: a scout
    view. study, instance, frame: UIDs of the study, the image and the frame of reference, "" where there is none."""

    patient: str
    series: str
    number: str
    description: str
    image: bool
    localizer: bool
    modality: str = ""
    study: str = field(default="", compare=False)
    instance: str = field(default="", compare=False)
    frame: str = field(default="", compare=False)


@dataclass(frozen=True)
class Series:
    """The images of one series. uid, number, description: each may be given to `Choices.series`. number, description, modality:
    "" where the files have none. files: how many. localizer: all of them are scout views. study: 1 for the first study of those
    listed, and so on."""

    uid: str
    number: str
    description: str
    modality: str
    files: int
    localizer: bool
    study: int = 1


def series_of(headers: Sequence[Header | None]) -> list[Series]:
    """The series that the images with these headers belong to, by study in the order given, then by number."""
    found: dict[str, list[Header]] = {}
    for header in headers:
        if header is not None and header.image:
            found.setdefault(header.series, []).append(header)
    studies = {study: k for k, study in enumerate(dict.fromkeys(h[0].study for h in found.values()), start=1)}
    listed = [
        Series(
            uid,
            h[0].number,
            h[0].description,
            h[0].modality,
            files=len(h),
            localizer=all(one.localizer for one in h),
            study=studies[h[0].study],
        )
        for uid, h in found.items()
    ]
    return sorted(listed, key=lambda s: (s.study, float(s.number) if _NUMBER.fullmatch(s.number) else math.inf, s.uid))


def read_header(path: Path) -> Header | None:
    """What a file says of patient and series, no pixel being read; None for what cannot be read as DICOM."""
    from pydicom.filereader import read_partial

    try:
        with opened(path) as stream:
            # .real: pydicom compares its tags as Python code, plain numbers take a fifth of the time.
            tags = read_partial(stream, stop_when=lambda tag, vr, length: tag.real > _LAST, specific_tags=_tags())
            return Header(
                patient=str(tags.get("PatientID") or ""),
                series=str(tags.get("SeriesInstanceUID") or path),
                number=_text(tags, "SeriesNumber"),
                description=_text(tags, "SeriesDescription"),
                image="Rows" in tags and tags.get("Modality") not in _NO_IMAGE,
                localizer="LOCALIZER" in [str(v).upper() for v in tags.get("ImageType") or ()],
                modality=_text(tags, "Modality"),
                study=_text(tags, "StudyInstanceUID"),
                instance=_text(tags, "SOPInstanceUID"),
                frame=_text(tags, "FrameOfReferenceUID"),
            )
    except Exception:  # pydicom raises whatever its parsers raise
        return None


def called(wanted: str, series: Mapping[str, tuple[str, str]]) -> list[str]:
    """UIDs of the series, given as UID -> (number, description), that a user who says `wanted` can mean: a whole UID means
    itself alone, anything else a number, a description, or the end of a UID."""
    if wanted in series:
        return [wanted]
    short = len(wanted) < 4
    return [
        uid
        for uid, (number, description) in series.items()
        if wanted == number or wanted.casefold() == description.casefold() or (uid.endswith(wanted) and not short)
    ]


@cache
def _tags() -> list[Any]:
    from pydicom.tag import Tag

    return [Tag(keyword) for keyword in _TAGS]


def _text(tags: Dataset, keyword: str) -> str:
    """A tag that a series can do without."""
    try:
        value = tags.get(keyword)
    except Exception:  # a number that is none
        return ""
    return "" if value is None else str(value)


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it has: memory is taken for what is asked for, and a header may claim 4 GiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes; of a deflated one what they stand for, as Explicit VR Little Endian."""
    with path.open("rb", buffering=0) as raw, _Bounded(raw) as file:
        deflated = _DEFLATED.encode() in file.read(2048)
        file.seek(0)
        if not deflated:
            yield file
            return
        yield _inflated(path, file)


def _inflated(path: Path, file: io.BufferedReader) -> BinaryIO:
    """A deflated file as an ordinary one in memory. pydicom inflates without a limit, so it is done here.

    Raises InputError BAD_HEADER, EXPANDS_TOO_FAR, TRUNCATED, CORRUPT_PIXELS.
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
        raise InputError(
            "BAD_HEADER",
            path,
            found=f"unreadable file meta information ({type(error).__name__})",
            expected="DICOM",
            fix="copy or export the file again",
        ) from error
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
