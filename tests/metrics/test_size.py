"""Sizes of regions against counting and against every pair of voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hounsfield.metrics.size import size_of

STEPS = np.array([[0.0, 0.0, 0.7], [0.0, 0.9, 0.0], [2.5, 0.0, 0.0]])


def every_pair(region: npt.NDArray[np.bool_], steps: npt.NDArray[np.float64]) -> float:
    parts, count = ndimage.label(region, np.ones((3,) * region.ndim))
    longest = 0.0
    for part in range(1, count + 1):
        points = np.argwhere(parts == part) @ steps.T
        longest = max(longest, float(np.linalg.norm(points[:, None] - points[None], axis=-1).max()))
    return longest


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 9, 8), (1, 9, 11), (12, 1, 1), (14, 17)]), st.floats(0.05, 0.95))
def test_the_diameter_is_that_of_every_pair_of_voxels(seed: int, shape: tuple[int, ...], share: float) -> None:
    rng = np.random.default_rng(seed)
    region = rng.random(shape) < share
    steps = np.linalg.qr(rng.normal(size=(3, 3)))[0][:, : len(shape)] * rng.uniform(0.5, 3, len(shape))
    found = size_of(region, steps)
    assert found.diameter == pytest.approx(every_pair(region, steps), abs=1e-9)
    assert found.voxels == region.sum()
    assert found.content == pytest.approx(region.sum() * np.prod(np.linalg.norm(steps, axis=0)))


def test_a_box_has_its_diagonal_and_its_volume() -> None:
    region = np.zeros((10, 20, 30), dtype=bool)
    region[2:6, 3:13, 5:25] = True
    found = size_of(region, STEPS)
    assert found.voxels == 800
    assert found.content == pytest.approx(800 * 0.7 * 0.9 * 2.5)
    assert found.diameter == pytest.approx(np.linalg.norm([3 * 2.5, 9 * 0.9, 19 * 0.7]))


def test_parts_are_measured_one_by_one() -> None:
    region = np.zeros((3, 40, 40), dtype=bool)
    region[0, 0, 0] = region[2, 39, 39] = True
    assert size_of(region, STEPS).diameter == 0
    region[1, 10, 10:14] = True
    assert size_of(region, STEPS).diameter == pytest.approx(3 * 0.7)


def test_a_diagonal_plane_has_a_hull_too() -> None:
    """More points than are compared pair by pair, all in one oblique plane."""
    region = np.zeros((40, 40, 40), dtype=bool)
    at = np.arange(40)
    region[at, at, :] = True
    assert size_of(region, np.eye(3)).diameter == pytest.approx(39 * np.sqrt(3))


def test_nothing_has_no_size() -> None:
    found = size_of(np.zeros((4, 5), dtype=bool), STEPS[:, 1:])
    assert (found.voxels, found.content, found.diameter) == (0, 0, 0)


def test_a_large_region_is_quick() -> None:
    import time

    at: Any = np.mgrid[:120, :160, :160]
    ball = ((at - np.array([60, 80, 80]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= 55**2
    started = time.perf_counter()
    assert size_of(ball, np.eye(3)).diameter == pytest.approx(110, abs=1e-9)
    assert time.perf_counter() - started < 3
