"""FreeSurfer's MGH, plain (.mgh) or gzip (.mgz): volumes and series, always with the most significant byte first."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats._layout import Layout, Role, check_claim
from hounsfield.io.formats._text_header import bad, check_spacing, grid
from hounsfield.io.stream import GZIP, begins, open_stream

SUFFIXES = (".mgz", ".mgh", ".mgh.gz")

_OFFSET = 284  # where voxels begin, whatever the header fills
_HEAD = struct.Struct(">7ih15f")  # version; width, height, depth, frames; type; dof; goodRASFlag; delta, Mdc, Pxyz_c
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_ROLES: tuple[Role, ...] = ("space", "space", "space", "volumes")


def recognises(path: Path, head: bytes) -> bool:
    """Version 1, with four sizes above 0 and a type that exists, under gzip or not."""
    head = begins(head, _HEAD.size)
    if head[:4] != b"\0\0\0\1" or len(head) < _HEAD.size:
        return False
    _, *sizes, code = struct.unpack(">6i", head[:24])
    return min(sizes) > 0 and code in _TYPES


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W), or (C, H, W) where the third axis has one voxel, as stored; C is 1. Frames are a series of which one
    volume is read.

    Raises InputError BAD_HEADER, BAD_SPACING, BAD_AFFINE, WRONG_DIMENSION, TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR,
    CORRUPT_PIXELS.
    """
    layout = _layout(path)
    return Image(layout.load(path, choices), layout.geometry, Meta(format="mgh", notes=layout.notes))


def peek(path: Path, choices: Choices) -> Peek:
    """The header alone."""
    return _layout(path).peek("mgh")


def _layout(path: Path) -> Layout:
    """The header, checked. Raises as `read` does."""
    block = bytearray(_HEAD.size)
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
        got = open_stream(file, path).fill(memoryview(block))
    if got < len(block):
        raise limits.truncated(path, got, len(block), "header")
    _, *sizes, code, _, placed = _HEAD.unpack(block)[:8]
    spacing, turn, centre = np.split(np.array(_HEAD.unpack(block)[8:], dtype=np.float64), (3, 12))
    if code not in _TYPES or min(sizes) < 1:
        raise bad(path, f"type {code}, sizes {tuple(sizes)}", f"one of {', '.join(map(str, _TYPES))}, sizes of at least 1")
    dtype = np.dtype(_TYPES[code])
    check_claim(path, dtype, sizes, _ROLES)
    notes: tuple[str, ...] = ()
    if placed:
        check_spacing(path, "delta", [float(s) for s in spacing])
    else:  # FreeSurfer's own rule: coronal slices, 1 mm, around 0
        spacing, turn, centre = np.ones(3), np.array([-1.0, 0, 0, 0, 0, -1, 0, 1, 0]), np.zeros(3)
        notes = ("no place in the header: coronal slices of 1 mm around 0 assumed",)
    if not np.isfinite([*turn, *centre]).all():
        raise bad(path, "directions or centre that are no numbers", "finite ones", "BAD_AFFINE")
    steps = turn.reshape(3, 3) * spacing[:, None]
    origin = centre - np.array(sizes[:3], dtype=np.float64) / 2 @ steps
    geometry = grid(path, sizes[:3], steps, origin)
    return Layout(path, dtype, tuple(sizes), _ROLES, geometry, packed=packed, skip=_OFFSET, notes=notes)
