"""DCGAN: sizes and channels of both networks agree for any image, and the published network has its layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hounsfield.models import dcgan


def made(size: tuple[int, ...], channels: int, asked: int = 0, width: int = 4) -> dcgan.DCGAN:
    torch.manual_seed(0)
    decided = dcgan.rules(size, (1.0,) * len(size)).changes
    options = dcgan.Options.parse({**decided, "width": width, "latent": 5}, "test")
    network = dcgan.build(options, channels, asked, len(size))
    assert isinstance(network, dcgan.DCGAN)
    return network


SIDES = st.lists(st.integers(8, 40), min_size=2, max_size=2) | st.lists(st.integers(8, 20), min_size=3, max_size=3)


@settings(max_examples=40)
@given(SIDES, st.integers(1, 4), st.integers(0, 3))
def test_what_one_makes_the_other_judges(sides: list[int], channels: int, count: int) -> None:
    network = made(tuple(sides), channels, count).eval()
    asked = torch.rand(2, count, *sides) if count else None
    with torch.no_grad():
        images = network(torch.randn(2, *network.noise_shape), asked)
        assert images.shape == (2, channels, *sides)
        assert network.discriminator(images, asked).shape == (2,)


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
    network = made((16, 16), 1, 2).eval()
    noise = torch.randn(1, *network.noise_shape)
    asked = [torch.eye(2)[k].reshape(1, 2, 1, 1).expand(1, 2, 16, 16) for k in (0, 1)]
    one, other = (network(noise, told) for told in asked)
    assert not torch.allclose(one, other)
    judged = [network.discriminator(one, told) for told in asked]
    assert not torch.allclose(*judged)


def test_its_optimiser_is_the_published_one() -> None:
    changes = dcgan.training().changes
    assert (changes["lr"], changes["players"]["generator"]["betas"]) == (2e-4, (0.5, 0.999))
