"""The header of a NRRD file: what its axes are, where they lie in the patient, and where the voxels are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.formats._layout import Layout, Role, check_claim
from hounsfield.io.formats._text_header import (
    ASSUMED,
    FLAT,
    LPS,
    MOST,
    Floats,
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

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODES = {name: code for code, names in _TYPES.items() for name in names}
# To R, A, S; None: a space that names no direction of the patient.
_SPACES: dict[str, tuple[float, float, float] | None] = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), LPS),
    **dict.fromkeys(("scanner-xyz", "3d-right-handed", "3d-left-handed")),
}
_MILLIMETRES = {
    "": 1.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "m": 1e3,
    "meter": 1e3,
    "cm": 10.0,
    "um": 1e-3,
    "µm": 1e-3,
    "micron": 1e-3,
}
_SPATIAL = ("domain", "space", "none", "???")
_SERIES = ("list", "time")
_MOST_AXES = 16
_VECTOR = re.compile(r"none|\(([^()]*)\)")


def layout_of(path: Path) -> Layout:
    """The header, checked. Raises InputError MISSING_TAG, BAD_HEADER, BAD_SPACING, BAD_AFFINE, WRONG_DIMENSION, TOO_LARGE,
    UNSUPPORTED_SYNTAX, UNSAFE_PATH, NOT_FOUND."""
    fields, segments, end = _fields(path)
    dtype = _dtype(path, fields)
    (rank,) = counts(path, "dimension", needed(path, fields, "dimension"), 1)
    if rank > _MOST_AXES:
        raise bad(path, f"dimension {rank}", f"at most {_MOST_AXES}")
    sizes = counts(path, "sizes", needed(path, fields, "sizes"), rank)
    directions = _vectors(path, fields, "spacedirections", rank)
    roles = _roles(path, sizes, _kinds(path, fields, rank), directions)
    check_claim(path, dtype, sizes, roles)
    geometry, notes = _geometry(path, fields, sizes, roles, directions)
    encoding = needed(path, fields, "encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise unsupported(path, f"encoding {shown(encoding)}", "raw or gzip")
    if any(counts(path, "line skip", fields.get("lineskip", "0"), 1, least=0)):
        raise unsupported(path, "a line skip", "voxels after the header, or alone in a file")
    (skip,) = counts(path, "byte skip", fields.get("byteskip", "0"), 1, least=-1)
    if skip < 0 and encoding != "raw":
        raise bad(path, "byte skip -1 in gzip", "it in raw data alone")
    data = _data(path, fields)
    return Layout(
        data=path if data is None else data,
        dtype=dtype,
        sizes=tuple(sizes),
        roles=tuple(roles),
        geometry=geometry,
        start=end if data is None else 0,
        packed=encoding != "raw",
        skip=None if skip < 0 else skip,
        notes=notes,
        several="layers of a segmentation whose segments overlap" if segments else "volumes",
    )


def _fields(path: Path) -> tuple[dict[str, str], bool, int]:
    """Fields by name, lower-case and without blanks; whether it is a segmentation; and the byte after the header. Raises
    InputError BAD_HEADER, TRUNCATED."""
    with path.open("rb") as file:
        text = file.read(MOST)
    fields: dict[str, str] = {}
    segments, at = False, 0
    while at < len(text):
        stop = text.find(b"\n", at)
        stop = len(text) if stop < 0 else stop
        line = text[at:stop].rstrip(b"\r").decode("utf-8", "replace")
        first, at = at == 0, stop + 1
        if not line:
            return fields, segments, at
        if first or line.startswith("#"):
            continue
        name, colon, value = line.partition(":")
        if not colon and at > len(text):  # the file ends within a line
            break
        if not colon:
            raise bad(path, f"the line {shown(line)!r}", "field: value")
        if value.startswith("="):
            segments |= re.match(r"Segment\d+_", name) is not None
        else:
            put(path, fields, name.strip().lower().replace(" ", ""), value.strip())
    if len(text) == MOST:
        raise bad(path, f"no end of the header in {MOST} bytes", "an empty line after it")
    if "datafile" not in fields:
        raise InputError(
            "TRUNCATED",
            path,
            found=f"{len(text)} bytes, which end within the header",
            expected="an empty line and voxels, or a data file",
            fix="copy or export the file again",
        )
    return fields, segments, at


def _data(path: Path, fields: Mapping[str, str]) -> Path | None:
    """The file beside that holds the voxels; None where they follow the header. Raises InputError UNSUPPORTED_SYNTAX,
    UNSAFE_PATH, NOT_FOUND."""
    name = fields.get("datafile")
    if name is not None:
        if name.split()[:1] == ["LIST"] or ("%" in name and len(name.split()) > 1):
            raise unsupported(path, "voxels spread over several data files", "one data file")
        return beside(path, name)
    return None


def _dtype(path: Path, fields: Mapping[str, str]) -> np.dtype[Any]:
    name = " ".join(needed(path, fields, "type").lower().split())
    code = _CODES.get(name)
    if code is None:
        raise bad(path, f"type {shown(name)}", "whole or real numbers of 8 to 64 bits")
    dtype = np.dtype(code)
    if dtype.itemsize == 1:
        return dtype
    endian = needed(path, fields, "endian").lower()
    if endian not in ("little", "big"):
        raise bad(path, f"endian {shown(endian)}", "little or big")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _kinds(path: Path, fields: Mapping[str, str], rank: int) -> list[str]:
    kinds = fields.get("kinds", " ".join(["???"] * rank)).lower().split()
    if len(kinds) != rank:
        raise bad(path, f"{len(kinds)} kinds", f"{rank}, one an axis")
    return kinds


def _vectors(path: Path, fields: Mapping[str, str], name: str, count: int) -> list[list[float] | None] | None:
    """`count` vectors such as "(1,0,0) none"; None without the field."""
    text = fields.get(name)
    if text is None:
        return None
    found = list(_VECTOR.finditer(text))
    if len(found) != count or _VECTOR.sub("", text).strip():
        raise bad(path, f"{name} {shown(text)}", f"{count} vectors such as (1,0,0), or none")
    vectors: list[list[float] | None] = []
    for one in found:
        inside = one[1]
        vectors.append(None if inside is None else numbers(path, name, inside.replace(",", " "), inside.count(",") + 1))
    return vectors


def _roles(
    path: Path, sizes: Sequence[int], kinds: Sequence[str], directions: Sequence[list[float] | None] | None
) -> list[Role]:
    """What each axis counts: a direction in space makes it one of space; else its kind tells. A fourth axis without either is
    a series. Raises InputError WRONG_DIMENSION."""
    roles: list[Role] = []
    for k, kind in enumerate(kinds):
        spatial = kind in _SPATIAL and roles.count("space") < 3 if directions is None else directions[k] is not None
        series = kind in _SERIES or kind in _SPATIAL
        roles.append("space" if spatial else "volumes" if series else "channels")
    if roles.count("space") not in (2, 3) or roles.count("channels") > 1 or roles.count("volumes") > 1:
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"sizes {tuple(sizes)} of kinds {shown(' '.join(kinds))}",
            expected="2 or 3 axes of space, one of time or a list, one of components",
            fix="cut the axes out",
        )
    return roles


def _geometry(
    path: Path,
    fields: Mapping[str, str],
    sizes: Sequence[int],
    roles: Sequence[Role],
    directions: Sequence[list[float] | None] | None,
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid in the patient, and notes on what was assumed. Raises InputError BAD_HEADER, BAD_SPACING, BAD_AFFINE."""
    axes = [k for k, role in enumerate(roles) if role == "space"]
    spatial = [sizes[k] for k in axes]
    if directions is None:
        return _unplaced(path, fields, spatial, axes, len(sizes))
    vectors = [vector for vector in directions if vector is not None]
    origin = (_vectors(path, fields, "spaceorigin", 1) or [None])[0]
    world = len(vectors[0])
    if world not in (2, 3) or any(len(vector) != world for vector in [*vectors, origin or vectors[0]]):
        raise bad(path, f"space directions and origin of {world} and other numbers", "2 or 3 numbers each")
    name = fields.get("space", "").lower()
    if name not in _SPACES and name:
        raise bad(path, f"space {shown(name)}", f"one of {', '.join(s for s in _SPACES if len(s) > 3)}")
    units = _units(path, fields, "spaceunits", range(world))
    turn = np.array(_SPACES.get(name) or LPS)
    steps = np.zeros((len(vectors), 3))
    steps[:, :world] = np.array(vectors) * units
    place = np.zeros(3)
    place[:world] = np.array(origin or [0.0] * world) * units
    notes: tuple[str, ...] = () if _SPACES.get(name) else (f"the space {name or 'has no name'}: taken as L, P, S",)
    notes += () if world == 3 else (FLAT,)
    notes += () if origin else ("no space origin: the first voxel is taken to lie at 0",)
    return grid(path, spatial, steps * turn, place * turn), notes


