"""When a training counts as decided: after many steps in a row beyond one player's bounds, and not before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.workflow.test_fit import Adversaries, loader, plan, quiet
from torch import Tensor, nn

from hounsfield import tasks
from hounsfield.core.errors import DivergedError
from hounsfield.data.loader import Batch
from hounsfield.workflow import contest as module
from hounsfield.workflow import fit as loop
from hounsfield.workflow.contest import LOST, Contest
from hounsfield.workflow.fit import Clock, Member, fit, read_log

BOUNDS = {"discriminator": (0.1, math.inf), "generator": (-math.inf, 5.0)}


def test_losses_within_bounds_decide_nothing() -> None:
    contest = Contest(BOUNDS)
    for _ in range(3 * LOST):
        contest.judge({"discriminator": 0.1, "generator": 5.0})
    assert contest.sound
    assert not contest.decided


@pytest.mark.parametrize(("losses", "player"), [((0.01, 1.0), "discriminator"), ((1.0, 5.1), "generator")])
def test_a_loss_beyond_them_for_long_decides(losses: tuple[float, float], player: str) -> None:
    contest = Contest(BOUNDS)
    for _ in range(LOST - 1):
        contest.judge(dict(zip(BOUNDS, losses, strict=True)))
    before = contest.sound, contest.decided
    assert before == (False, False)
    contest.judge(dict(zip(BOUNDS, losses, strict=True)))
    assert contest.decided
    assert (contest.player, contest.steps) == (player, LOST)


def test_a_single_step_within_begins_anew() -> None:
    contest = Contest(BOUNDS)
    for _ in range(3):
        for _ in range(LOST - 1):
            contest.judge({"discriminator": 0.0, "generator": 1.0})
        contest.judge({"discriminator": 1.0, "generator": 1.0})
        assert contest.sound
    assert not contest.decided


def test_players_without_bounds_may_lose_what_they_want() -> None:
    contest = Contest({})
    for _ in range(2 * LOST):
        contest.judge({"model": 0.0})
    assert contest.sound


class Beaten(Adversaries):
    """The critic's loss, 1 at first, is 0 from the fourth step on."""

    bounds: Mapping[str, tuple[float, float]] = {"critic": (1e-3, math.inf)}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        self.count = getattr(self, "count", 0) + 1
        won = self.count > 3
        for player, loss in super().steps(model, batch):

            def fixed(player: str = player, loss: Callable[[], Tensor] = loss) -> Tensor:
                value = loss() * 0
                return value + (0.0 if won and player == "critic" else 1.0)

            yield player, fixed


def test_the_loop_stops_keeps_what_was_sound_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOST", 5)
    monkeypatch.setattr(loop, "SAVE_EVERY", -1.0)  # after every step
    monkeypatch.setattr(loop, "SAVE_SHARE", math.inf)
    torch.manual_seed(0)
    model = nn.ModuleDict({"generator": nn.Linear(16, 3), "critic": nn.Linear(3, 1)})
    how, member = plan(steps=40), Member(tmp_path / "0-0")
    solver: Any = Beaten()
    with pytest.raises(DivergedError, match=r"COLLAPSED .*a loss of the critic of 0, as for 5 steps, at step 7") as caught:
        fit(model, cast(tasks.Solver, solver), loader(tmp_path, how), how, member, Clock(), None, quiet)
    assert caught.value.exit_code == 4
    assert "last good weights are in last/" in caught.value.fix
    found = member.load()
    assert found is not None
    assert found[0].step == 3  # the last before the critic had won
    assert '"player": "critic"' in (member.folder / "diverged.json").read_text()
    assert [line["loss_critic"] for line in read_log(member)] == [1, 1, 1, 0, 0, 0, 0]


class Poisoned(Adversaries):
    """The generator's loss is no number from the third step on."""

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        self.count = getattr(self, "count", 0) + 1
        bad = math.nan if self.count > 2 else 1.0
        for player, loss in super().steps(model, batch):
            yield player, (lambda loss=loss: loss() * bad) if player == "generator" else loss  # type: ignore[misc]


def test_a_player_whose_loss_is_no_number_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"generator": nn.Linear(16, 3), "critic": nn.Linear(3, 1)})
    how, member = plan(steps=40), Member(tmp_path / "0-0")
    solver: Any = Poisoned()
    with pytest.raises(DivergedError, match=r"NAN_LOSS .*loss nan of the generator at step 2"):
        fit(model, cast(tasks.Solver, solver), loader(tmp_path, how), how, member, Clock(), None, quiet)
    assert '"player": "generator"' in (member.folder / "diverged.json").read_text()


def test_players_have_their_own_rates_and_moments(tmp_path: Path) -> None:
    """A player of a tenth of the rate moves a tenth as far in its first step, whatever its gradients."""
    moved = {}
    for rate in (1.0, 0.1):
        torch.manual_seed(0)
        model = nn.ModuleDict({"generator": nn.Linear(16, 3), "critic": nn.Linear(3, 1)})
        before = {name: value.clone() for name, value in model.state_dict().items()}
        players = {"critic": {"rate": rate, "betas": (0.0, 0.9)}}
        how = plan(steps=1, weight_decay=0.0, warmup=0.0, clip=0.0, players=players)
        solver: Any = Adversaries()
        folder = tmp_path / str(rate)
        fit(model, cast(tasks.Solver, solver), loader(folder, how), how, Member(folder), Clock(), None, quiet)
        after = model.state_dict()
        moved[rate] = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert moved[0.1]["critic.bias"] == pytest.approx(0.1 * moved[1.0]["critic.bias"], rel=1e-3)
    assert moved[0.1]["generator.bias"] == pytest.approx(moved[1.0]["generator.bias"], rel=1e-2)
