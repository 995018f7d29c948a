"""Boxes: half-open corners, one label each, and boxes around the parts of a mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError


def test_sizes_and_dimensions() -> None:
    boxes = Boxes(np.array([[1, 2, 3, 4, 6, 8]]), np.array([0]))
    assert (boxes.ndim, len(boxes)) == (3, 1)
    assert boxes.sizes.tolist() == [[3.0, 4.0, 5.0]]
    assert boxes.corners.dtype == np.float64


@pytest.mark.parametrize(
    ("corners", "labels"),
    [
        ([[3, 4, 3, 5]], [0]),  # no extent
        ([[3, 4, 2, 5]], [0]),  # last before first
        ([[3, 4, 5]], [0]),
        ([[3, 4, 5, 6]], [0, 1]),
        ([3, 4, 5, 6], [0]),
        ([[0, 0, 0, 0, 1, 1, 1, 1]], [0]),
    ],
)
def test_what_is_no_box_is_refused(corners: list[list[int]], labels: list[int]) -> None:
    with pytest.raises(InputError) as caught:
        Boxes(np.array(corners), np.array(labels))
    assert caught.value.code == "BAD_LABEL"


def test_no_boxes_are_boxes() -> None:
    none = Boxes.around(np.zeros((4, 4, 4), dtype=np.uint8), (1, 2))
    assert (len(none), none.ndim, none.sizes.shape) == (0, 3, (0, 3))


def test_the_voxels_whose_middles_lie_inside() -> None:
    corners = [[3, 4, 5, 8], [2.4, 2.6, 4.4, 4.6], [1.1, 0.0, 1.4, 0.5], [6.6, 7.2, 7.4, 7.3], [2.5, 0, 3.5, 9]]
    boxes = Boxes(np.array(corners), np.zeros(5, dtype=int))
    assert boxes.voxels.tolist() == [[3, 4, 5, 8], [2, 3, 4, 5], [1, 0, 2, 1], [7, 7, 8, 8], [2, 0, 3, 9]]


def test_parts_that_touch_by_a_corner_are_one() -> None:
    labels = np.zeros((6, 6), dtype=np.uint8)
    labels[0, 0] = labels[1, 1] = 5
    labels[4:6, 2:5] = 5
    labels[0, 5] = 3
    boxes = Boxes.around(labels, (3, 5))
    assert boxes.corners.tolist() == [[0, 5, 1, 6], [0, 0, 2, 2], [4, 2, 6, 5]]
    assert boxes.labels.tolist() == [0, 1, 1]


@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2)))
def test_boxes_around_hold_every_voxel_and_touch_it_on_every_side(labels: np.ndarray) -> None:
    boxes = Boxes.around(labels, (1, 2))
    held = np.zeros((2, *labels.shape), dtype=bool)
    for (*corner,), label in zip(boxes.corners.astype(int), boxes.labels, strict=True):
        inside = tuple(slice(a, b) for a, b in zip(corner[:3], corner[3:], strict=True))
        held[(label, *inside)] = True
        part = labels[inside] == label + 1
        for axis in range(3):
            assert part.take(0, axis).any()
            assert part.take(-1, axis).any()
    for label in (0, 1):
        assert held[label][labels == label + 1].all()
