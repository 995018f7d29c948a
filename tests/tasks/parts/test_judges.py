"""Networks that sets are judged by: named, always the same, and of a scale of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import MODELS
from hounsfield.tasks.parts import features, judges


def images(count: int, ndim: int = 2, channels: int = 1) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand(count, channels, *(16, 20, 12)[:ndim]) * 2 - 1


def white(judge: judges.Judge, x: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Features before they are bounded."""
    network = judge.of
    assert isinstance(network, features.Extractor)
    with torch.inference_mode():
        return network.white(x).double().numpy()


@pytest.mark.parametrize(("ndim", "channels"), [(2, 1), (2, 3), (3, 2)])
def test_random_features_are_those_of_one_network_and_of_unit_scale(ndim: int, channels: int) -> None:
    x = images(70, ndim, channels)
    before = torch.get_rng_state()
    judge = judges.random(x)
    assert torch.equal(before, torch.get_rng_state())
    found = judge(x)
    assert found.dtype == np.float64
    assert found.shape == (70, 32)
    plain = white(judge, x)
    np.testing.assert_allclose(plain.mean(axis=0), 0, atol=1e-3)
    assert 0.9 < plain.std(axis=0).max() < 1.01
    assert np.abs(found).max() <= features.BOUND
    again = judges.random(x)
    assert again.digest == judge.digest
    np.testing.assert_array_equal(again(x), found)
    np.testing.assert_allclose(judge(x[:3]), found[:3], atol=1e-3)
    assert judge.about == f"features of a network of random weights ({judge.digest})"


def test_one_image_still_has_features() -> None:
    x = images(1)
    assert np.isfinite(judges.random(x)(x)).all()


def test_features_of_few_images_are_of_a_scale_of_one_and_not_beyond() -> None:
    x = images(6)
    deviation = white(judges.random(x), x).std(axis=0)
    assert deviation.max() == pytest.approx(1, rel=1e-3)
    assert deviation.min() < 1


def test_learned_features_name_what_they_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features.learn, "__kwdefaults__", {**(features.learn.__kwdefaults__ or {}), "steps": 2})
    told: list[tuple[int, int]] = []
    judge = judges.learned(images(40), lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert "learned from 40 other images" in judge.about
    assert judge(images(5)).shape == (5, 32)


def test_a_classifier_gives_what_its_last_layer_is_given() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(320, 7), nn.ReLU(), nn.Linear(7, 2)).eval()
    x = images(4)
    judge = judges.classifier("mine", network)
    with torch.no_grad():
        expected = network[:3](x)
    np.testing.assert_allclose(judge(x), expected.double().numpy(), atol=1e-6)
    assert not network[3]._forward_pre_hooks
    other = judges.classifier("mine", nn.Sequential(nn.Flatten(), nn.Linear(320, 2)))
    assert other.digest != judge.digest
    member = MODELS.load("resnet")
    resnet = member.build(member.Options.parse({"width": 8, "depth": (1, 1)}, "test"), 1, 2, 2).eval()
    assert judges.classifier("resnet", resnet)(x).shape == (4, 16)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR mine: .*expected a classifier"):
        judges.classifier("mine", nn.Sequential(nn.Conv2d(1, 1, 3)))


def test_layers_are_the_last_maps_of_each_resolution() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(5, 6, 1),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()
    image = images(1)
    found = judges.layers("mine", network)
    with torch.no_grad():
        fine, coarse = network[:3](image)[0], network[:4](image)[0]
    maps = found.of(image)
    assert [m.shape for m in maps] == [(4, 16, 20), (5, 8, 10)], "what a pooled map becomes is no place"
    for made, expected in zip(maps, (fine, coarse), strict=True):
        np.testing.assert_allclose(made, expected.double().numpy(), atol=1e-6)
    assert not any(module._forward_hooks for module in network.modules())
    assert found.about == f"features of mine ({found.digest})"
    assert found.digest == judges.classifier("mine", network).digest


@pytest.mark.parametrize(("name", "options", "ndim"), [("lenet", {}, 2), ("resnet", {"width": 8, "depth": (1, 1)}, 3)])
def test_every_classifier_of_convolutions_has_layers(name: str, options: dict[str, Any], ndim: int) -> None:
    member = MODELS.load(name)
    network = member.build(member.Options.parse(options, "test"), 1, 2, ndim).eval()
    image = images(1, ndim)
    maps = judges.layers(name, network).of(image)
    assert len(maps) >= 2
    assert all(np.isfinite(m).all() and m.ndim == ndim + 1 for m in maps)


def test_maps_of_one_position_are_better_than_none() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(3, 2)).eval()
    assert [m.shape for m in judges.layers("mine", network).of(images(1))] == [(3, 1, 1)]


def test_a_network_without_a_convolution_has_no_layers() -> None:
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR mine: .*without a convolution, which has no maps"):
        judges.layers("mine", nn.Sequential(nn.Flatten(), nn.Linear(320, 2)))
