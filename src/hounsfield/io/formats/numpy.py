"""NumPy's .npy and .npz: arrays in the order (d, h, w) or (h, w), never pickles.

A .npz of an image holds `image`, and where it has a place `affine` (4, n+1) as in core.geometry with `space`, or
`spacing` (n) in mm per array axis. Beside a place the image may have channels, as its first axis.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry, Space
from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.arrays import NPY, ZIP_FAULTS, Stored, stored
from hounsfield.io.formats import Choices, Peek

SUFFIXES = (".npy", ".npz")
WRITES = (".npy", ".npz")

_ZIP = b"PK\x03\x04"
_PLACE = ("affine", "spacing", "space")


@dataclass(frozen=True)
class _Layout:
    """The image's array, its geometry, and which of its axes counts channels (None: it has one channel)."""

    image: Stored
    geometry: Geometry
    channel_axis: int | None

    @property
    def channels(self) -> int:
        return 1 if self.channel_axis is None else self.image.shape[self.channel_axis]


def recognises(path: Path, head: bytes) -> bool:
    """NumPy's magic, or a ZIP archive with a .npy in it."""
    if head.startswith(NPY):
        return True
    if not head.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except ZIP_FAULTS:
        return path.name.lower().endswith(".npz")  # damaged: read says how


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W) or (C, H, W) in the stored dtype, bool as uint8. A 3D array without a place is RGB where its last axis
    is 3 in uint8, else a volume; the space is "none" without a place.

    Raises InputError UNSAFE_FILE (pickled objects), TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS, BAD_HEADER,
    UNKNOWN_LAYOUT, WRONG_DIMENSION, BAD_SPACING, BAD_AFFINE, UNSUPPORTED_SYNTAX.
    """
    layout = _layout(path)
    array = layout.image.load()
    if layout.channel_axis is None:
        array = array[np.newaxis]
    elif layout.channel_axis:
        array = np.moveaxis(array, layout.channel_axis, 0)
    array = np.ascontiguousarray(array)
    return Image(array.view(np.uint8) if array.dtype == np.bool_ else array, layout.geometry, Meta(format="numpy"))


def peek(path: Path, choices: Choices) -> Peek:
    """The arrays' headers, and the small arrays that say where the image lies."""
    layout = _layout(path)
    dtype = layout.image.dtype.newbyteorder("=")
    return Peek("numpy", layout.geometry, layout.channels, np.dtype(np.uint8) if dtype == np.bool_ else dtype)


def write(image: Image, path: Path) -> None:
    """.npz: `image` (C, *spatial), `affine` and `space`, compressed. .npy: the array alone, which must be one channel or RGB.

    Raises InputError BAD_OPTION (channels that a .npy cannot tell from a volume); ResourceError DISK_FULL.
    """
    if path.suffix.lower() == ".npz":
        place = {"affine": np.asarray(image.geometry.affine), "space": np.array(image.geometry.space)}
        with limits.atomic(path, image.array.nbytes) as beside, beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, image=image.array, **place)
        return
    rgb = image.channels == 3 and image.ndim == 2 and image.array.dtype == np.uint8
    array = image.array.transpose(1, 2, 0) if rgb else image.array[0]
    if not rgb and (image.channels > 1 or _is_rgb(array.shape, array.dtype)):
        raise InputError(
            "BAD_OPTION",
            path,
            found=f"{image.channels} channels of {'x'.join(map(str, image.geometry.shape))}",
            expected="one channel, or RGB in 2D, that a .npy can tell",
            fix="write .npz or .nii.gz",
        )
    with limits.atomic(path, array.nbytes) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _is_rgb(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) == 3 and shape[-1] == 3 and dtype == np.uint8


def _layout(path: Path) -> _Layout:
    arrays = stored(path)
    names = [name for name in arrays if name not in _PLACE]
    if "image" not in arrays and len(names) != 1:
        raise InputError(
            "UNKNOWN_LAYOUT",
            path,
            found=f"arrays {', '.join(names) or 'none'}",
            expected="one array, or one named image",
            fix="save one image a file",
        )
    image = arrays.get("image") or arrays[names[0]]
    if image.dtype.kind not in "biuf" or image.dtype.itemsize > 8:
        raise _bad("BAD_HEADER", path, f"dtype {image.dtype}", "real numbers of 8 to 64 bits")
    axes = len(image.shape)
    ndim = _place_axes(arrays)
    if ndim is not None:
        channel_axis = 0 if axes == ndim + 1 else None
        fits = axes in (ndim, ndim + 1) and ndim in (2, 3)
    else:
        channel_axis = 2 if _is_rgb(image.shape, image.dtype) else None
        fits = axes in (2, 3)
    if not fits or min(image.shape, default=0) < 1:
        place = "" if ndim is None else f" with a place of {ndim} axes"
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"an array of {image.shape}{place}",
            expected="(h, w), (h, w, 3) in uint8, or (d, h, w); channels first beside an affine",
            fix="save one image a file",
        )
    shape = tuple(s for k, s in enumerate(image.shape) if k != channel_axis)
    return _Layout(image, _geometry(path, arrays, shape), channel_axis)


def _place_axes(arrays: Mapping[str, Stored]) -> int | None:
    """Number of spatial axes that `affine` or `spacing` speak of."""
    if "affine" in arrays and len(arrays["affine"].shape) == 2:
        return arrays["affine"].shape[1] - 1
    if "spacing" in arrays and len(arrays["spacing"].shape) == 1:
        return arrays["spacing"].shape[0]
    return None


def _geometry(path: Path, arrays: Mapping[str, Stored], shape: tuple[int, ...]) -> Geometry:
    if "affine" in arrays:
        affine = _small(path, arrays["affine"], "affine")
        space = str(_small(path, arrays["space"], "space")) if "space" in arrays else "patient"
        n = len(shape)
        if affine.shape != (4, n + 1) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :n]) < n:
            raise _bad("BAD_AFFINE", path, f"affine {affine.tolist()}", f"(4, {n + 1}), finite, with independent axes")
        if space not in get_args(Space):
            raise _bad("BAD_HEADER", path, f"space {space!r}", f"one of {', '.join(get_args(Space))}")
        return Geometry(shape, affine, cast(Space, space))
    if "spacing" in arrays:
        spacing = _small(path, arrays["spacing"], "spacing")
        if not (np.isfinite(spacing).all() and (spacing > 0).all()):
            raise _bad("BAD_SPACING", path, f"spacing {spacing.tolist()}", "positive numbers")
        return Geometry.from_spacing(shape, [float(s) for s in spacing])
    return Geometry.none(shape)


def _small(path: Path, entry: Stored, name: str) -> npt.NDArray[Any]:
    """A short array that describes the image. Raises InputError BAD_HEADER."""
    wanted = "U" if name == "space" else "iuf"
    if entry.dtype.kind not in wanted or entry.dtype.itemsize > 64 or int(np.prod(entry.shape, dtype=object)) > 16:
        raise InputError(
            "BAD_HEADER", path, found=f"{name} {entry.dtype} {entry.shape}", expected="a few numbers", fix="repair it"
        )
    array = entry.load()
    return array if name == "space" else array.astype(np.float64)


def _bad(code: str, path: Path, found: str, expected: str) -> InputError:
    return InputError(code, path, found=found, expected=expected, fix="repair the array and save it again")
