"""The flow: any size, Heun's method to its order, and the path of a known velocity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.generators import SIDES, classes, small
from torch import Tensor

from hounsfield.models import flow


def made(size: tuple[int, ...], channels: int = 1, asked: int = 0, **more: object) -> flow.Flow:
    return small(flow, flow.Flow, size, channels, asked, **{"width": 8, "max_width": 16, "evaluations": 2, **more})


@settings(max_examples=25)
@given(SIDES, st.integers(1, 3), st.integers(0, 3))
def test_noise_becomes_an_image_of_its_size(sides: list[int], channels: int, count: int) -> None:
    network = made(tuple(sides), channels, count).eval()
    asked = torch.rand(2, count, *sides) if count else None
    assert network.noise_shape == (channels, *sides)
    with torch.no_grad():
        assert network(torch.randn(2, *network.noise_shape), asked).shape == (2, channels, *sides)


@pytest.mark.parametrize("evaluations", [2, 8, 32])
def test_heun_follows_a_velocity_that_changes(evaluations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """dx/dt = -x from 1 ends at 1/e, by an error that falls with the square of the step."""
    network = made((8, 8), evaluations=evaluations)
    monkeypatch.setattr(network, "velocity", lambda x, time, asked: -x)
    end = float(network(torch.ones(1, 1, 8, 8)).mean())
    assert abs(end - 0.36788) < 0.5 / (evaluations / 2) ** 2


def test_times_run_from_noise_to_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = made((8, 8), evaluations=6), []

    def velocity(x: Tensor, time: Tensor, asked: Tensor | None) -> Tensor:
        seen.append(round(float(time[0]), 4))
        return torch.zeros_like(x)

    monkeypatch.setattr(network, "velocity", velocity)
    network(torch.zeros(1, 1, 8, 8))
    assert seen == [0.0, 0.3333, 0.3333, 0.6667, 0.6667, 1.0]


def test_time_and_what_is_asked_for_change_the_velocity() -> None:
    network = made((16, 16), 1, 2)
    for name, weight in network.named_parameters():
        if "last" in name or "second" in name:  # zero at first
            torch.nn.init.normal_(weight, std=0.1)
    x = torch.randn(1, 1, 16, 16)
    asked = classes(16, 16)
    first = network.velocity(x, torch.tensor([0.2]), asked[0])
    assert not torch.allclose(first, network.velocity(x, torch.tensor([0.8]), asked[0]))
    assert not torch.allclose(first, network.velocity(x, torch.tensor([0.2]), asked[1]))


def test_it_begins_with_no_velocity_at_all() -> None:
    network = made((16, 16))
    velocity = network.velocity(torch.randn(2, 1, 16, 16), torch.tensor([0.1, 0.9]))
    assert float(velocity.detach().abs().max()) == 0
