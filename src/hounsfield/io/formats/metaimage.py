"""MetaImage, .mha in one file or .mhd with its data beside it: volumes, vectors and series.

Fields are those of MetaIO's definition; the rows of TransformMatrix are the directions of x, y and z in L, P, S.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats._layout import Layout, Role, check_claim, storable, world_of
from hounsfield.io.formats._text_header import (
    ASSUMED,
    FLAT,
    LPS,
    MOST,
    bad,
    beside,
    check_spacing,
    counts,
    grid,
    needed,
    numbers,
    put,
    shown,
    unsupported,
)
from hounsfield.io.values import rescaled

SUFFIXES = (".mha", ".mhd")
WRITES = (".mha",)

_ROLES: tuple[Role, ...] = ("space", "space", "space", "volumes")
_FIRST = re.compile(rb"\s*(?:ObjectType|ObjectSubType|Comment|NDims|Name|ID)[ \t]*=")
_AXES = re.compile(rb"^[ \t]*NDims[ \t]*=", re.MULTILINE)
_DATA = re.compile(rb"^[ \t]*ElementDataFile[ \t]*=([^\r\n]*)(?:\r?\n|\Z)", re.MULTILINE | re.IGNORECASE)
_TYPES = {
    "MET_CHAR": "i1",
    "MET_ASCII_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # 32 bits in every file, whatever a compiler's long has
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {code: name for name, code in reversed(_TYPES.items()) if "ASCII" not in name}
_MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR", "MET_MOD_US": "US", "MET_MOD_NM": "NM"}
# One place has had several names.
_ALIASES = {"position": "offset", "origin": "offset", "orientation": "transformmatrix", "rotation": "transformmatrix"}
_ALIASES["elementbyteordermsb"] = "binarydatabyteordermsb"


def recognises(path: Path, head: bytes) -> bool:
    """Text that begins with the type of MetaIO's object, or with another field of its and has a number of axes."""
    first = _FIRST.match(head)
    return first is not None and (b"ObjectType" in first[0] or _AXES.search(head) is not None)


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W), or (C, H, W) where the third axis has one voxel, as stored unless the header asks for another scale. C: the
    components of a voxel; a fourth axis is a series of which one volume is read. Without a spacing the space is "none".

    Raises InputError MISSING_TAG, BAD_HEADER, WRONG_FORMAT (another MetaIO object), BAD_SPACING, BAD_AFFINE, WRONG_DIMENSION,
    UNSUPPORTED_SYNTAX, UNSAFE_PATH, NOT_FOUND, TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS.
    """
    fields, end = _fields(path)
    layout = _layout(path, fields, end)
    scale = {}
    for name, usual in (("slope", 1.0), ("offset", 0.0)):
        (scale[name],) = numbers(path, name, fields.get(f"elementtointensityfunction{name}", str(usual)), 1)
    if not np.isfinite(list(scale.values())).all() or scale["slope"] == 0:
        raise bad(path, f"ElementToIntensityFunction {scale['slope']:g}, {scale['offset']:g}", "finite numbers, a slope but 0")
    array = rescaled(layout.load(path, choices), scale["slope"], scale["offset"])
    return Image(array, layout.geometry, Meta(format="metaimage", modality=_modality(fields), notes=layout.notes))


def peek(path: Path, choices: Choices) -> Peek:
    """The header alone."""
    fields, end = _fields(path)
    return _layout(path, fields, end).peek("metaimage", _modality(fields))


def write(image: Image, path: Path) -> None:
    """One file, voxels as they are, not compressed, but for float16 (float32) and bool (uint8). Channels become the components
    of a voxel. 2D with a place becomes one slice.

    Raises ResourceError DISK_FULL.
    """
    array = storable(image.array)
    if image.ndim == 2 and image.geometry.space == "patient":
        array = array[:, np.newaxis]
    stored = array.dtype.newbyteorder("<")
    with limits.atomic(path, array.nbytes) as beside_it, beside_it.open("wb") as file:
        file.write("".join(f"{name} = {value}\n" for name, value in _header(image, array.shape, stored)).encode())
        for plane in np.moveaxis(array, 0, -1):
            file.write(np.ascontiguousarray(plane, dtype=stored).data)


def _header(image: Image, shape: tuple[int, ...], stored: np.dtype[np.generic]) -> Iterator[tuple[str, str]]:
    def text(values: object) -> str:
        return " ".join(repr(float(x)) for x in np.ravel(np.asarray(values)) + 0.0)  # no negative zeros

    channels, *spatial = shape
    yield "ObjectType", "Image"
    yield "NDims", str(len(spatial))
    yield "BinaryData", "True"
    yield "BinaryDataByteOrderMSB", "False"
    yield "CompressedData", "False"
    if image.meta.modality in _MODALITIES.values():
        yield "Modality", f"MET_MOD_{image.meta.modality}"
    if image.geometry.space == "patient":
        world = np.diag(LPS) @ world_of(image.geometry)[:3]
        spacing = np.linalg.norm(world[:, :3], axis=0)
        yield "TransformMatrix", text((world[:, :3] / spacing).T)
        yield "Offset", text(world[:, 3])
        yield "ElementSpacing", text(spacing)
    elif image.geometry.space == "detector":
        yield "ElementSpacing", text(image.geometry.spacing[::-1])
    yield "DimSize", " ".join(str(n) for n in reversed(spatial))
    if channels > 1:
        yield "ElementNumberOfChannels", str(channels)
    yield "ElementType", _NAMES[stored.str[1:]]
    yield "ElementDataFile", "LOCAL"


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields by lower-case name, and the byte after them."""
    with path.open("rb") as file:
        text = file.read(MOST)
    last = _DATA.search(text)
    if last is None:
        raise bad(path, f"no ElementDataFile in {len(text)} bytes", "it at the end of the header", "MISSING_TAG")
    fields = {"elementdatafile": last[1].decode("utf-8", "replace").strip()}
    for line in text[: last.start()].decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            key = name.strip().lower()
            put(path, fields, _ALIASES.get(key, key), value.strip())
    return fields, last.end()


