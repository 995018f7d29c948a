"""DCGAN: sizes and channels of both networks agree for any image, and the published network has its layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.generators import SIDES, check_one_judges_what_the_other_makes, check_what_is_asked_for_counts, small
from torch import nn

from hounsfield.models import dcgan


def made(size: tuple[int, ...], channels: int, asked: int = 0) -> dcgan.DCGAN:
    return small(dcgan, dcgan.DCGAN, size, channels, asked, width=4, latent=5)


@settings(max_examples=40)
@given(SIDES, st.integers(1, 4), st.integers(0, 3))
def test_what_one_makes_the_other_judges(sides: list[int], channels: int, count: int) -> None:
    check_one_judges_what_the_other_makes(made(tuple(sides), channels, count).eval(), sides, channels, count)


def test_images_of_64_have_the_published_layers() -> None:
    """Figure 1: a projection to 4x4, four steps up, halving the channels; and its mirror image."""
    network = dcgan.build(dcgan.Options(), 3, 0, 2)
    ups = [m for m in network.modules() if isinstance(m, nn.ConvTranspose2d)]
    downs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in ups] == [256, 128, 64, 3]
    assert [m.out_channels for m in downs] == [64, 128, 256, 512]
    assert {m.stride for m in (*ups, *downs)} == {(2, 2)}
    first = next(m for m in network.modules() if isinstance(m, nn.Linear))
    assert (first.in_features, first.out_features) == (100, 512 * 4 * 4)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 4 + 3
    weights = torch.cat([m.weight.flatten() for m in (*ups, *downs)])
    assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.02)


def test_what_is_asked_for_changes_what_is_drawn_and_how_it_is_judged() -> None:
    check_what_is_asked_for_counts(made((16, 16), 1, 2).eval())


def test_its_optimiser_is_the_published_one() -> None:
    changes = dcgan.training().changes
    assert (changes["lr"], changes["players"]["generator"]["betas"]) == (2e-4, (0.5, 0.999))
