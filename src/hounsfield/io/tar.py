"""A tar archive unpacked into a folder: its plain files below that folder, and nothing else."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.archive import MOST_FILES, leaves
from hounsfield.io.checksum import PIECE, md5


def unpack(path: Path, folder: Path, progress: Callable[[int, int], None]) -> dict[str, tuple[int, str]]:
    """The archive's files below the new folder `folder`; of each, by its path with "/", its bytes and MD5 (hex). Hidden files,
    which systems leave in archives (`._a.nii.gz`), are left out. An archive with anything but files and folders below it is
    refused before the first is written; nothing of it takes effect but names and content.

    progress: bytes done, of all.
    Raises InputError UNSAFE_PATH (a name that leaves the folder or comes twice, a link, a device), EXPANDS_TOO_FAR (more than
    the archive holds), CORRUPT_PIXELS (no tar archive, or a damaged one; compressed ones count so); ResourceError DISK_FULL.
    """
    folder.mkdir(parents=True)
    found: dict[str, tuple[int, str]] = {}
    done = 0
    try:
        with tarfile.open(path, "r:") as archive:
            members = _checked(path, archive.getmembers())
            _check_end(path, archive.offset)
            total = sum(member.size for member in members)
            limits.check_disk(folder, total)
            for member in members:
                name = "/".join(PurePosixPath(member.name).parts)
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                digest, source = md5(), archive.extractfile(member)
                assert source is not None  # of a plain file
                with source, target.open("xb") as out:
                    while piece := source.read(PIECE):
                        out.write(piece)
                        digest.update(piece)
                        done += len(piece)
                        progress(done, total)
                found[name] = member.size, digest.hexdigest()
    except (FileExistsError, NotADirectoryError) as error:
        raise _unsafe(path, "one name twice") from error
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise InputError(
            "CORRUPT_PIXELS",
            path,
            found=f"no intact tar archive ({error})",
            expected="an uncompressed one",
            fix="load it again",
        ) from error
    except OSError as error:
        if error.errno in limits.NO_ROOM:
            raise limits.disk_full(folder, "no space left", 0) from error
        raise
    return found


def _checked(path: Path, members: Sequence[tarfile.TarInfo]) -> list[tarfile.TarInfo]:
    """The files to unpack. Raises InputError for what must not be unpacked."""
    for member in members:
        if leaves(member.name):
            raise _unsafe(path, "a file name that leaves the archive")
        if not member.isreg() and not member.isdir():
            raise _unsafe(path, "a link in the archive" if member.islnk() or member.issym() else "a device in the archive")
    total, size = sum(member.size for member in members), path.stat().st_size
    if total > size or len(members) > MOST_FILES:
        raise InputError(
            "EXPANDS_TOO_FAR",
            path,
            found=f"{len(members)} files of {limits.size_text(total)} in an archive of {limits.size_text(size)}",
            expected=f"at most {MOST_FILES} files, and no more bytes than the archive has",
            fix="check where it came from",
        )
    return [m for m in members if m.isreg() and not any(part.startswith(".") for part in PurePosixPath(m.name).parts)]


def _check_end(path: Path, offset: int) -> None:
    """Raises ReadError where what follows the last file is no end mark: a reader that met damage stops there without a word."""
    with path.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends early")


def _unsafe(path: Path, found: str) -> InputError:
    return InputError("UNSAFE_PATH", path, found=found, expected="files below the archive", fix="check where it came from")