def _unplaced(
    path: Path, fields: Mapping[str, str], sizes: Sequence[int], axes: Sequence[int], rank: int
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of an image without space directions: from its spacings where it has some."""
    listed = numbers(path, "spacings", fields.get("spacings", " ".join(["nan"] * rank)), rank)
    spacing = [listed[k] for k in axes]
    if np.isnan(spacing).all():
        return grid(path, sizes, None), ()
    check_spacing(path, "spacings", spacing)
    steps = np.zeros((len(axes), 3))
    np.fill_diagonal(steps, np.array(spacing) * _units(path, fields, "units", axes))
    return grid(path, sizes, steps * LPS), (f"no space directions: {ASSUMED}",)


def _units(path: Path, fields: Mapping[str, str], name: str, axes: Sequence[int]) -> Floats:
    """Millimetres of the unit of each of `axes`; mm where none is named. Raises InputError BAD_HEADER."""
    text = fields.get(name)
    if text is None:
        return np.ones(len(axes))
    found = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', text)]
    units = [found[k] if k < len(found) else "?" for k in axes]
    lengths = [_MILLIMETRES.get(unit, _MILLIMETRES.get(unit.removesuffix("s"))) for unit in units]
    known = [length for length in lengths if length is not None]
    if len(known) < len(lengths):
        raise bad(path, f"{name} {shown(text)}", '"mm", "cm", "m" or "um" for each axis of space')
    return np.array(known)
