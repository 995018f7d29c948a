"""What is given keeps the source's voxels, and slabs of an answer are laid over it wherever they end."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Normalise
from hounsfield.tasks.parts.given import beyond_range, composed, placed, without_hole

CPU = torch.device("cpu")
SCALE = (Normalise(scope="dataset", low=0, high=255, mean=100, std=50),)


@settings(max_examples=30)
@given(st.sampled_from(["uint8", "int16", "uint16", "float32", "float64", "int32"]), st.lists(st.integers(1, 8), max_size=3))
def test_slabs_of_any_height_make_one_image(kind: str, cuts: list[int]) -> None:
    grid = Geometry((9, 6, 5), np.array([[0.0, 0, 1, 0], [0, -1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]]))
    image = Image(np.random.default_rng(0).integers(0, 200, (1, 9, 6, 5)).astype(kind), grid)
    there = placed(image, 1, SCALE, None, CPU)
    change = torch.from_numpy(np.random.default_rng(1).integers(0, 5, (1, 9, 6, 5)) / 50).float()
    edges = sorted({0, 9, *cuts})
    slabs = [(a, 0, change[:, a:b]) for a, b in pairwise(edges)]
    found, spread = composed(iter(slabs), there)
    assert spread is None
    expected = image.canonical().array + change.numpy() * 50
    assert found.array.dtype == image.array.dtype
    np.testing.assert_allclose(found.canonical().array, expected, atol=1e-4)


def test_tiles_side_by_side_are_laid_too() -> None:
    image = Image(np.zeros((1, 4, 10), np.float32), Geometry.none((4, 10)))
    there = placed(image, 1, SCALE, None, CPU)
    left, right = torch.ones(2, 4, 6), torch.full((2, 4, 5), 2.0)
    found, spread = composed([(0, 0, left), (0, 5, right)], there)
    assert spread is not None
    np.testing.assert_allclose(found.array[0, 0], [50] * 5 + [100] * 5)
    np.testing.assert_allclose(spread.array[0, 0], [50] * 5 + [100] * 5)


def test_whole_numbers_are_rounded_and_kept_in_their_type() -> None:
    image = Image(np.array([[[10, 250, 3]]], np.uint8), Geometry.none((1, 3)))
    there = placed(image, 1, SCALE, None, CPU)
    change = torch.tensor([[[0.012, 1.0, -1.0]]])
    assert composed([(0, 0, change)], there)[0].array.tolist() == [[[11, 255, 0]]]


def test_what_is_known_fills_the_hole_with_its_mean() -> None:
    x = torch.tensor([[[[1.0, 3.0, 100.0]]]])
    hole = torch.tensor([[[[False, False, True]]]])
    assert without_hole(x, hole).tolist() == [[[[1, 3, 2]]]]


def test_values_far_beyond_what_was_learned_are_refused_and_noise_is_not() -> None:
    beyond_range(np.array([[-200.0, 450.0]]), SCALE, 1.0)
    beyond_range(np.array([[-1e9, 1e9]]), (Normalise(scope="case"),), 1.0)
    with pytest.raises(InputError, match="VALUE_RANGE image: found values from 0 to 4095, expected 0 to 255"):
        beyond_range(np.array([[0.0, 4095.0]]), SCALE, 1.0)
