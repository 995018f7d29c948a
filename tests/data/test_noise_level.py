"""Estimated noise: known strengths are found again on phantoms, of every kind, in 2D and 3D, rounded and cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hounsfield.data import noise_level
from hounsfield.data.degrade import Noise, add_noise
from hounsfield.data.noise_level import SECOND, deviation, estimate
from hounsfield.data.phantoms import grey, phantom

Array = npt.NDArray[Any]
WIDE = {"sigma": [1.0, 100.0], "quanta": [0.01, 10.0], "dose": [0.01, 1.0]}


def of(kind: str, **values: Any) -> Noise:
    return Noise.parse({"kind": kind, **WIDE, **values}, "test")


def clean(ndim: int, seed: int = 3) -> Array:
    """A phantom without noise in grey values of 0 to 255, (1, *spatial)."""
    return grey(phantom(seed, ndim, (128, 128) if ndim == 2 else (40, 64, 64)).clean).array.astype(np.float32)


def noisy(array: Array, how: Noise, strength: float, seed: int = 0) -> Array:
    x, told = torch.from_numpy(array)[None], torch.tensor([strength])
    return add_noise(x, how, torch.Generator().manual_seed(seed), told)[0].numpy()


def test_the_mask_is_the_published_one() -> None:
    np.testing.assert_allclose(6 * np.outer(SECOND, SECOND), [[1, -2, 1], [-2, 4, -2], [1, -2, 1]])


@pytest.mark.parametrize("shape", [(1, 200, 200), (3, 90, 90), (1, 30, 30, 30), (1, 2, 200, 200)])
def test_noise_alone_is_measured_exactly(shape: tuple[int, ...]) -> None:
    for sigma in (2.0, 40.0):
        found = estimate(noisy(np.full(shape, 100, np.float32), of("gaussian"), sigma), of("gaussian"))
        assert found == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("sigma", [8.0, 15.0, 40.0])
@pytest.mark.parametrize("seed", [3, 4])
def test_gaussian_noise_on_phantoms(ndim: int, sigma: float, seed: int) -> None:
    how = of("gaussian")
    assert estimate(noisy(clean(ndim, seed), how, sigma), how) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("sigma", [10.0, 40.0])
def test_what_bytes_round_and_cut_off_is_allowed_for(sigma: float) -> None:
    how = of("gaussian")
    stored = noisy(clean(2), how, sigma).round().clip(0, 255).astype(np.uint8)
    assert (stored == 0).mean() > 0.1, "the background is cut off"
    assert estimate(stored, how) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("kind", "strength", "tolerance"),
    [
        ("rician", 8.0, 0.15),
        ("rician", 30.0, 0.15),
        # Of counts the deviation goes with the root of the strength.
        ("poisson", 0.1, 0.3),
        ("poisson", 1.0, 0.3),
        ("low_dose", 0.05, 0.3),
        ("low_dose", 0.5, 0.3),
    ],
)
def test_other_kinds_on_phantoms(ndim: int, kind: str, strength: float, tolerance: float) -> None:
    how = of(kind, attenuation=3 / 255)
    assert estimate(noisy(clean(ndim), how, strength), how) == pytest.approx(strength, rel=tolerance)


@pytest.mark.parametrize("kind", ["gaussian", "rician", "poisson", "low_dose"])
@pytest.mark.parametrize("height", [0.0, 20.0, 60.0, 200.0])
def test_the_deviation_at_a_mean_is_that_of_what_is_added_there(kind: str, height: float) -> None:
    how = of(kind, zero=-10.0, photons=1e5, electronic=30.0)
    strength = {"sigma": 25.0, "quanta": 0.4, "dose": 0.2}[how.key]
    drawn = noisy(np.full((1, 400, 400), height - 10, np.float32), how, strength)
    if kind == "poisson" and height == 0:
        assert drawn.std() == 0
        return
    found = deviation(how, strength, np.array([drawn.mean()], dtype=np.float64))
    assert found[0] == pytest.approx(drawn.std(), rel=0.03)


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
@pytest.mark.parametrize("array", [np.full((1, 30, 30), 7.0), np.zeros((1, 1, 2, 2)), np.indices((40, 40)).sum(0)[None] * 2.0])
def test_an_image_without_noise_has_less_than_any_that_is_learned(kind: str, array: Array) -> None:
    how = of(kind)
    low, high = how.limits
    found = estimate(array, how)
    assert found < low / 10 if kind == "gaussian" else found > high * 10


def test_of_a_large_image_pieces_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    how = of("gaussian")
    array = noisy(clean(3), how, 20.0)
    whole = estimate(array, how)
    monkeypatch.setattr(noise_level, "LOOKED_AT", 2**16)
    seen = estimate(array, how)
    assert seen != whole
    assert seen == pytest.approx(20, rel=0.15)
