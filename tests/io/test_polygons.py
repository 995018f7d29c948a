"""Polygons become exactly the pixels whose centres they hold: against matplotlib's point-in-polygon, and by hand on edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from hounsfield.io.polygons import inside

SHAPE = (23, 31)
CENTRES = np.stack(np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij"), -1).reshape(-1, 2)


def oracle(polygons: list[Any]) -> npt.NDArray[np.bool_]:
    """Even-odd by matplotlib, one polygon after the other."""
    out = np.zeros(len(CENTRES), dtype=bool)
    for corners in polygons:
        out ^= Outline(np.vstack([corners, corners[:1]]), closed=True).contains_points(CENTRES)
    return out.reshape(SHAPE)


def box(top: float, left: float, bottom: float, right: float) -> npt.NDArray[np.float64]:
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)], dtype=np.float64)


def drawn(*polygons: npt.NDArray[np.float64], shape: tuple[int, int] = (8, 9)) -> set[tuple[int, int]]:
    return {(int(h), int(w)) for h, w in np.argwhere(inside(polygons, shape))}


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_random_polygons_agree_with_an_independent_test_of_every_centre(seed: int, count: int) -> None:
    """Concave, crossing themselves and each other, and beyond the image; no centre is within rounding of an edge."""
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform((-6, -6), (29, 37), (rng.integers(3, 12), 2)) for _ in range(count)]
    np.testing.assert_array_equal(inside(polygons, SHAPE), oracle(polygons))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_pieces_that_share_edges_fill_the_whole_without_overlap(seed: int) -> None:
    """A rectangle between whole and half pixels, cut along a line through pixel centres or not."""
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, 10, 2) / 2
    bottom, right = top + rng.integers(2, 20) / 2, left + rng.integers(2, 20) / 2
    high, low = rng.integers(int(left * 2), int(right * 2) + 1, 2) / 2
    one = np.array([(top, left), (top, high), (bottom, low), (bottom, left)])
    other = np.array([(top, high), (top, right), (bottom, right), (bottom, low)])
    whole, first, second = (inside([p], SHAPE) for p in (box(top, left, bottom, right), one, other))
    assert not (first & second).any()
    np.testing.assert_array_equal(first | second, whole)


def test_a_centre_on_an_edge_is_inside_at_the_upper_and_left_sides_alone() -> None:
    assert drawn(box(2, 3, 4, 6)) == {(h, w) for h in (2, 3) for w in (3, 4, 5)}
    assert drawn(box(1.5, 2.5, 3.5, 5.5)) == {(h, w) for h in (2, 3) for w in (3, 4, 5)}
    assert drawn(box(2, 3, 2, 6)) == set()
    assert drawn(box(2.2, 3.2, 2.8, 3.8)) == set(), "no centre in it"


def test_the_direction_and_the_first_corner_do_not_matter() -> None:
    corners = np.random.default_rng(0).uniform(0, 20, (7, 2))
    expected = inside([corners], SHAPE)
    for turned in (corners[::-1], np.roll(corners, 3, axis=0), np.vstack([corners, corners[:1]]), corners.repeat(2, axis=0)):
        np.testing.assert_array_equal(inside([turned], SHAPE), expected)


def test_a_polygon_within_another_is_a_hole_and_one_within_that_an_island() -> None:
    outer, hole, island = box(-0.5, -0.5, 6.5, 6.5), box(0.5, 0.5, 5.5, 5.5), box(2.5, 2.5, 3.5, 3.5)
    ring = {(h, w) for h in range(7) for w in range(7)} - {(h, w) for h in range(1, 6) for w in range(1, 6)}
    assert drawn(outer, hole) == ring
    assert drawn(outer, hole, island) == ring | {(3, 3)}


@pytest.mark.parametrize("slit", [2.0, 3.0, 3.25])
def test_a_keyhole_goes_around_its_hole(slit: float) -> None:
    """One outline that enters through a slit, also one along pixel centres."""
    around = [(-0.5, slit), (-0.5, 6.5), (6.5, 6.5), (6.5, -0.5), (-0.5, -0.5), (-0.5, slit)]
    within = [(1.5, slit), (1.5, 1.5), (4.5, 1.5), (4.5, 4.5), (1.5, 4.5), (1.5, slit)]
    expected = {(h, w) for h in range(7) for w in range(7)} - {(h, w) for h in range(2, 5) for w in range(2, 5)}
    assert drawn(np.array([*around, *within])) == expected


def test_corners_a_rounding_error_beside_a_centre_count_as_on_it() -> None:
    exact = box(2, 3, 4, 6)
    for error in (-1e-9, 1e-9):
        assert drawn(exact + error) == drawn(exact)


def test_what_lies_beyond_the_image_is_cut() -> None:
    assert drawn(box(-100, -100, 100, 100), shape=(2, 2)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert drawn(box(-9, -9, -1, -1)) == set()
    assert drawn() == set()


def test_a_large_outline_takes_milliseconds() -> None:
    import time

    angle = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = np.column_stack([256 + 200 * np.sin(angle), 256 + 200 * np.cos(angle)])
    started = time.perf_counter()
    area = inside([circle], (512, 512)).sum()
    assert time.perf_counter() - started < 0.5
    assert area == pytest.approx(np.pi * 200**2, rel=1e-3)
