"""Values: rescaling is exact where it can be, and NaN is counted and located."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hounsfield.core.errors import InputError
from hounsfield.io.values import check_finite, rescaled

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4"]


@given(
    st.sampled_from(INTEGERS).flatmap(lambda kind: arrays.arrays(kind, (1, 2, 3))),
    st.integers(-5000, 5000),
    st.integers(-100_000, 100_000),
)
def test_whole_numbers_are_rescaled_exactly(array: np.ndarray, slope: int, inter: int) -> None:
    out = rescaled(array.copy(), slope, inter)
    expected = [slope * int(value) + inter for value in array.ravel()]
    assert [int(value) for value in out.ravel()] == expected
    if (slope, inter) != (1, 0):
        smallest = next(kind for kind in (np.int16, np.int32, np.int64) if _holds(kind, [*expected, slope, inter]))
        assert out.dtype == smallest


def _holds(kind: type[np.signedinteger], values: list[int]) -> bool:
    return np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max


@given(arrays.arrays("i2", (1, 2, 3)), st.floats(-100, 100), st.floats(-1000, 1000))
def test_other_slopes_round_once(array: np.ndarray, slope: float, inter: float) -> None:
    out = rescaled(array, slope, inter)
    expected = array.astype(np.float64) * slope + inter
    if not (slope.is_integer() and inter.is_integer()):
        assert out.dtype == np.float32
        np.testing.assert_array_equal(out, expected.astype(np.float32))


def test_the_identity_costs_nothing_and_wide_integers_keep_their_precision() -> None:
    array = np.array([[[2**31 - 1]]], dtype=np.int32)
    assert rescaled(array, 1, 0) is array
    assert rescaled(array, 0.5, 0).dtype == np.float64
    assert rescaled(array, 0.5, 0).item() == (2**31 - 1) / 2


def test_nan_is_counted_and_the_first_is_located() -> None:
    array = np.zeros((2, 3, 4, 5), np.float32)
    check_finite(Path("a"), array)
    array[1, 2, 3, 4] = np.nan
    array[1, 2, 1, 0] = -np.inf
    with pytest.raises(InputError, match="NOT_FINITE") as caught:
        check_finite(Path("a"), array)
    assert caught.value.found == "2 of 120 voxels NaN or infinite, the first at (2, 1, 0) of channel 1"
    check_finite(Path("a"), np.zeros((1, 2, 2), np.int16))
