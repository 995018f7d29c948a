"""A ZIP archive as a folder, for as long as it is read."""

from __future__ import annotations

import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.arrays import ZIP_FAULTS
from hounsfield.io.checksum import PIECE

ZIP = b"PK\x03\x04"

_LOOKS = 50  # files of an archive that are looked at
MOST_FILES = 200_000


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the archive's files below their own folders; gone afterwards. Errors that the block raises about
    a file in it name the archive and the place within.

    Raises InputError UNSAFE_PATH (a name that leaves the folder, a link), EXPANDS_TOO_FAR, UNSUPPORTED_SYNTAX (encrypted, or
    of an unknown compression), TRUNCATED, CORRUPT_PIXELS; ResourceError DISK_FULL.
    """
    with tempfile.TemporaryDirectory(prefix="hounsfield-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                members = [m for m in archive.infolist() if not m.is_dir()]
                limits.check_disk(folder, _checked(path, members))
                for member in members:
                    _extract(path, archive, member, folder / member.filename)
        except ZIP_FAULTS as error:
            if isinstance(error, OSError) and error.errno in limits.NO_ROOM:
                raise limits.disk_full(folder, "no space left", 0) from error
            raise _damaged(path, error) from error
        try:
            yield folder
        except InputError as error:
            inside = error.where.replace(name, "", 1).lstrip("/\\")
            where = f"{path}: {inside}" if inside else path
            raise InputError(error.code, where, found=error.found, expected=error.expected, fix=error.fix) from error


def holds_dicom(path: Path) -> bool:
    """Whether one of the first files of the archive begins as DICOM with a preamble does. Raises InputError CORRUPT_PIXELS."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not m.flag_bits & 1]
            return any(archive.open(member).read(132)[128:] == b"DICM" for member in members[:_LOOKS])
    except ZIP_FAULTS as error:
        raise _damaged(path, error) from error


def leaves(name: str) -> bool:
    """Whether a packed file of this name would lie outside of the folder that it is unpacked into, on any system."""
    return bool(PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts)


def _checked(path: Path, members: Sequence[zipfile.ZipInfo]) -> int:
    """Bytes that the members take. Raises InputError for what must not be unpacked."""
    for member in members:
        outside = leaves(member.filename)
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(
                "UNSAFE_PATH",
                path,
                found="a link in the archive" if not outside else "a file name that leaves the archive",
                expected="files below the archive",
                fix="pack the files anew, or check where the archive came from",
            )
        if member.flag_bits & 1:
            raise InputError(
                "UNSUPPORTED_SYNTAX",
                path,
                found="an encrypted archive",
                expected="one without a password",
                fix="unpack it first, and name the folder",
            )
    total, size = sum(m.file_size for m in members), path.stat().st_size
    allowed = min(limits.max_bytes(), limits.DEFLATE_RATIO * size)
    if total > allowed or len(members) > MOST_FILES:
        raise InputError(
            "EXPANDS_TOO_FAR",
            path,
            found=f"{len(members)} files of {limits.size_text(total)} in an archive of {limits.size_text(size)}",
            expected=f"at most {MOST_FILES} files and {limits.size_text(allowed)}",
            fix="check where it came from; a true archive needs a higher HOUNSFIELD_MAX_GIB",
        )
    return total


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """One file, never more of it than the archive's directory claims."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, target.open("wb") as out:
        while piece := source.read(min(PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                raise InputError(
                    "EXPANDS_TOO_FAR",
                    path,
                    found=f"a file of more than the {member.file_size} bytes that the archive claims",
                    expected="at most that",
                    fix="check where the archive came from",
                )
            out.write(piece)
    if left:
        raise limits.truncated(path, member.file_size - left, member.file_size, "a packed file")


def _damaged(path: Path, error: Exception) -> InputError:
    if isinstance(error, NotImplementedError):
        return InputError(
            "UNSUPPORTED_SYNTAX", path, found="an archive of an unknown compression", expected="deflate", fix="unpack it first"
        )
    return InputError(
        "CORRUPT_PIXELS",
        path,
        found=f"a damaged archive ({type(error).__name__})",
        expected="an intact one",
        fix="copy it again",
    )
