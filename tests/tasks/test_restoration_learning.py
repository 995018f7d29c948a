"""What a restoring network learns from: a step of every kind, holes, blind spots, pairs, and a critic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.tasks.test_restoration import CPU, Adds, Array, drawn, plan, restored, saved, turned
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Augment, Grid, Inference
from hounsfield.core.sample import Sample
from hounsfield.data.degrade import Holes, Noise, Resolution
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import place
from hounsfield.models import unet
from hounsfield.models.parts.patchgan import Adversaries
from hounsfield.tasks.parts.given import composed
from hounsfield.tasks.restoration import Solver


def batch(solver: Solver, ndim: int = 2, channels: int = 1, size: int = 2) -> Batch:
    torch.manual_seed(0)
    image = torch.randn(size, channels, *(16,) * ndim)
    target = torch.tensor([100.0, 50.0]).repeat(size, channels)
    return Batch(image, target, tuple("ab"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"noise": Noise.parse({"sigma": [5, 50]}, "test")},
        {"noise": Noise.parse({"kind": "low_dose", "dose": [0.1, 1]}, "test"), "adversarial": 0.05},
        {"noise": Noise(kind="rician")},
        {"noise": Noise(kind="poisson")},
        {"noise": Noise(kind="low_dose")},
        {"repair": "inpaint"},
        {"repair": "inpaint", "holes": Holes(kind="boxes")},
        {"repair": "upscale"},
        {"repair": "upscale", "resolution": Resolution(factor=4, profile="gaussian", axes=(0,))},
        {"blind": True},
        {"pairs": True},
        {"adversarial": 0.05},
        {"repair": "inpaint", "adversarial": 0.05},
    ],
    ids=str,
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_kind_of_repair_takes_a_step_that_its_seed_decides(options: dict[str, Any], ndim: int) -> None:
    how = plan(ndim, channels=2, **options)
    solver = Solver(how)
    losses = []
    for _ in range(2):
        torch.manual_seed(1)
        model = solver.network(lambda i, o: unet.build(cast(unet.Options, how.model_options), i, o, ndim))
        found = {}
        for player, loss in solver.steps(model.train(), batch(solver, ndim, 2)):
            for parameter in model.parameters():
                parameter.grad = None
            found[player] = loss()
            torch.autograd.backward(found[player])
            own = solver.players(model)[player]
            assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())
        assert set(found) == set(solver.players(model))
        losses.append({player: float(value.detach()) for player, value in found.items()})
    assert losses[0] == losses[1]


def test_a_perfect_answer_costs_nothing_and_only_holes_count() -> None:
    how = plan(repair="inpaint", structure=0.0)
    solver = Solver(how)
    posed = batch(solver)

    class Knows(nn.Module):
        def __init__(self, wrong: float, where: str) -> None:
            super().__init__()
            self.wrong, self.where = wrong, where

        def forward(self, x: Tensor) -> Tensor:
            hole = x[:, 1:] > 0
            spoilt = hole if self.where == "hole" else ~hole
            return torch.where(hole, posed.image - x[:, :1], 0.0) + self.wrong * spoilt

    for wrong, where, expected in ((0.0, "hole", 0.0), (0.5, "hole", 0.5), (0.5, "outside", 0.0)):
        ((_, loss),) = solver.steps(Knows(wrong, where), posed)
        assert float(loss()) == pytest.approx(expected, abs=1e-6)


def test_blind_spots_are_learned_from_their_neighbours_alone() -> None:
    """The loss asks for the noisy value at spots whose input was replaced."""
    solver = Solver(plan(blind=True))
    posed = batch(solver)
    seen: list[Tensor] = []

    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros_like(x)

    ((_, loss),) = solver.steps(Looks(), posed)
    value = float(loss())
    changed = seen[0] != posed.image
    assert 0.002 < float(changed.float().mean()) < 0.05
    assert value == pytest.approx(float((seen[0] - posed.image)[changed].square().mean()), rel=1e-4)


def acquired_twice(path: Path, scope: str = "dataset") -> tuple[Solver, Sample, Array]:
    """The solver of pairs, a sample of two files, and what is in both of them, (2, H, W)."""
    both = drawn((18, 20), channels=2)
    files = [saved(path / f"{name}.png", both[k : k + 1]).images[0] for k, name in enumerate(("first", "second"))]
    return Solver(plan(channels=2, scope=scope, pairs=True)), Sample("a", tuple(files)), both


def test_of_two_acquisitions_one_is_given_and_the_other_is_the_truth(tmp_path: Path) -> None:
    solver, sample, both = acquired_twice(tmp_path)
    assert solver.channels == solver.out_channels == 1
    built: list[tuple[int, int]] = []
    solver.network(lambda i, o: built.append((i, o)) or nn.Identity())  # type: ignore[func-returns-value]
    assert built == [(1, 1)]
    assert solver.blank(3).shape == (3, len(solver.encode(sample, place(sample.images[0](), Grid()))))
    posed = solver.pose(Image(both, Geometry.none((18, 20))), sample)
    np.testing.assert_array_equal(posed.array, both[:1])
    riddle = solver.riddle(sample)
    np.testing.assert_array_equal(riddle.given, both[:1])
    np.testing.assert_array_equal(riddle.truth, both[1:])
    found = restored(solver, Image(both[1:], Geometry.none((18, 20))), Adds())
    np.testing.assert_array_equal(found.array, both[1:])
    with pytest.raises(InputError, match="CHANNELS image: found 3 channels, expected 1"):
        solver.prepare(Image(np.concatenate([both, both[:1]]), Geometry.none((18, 20))), CPU)
    row = solver.metrics().case(sample, posed)
    assert row["gain"] == 0
    assert "a second acquisition, noisy itself" in solver.metrics().summary([row], ["p"])["psnr"].note


class Bends(nn.Module):
    """What it adds depends on what it is given, and not in proportion."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.one * (x.abs() - x.square() / 4)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_two_acquisitions_that_are_given_each_is_restored_and_the_mean_is_the_answer(ndim: int, channels: int) -> None:
    how = plan(ndim, channels=2 * channels, pairs=True, augment=Augment(mirror=(0,)), inference=Inference(mirror=True))
    solver, shape = Solver(how), (18, 20, 17)[:ndim]
    geometry = turned(shape) if ndim == 3 else Geometry.none(shape)
    both = drawn(shape, np.float32, channels=2 * channels)
    first, second = (restored(solver, Image(half, geometry), Bends()).array for half in np.split(both, 2))
    found = restored(solver, Image(both, geometry), Bends())
    assert found.array.shape == (channels, *shape)
    assert found.geometry == geometry
    np.testing.assert_allclose(found.array, (first + second) / 2, atol=1e-3)
    given = solver.prepare(Image(both, geometry), CPU)
    with torch.inference_mode():
        spread = composed(solver.infer_spread([Bends(), Adds(channels=channels)], given.tensor[None]), given)[1]
    assert spread is not None
    assert spread.array.shape == found.array.shape
    # Of a network that adds this and one that adds nothing.
    added = found.array - (both[:channels] + both[channels:]) / 2
    np.testing.assert_allclose(spread.array, np.abs(added) / 2, atol=1e-3)


