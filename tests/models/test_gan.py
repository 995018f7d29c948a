"""The modern pair: any size, gradients of gradients, and a start as plain as its shortcuts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.generators import SIDES, check_one_judges_what_the_other_makes, check_what_is_asked_for_counts, small

from hounsfield.models import gan


def made(size: tuple[int, ...], channels: int = 1, asked: int = 0, **more: object) -> gan.GAN:
    return small(gan, gan.GAN, size, channels, asked, **{"width": 8, "max_width": 16, "latent": 5, **more})


@settings(max_examples=30)
@given(SIDES, st.integers(1, 4), st.integers(0, 3))
def test_what_one_makes_the_other_judges(sides: list[int], channels: int, count: int) -> None:
    check_one_judges_what_the_other_makes(made(tuple(sides), channels, count), sides, channels, count)


@pytest.mark.parametrize("size", [(16, 20), (16, 18, 16)])
def test_the_critic_can_be_differentiated_twice(size: tuple[int, ...]) -> None:
    """Attention included, whose fast kernels cannot."""
    network = made(size)
    x = torch.randn(2, 1, *size, requires_grad=True)
    (slope,) = torch.autograd.grad(network.discriminator(x).sum(), x, create_graph=True)
    torch.autograd.backward(slope.square().sum())
    twice = [name for name, p in network.discriminator.named_parameters() if p.grad is not None and bool((p.grad != 0).any())]
    assert any("attention" in name for name in twice)
    assert any("shrink" in name for name in twice)


def test_attention_sees_the_whole_image() -> None:
    """With it, what is drawn in one corner of the coarse map depends on the other corner."""
    for attention in (True, False):
        network = made((32, 32), attention=attention)
        level = network.discriminator.levels[-2]
        width = 16
        x = torch.randn(1, width, 8, 8, requires_grad=True)
        for block in level.children():
            if isinstance(block, gan.Block):  # is its shortcut, at first
                torch.testing.assert_close(block(x), x)
        (seen,) = torch.autograd.grad(level(x)[0, :, 0, 0].sum(), x)
        assert bool((seen[0, :, 7, 7] != 0).any()) is attention


def test_widths_of_words_divide_into_heads() -> None:
    """Any multiple of 8 can be asked for by --size."""
    for width in (8, 24, 40, 56, 72):
        network = made((64, 64), width=width, max_width=10 * width)
        with torch.no_grad():
            assert network(torch.randn(1, 5)).shape == (1, 1, 64, 64)


def test_what_is_asked_for_changes_what_is_drawn_and_how_it_is_judged() -> None:
    check_what_is_asked_for_counts(made((16, 16), 1, 2))


def test_images_in_use_stay_within_their_range() -> None:
    network = made((16, 16))
    for weight in network.generator.last.parameters():
        torch.nn.init.constant_(weight, 5.0)
    with torch.no_grad():
        images = network(torch.randn(4, 5))
    assert float(images.abs().max()) == 1
