"""Torch's layers, of which the networks are made, against the formulas of the literature written out in NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hounsfield.models.parts.blocks import CONV, MAX_POOL

Array = np.ndarray[Any, np.dtype[np.float64]]
DRAW = np.random.default_rng(0)


def everywhere(x: Array, w: Array, at: Callable[[int, int], int]) -> Array:
    """y(p) = sum over k of w(k) x(at(p, k)) along each axis, k from -1 to 1, x being 0 outside."""
    y = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        for offset in itertools.product((-1, 0, 1), repeat=x.ndim):
            source = tuple(at(p, k) for p, k in zip(place, offset, strict=True))
            if all(0 <= s < n for s, n in zip(source, x.shape, strict=True)):
                y[place] += w[tuple(k + 1 for k in offset)] * x[source]
    return y


def layer(w: Array, x: Array) -> Array:
    """What the convolution of `blocks` makes of x with the kernel w."""
    conv = CONV[x.ndim](1, 1, 3, padding=1, bias=False).double()
    conv.get_parameter("weight").data.copy_(torch.from_numpy(w)[None, None])
    out: Array = conv(torch.from_numpy(x)[None, None])[0, 0].detach().numpy()
    return out


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_what_deep_learning_calls_convolution_is_correlation(shape: tuple[int, ...]) -> None:
    x, w = DRAW.normal(size=shape), DRAW.normal(size=(3,) * len(shape))
    np.testing.assert_allclose(layer(w, x), everywhere(x, w, lambda p, k: p + k), atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_the_convolution_of_the_formula_turns_the_kernel_round(shape: tuple[int, ...]) -> None:
    """y(x, y) = sum of w(i, j) x(x - i, y - j)."""
    x, w = DRAW.normal(size=shape), DRAW.normal(size=(3,) * len(shape))
    convolved = everywhere(x, w, lambda p, k: p - k)
    np.testing.assert_allclose(layer(np.flip(w).copy(), x), convolved, atol=1e-12)
    assert np.abs(layer(w, x) - convolved).max() > 0.1


def test_channels_are_summed_and_a_bias_is_added() -> None:
    x, w, b = DRAW.normal(size=(2, 5, 4)), DRAW.normal(size=(3, 2, 3, 3)), DRAW.normal(size=3)
    expected = [sum(everywhere(x[c], w[o, c], lambda p, k: p + k) for c in range(2)) + b[o] for o in range(3)]
    conv = CONV[2](2, 3, 3, padding=1).double()
    conv.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)})
    np.testing.assert_allclose(conv(torch.from_numpy(x)[None])[0].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5), (4, 7, 5)])
def test_pooling_is_the_largest_of_each_window(shape: tuple[int, ...]) -> None:
    x = DRAW.normal(size=shape)
    expected = np.empty([n // 2 for n in shape])
    for place in np.ndindex(expected.shape):
        expected[place] = x[tuple(slice(2 * p, 2 * p + 2) for p in place)].max()
    found = MAX_POOL[x.ndim](2)(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_array_equal(found, expected)


def test_a_linear_layer_is_a_matrix_and_a_bias() -> None:
    x, w, b = DRAW.normal(size=(7, 4)), DRAW.normal(size=(3, 4)), DRAW.normal(size=3)
    linear = nn.Linear(4, 3).double()
    linear.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)})
    expected = np.array([[sum(w[o, i] * row[i] for i in range(4)) + b[o] for o in range(3)] for row in x])
    np.testing.assert_allclose(linear(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-12)


def test_attention_is_a_mean_of_values_weighed_by_the_softmax_of_scaled_products() -> None:
    q, k, v = DRAW.normal(size=(5, 8)), DRAW.normal(size=(6, 8)), DRAW.normal(size=(6, 3))
    expected = np.empty((5, 3))
    for row in range(5):
        each = np.exp([float(q[row] @ key) / np.sqrt(8) for key in k])
        expected[row] = (each / each.sum()) @ v
    query, key, value = (torch.from_numpy(a)[None, None] for a in (q, k, v))
    found = F.scaled_dot_product_attention(query, key, value)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
