"""Losses of adversaries against their formulas, and who of them learns from which."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hounsfield.tasks.parts.adversarial import frozen, logistic, relativistic


class Judge(nn.Module):
    """Logit: a weight times the sum of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor, asked: Tensor | None = None) -> Tensor:
        self.seen = asked
        return self.weight * x.flatten(1).sum(dim=1)


class Maker(nn.Module):
    """A constant image, whatever the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.25))

    def forward(self, noise: Tensor, asked: Tensor | None = None) -> Tensor:
        self.seen = asked
        return self.value.expand(len(noise), 1, 2, 2)


class Pair(nn.Module):
    changed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.noise_shape = (3,)
        self.generator, self.discriminator = Maker(), Judge()
        self.register_buffer("changed", torch.zeros(()))


REAL = torch.full((5, 1, 2, 2), 0.5)  # logit 0.2; the generated ones' is 0.1


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def losses(steps: Any) -> dict[str, Tensor]:
    return {player: loss() for player, loss in steps}


def test_logistic_losses() -> None:
    model = Pair()
    found = losses(logistic(model, REAL, None))
    assert list(found) == ["discriminator", "generator"]
    assert found["discriminator"].item() == pytest.approx(softplus(-0.2) + softplus(0.1))
    assert found["generator"].item() == pytest.approx(softplus(-0.1))


def test_relativistic_losses_and_penalty() -> None:
    """The slope of the logit is 0.1 at each of four pixels, at real and generated images alike."""
    model = Pair()
    found = losses(relativistic(model, REAL, None, penalty=3.0))
    assert found["discriminator"].item() == pytest.approx(softplus(0.1 - 0.2) + 3.0 / 2 * (0.04 + 0.04))
    assert found["generator"].item() == pytest.approx(softplus(0.2 - 0.1))


@pytest.mark.parametrize("steps", [logistic, partial(relativistic, penalty=1.0)])
def test_each_learns_from_its_own_loss_alone(steps: Any) -> None:
    for player in ("discriminator", "generator"):
        model = Pair()
        torch.autograd.backward(losses(steps(model, REAL, None))[player])
        other = model.generator if player == "discriminator" else model.discriminator
        own = model.discriminator if player == "discriminator" else model.generator
        assert all(p.grad is not None and float(p.grad) != 0 for p in own.parameters())
        assert all(p.grad is None for p in other.parameters())
        assert all(p.requires_grad for p in model.parameters())


def test_what_the_generator_learns_makes_its_images_look_real() -> None:
    """Logits rise with brightness: so shall the image."""
    for steps in (logistic, partial(relativistic, penalty=1.0)):
        model = Pair()
        torch.autograd.backward(losses(steps(model, REAL, None))["generator"])
        grad = model.generator.value.grad
        assert grad is not None
        assert float(grad) < 0


def test_what_is_asked_for_reaches_both() -> None:
    model, asked = Pair(), torch.rand(5, 2, 2, 2)
    for _, loss in logistic(model, REAL, asked):
        loss()
        assert model.discriminator.seen is asked
        assert model.generator.seen is asked
    for _, loss in relativistic(model, REAL, asked, 1.0):
        loss()
        assert model.generator.seen is asked
        seen = model.discriminator.seen
        assert seen is not None
        assert torch.equal(seen[0], asked[0])  # nothing is changed at first


def test_the_critic_s_success_makes_changes_likelier() -> None:
    model = Pair()
    next(loss for player, loss in relativistic(model, REAL, None, 1.0) if player == "discriminator")()
    assert float(model.changed) > 0


def test_frozen_networks_thaw_after_an_error() -> None:
    network = Judge()

    def fails() -> None:
        assert not network.weight.requires_grad
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), frozen(network):
        fails()
    assert network.weight.requires_grad
