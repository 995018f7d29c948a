"""Headers of text, as NRRD and MetaImage have: fields, their numbers, and the file beside that holds the voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry

Floats = npt.NDArray[np.float64]

MOST = 1 << 22  # bytes of a header, in which segmentations and sequences keep lists of their own
_LARGEST = 1e30  # of a length or direction: past it lies damage, and overflow
# From L, P, S to R, A, S.
LPS = (-1.0, -1.0, 1.0)
ASSUMED = "orientation and place assumed (x to the left, y to the back, z up, from 0)"
FLAT = "two axes of space alone: taken to lie at S = 0"


def bad(path: Path, found: str, expected: str, code: str = "BAD_HEADER") -> InputError:
    """The error for a field outside its domain."""
    return InputError(code, path, found=found, expected=expected, fix="repair the header or export the image again")


def unsupported(path: Path, found: str, expected: str) -> InputError:
    """The error for a variant that is not read."""
    return InputError("UNSUPPORTED_SYNTAX", path, found=found, expected=expected, fix="save it again, in one file")


def put(path: Path, fields: dict[str, str], name: str, value: str) -> None:
    """A field of the header. Raises InputError BAD_HEADER where it is there already."""
    if name in fields:
        raise bad(path, f"{shown(name)} twice", "each field once")
    fields[name] = value


def needed(path: Path, fields: Mapping[str, str], name: str) -> str:
    """A field's text. Raises InputError MISSING_TAG."""
    if name not in fields:
        raise bad(path, f"no {name}", "a value", "MISSING_TAG")
    return fields[name]


def numbers(path: Path, name: str, text: str, count: int) -> list[float]:
    """`count` numbers, perhaps not finite. Raises InputError BAD_HEADER."""
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = []
    if len(found) != count or any(math.isfinite(value) and abs(value) > _LARGEST for value in found):
        raise bad(path, f"{name} = {shown(text)}", f"{count} numbers")
    return found


def counts(path: Path, name: str, text: str, count: int, least: int = 1) -> list[int]:
    """`count` whole numbers of at least `least`. Raises InputError BAD_HEADER."""
    try:
        found = [int(word) for word in text.split()]
    except ValueError:
        found = []
    if len(found) != count or min(found) < least or max(found) >= 1 << 63:
        raise bad(path, f"{name} = {shown(text)}", f"{count} whole numbers of at least {least}")
    return found


def check_spacing(path: Path, name: str, spacing: Sequence[float]) -> None:
    """Raises InputError BAD_SPACING."""
    if not (np.isfinite(spacing).all() and min(spacing) > 0):
        told = " ".join(f"{value:g}" for value in spacing)
        raise bad(path, f"{name} = {told}", "positive numbers", "BAD_SPACING")


def grid(path: Path, sizes: Sequence[int], steps: Floats | None, origin: Floats | None = None) -> Geometry:
    """The grid of an array of `sizes` (w, h) or (w, h, d), flat where d is 1. steps: (axes, 3), R, A, S in mm of one voxel
    along each; None where no spacing is known. origin: R, A, S of the first voxel.

    Raises InputError BAD_AFFINE.
    """
    axes = 2 if len(sizes) == 2 or sizes[2] == 1 else 3
    shape = tuple(reversed(sizes[:axes]))
    if steps is None:
        return Geometry.none(shape)
    affine = np.zeros((4, axes + 1))
    affine[:3, :axes] = steps[:axes][::-1].T
    affine[:3, axes] = 0.0 if origin is None else origin
    affine[3, axes] = 1.0
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :axes]) < axes:
        told = str(np.round(affine[:3], 4).tolist()).replace(" ", "")
        raise bad(path, f"directions and origin {told}", "finite, linearly independent axes", "BAD_AFFINE")
    return Geometry(shape, affine)


def beside(path: Path, name: str) -> Path:
    """The data file that the header `path` names, below its folder. Raises InputError UNSAFE_PATH, NOT_FOUND."""
    try:
        file = path.parent / name.replace("\\", "/")
        place = file.resolve()
        inside = place.is_relative_to(path.parent.resolve()) or place.is_relative_to(path.resolve().parent)
        there = inside and file.is_file()
    except (OSError, RuntimeError, ValueError):  # a name that no file can have, links in a circle
        inside, there = True, False
    if not inside:
        raise InputError(
            "UNSAFE_PATH",
            path,
            found="a data file outside of the folder of its header",
            expected="a file beside it",
            fix="put both into one folder and name the data file alone, or check where the header came from",
        )
    if not there:
        raise InputError(
            "NOT_FOUND",
            path,
            found="a header without voxels",
            expected=f"{shown(name)} beside it",
            fix="copy both files",
        )
    return file


def shown(text: str) -> str:
    """A field's text for a message: short, and of printable characters."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= 80 else f"{plain[:77]}..."
