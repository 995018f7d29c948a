"""What happens to voxel values right after decoding: rescaling to the source's units, and the search for NaN."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Array = npt.NDArray[Any]


def rescaled(array: Array, slope: float, inter: float) -> Array:
    """slope * array + inter, exactly where that is possible; `array` is used up, to save memory.

    The identity keeps array and dtype. Whole slope and intercept on integers give the smallest of int16, int32 and int64
    that holds every value; else float32, or float64 where the source has more than 16 bits.
    """
    if slope == 1 and inter == 0:
        return array
    if array.dtype.kind in "iu" and float(slope).is_integer() and float(inter).is_integer():
        ends = [int(slope) * int(end) + int(inter) for end in (array.min(), array.max())]
        for kind in (np.int16, np.int32, np.int64):
            if all(np.iinfo(kind).min <= value <= np.iinfo(kind).max for value in (*ends, int(slope), int(inter))):
                # Products may pass the narrow type on the way; wrapping arithmetic brings the sum back exactly.
                out: Array = array.view(kind) if array.dtype.itemsize == kind().itemsize else array.astype(kind)
                np.multiply(out, kind(int(slope)), out=out)
                np.add(out, kind(int(inter)), out=out)
                return out
    scaled = np.empty(array.shape, dtype=np.float64 if array.dtype.itemsize > 2 else np.float32)
    for target, source in zip(_rows(scaled), _rows(array), strict=True):
        target[...] = source * np.float64(slope) + np.float64(inter)
    return scaled


def check_finite(path: Path, array: Array) -> None:
    """Raises InputError NOT_FINITE that says how many voxels of `array` (C, *spatial) are NaN or infinite and where the
    first is, as (d, h, w) or (h, w)."""
    if array.dtype.kind != "f":
        return
    rows = _rows(array)
    bad = [int(row.size - np.count_nonzero(np.isfinite(row))) for row in rows]
    if not any(bad):
        return
    first = next(i for i, count in enumerate(bad) if count)
    within = int(np.flatnonzero(~np.isfinite(rows[first]))[0])
    channel, *index = np.unravel_index(first * rows.shape[1] + within, array.shape)
    where = f"({', '.join(str(int(i)) for i in index)})" + (f" of channel {int(channel)}" if array.shape[0] > 1 else "")
    raise InputError(
        "NOT_FINITE",
        path,
        found=f"{sum(bad)} of {array.size} voxels NaN or infinite, the first at {where}",
        expected="finite voxels",
        fix="replace them where the image was made",
    )


def _rows(array: Array) -> Array:
    """A view (channels x first axis, rest): work goes by slices, as temporaries of a whole volume would cost its memory."""
    return array.reshape(math.prod(array.shape[:2]), -1)
