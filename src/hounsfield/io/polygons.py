"""Polygons as pixels: a pixel is inside where its centre is, by the even-odd rule over all polygons together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Corners are rounded to this part of a pixel: millimetres written as decimal text come back a little beside pixel centres.
DIGITS = 6


def inside(polygons: Sequence[npt.NDArray[np.float64]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(H, W): the pixels whose centre lies within an odd number of `polygons`, each (N, 2) corners (row, column) in pixels,
    closed from the last to the first; whole numbers are pixel centres.

    So a polygon within another is a hole, one within that an island, and the two sides of a slit (the keyhole, by which one
    polygon goes around a hole) cancel. Of centres exactly on an edge those at its upper and left sides are inside, those at its
    lower and right sides are not: polygons that share an edge share no pixel.
    """
    height, width = shape
    starts = [np.round(np.asarray(polygon, dtype=np.float64), DIGITS) for polygon in polygons]
    if not starts:
        return np.zeros(shape, dtype=bool)
    start = np.concatenate(starts)
    end = np.concatenate([np.roll(corners, -1, axis=0) for corners in starts])
    swap = start[:, 0] > end[:, 0]
    upper, lower = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)

    # Each edge crosses the rows from its upper end on, up to its lower end but not there.
    first = np.clip(np.ceil(upper[:, 0]), 0, height).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 0]), 0, height).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (lower[edge, 1] - upper[edge, 1]) / (lower[edge, 0] - upper[edge, 0])
    crossing = np.round(upper[edge, 1] + (row - upper[edge, 0]) * slope, DIGITS)

    # Every pixel from the crossing on changes sides; so it is inside after an odd number of crossings.
    column = np.clip(np.ceil(crossing), 0, width).astype(np.int64)
    changes = np.zeros((height, width + 1), dtype=np.int64)
    np.add.at(changes, (row, column), 1)
    odd: npt.NDArray[np.bool_] = np.cumsum(changes[:, :width], axis=1) % 2 == 1
    return odd