def _layout(path: Path, fields: dict[str, str], end: int) -> Layout:
    """The header, checked. Raises as `read` does."""
    kind = fields.get("objecttype", "Image")
    if kind.lower() != "image":
        raise bad(path, f"a MetaIO object of type {shown(kind)}", "Image", "WRONG_FORMAT")
    if not _is_true(fields, "binarydata", "True"):
        raise unsupported(path, "voxels as text", "BinaryData = True")
    (rank,) = counts(path, "NDims", needed(path, fields, "ndims"), 1)
    sizes = counts(path, "DimSize", needed(path, fields, "dimsize"), rank)
    if not 2 <= rank <= 4:
        raise InputError(
            "WRONG_DIMENSION", path, found=f"DimSize {tuple(sizes)}", expected="2 or 3 axes, and one of time", fix="cut it out"
        )
    (channels,) = counts(path, "ElementNumberOfChannels", fields.get("elementnumberofchannels", "1"), 1)
    name = needed(path, fields, "elementtype").upper().removesuffix("_ARRAY")
    if name not in _TYPES:
        raise bad(path, f"ElementType {shown(name)}", f"one of {', '.join(_TYPES)}")
    dtype = np.dtype(_TYPES[name]).newbyteorder(">" if _is_true(fields, "binarydatabyteordermsb", "False") else "<")
    roles = _ROLES[:rank]
    if channels > 1:
        sizes, roles = [channels, *sizes], ("channels", *roles)
    check_claim(path, dtype, sizes, roles)
    geometry, notes = _geometry(path, fields, rank, [s for s, role in zip(sizes, roles, strict=True) if role == "space"])
    packed = _is_true(fields, "compresseddata", "False")
    local = fields["elementdatafile"].lower() == "local"
    (skip,) = counts(path, "HeaderSize", fields.get("headersize", "0") if not local else "0", 1, least=-1)
    if skip and packed:
        raise bad(path, f"HeaderSize {skip} in compressed data", "none")
    data = path if local else _beside(path, fields["elementdatafile"])
    return Layout(
        data=data,
        dtype=dtype,
        sizes=tuple(sizes),
        roles=roles,
        geometry=geometry,
        start=end if local else 0,
        packed=packed,
        skip=None if skip < 0 else skip,
        notes=notes,
    )


def _beside(path: Path, name: str) -> Path:
    if name.split()[:1] == ["LIST"] or ("%" in name and len(name.split()) > 1):
        raise unsupported(path, "voxels spread over several data files", "one data file")
    return beside(path, name)


def _geometry(path: Path, fields: dict[str, str], rank: int, sizes: list[int]) -> tuple[Geometry, tuple[str, ...]]:
    """The grid in the patient, and notes on what was assumed."""
    axes = len(sizes)
    named = next((name for name in ("ElementSpacing", "ElementSize") if name.lower() in fields), None)
    if named is None and "transformmatrix" not in fields:
        return grid(path, sizes, None), ()
    spacing = numbers(path, named, fields[named.lower()], rank)[:axes] if named else [1.0] * axes
    check_spacing(path, named or "ElementSpacing", spacing)
    units = fields.get("distanceunits", "mm").lower()
    if units not in ("mm", "?", "none", ""):
        raise bad(path, f"DistanceUnits {shown(units)}", "mm")
    notes: tuple[str, ...] = () if named else ("no ElementSpacing: taken as 1 mm",)
    steps = np.zeros((axes, 3))
    if "transformmatrix" in fields:
        matrix = numbers(path, "TransformMatrix", fields["transformmatrix"], rank * rank)
        steps[:, : min(rank, 3)] = np.array(matrix).reshape(rank, rank)[:axes, :3] * np.array(spacing)[:, None]
    else:
        np.fill_diagonal(steps, spacing)
        notes += (f"no TransformMatrix: {ASSUMED}",)
    notes += (FLAT,) if rank == 2 else ()
    place = np.zeros(3)
    if "offset" in fields:
        place[: min(rank, 3)] = numbers(path, "Offset", fields["offset"], rank)[:3]
    elif "transformmatrix" in fields:
        notes += ("no Offset: the first voxel is taken to lie at 0",)
    return grid(path, sizes, steps * LPS, place * LPS), notes


def _is_true(fields: dict[str, str], name: str, usual: str) -> bool:
    return fields.get(name, usual).strip().lower()[:1] in ("t", "1")


def _modality(fields: dict[str, str]) -> str | None:
    return _MODALITIES.get(fields.get("modality", "").upper())
