"""Pairs of acquisitions: either is given, the other is the answer, in the units of the one given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Normalise
from hounsfield.tasks.parts.given import placed
from hounsfield.tasks.parts.pairs import acquisitions, of_both, separate


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 6)])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_is_given_and_asked_for_in_the_units_of_the_other(shape: tuple[int, ...], channels: int) -> None:
    torch.manual_seed(0)
    source = 100 * torch.rand(64, 2, channels, *shape)
    mean, std = 50 * torch.rand(64, 2 * channels), 1 + 10 * torch.rand(64, 2 * channels)
    column = (64, 2 * channels, *[1] * len(shape))
    both = (source.flatten(1, 2) - mean.reshape(column)) / std.reshape(column)
    given, truth = acquisitions(both, torch.stack([mean, std], dim=2).flatten(1))
    seen = set()
    for k in range(64):
        first = torch.equal(given[k], both[k, :channels])
        assert first or torch.equal(given[k], both[k, channels:])
        seen.add(first)
        own = slice(None, channels) if first else slice(channels, None)
        wide = (channels, *[1] * len(shape))
        expected = (source[k, 1 if first else 0] - mean[k, own].reshape(wide)) / std[k, own].reshape(wide)
        torch.testing.assert_close(truth[k], expected, atol=1e-4, rtol=1e-4)
    assert seen == {True, False}


def test_the_seed_decides_which_is_given() -> None:
    both, units = torch.randn(16, 2, 4, 4), torch.ones(16, 4)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(acquisitions(both, units)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_both_are_given_in_the_units_of_the_first_and_each_goes_through_the_network() -> None:
    first, second = (np.random.default_rng(k).uniform(0, 255, (2, 5, 6)) for k in range(2))
    scale = Normalise(scope="dataset", low=0, high=255, mean=100, std=50)
    given = placed(Image(first, Geometry.none((5, 6))), 2, (scale, scale), None, torch.device("cpu"))
    both = of_both(given, Image(second, Geometry.none((5, 6))))
    mean, *apart = (both.tensor * 50 + 100).double().chunk(3)
    np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-3)
    for found, wanted in zip(apart, (first, second), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert torch.equal(separate(both.tensor[None], 2), both.tensor[2:].reshape(2, 2, 5, 6))
    assert torch.equal(separate(given.tensor[None], 2), given.tensor[None])
