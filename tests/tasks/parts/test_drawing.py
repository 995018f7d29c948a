"""Pictures of cases: which slice, which side, which colour where."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.tasks.parts import drawing

RED, BLUE = Class(value=7, name="a", colour=(255, 0, 0)), Class(value=9, name="b", colour=(0, 0, 255))
LPS = np.array([[0.0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # slices up, rows to the back, columns to the left


def volume(dtype: type = np.uint8, shape: tuple[int, ...] = (5, 20, 30), affine: npt.NDArray[Any] = LPS) -> Image:
    return Image(np.zeros((1, *shape), dtype=dtype), Geometry(shape, affine))


def test_an_axial_ct_is_shown_as_it_is_read() -> None:
    """Rows to the back and columns to the left are what a radiologist sees; an other storage order looks the same."""
    image = volume(np.int16)
    image.array[0, 3, 4, 6] = 100
    upright = image.canonical()
    shown = drawing.picture(image, 3)
    factor = 320 // 30
    assert shown.shape == (20 * factor, 30 * factor, 3)
    assert np.argwhere(shown[::factor, ::factor, 0] == 255).tolist() == [[4, 6]]
    np.testing.assert_array_equal(drawing.picture(upright, 3), shown)
    assert drawing.picture(image, 2).max() == 0


def test_truth_is_filled_and_prediction_outlined_on_the_fullest_slice() -> None:
    image, truth, prediction = volume(), volume(), volume()
    image.array[:] = 100
    image.array[0, :, 0, 0] = 200
    truth.array[0, 3, 5:12, 6:16] = 7
    truth.array[0, 1, 0, 0] = 9
    prediction.array[0, 3, 6:13, 8:20] = 9
    factor = 320 // 30
    both = drawing.contours(image, truth, prediction, (RED, BLUE))
    left, right = both[:, : 30 * factor], both[:, 30 * factor :]
    np.testing.assert_array_equal(left, drawing.picture(image, 3))
    outline = (right == BLUE.colour).all(axis=2)
    filled = (right[..., 0] > left[..., 0]) & ~outline
    expected = np.zeros((20, 30), dtype=bool)
    expected[6:13, 8:20] = True
    np.testing.assert_array_equal(np.argwhere(outline)[[0, -1]], [[6 * factor, 8 * factor], [13 * factor - 1, 20 * factor - 1]])
    assert not (outline & ~np.kron(expected, np.ones((factor, factor), dtype=bool))).any()
    assert not outline[9 * factor, 12 * factor]  # an outline is no disc
    inside = np.zeros((20, 30), dtype=bool)
    inside[5:12, 6:16] = True
    np.testing.assert_array_equal(filled | outline, np.kron(inside, np.ones((factor, factor), dtype=bool)) | outline)


@pytest.mark.parametrize("empty", [True, False])
def test_without_truth_the_prediction_chooses_the_slice(empty: bool) -> None:
    image, prediction = volume(), volume()
    prediction.array[0, 4, 2:8, 2:8] = 7
    shown = drawing.contours(image, volume() if empty else None, prediction, (RED,))
    assert (shown == RED.colour).all(axis=2).any()


def test_regions_are_drawn_each_in_its_colour() -> None:
    image = Image(np.zeros((3, 40, 40), dtype=np.uint8), Geometry.none((40, 40)))
    array = np.zeros((2, 40, 40), dtype=np.uint8)
    array[0, 2:8, 2:8], array[1, 20:30, 20:30] = 1, 1
    shown = drawing.contours(image, None, Image(array, image.geometry), (RED, BLUE))
    for c, (a, b) in ((RED, (2, 8)), (BLUE, (20, 30))):
        rows = np.argwhere((shown[:, 320:] == c.colour).all(axis=2)) // 8
        assert (rows.min(), rows.max()) == (a, b - 1)


@pytest.mark.parametrize("affine", [LPS, np.eye(4)[[2, 1, 0, 3]], np.eye(4)])
def test_heat_lies_where_it_is_strongest(affine: npt.NDArray[Any]) -> None:
    """Whatever the order of axes, the brightest spot of the picture is the voxel that the image shows there."""
    image, heat = volume(np.int16, (12, 11, 13), affine), volume(np.float32, (12, 11, 13), affine)
    image.array[0, 3, 4, 2], heat.array[0, 3, 4, 2] = 1000, 2.0
    left, right = np.split(drawing.heat(image, heat), 2, axis=1)
    spot = left[..., 0] == 255
    assert spot.sum() in ((320 // 13) ** 2, (320 // 12) ** 2)  # one voxel
    assert (right[spot] == (255, 255, 114)).all()  # 45% of white and 55% of yellow
    assert (right[~spot] == 0).all()


def test_no_heat_changes_nothing() -> None:
    image = Image(np.random.default_rng(0).integers(0, 255, (1, 9, 9), dtype=np.uint8), Geometry.none((9, 9)))
    left, right = np.split(drawing.heat(image, Image(np.zeros((1, 9, 9), dtype=np.float32), image.geometry)), 2, axis=1)
    np.testing.assert_array_equal(left, right)


def test_small_pictures_are_enlarged_by_whole_numbers() -> None:
    small = np.random.default_rng(0).integers(0, 255, (28, 20, 3), dtype=np.uint8)
    big = drawing.enlarge(small)
    assert big.shape == (308, 220, 3)
    np.testing.assert_array_equal(big[::11, ::11], small)
    assert drawing.enlarge(np.zeros((500, 10, 3), dtype=np.uint8)).shape == (500, 10, 3)
    np.testing.assert_array_equal(drawing.enlarge(small[..., 0] > 99, like=big.shape)[5::11, 5::11], small[..., 0] > 99)


def test_tiles_stand_side_by_side_in_reading_order() -> None:
    tiles = [np.full((4, 3, 3), k, dtype=np.uint8) for k in range(5)]
    shown = drawing.mosaic(tiles, 3)
    factor = drawing.TILE // 4
    assert shown.shape == (2 * 4 * factor + drawing.GAP, 3 * 3 * factor + 2 * drawing.GAP, 3)
    for k in range(5):
        top, left = k // 3 * (4 * factor + drawing.GAP), k % 3 * (3 * factor + drawing.GAP)
        assert (shown[top : top + 4 * factor, left : left + 3 * factor] == k).all()
    assert (shown[-1, -1] == 255).all()
    assert drawing.mosaic(tiles[:1], 8).shape == (4 * factor, 3 * factor, 3)


@pytest.mark.parametrize("across", [(), (0,)])
def test_what_networks_disagree_on_stands_last(across: tuple[int, ...]) -> None:
    """At the slice where most is left, whatever that shows; white is a tenth of the grey scale."""
    shape = (6, 12, 10)
    truth = np.tile(np.linspace(0, 100, 10, dtype=np.float32), (1, 6, 12, 1))
    made = truth.copy()
    made[0, 2, 3, 4] += 30
    spread = np.zeros((1, *shape), np.float32)
    spread[0, 2, 3, 4], spread[0, 2, 3, 7], spread[0, 5, 11, 0] = 4.95, 20, 20
    image = Image(made, Geometry.none(shape))
    plain = drawing.side_by_side(image, truth, truth, across)
    rgb = drawing.side_by_side(image, truth, truth, across, spread)
    panels = np.split(rgb, 5, axis=1)
    np.testing.assert_array_equal(np.concatenate(panels[:4], axis=1), plain)
    factor = drawing.TALLEST // max(shape[1:] if not across else (6, 10))
    shown = panels[4][::factor, ::factor, 0].astype(int)
    low, high = np.percentile(truth, (0.5, 99.5))
    grey = round(255 * 4.95 / (float(high - low) / 10))
    assert sorted(np.unique(shown)) == [0, grey, 255]
    assert (shown == grey).sum() == (shown == 255).sum() == 1
