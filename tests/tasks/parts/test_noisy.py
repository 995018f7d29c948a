"""Noise of a strength that varies: each sample has its own, and the network is told it, in training as in use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Normalise
from hounsfield.data.degrade import Noise
from hounsfield.data.noise_level import deviation
from hounsfield.tasks.parts.given import placed
from hounsfield.tasks.parts.noisy import Noisy, beyond, level, noised, tell

CPU = torch.device("cpu")
RANGE = Noise.parse({"sigma": [5, 50]}, "test")


def units(batch: int, channels: int = 1, mean: float = 100.0, std: float = 50.0) -> torch.Tensor:
    return torch.tensor([mean, std]).repeat(batch, channels)


@pytest.mark.parametrize("shape", [(64, 64), (16, 16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_is_told_its_own_noise(shape: tuple[int, ...], channels: int) -> None:
    torch.manual_seed(0)
    clean = torch.randn(8, channels, *shape)
    given, truth = noised(clean, units(8, channels), RANGE, [False] * channels)
    assert given.shape == (8, channels + 1, *shape)
    torch.testing.assert_close(truth, clean, atol=1e-4, rtol=1e-4)
    told = given[:, -1].flatten(1)
    assert torch.equal(told.amin(1), told.amax(1))
    added = (given[:, :-1] - truth).flatten(1).std(dim=1)
    torch.testing.assert_close(added, told[:, 0], rtol=0.06, atol=0)
    assert float(told.min()) >= 5 / 50
    assert float(told.max()) <= 1
    assert len(set(told[:, 0].tolist())) == 8


def test_of_one_strength_nothing_is_told() -> None:
    torch.manual_seed(0)
    given, truth = noised(torch.randn(4, 1, 64, 64), units(4), Noise(sigma=25.0), [False])
    assert given.shape == truth.shape
    assert float((given - truth).std()) == pytest.approx(0.5, rel=0.05)


def test_a_case_that_is_normalised_by_itself_is_told_its_noise_in_its_own_units() -> None:
    torch.manual_seed(0)
    given, truth = noised(torch.randn(8, 1, 64, 64), units(8), RANGE, [True])
    added = (given[:, :1] - truth).flatten(1).std(dim=1)
    torch.testing.assert_close(given[:, 1, 0, 0], added, rtol=0.06, atol=0)
    torch.testing.assert_close(given[:, :1].flatten(1).std(dim=1), torch.ones(8), rtol=0.06, atol=0)


@pytest.mark.parametrize(
    ("kind", "height"), [("gaussian", 3.0), ("rician", 1e4), ("poisson", 60.0), ("low_dose", 0.0)], ids=str
)
def test_what_is_told_is_the_deviation_of_the_noise(kind: str, height: float) -> None:
    how = Noise.parse({"kind": kind, "zero": -20.0, "sigma": [1, 9], "quanta": [0.1, 9], "dose": [0.1, 0.9]}, "test")
    for strength in (0.2, 0.8):
        told = float(level(how, torch.tensor([strength]), torch.tensor([[50.0, 70.0]])))
        assert told == pytest.approx(float(deviation(how, strength, np.array([height - 20.0]))[0]) / 60, rel=1e-3)


@pytest.mark.parametrize(
    ("noise", "told", "note"),
    [
        (20.0, 0.4, ""),
        (4.5, 0.1, ""),  # as far as an estimate may err
        (1.0, 0.1, "noise.sigma seems to be 1, and 5 to 50 was learned"),
        (80.0, 1.0, "noise.sigma seems to be 80, and 5 to 50 was learned"),
    ],
)
def test_beyond_what_was_learned_the_nearest_is_told_and_noted(noise: float, told: float, note: str) -> None:
    image = Noisy(np.full((1, 6, 7), 90.0), Geometry.none((6, 7)), noise=noise)
    there = placed(image, 1, (Normalise(scope="dataset", low=0, high=255, mean=100, std=50),), None, CPU)
    given = tell(there, RANGE, image.noise)
    assert torch.equal(given.tensor[:1], there.tensor)
    torch.testing.assert_close(given.tensor[1], torch.full((6, 7), told))
    assert given.image.meta.notes == ((note,) if note else ())


@pytest.mark.parametrize(("strength", "far"), [(25.0, False), (29.0, False), (40.0, True), (15.0, True)])
def test_of_one_strength_others_are_beyond(strength: float, far: bool) -> None:
    assert bool(beyond(Noise(sigma=25.0), strength)) is far


def test_a_noisy_image_is_an_image() -> None:
    values: dict[str, Any] = {"array": np.zeros((1, 4, 5)), "geometry": Geometry.none((4, 5))}
    assert isinstance(Noisy(**values, noise=2.0), Image)
    with pytest.raises(TypeError, match="noise"):
        Noisy(**values)
