"""What each of two processes does for test_several.py: `python -m tests.workflow.processes.two_ranks FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, cast

import torch
from tests.workflow.test_fit import STILL, Adversaries, Net, Solver, loader, plan
from torch import nn

from hounsfield import tasks
from hounsfield.core.errors import InputError, RunInterruptedError
from hounsfield.core.plan import Augment, Plan
from hounsfield.workflow.fit import Clock, Member, State, fit
from hounsfield.workflow.processes.place import Place
from hounsfield.workflow.processes.several import Several
from hounsfield.workflow.processes.team import ALONE, Team
from hounsfield.workflow.processes.vigil import Vigil

STEPS, STOPPED = 10, 4
# Two parts a step, or four of which each process has two; dropout, batch statistics, augmentation and averaged weights with it.
PLANS: dict[str, Plan] = {
    "two parts": plan(Augment(mirror=(1,), noise=0.1), steps=STEPS, batch=4, accumulate=2, ema=0.9),
    "four parts": plan(STILL, steps=STEPS, batch=4, accumulate=4),
}


def network(seed: int) -> nn.Module:
    """Of test_fit, less the bias that batch statistics take away again: rounding alone would move it."""
    torch.manual_seed(seed)
    made = Net()
    made.layers[1] = nn.Linear(16, 8, bias=False)
    return made


def adversaries() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"generator": nn.Linear(16, 3), "critic": nn.Linear(3, 1)})


def run(
    folder: Path, how: Plan, team: Team = ALONE, stop: int = 0, model: nn.Module | None = None, solver: Any = None
) -> Member:
    """Train, or go on, in `folder`; interrupted after `stop` steps where that is not 0."""

    def tell(state: State, loss: float, value: float | None) -> None:
        if state.step == stop:
            raise KeyboardInterrupt

    if model is None:
        model = network(how.seed)
    cases, member = loader(folder / f"cases {team.rank}", how), Member(folder / "0-0")
    share = type(cases)(cases.entries, how, (1, 1), team.rank, team.size)
    watch = (lambda weights: float(len(dict(weights)))) if team.leads else None
    given = cast(tasks.Solver, solver or Solver())
    try:
        fit(model, given, share, how, member, Clock(), watch, tell, team)
    except RunInterruptedError:
        assert stop
    return member


def together(folder: Path, name: str, team: Several) -> None:
    for parts, how in PLANS.items():
        run(folder / name / parts, how, team)
    run(folder / name / "stopped", PLANS["two parts"], team, STOPPED)
    run(folder / name / "went on", PLANS["two parts"], team)


def main(folder: Path) -> None:
    place = Place.of()
    assert place is not None
    torch.set_num_threads(1)
    vigil = Vigil(place)
    with vigil.guarded():
        team = Several(place, False, torch.device("cpu"), vigil)
        told = {
            "mean": team.mean([place.rank, 10.0 + place.rank]),
            "led": team.led([5.0 + place.rank]),
            "mine": list(team.mine(range(5))),
            "gathered": team.gathered([{"id": f"{k}", "dice": 1 / (1 + k), "none": float("nan")} for k in team.mine(range(5))]),
        }
        (folder / f"told {place.rank}.json").write_text(json.dumps(told))
        together(folder, "ddp", team)
        run(folder / "ddp" / "players", PLANS["four parts"], team, model=adversaries(), solver=Adversaries())
        torch.distributed.destroy_process_group()
        os.environ["TORCHELASTIC_RESTART_COUNT"] = "1"  # another group, which must not meet at the place of the first
        team = Several(place, True, torch.device("cpu"), vigil)
        together(folder, "fsdp", team)
        try:
            run(folder / "fsdp" / "players", PLANS["four parts"], team, model=adversaries(), solver=Adversaries())
        except InputError as error:
            (folder / f"refused {place.rank}.txt").write_text(str(error))
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
