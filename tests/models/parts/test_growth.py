"""Sizes that grow and shrink agree, for any size of image and any steps."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hounsfield.models.parts import growth

AXES = st.integers(2, 3)


@st.composite
def grown(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """A size, and steps of which some are 1."""
    n = draw(AXES)
    size = tuple(draw(st.integers(1, 50)) for _ in range(n))
    return size, [tuple(draw(st.integers(1, 3)) for _ in range(n)) for _ in range(draw(st.integers(1, 4)))]


@given(grown())
def test_levels_are_whole_multiples_and_the_finest_covers_the_image(
    case: tuple[tuple[int, ...], list[tuple[int, ...]]],
) -> None:
    size, strides = case
    levels = growth.grids(size, strides)
    assert len(levels) == len(strides)
    for finer, coarser, step in zip(levels, levels[1:], strides[1:], strict=False):
        assert finer == tuple(n * s for n, s in zip(coarser, step, strict=True))
    whole = tuple(n * s for n, s in zip(levels[0], strides[0], strict=True))
    each = [prod(step[axis] for step in strides) for axis in range(len(size))]
    assert all(0 <= w - n < s for w, n, s in zip(whole, size, each, strict=True))


def test_what_grew_beyond_the_image_is_left_out_on_both_sides() -> None:
    x = torch.arange(7.0).reshape(1, 1, 1, 7)
    assert growth.middle(x, (1, 4)).flatten().tolist() == [1, 2, 3, 4]
    assert growth.middle(x, (1, 7)).shape == x.shape


def test_channels_become_pixels_as_in_torch() -> None:
    x = torch.randn(2, 12, 3, 5)
    torch.testing.assert_close(growth.unfolded(x, (2, 2)), F.pixel_shuffle(x, 2))


def test_channels_become_voxels_in_three_dimensions_and_by_unequal_steps() -> None:
    step = (1, 3, 2)
    x = torch.randn(2, 2 * 6, 4, 3, 5)
    out = growth.unfolded(x, step)
    assert out.shape == (2, 2, 4, 9, 10)
    for c, d, h, w, j, k in [(0, 1, 2, 4, 2, 1), (1, 3, 0, 0, 1, 0)]:
        assert torch.equal(out[:, c, d, 3 * h + j, 2 * w + k], x[:, 6 * c + 2 * j + k, d, h, w])


@pytest.mark.parametrize("width", [8, 24, 56, 64])
def test_heads_of_attention_divide_every_width(width: int) -> None:
    assert all(c < 64 or c % 32 == 0 for c in growth.widths(width, 300, 5))
    assert growth.widths(16, 64, 4) == [16, 32, 64, 64]


def test_rules_halve_what_is_long_and_fine() -> None:
    decision = growth.rules((16, 64, 64), (4.0, 1.0, 1.0))
    assert decision.changes["size"] == (16, 64, 64)
    assert decision.changes["strides"][0] == (1, 2, 2)
    assert growth.rules((1, 1), (1.0, 1.0)).changes["strides"] == [(1, 1)]


@pytest.mark.parametrize(("size", "to"), [((5, 6), (8, 8)), ((3, 4, 5), (4, 4, 6))])
def test_around_puts_zeros_where_middle_leaves_out(size: tuple[int, ...], to: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size)
    wide = growth.around(x, to)
    assert wide.shape == (2, 3, *to)
    assert torch.equal(growth.middle(wide, size), x)
    assert float(wide.abs().sum()) == pytest.approx(float(x.abs().sum()), rel=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (4, 8, 12)])
def test_what_is_asked_for_stands_beside_at_every_grid(size: tuple[int, ...]) -> None:
    asked = (torch.rand(2, 3, *size) > 0.5).float()
    coarse = tuple(n // 4 for n in size)
    x = torch.randn(2, 5, *coarse)
    both = growth.beside(x, asked)
    assert torch.equal(both[:, :5], x)
    block = asked[0, 1]
    for axis in range(len(size)):
        block = block.narrow(axis, 0, 4)
    assert float(both[0, 6].flatten()[0]) == pytest.approx(float(block.mean()))
    assert growth.beside(x, None) is x
