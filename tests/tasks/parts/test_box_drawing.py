"""Pictures of boxes: which slice, which pixels, and what is called missed or false."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.boxes import Boxes
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.tasks.parts import drawing
from hounsfield.tasks.parts.box_drawing import Judge, draw_boxes

RED, BLUE = Class(value=7, name="a", colour=(255, 0, 0)), Class(value=9, name="b", colour=(0, 0, 255))
LPS = np.array([[0.0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # slices up, rows to the back, columns to the left
Picture = npt.NDArray[np.uint8]


def boxes(*rows: tuple[float, ...], labels: list[int] | None = None, scores: list[float] | None = None) -> Boxes:
    corners = np.array(rows, dtype=float).reshape(len(rows), -1 if rows else 4)
    given = [0] * len(rows) if labels is None else labels
    return Boxes(corners, np.array(given, dtype=int), np.array([0.9] * len(rows) if scores is None else scores))


def drawn(picture: Picture, colour: tuple[int, int, int] = (255, 0, 0)) -> npt.NDArray[np.bool_]:
    """Pixels of the right half in this colour alone."""
    half: npt.NDArray[np.bool_] = (picture[:, picture.shape[1] // 2 :] == colour).all(axis=2)
    return half


def test_a_box_is_framed_where_it_is_and_the_left_stays_plain() -> None:
    image = Image(np.full((1, 400, 500), 7, np.uint8), Geometry.none((400, 500)))
    shown = draw_boxes(image, boxes((100, 50, 300, 200.5), labels=[1]), (RED, BLUE))
    assert shown.shape == (400, 1000, 3)
    np.testing.assert_array_equal(shown[:, :500], drawing.picture(image))
    frame = drawn(shown, (0, 0, 255))
    rows, columns = np.nonzero(frame[100:])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 199, 50, 200)
    assert not frame[110:290, 60:190].any(), "a frame is empty"
    assert frame[100, 50:201].all()
    assert frame[299, 50:201].all()
    label = frame[80:100, 50:120]
    assert label.any(), "what it is stands above it"
    assert (shown[80:100, 550:620] == 255).all(axis=2).any()


def test_small_pictures_are_enlarged_and_boxes_with_them() -> None:
    image = Image(np.zeros((1, 20, 32), np.uint8), Geometry.none((20, 32)))
    frame = drawn(draw_boxes(image, boxes((8, 4, 12, 10)), (RED,)))
    rows, columns = np.nonzero(frame[80:])
    assert frame.shape == (200, 320)
    assert (rows.max(), columns.min(), columns.max()) == (39, 40, 99)


@pytest.mark.parametrize("affine", [LPS, np.eye(4)[[2, 1, 0, 3]], np.eye(4)])
def test_the_slice_and_place_of_the_best_box_of_a_volume(affine: npt.NDArray[Any]) -> None:
    """Whatever the order of axes: the frame lies round the bright voxels that the picture shows."""
    image = Image(np.zeros((1, 30, 32, 34), np.int16), Geometry((30, 32, 34), affine))
    image.array[0, 4:9, 10:16, 20:28] = 1000
    prediction = boxes((4, 10, 20, 9, 16, 28), (20, 1, 1, 23, 4, 4), labels=[0, 0], scores=[0.9, 0.6])
    shown = draw_boxes(image, prediction, (RED,))
    bright = shown[:, : shown.shape[1] // 2, 0] == 255
    frame = drawn(shown)
    rows, columns = np.nonzero(bright)
    assert bright.any()
    below = np.nonzero(frame[rows.min() + 1 :])  # the name stands above
    assert below[0].max() + rows.min() + 1 == rows.max()
    assert frame[rows.max(), columns.min() : columns.max() + 1].all()
    assert frame[rows.min() : rows.max() + 1, columns.min()].all()
    assert frame[rows.min() : rows.max() + 1, columns.max()].all()


def test_a_volume_without_a_box_shows_its_middle() -> None:
    image = Image(np.arange(5 * 8 * 8, dtype=np.int16).reshape(1, 5, 8, 8), Geometry((5, 8, 8), LPS))
    none = Boxes(np.zeros((0, 6)), np.zeros(0, int), np.zeros(0))
    shown = draw_boxes(image, none, (RED,), Judge(none, 0.1))
    np.testing.assert_array_equal(shown, np.concatenate([drawing.picture(image, 2)] * 2, axis=1))


def test_hits_misses_and_false_alarms_are_told_as_the_figures_count_them() -> None:
    truth = boxes((0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60), labels=[0, 0, 1])
    found = boxes(
        (1, 0, 11, 10), (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90), labels=[0, 0, 0, 1], scores=[0.9, 0.8, 0.7, 0.6]
    )
    missed, wrong = Judge(truth, 0.5).verdict(found)
    assert missed.tolist() == [False, True, True]
    assert wrong.tolist() == [False, True, True, True]  # the second finds what the first has found
    missed, wrong = Judge(truth, 0.5, known=(0,)).verdict(found)
    assert wrong.tolist() == [False, True, True, False], "class b was not searched for"


def test_the_truth_is_dashed_and_what_was_missed_is_named() -> None:
    image = Image(np.zeros((1, 400, 400), np.uint8), Geometry.none((400, 400)))
    truth, none = boxes((100, 100, 300, 300)), boxes()
    alone = drawn(draw_boxes(image, none, (RED,), Judge(truth, 0.5)))
    line = alone[299, 100:300]
    assert 0.4 < line.mean() < 0.8, "dashes and gaps"
    assert alone[85:100, 100:160].mean() > 0.5, "the ground of the word missed"
    found = draw_boxes(image, boxes((100, 100, 300, 300)), (RED,), Judge(truth, 0.5))
    assert drawn(found)[299, 100:300].all()
    without = draw_boxes(image, boxes((100, 100, 300, 300)), (RED,))
    np.testing.assert_array_equal(found, without)  # a hit is drawn over its truth, and nothing else is said


def test_ten_thousand_boxes_are_drawn_in_time() -> None:
    image = Image(np.zeros((1, 1000, 1000), np.uint8), Geometry.none((1000, 1000)))
    low = np.random.default_rng(0).integers(0, 980, (10_000, 2)).astype(float)
    truth = Boxes(np.concatenate([low, low + 12], axis=1), np.zeros(10_000, dtype=int))
    prediction = Boxes(truth.corners[:300], truth.labels[:300], np.linspace(0.99, 0.6, 300))
    shown = draw_boxes(image, prediction, (RED,), Judge(truth, 0.5))
    assert drawn(shown).mean() > 0.2
