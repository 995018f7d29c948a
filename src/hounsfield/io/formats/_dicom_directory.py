"""DICOMDIR: the files that a directory file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.io.formats._dicom_file import File, listed, parsing

_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage


def is_directory(file: File) -> bool:
    """Whether the file is a DICOMDIR. Raises InputError BAD_HEADER."""
    with parsing(file.path):
        return str(file.tags.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY


def images_of(path: Path) -> list[Path]:
    """The image files that the DICOMDIR `path` names, in its order.

    Raises InputError UNSAFE_PATH (a file outside its folder), NOT_FOUND (files that are not there), TRUNCATED, NESTED_TOO_DEEP,
    BAD_HEADER.
    """
    root = path.parent.resolve()
    found: list[Path] = []
    for parts in _references(path):
        if "\0" in "".join(parts):
            raise InputError(
                "BAD_HEADER",
                path,
                found="a file name with a zero byte",
                expected="names of files",
                fix="copy it again, or name the folder instead",
            )
        file = root.joinpath(*parts)
        if not file.resolve().is_relative_to(root):
            raise InputError(
                "UNSAFE_PATH",
                path,
                found="an entry that leaves the folder of the DICOMDIR",
                expected="files below it",
                fix="check where the disc came from, or name the folder instead",
            )
        found.append(file)
    absent = [file for file in found if not file.is_file()]
    if absent:
        raise InputError(
            "NOT_FOUND",
            path,
            found=f"{len(absent)} of {len(found)} listed files missing, the first {absent[0].relative_to(root)}",
            expected="every file that it lists",
            fix="copy the whole disc, or name the folder instead",
        )
    return found


def _references(path: Path) -> list[tuple[str, ...]]:
    """The path of each image record, part by part."""
    from pydicom import dcmread

    with parsing(path):
        records = list(dcmread(path).get("DirectoryRecordSequence", ()))
        if _is_cut(records):
            raise InputError(
                "TRUNCATED",
                path,
                found=f"{len(records)} directory records that refer to others",
                expected="those too",
                fix="copy it again, or name the folder instead",
            )
        return [_parts(record) for record in records if record.get("DirectoryRecordType") == "IMAGE"]


def _is_cut(records: list[Any]) -> bool:
    """Whether records refer to one that is not there, or an image record ends before it names its file."""
    there = {record.seq_item_tell for record in records}
    links = ("OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity")
    named = {int(record.get(link) or 0) for record in records for link in links} - {0}
    unnamed = any(record.get("DirectoryRecordType") == "IMAGE" and "ReferencedFileID" not in record for record in records)
    return unnamed or not named <= there


def _parts(record: Any) -> tuple[str, ...]:
    """Backslashes of an odd writer part folders too."""
    return tuple(part for value in listed(record.ReferencedFileID) for part in str(value).replace("\\", "/").split("/") if part)
