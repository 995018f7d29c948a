"""The extractor of features: what it learns, that it is the same again, and that its features tell good images from bad."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.errors import InputError
from hounsfield.metrics.generative import frechet, kernel_distance, memorisation
from hounsfield.metrics.restoration import feature_distance
from hounsfield.tasks.parts import features
from hounsfield.tasks.parts.features import FEATURES, Extractor, learn, maps, objective, vectors, whiten


def pictures(seed: int, n: int, size: tuple[int, ...] = (24, 24)) -> Tensor:
    """Two soft ellipsoids each, of random places, sizes and brightness, with fine noise: (n, 1, *size) in [-1, 1]."""
    draw = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, s) for s in size], indexing="ij"))

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        out = low + (high - low) * torch.rand((n, *shape), generator=draw)
        return out.reshape(n, *shape, *[1] * len(size))

    out = torch.zeros(n, *size)
    for side in (-0.4, 0.4):
        centre = uniform(-0.15, 0.15, len(size))
        centre[:, -1] += side
        radius = uniform(0.25, 0.45, len(size))
        away = (((grid - centre) / radius) ** 2).sum(dim=1)
        out += uniform(0.4, 0.9) * torch.sigmoid(8 * (1 - away))
    out += 0.03 * torch.randn(out.shape, generator=draw)
    return (2 * out - 1).clamp(-1, 1)[:, None]


@pytest.fixture(scope="module")
def network() -> Extractor:
    return learn(pictures(0, 200), steps=80)


@pytest.mark.parametrize(("channels", "size"), [(1, (24, 20)), (3, (9, 30)), (1, (12, 16, 9))])
def test_features_of_any_channels_and_dimension(channels: int, size: tuple[int, ...]) -> None:
    images = pictures(1, 70, size).repeat(1, channels, *[1] * len(size))
    network = learn(images, steps=2)
    found = vectors(network, images)
    assert found.shape == (70, FEATURES)
    assert found.dtype == np.float64
    with torch.inference_mode():
        plain = network.white(images).double().numpy()
    assert plain.mean(axis=0) == pytest.approx(np.zeros(FEATURES), abs=1e-2)
    assert np.cov(plain.T) == pytest.approx(np.eye(FEATURES), abs=1e-2), "white over the images learned from"
    assert found == pytest.approx(2 * np.tanh(plain / 2), abs=1e-5), "and bounded"
    each = maps(network, images[0])
    assert len(each) >= 1
    assert all(a.ndim == 1 + len(size) and a.dtype == np.float64 for a in each)
    assert not network.training


def test_the_same_images_and_seed_make_the_same_network_and_leave_chance_alone(network: Extractor) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = learn(pictures(0, 200), steps=80)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.digest == network.digest
    assert np.array_equal(vectors(again, pictures(2, 70)), vectors(network, pictures(2, 70)))
    assert learn(pictures(0, 200), steps=80, seed=1).digest != network.digest
    with torch.no_grad():
        again.basis[0, 0] += 1e-3
    assert again.digest != network.digest


def test_an_images_features_do_not_depend_on_the_others(network: Extractor) -> None:
    images = pictures(2, 70)
    assert vectors(network, images)[66] == pytest.approx(vectors(network, images[66:67])[0], abs=1e-4)


def test_worse_images_are_farther_than_real_ones(network: Extractor) -> None:
    real, other = pictures(3, 150), pictures(4, 150)
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(0))
    steps = {
        "noise": [other + sigma * noise for sigma in (0.1, 0.3)],
        "blur": [F.avg_pool2d(other, side, 1, side // 2, count_include_pad=False) for side in (3, 7)],
        "contrast": [other * part for part in (0.8, 0.5)],
        "place": [other.roll(by, dims=-1) for by in (3, 8)],
        "collapse": [other[:30].repeat(5, 1, 1, 1), other[:5].repeat(30, 1, 1, 1)],
    }
    measure = partial(vectors, network)
    for figure in (frechet, kernel_distance):
        nothing = figure(measure(real), measure(other))
        for name, (little, much) in steps.items():
            assert nothing < figure(measure(real), measure(little)) < figure(measure(real), measure(much)), name


def test_a_few_odd_images_do_not_decide(network: Extractor) -> None:
    """Three of a hundred that are black on one side are nearer than all of them blurred."""
    real, other = pictures(12, 100), pictures(13, 100)
    odd, blurred = other.clone(), F.avg_pool2d(other, 5, 1, 2, count_include_pad=False)
    odd[:3, :, :, 12:] = -1
    nothing, few, every = (kernel_distance(*(vectors(network, x) for x in (real, y)))[0] for y in (other, odd, blurred))
    assert abs(few - nothing) < 0.2 * (every - nothing)


def test_a_copy_is_told_by_its_features(network: Extractor) -> None:
    train, held_out, generated = pictures(15, 100), pictures(16, 60), pictures(17, 100)
    assert memorisation(*(vectors(network, x) for x in (train, held_out, generated))).passed
    generated[40] = train[7] + 0.01 * torch.randn(train[7].shape, generator=torch.Generator().manual_seed(1))
    found = memorisation(*(vectors(network, x) for x in (train, held_out, generated)))
    assert found.closest(1)[0][:2] == (40, 7)
    assert not found.passed


def test_maps_tell_how_unlike_two_images_are(network: Extractor) -> None:
    image, other = pictures(8, 2)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    noisy = [image + sigma * noise for sigma in (0, 0.1, 0.5)]
    distances = [feature_distance(maps(network, image), maps(network, x)) for x in noisy]
    assert distances == sorted(distances)
    assert distances[0] == 0
    assert feature_distance(maps(network, image), maps(network, other)) > 0


def test_the_objective_is_the_published_one() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 40, 6)) * 0.7
    expected = 25 * ((one - other) ** 2).mean()
    for z in (one, other):
        covariance = np.cov(z.T)
        expected += 25 * np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4)).mean()
        expected += (covariance**2)[~np.eye(6, dtype=bool)].sum() / 6
    assert objective(torch.from_numpy(one), torch.from_numpy(other)).item() == pytest.approx(expected)


def test_crops_are_parts_of_their_images() -> None:
    images = torch.arange(2 * 8 * 12.0).reshape(2, 1, 8, 12)
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        crops = features._crops(images)
        assert crops.shape == (2, 1, 7, 10)
        for image, crop in zip(images, crops, strict=True):
            row, column = divmod(int(crop[0, 0, 0]) % 96, 12)
            assert torch.equal(crop, image[:, row : row + 7, column : column + 10])
            seen.add((row, column))
    assert seen == {(r, c) for r in range(2) for c in range(3)}


def test_progress_is_told_and_too_few_images_are_refused() -> None:
    told: list[tuple[int, int]] = []
    learn(pictures(9, 33), steps=3, progress=lambda done, every: told.append((done, every)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="features: found 32 images, expected at least 33") as error:
        learn(pictures(9, 32))
    assert error.value.code == "TOO_FEW"


def test_what_never_varies_is_no_feature() -> None:
    """Constant images have no direction to be white in; nor may one that hardly varies outweigh all others."""
    network = Extractor(1, (12, 12)).eval().requires_grad_(False)
    same = torch.zeros(40, 1, 12, 12)
    whiten(network, same)
    assert vectors(network, same) == pytest.approx(np.zeros((40, FEATURES)))
    whiten(network, pictures(10, 6, (12, 12)))
    found = vectors(network, pictures(11, 50, (12, 12)))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 2