def test_a_second_acquisition_in_other_units_is_refused() -> None:
    both = np.stack([drawn((16, 16))[0].astype(np.int32), drawn((16, 16))[0].astype(np.int32) * 20])
    with pytest.raises(InputError, match="VALUE_RANGE image"):
        Solver(plan(channels=2, pairs=True)).prepare(Image(both, Geometry.none((16, 16))), CPU)


@pytest.mark.parametrize("scope", ["dataset", "case"])
def test_what_both_acquisitions_show_is_what_costs_least(scope: str, tmp_path: Path) -> None:
    """Of constants added to many pairs that differ by noise alone, the best is none."""
    solver, _, _ = acquired_twice(tmp_path, scope)
    torch.manual_seed(0)
    clean = torch.randn(8, 1, 16, 16)
    noisy = torch.cat([clean + 0.5 * torch.randn(clean.shape) for _ in range(2)], dim=1)
    posed = Batch(noisy, torch.tensor([100.0, 50.0]).repeat(8, 2), tuple("abcdefgh"))
    costs = {}
    for amount in (-0.2, 0.0, 0.2):
        ((_, loss),) = solver.steps(Adds(amount), posed)
        costs[amount] = float(loss().detach())
    assert costs[0.0] == pytest.approx(0.5, rel=0.1), "the noise of both: 2 x 0.25"
    assert costs[-0.2] - costs[0.0] == pytest.approx(0.04, abs=0.02)
    assert costs[0.2] - costs[0.0] == pytest.approx(0.04, abs=0.02)


def test_a_critic_that_is_always_right_has_won() -> None:
    """Its loss is beyond the bounds that the training watches; where it cannot tell, it is within."""
    solver = Solver(plan(adversarial=0.1))
    posed = batch(solver)

    class Critic(nn.Module):
        def __init__(self, sure: bool) -> None:
            super().__init__()
            self.sure = sure

        def forward(self, both: Tensor) -> Tensor:
            real = torch.allclose(both[:, 1:], posed.image, atol=1e-4)
            return torch.full((2, 1, 4, 4), float(real) if self.sure else 0.5)

    low, high = solver.bounds["discriminator"]
    for sure, lost in ((True, True), (False, False)):
        losses = {player: float(loss().detach()) for player, loss in solver.steps(Adversaries(Adds(), Critic(sure)), posed)}
        assert set(losses) == {"generator", "discriminator"}
        assert (losses["discriminator"] < low) == lost
        assert losses["discriminator"] <= high


def test_noise_is_scaled_as_each_channel_is_in_use() -> None:
    """One that is normalised by the case alone, by the case with its noise; one by the plan, by the plan."""
    how = plan(channels=2, noise=Noise(sigma=100.0))
    own = how.normalise[0].model_copy(update={"scope": "case"})
    solver = Solver(how.model_copy(update={"normalise": (how.normalise[0], own)}))
    seen: list[Tensor] = []

    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros_like(x)

    ((_, loss),) = solver.steps(Looks(), batch(solver, channels=2, size=16))
    loss()
    # Noise of twice the deviation of 50 leaves a variance of 1 + 4, or of 1 where that is divided out.
    by_plan, by_case = seen[0].var(dim=(0, 2, 3)).tolist()
    assert by_plan == pytest.approx(5, rel=0.1)
    assert by_case == pytest.approx(1, rel=0.1)
