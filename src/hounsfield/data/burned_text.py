"""Whether a picture looks as if text was burned into it: rows of small marks of one extreme value, away from the middle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SMALLEST: Final = 64  # pixels of the shorter side, below which no text can be read
LEAST: Final = 4  # marks in a row that count as text
SHORTEST: Final = 5  # pixels of a character's height
TALLEST: Final = 0.08  # of the picture's height, or TALL pixels in a small one
TALL: Final = 14
EXTREME: Final = 0.96  # of the range of grey: what a mark must reach
STROKE: Final = 0.7  # above it a pixel belongs to a mark
AROUND: Final = 0.5  # below it lies, on average, what surrounds a mark
MIDDLE: Final = 0.25  # of each side: a row whose centre lies farther from every border is no overlay
MOST: Final = 4000  # marks, from which on it is texture
SHARE: Final = 0.2  # of all marks that stand in rows: of texture it is less
MARGIN: Final = 2  # pixels around a row that its shadow or its blur reaches
BROKEN: Final = 4  # heights of a row beside it, within which what is lit belongs to it: letters too thin to be seen as such

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Marks:
    """Of each mark (N,), in pixels: the half-open box."""

    top: npt.NDArray[np.int64]
    bottom: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.top)


def characters(array: npt.NDArray[Any]) -> int:
    """How many marks stand in rows that look like text, light on dark or dark on light; 0 for a volume.

    array: (C, H, W) in any unit. A suspicion, not a reading: single letters, and text on a ground of its own brightness, are
    not seen.
    """
    return max((sum(map(len, rows)) for _, _, rows in _texts(array)), default=0)


def text_mask(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(H, W) True over the rows of text that `characters` counts in (C, H, W), MARGIN pixels around them, gaps included."""
    mask = np.zeros(array.shape[1:], dtype=bool)
    for bright, marks, rows in _texts(array):
        for row in rows:
            top, bottom = int(marks.top[row].min()), int(marks.bottom[row].max())
            left, right = int(marks.left[row].min()), int(marks.right[row].max())
            lit: npt.NDArray[np.bool_] = np.asarray((bright[top:bottom] >= STROKE).any(axis=0))
            right = _onward(lit, right, bottom - top)
            left = len(lit) - _onward(lit[::-1], len(lit) - left, bottom - top)
            mask[max(0, top - MARGIN) : bottom + MARGIN, max(0, left - MARGIN) : right + MARGIN] = True
    return mask


def _onward(lit: npt.NDArray[np.bool_], end: int, tall: int) -> int:
    """The end of a row of text that ends at `end`, moved on over lit columns (W,), gaps below its height, by BROKEN at most."""
    last = min(len(lit), end + BROKEN * tall)
    while (more := np.flatnonzero(lit[end : min(end + tall, last)])).size:
        end += int(more[-1]) + 1
    return end


def _texts(array: npt.NDArray[Any]) -> Iterator[tuple[Floats, _Marks, list[list[int]]]]:
    """Of what is light and of what is dark: (H, W) in [0, 1] in which it is near 1, marks in it, and their rows that look like
    text; nothing of a volume."""
    if array.ndim != 3 or min(array.shape[1:]) < SMALLEST:
        return
    low, high = float(array.min()), float(array.max())
    if not low < high:
        return
    span = np.float32(high - low)
    light: Floats = (array.max(axis=0).astype(np.float32) - np.float32(low)) / span
    dark: Floats = (np.float32(high) - array.min(axis=0).astype(np.float32)) / span
    for bright in (light, dark):
        yield bright, *_in_rows(bright)


def _in_rows(bright: Floats) -> tuple[_Marks, list[list[int]]]:
    """bright: (H, W) in [0, 1]; marks are near 1."""
    marks = _marks(bright)
    if len(marks) < LEAST or len(marks) > MOST:
        return marks, []
    height, width = bright.shape
    rows = _rows(marks)
    if sum(map(len, rows)) < SHARE * len(marks):
        return marks, []
    return marks, [row for row in rows if _aside(marks, row, height, width)]


def _marks(bright: Floats) -> _Marks:
    """Connected pixels above STROKE that reach EXTREME, as tall as a character and set off from what surrounds them."""
    from scipy import ndimage

    labels, _ = ndimage.label(bright >= STROKE, np.ones((3, 3)))
    found: list[tuple[int, int, int, int]] = []
    tallest = max(TALL, TALLEST * bright.shape[0])
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        (top, bottom), (left, right) = ((s.start, s.stop) for s in box)
        tall, wide = bottom - top, right - left
        if not (SHORTEST <= tall <= tallest and wide <= 1.6 * tall):
            continue
        own = labels[box] == number
        if bright[box][own].max() < EXTREME:
            continue
        if not 0.12 <= own.mean() <= 0.9 and wide > 2:  # a frame's corner; a filled square
            continue
        ring = slice(max(0, top - 2), bottom + 2), slice(max(0, left - 2), right + 2)
        outside = bright[ring][labels[ring] != number]
        if outside.size and float(outside.mean()) <= AROUND:
            found.append((top, bottom, left, right))
    columns = np.array(found, dtype=np.int64).reshape(-1, 4).T
    return _Marks(*columns)


def _rows(marks: _Marks) -> list[list[int]]:
    """Marks that stand side by side on one line, LEAST or more, from left to right; each in one row."""
    order = np.argsort(marks.left, kind="stable").tolist()
    taken: set[int] = set()
    rows = []
    for first in order:
        if first in taken:
            continue
        row = [first]
        for other in order:
            last = row[-1]
            if other in taken or marks.left[other] < marks.right[last] - 1 or other == last:
                continue
            tall = float(marks.bottom[last] - marks.top[last])
            gap = marks.left[other] - marks.right[last]
            tallest = float((marks.bottom[row] - marks.top[row]).max())  # a space is as wide behind a small letter
            if gap > 1.2 * tallest:
                if gap > 4 * tallest:
                    break
                continue
            alike = 0.6 <= (marks.bottom[other] - marks.top[other]) / tall <= 1.67
            if alike and abs(marks.bottom[other] - marks.bottom[last]) <= 1 + 0.15 * tall:
                row.append(other)
        if len(row) >= LEAST:
            taken.update(row)
            rows.append(row)
    return rows


def _aside(marks: _Marks, row: list[int], height: int, width: int) -> bool:
    """Whether the row's centre lies near a border."""
    middle = (marks.top[row].min() + marks.bottom[row].max()) / 2 / height
    across = (marks.left[row].min() + marks.right[row].max()) / 2 / width
    return bool(min(middle, 1 - middle, across, 1 - across) <= MIDDLE)
