"""NRRD, one file or a header with its data beside it: volumes, vectors, series, and label maps of segmentations.

Fields are those of the format's definition (teem, "Definition of NRRD File Format", versions 1 to 5).
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats._layout import storable, world_of
from hounsfield.io.formats._nrrd_header import layout_of
from hounsfield.io.formats._text_header import LPS

SUFFIXES = (".nrrd", ".nhdr", ".seg.nrrd")
WRITES = (".nrrd",)

_MAGIC = b"NRRD000"
_LEVEL = 4  # of deflate: half the time of the usual 6, for a few percent of the size
_NAMES = {"float32": "float", "float64": "double"}


def recognises(path: Path, head: bytes) -> bool:
    """The magic of versions 1 to 5."""
    return head.startswith(_MAGIC) and head[len(_MAGIC) : len(_MAGIC) + 1] in b"12345" and len(head) > len(_MAGIC)


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W), or (C, H, W) where the third axis has one voxel, as stored. C: components of a vector or colour; an axis of
    time, or a list, is a series of which one volume is read. Without spacings the space is "none".

    Raises InputError MISSING_TAG, BAD_HEADER, BAD_SPACING, BAD_AFFINE, WRONG_DIMENSION, UNSUPPORTED_SYNTAX, UNSAFE_PATH,
    NOT_FOUND, TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS.
    """
    layout = layout_of(path)
    return Image(layout.load(path, choices), layout.geometry, Meta(format="nrrd", notes=layout.notes))


def peek(path: Path, choices: Choices) -> Peek:
    """The header alone."""
    return layout_of(path).peek("nrrd")


def write(image: Image, path: Path) -> None:
    """One file, voxels in gzip, in L, P, S. Values and dtype as they are, but for float16 (float32) and bool (uint8). Channels
    become a vector, or a colour. 2D with a place becomes one slice.

    Raises ResourceError DISK_FULL.
    """
    array = storable(image.array)
    geometry = image.geometry
    if geometry.ndim == 2 and geometry.space == "patient":
        array = array[:, np.newaxis]
    channels, *spatial = array.shape
    kinds = ["domain"] * len(spatial)
    sizes = spatial[::-1]
    lines = ["NRRD0004", f"type: {_NAMES.get(array.dtype.name, array.dtype.name)}"]
    before = ""
    if channels > 1:
        colour = channels == 3 and array.dtype == np.uint8
        kinds, sizes, before = ["RGB-color" if colour else "vector", *kinds], [channels, *sizes], "none "
    lines += [f"dimension: {len(sizes)}", f"sizes: {' '.join(map(str, sizes))}", f"kinds: {' '.join(kinds)}"]
    if geometry.space == "patient":
        world = np.diag(LPS) @ world_of(geometry)[:3] + 0.0  # no negative zeros
        columns = ["(" + ",".join(repr(float(x)) for x in column) + ")" for column in world.T]
        lines += ["space: left-posterior-superior", f"space directions: {before}{' '.join(columns[:3])}"]
        lines += [f"space origin: {columns[3]}"]
    elif geometry.space == "detector":
        lines += [f"spacings: {'nan ' if before else ''}{' '.join(repr(s) for s in geometry.spacing[::-1])}"]
    lines += ["endian: little", "encoding: gzip", "", ""]
    stored = array.dtype.newbyteorder("<")
    with limits.atomic(path, array.nbytes) as beside, beside.open("wb") as file:
        file.write("\n".join(lines).encode())
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as packed:
            for plane in np.moveaxis(array, 0, -1):
                packed.write(np.ascontiguousarray(plane, dtype=stored).data)
