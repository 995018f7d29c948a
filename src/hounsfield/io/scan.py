"""Which files below a folder are images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hounsfield.core.errors import InputError

# What operating systems and archivers leave behind.
_LITTER = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "$recycle.bin", "@eadir"}


def files(folder: Path) -> list[Path]:
    """Every file below `folder` that is neither hidden nor an operating system's litter, sorted by relative path; linked
    folders are followed, each once. Raises InputError NOT_FOUND."""
    if not folder.is_dir():
        raise InputError("NOT_FOUND", folder, found="no such folder", expected="a folder", fix="check the path")
    return sorted(_walk(folder, set()), key=lambda file: file.relative_to(folder).parts)


def images(folder: Path) -> list[Path]:
    """Those of `files` that some format reads: by their ending, and where a name has none that says anything (DICOM files
    often are `IM0001` or `1.2.840.113619.2`) by their content.

    Raises InputError NOT_FOUND, EMPTY_FOLDER.
    """
    found = [file for file in files(folder) if is_image(file)]
    if not found:
        raise InputError(
            "EMPTY_FOLDER",
            folder,
            found="no image",
            expected="images in this folder or below",
            fix="check the path and the file endings",
        )
    return found


def is_image(file: Path) -> bool:
    """Whether the file's ending is a format's, or the file has no telling ending and a format recognises its content."""
    from hounsfield import io

    if io.suffix_member(file) is not None:
        return True
    telling = file.suffix[1:].isalnum() and not file.suffix[1:].isdigit()
    return not telling and io.content_member(file, io.head(file)) is not None


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    stat = folder.stat()
    if (stat.st_dev, stat.st_ino) in seen:
        return
    seen.add((stat.st_dev, stat.st_ino))
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _LITTER]
    for entry in kept:
        if entry.is_dir():
            yield from _walk(Path(entry.path), seen)
        elif entry.is_file():
            yield Path(entry.path)
