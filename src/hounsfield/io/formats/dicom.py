"""DICOM: a file, a folder or a DICOMDIR; the place in the patient comes from positions, never from numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats._dicom_directory import images_of, is_directory
from hounsfield.io.formats._dicom_file import File, read_file
from hounsfield.io.formats._dicom_frames import check, frames_of
from hounsfield.io.formats._dicom_pixels import is_colour, is_lossy, pixels, stored_dtype
from hounsfield.io.formats._dicom_stack import Stack, choose_series, single, stack, volumes_of
from hounsfield.io.headers import read_headers
from hounsfield.io.scan import files as files_below
from hounsfield.io.series import Series, series_of

T = TypeVar("T")

SUFFIXES = (".dcm", ".dicom", ".ima")

# First tags of a file without preamble: group 0002 or 0008, little endian.
_GROUPS = (b"\x02\x00", b"\x08\x00")
_VRS = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO")


@dataclass(frozen=True, eq=False)
class _Layout:
    """What is to be decoded. selects: the option that chooses one of `count` volumes or frames."""

    files: list[File]
    stack: Stack
    notes: tuple[str, ...]
    count: int = 1
    selects: str = "volume"


def recognises(path: Path, head: bytes) -> bool:
    """A folder; the prefix DICM after 128 bytes; or, without it, a first element that can only be DICOM's."""
    if path.is_dir():
        return True
    if head[128:132] == b"DICM":
        return True
    element = int.from_bytes(head[2:4], "little")
    explicit = head[4:6] in _VRS
    implicit = int.from_bytes(head[4:8], "little") < 256
    return len(head) > 8 and head[:2] in _GROUPS and element < 0x70 and (explicit or implicit)


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W), or (C, H, W) of a single slice, in HU or the source's other units after rescale; C is 3 for colour.

    Slices are sorted by position along their normal. Without a position an X-ray lies in the space "detector", anything
    else in "none". Raises InputError for every fault that FORMATS names and those of `_dicom_file` and `_dicom_stack`.
    """
    layout = _layout(path, choices)
    chosen = choices.volume if layout.selects == "volume" else choices.frame
    if chosen is None and layout.count > 1:
        raise _unchosen(path, layout.count, layout.selects, "")
    geometry = layout.stack.geometry
    array, notes = pixels(layout.stack.slices, geometry.shape[-2:])
    array = array[:, 0] if geometry.ndim == 2 else array
    file = layout.files[0]
    meta = Meta(
        format="dicom",
        modality=file.modality,
        lossy=any(is_lossy(f) for f in layout.files),
        notes=layout.notes + layout.stack.notes + notes,
    )
    return Image(np.ascontiguousarray(array), geometry, meta)


def peek(path: Path, choices: Choices) -> Peek:
    """The headers alone; of a folder, of every file in it."""
    layout = _layout(path, choices)
    file = layout.files[0]
    return Peek(
        format="dicom",
        geometry=layout.stack.geometry,
        channels=3 if is_colour(file) else 1,
        dtype=stored_dtype(file),
        modality=file.modality,
        volumes=layout.count,
    )


def series(path: Path) -> list[Series]:
    """The series of a file, folder or DICOMDIR, by number, from the headers alone."""
    if path.is_dir():
        return series_of(read_headers(files_below(path)))
    return series_of(read_headers(images_of(path) if is_directory(read_file(path)) else [path]))


def _layout(path: Path, choices: Choices) -> _Layout:
    if path.is_dir():
        files, notes = _series(path, files_below(path), choices)
    elif is_directory(only := read_file(path)):
        files, notes = _series(path, images_of(path), choices)
    else:
        files, notes = [only], ()
    for file in files:
        check(file)
    if len(files) == 1:
        return _one_file(path, files[0], choices, notes)
    cine = [file for file in files if file.count > 1]
    if cine:
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"{len(cine)} multi-frame files among {len(files)}, the first {cine[0].path.name}",
            expected="single-frame slices, or one multi-frame file",
            fix="read the files one by one",
        )
    frames = [frame for file in files for frame in frames_of(file)]
    result = stack(path, frames, choices)
    limits.claimed(path, (files[0].number("SamplesPerPixel"), *result.geometry.shape), files[0].number("BitsAllocated"))
    return _Layout(files, result, notes)


def _series(folder: Path, candidates: Iterable[Path], choices: Choices) -> tuple[list[File], tuple[str, ...]]:
    """The files of one series among those of a folder, and notes on what was left out. Raises InputError EMPTY_FOLDER,
    SEVERAL_SERIES."""
    found, others = [], 0
    for path in candidates:
        with path.open("rb") as file:
            dicom = recognises(path, file.read(132))
        tags = read_file(path) if dicom else None
        if tags is not None and tags.is_image:
            found.append(tags)
        else:
            others += 1
    if not found:
        raise InputError(
            "EMPTY_FOLDER",
            folder,
            found=f"no DICOM image among {others} files",
            expected="a DICOM series, or one image file",
            fix="name a file, or a folder that holds a series",
        )
    chosen, notes = choose_series(folder, found, choices)
    return chosen, ((f"{others} files that are no DICOM images were left out",) if others else ()) + notes


def _one_file(path: Path, file: File, choices: Choices, notes: tuple[str, ...]) -> _Layout:
    """A slice, a cine of which one frame is chosen, or the volumes of an enhanced file."""
    frames = frames_of(file)
    placed = all(frame.position is not None for frame in frames)
    if len(frames) == 1 or not placed or choices.frame is not None:
        frame = _pick(path, frames, choices.frame, "frame")
        return _Layout([file], single(frame), notes, count=len(frames), selects="frame")
    volumes = volumes_of(frames)
    volume = _pick(path, volumes, choices.volume, "volume")
    return _Layout([file], stack(path, volume, choices), notes, count=len(volumes))


def _pick(path: Path, items: list[T], index: int | None, what: str) -> T:
    if index is not None and not 0 <= index < len(items):
        raise _unchosen(path, len(items), what, f", and --{what} {index}")
    return items[index or 0]


def _unchosen(path: Path, count: int, what: str, asked: str) -> InputError:
    return InputError(
        "WRONG_DIMENSION",
        path,
        found=f"{count} {what}s{asked}",
        expected=f"one {what}",
        fix=f"choose one with --{what} 0 to --{what} {count - 1}",
    )
