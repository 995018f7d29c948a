"""How voxel values become model input: of the data set, of each case, and by a standard histogram."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Grid, Normalise
from hounsfield.data import prepare as module
from hounsfield.data.prepare import prepare

Array = npt.NDArray[Any]


def one(array: Array, **how: Any) -> Array:
    normalise = Normalise(**{"scope": "case", **how})
    out: Array = prepare(Image(array[None], Geometry.none(array.shape)), Grid(), [normalise]).tensor[0].numpy()
    return out


def test_of_the_dataset() -> None:
    array = np.arange(-2000, 2000, 40, dtype=np.int16).reshape(10, 10)
    out = one(array, scope="dataset", low=-1000, high=500, mean=-50, std=250)
    np.testing.assert_allclose(out, (array.clip(-1000, 500) + 50.0) / 250, rtol=1e-6)
    assert array[0, 0] == -2000


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, np.float64])
def test_of_each_case(dtype: type) -> None:
    array: Array = np.random.default_rng(0).gamma(2, 20, size=(40, 50)).clip(0, 255).astype(dtype)
    kept = array.copy()
    low, high = np.percentile(array, (2, 98))
    clipped = array.astype(np.float64).clip(low, high)
    out = one(array, low_percentile=2, high_percentile=98)
    np.testing.assert_allclose(out, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    np.testing.assert_array_equal(array, kept)


def test_a_histogram_is_brought_to_the_standard_one() -> None:
    array: Array = np.random.default_rng(0).gamma(2, 20, size=(40, 50)).astype(np.float32)
    landmarks = ((1.0, 0.0), (50.0, 0.3), (99.0, 1.0))
    own = np.percentile(array, (1, 50, 99))
    expected = np.where(
        array < own[1], (array - own[0]) / (own[1] - own[0]) * 0.3, 0.3 + (array - own[1]) / (own[2] - own[1]) * 0.7
    ).clip(0, 1)
    out = one(array, scope="histogram", low=0, high=1, mean=0.4, std=0.5, landmarks=landmarks)
    np.testing.assert_allclose(out, (expected - 0.4) / 0.5, atol=1e-5)
    # Whatever line a scanner's units lie on, and any curve that keeps the landmarks' order, ends in one histogram.
    for other in (array * 3 - 700, np.sqrt(array)):
        again = one(other.astype(np.float32), scope="histogram", low=0, high=1, mean=0.4, std=0.5, landmarks=landmarks)
        np.testing.assert_allclose(np.percentile(again, (1, 50, 99)), [-0.8, -0.2, 1.2], atol=2e-3)


def test_a_histogram_with_one_value_for_most_voxels_keeps_its_order() -> None:
    array = np.zeros((20, 20), dtype=np.float32)
    array[0, :8] = np.arange(8)  # 98% of the voxels are 0
    landmarks = ((1.0, 0.0), (30.0, 0.2), (60.0, 0.6), (97.0, 1.0))
    out = one(array, scope="histogram", low=0, high=1, landmarks=landmarks)
    assert out[1:].std() == 0
    assert (np.diff(out[0, :8]) > 0).all()


def test_small_units_are_units_too() -> None:
    array = np.random.default_rng(0).normal(3e-9, 1e-9, size=(30, 30)).astype(np.float32)
    assert one(array).std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e7])
def test_a_constant_image_becomes_zeros(value: float) -> None:
    np.testing.assert_array_equal(one(np.full((8, 8), value, dtype=np.float32)), 0)


def test_a_few_bright_voxels_are_seen() -> None:
    array = np.zeros((64, 64), dtype=np.float32)
    array[:2, :2] = 5
    out = one(array)
    assert out[0, 0] > out[-1, -1]


def test_a_large_case_is_measured_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step through the flat array of as many voxels as a row would see the first column alone."""
    monkeypatch.setattr(module, "MEASURED_VOXELS", 64)
    array = np.tile(np.arange(64, dtype=np.float32), (64, 1))
    out = one(array)
    assert (out[0, 0], out[0, -1]) == (pytest.approx(-1.6, abs=0.2), pytest.approx(1.6, abs=0.2))
