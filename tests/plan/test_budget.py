"""Budgets: read from text, settled by measurement into size, precision, members and steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.plan.test_rules import facts, plan
from tests.tasks.test_generation import plan as draws

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.fingerprint import ClassFacts
from hounsfield.core.plan import Members, Options, Plan
from hounsfield.data.loader import Batch
from hounsfield.plan import budget as module
from hounsfield.plan.budget import CHOSEN, Budget, Measured, Room, Settled, agrees, settle, usual_precision
from hounsfield.tasks import TASKS

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", Budget(seconds=90)),
        ("10m", Budget(seconds=600)),
        ("1.5h", Budget(seconds=5400)),
        ("200steps", Budget(steps=200)),
        ("20 epochs", Budget(epochs=20)),
        ("overnight", Budget(seconds=28800)),
    ],
)
def test_budgets_as_people_write_them(text: str, expected: Budget) -> None:
    assert Budget.parse(text) == expected


def test_what_is_no_budget_is_refused_with_examples() -> None:
    with pytest.raises(InputError, match=r"BAD_OPTION --budget: found 'tomorrow', expected such as 90s"):
        Budget.parse("tomorrow")


class FakeLoader:
    """Ten samples; a step sees one, or a window of it."""

    share = 1.0

    def epochs(self, step: int) -> float:
        return step / 10


def settled(
    monkeypatch: pytest.MonkeyPatch,
    seconds: Callable[[Plan], float],
    budget: Budget,
    *,
    kept: Callable[[Plan], float] = lambda plan: 0.0,
    fits: Callable[[Plan], bool] = lambda plan: True,
    first: Plan | None = None,
    agreed: bool = True,
) -> Settled:
    """`settle` on a machine where a step takes `seconds(plan)`, and measuring nothing."""
    monkeypatch.setattr(module, "measure", lambda which, *_: Measured(which, seconds(which)))
    monkeypatch.setattr(module, "agrees", lambda *_: agreed)

    def loader(_: Plan) -> Any:
        return FakeLoader()

    first = first or plan(facts())
    with monkeypatch.context() as still:
        still.setattr("time.monotonic", lambda: 1000.0)
        return settle(first, loader, CPU, budget, Room(time.monotonic(), kept, fits))


def width(options: Options) -> int:
    return int(options.model_dump()["width"])


def test_the_largest_size_that_makes_enough_steps_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settled(monkeypatch, lambda p: width(p.model_options) / 100, Budget(seconds=250))
    assert width(made.plan.model_options) == 16  # 0.32 s a step are 750 steps, 0.16 s are 1500
    assert 1490 <= made.plan.training.steps <= 1510
    assert made.step == 0.16
    assert "width 32: 0.32 s" in made.plan.reasons["model_options"]


def test_the_smallest_size_is_taken_where_none_makes_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settled(monkeypatch, lambda p: 1.0, Budget(seconds=20)).plan
    assert width(made.model_options) == 8
    assert made.training.steps == 19


def test_twice_the_width_at_hardly_slower_steps_is_taken_even_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of width 8 takes 90 ms, of 16 120 and of 32 310, as was measured: 60 seconds hold few of any."""
    takes = {8: 0.09, 16: 0.12, 32: 0.31}
    made = settled(monkeypatch, lambda p: takes[width(p.model_options)], Budget(seconds=60)).plan
    assert width(made.model_options) == 16
    assert "hardly slower" in made.reasons["model_options"]
    few = settled(monkeypatch, lambda p: 10 * takes[width(p.model_options)], Budget(seconds=60)).plan
    assert width(few.model_options) == 8, "not even timed"
    assert "width 16" not in few.reasons["model_options"]


def test_a_size_that_the_memory_does_not_hold_is_not_even_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def seconds(which: Plan) -> float:
        seen.append(width(which.model_options))
        return 0.01

    made = settled(monkeypatch, seconds, Budget(seconds=100), fits=lambda p: width(p.model_options) < 32)
    assert width(made.plan.model_options) == 16
    assert set(seen) == {8, 16}


def test_what_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = plan(facts()).override({"model_options.width": 24, "training.ema": 0.5, "training.amp": True}, CHOSEN)
    made = settled(monkeypatch, lambda p: 0.01, Budget(seconds=100), first=chosen).plan
    assert (width(made.model_options), made.training.ema, made.training.amp) == (24, 0.5, True)


def test_another_choice_of_the_network_leaves_its_width_to_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = plan(facts()).override({"model_options.deep_supervision": False}, CHOSEN)
    made = settled(monkeypatch, lambda p: width(p.model_options) / 100, Budget(seconds=250), first=chosen).plan
    expected = settled(monkeypatch, lambda p: width(p.model_options) / 100, Budget(seconds=250)).plan
    assert width(made.model_options) == width(expected.model_options) != 32
    assert not made.model_options.deep_supervision  # type: ignore[attr-defined]


def test_more_time_than_one_network_needs_goes_into_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0.01 s a step, 3000 steps are 300 epochs: 100 s hold three networks, 32 s one, an hour no more than five."""
    for seconds, seeds in ((100.0, 3), (32.0, 1), (3600.0, 5)):
        made = settled(monkeypatch, lambda p: 0.01, Budget(seconds=seconds)).plan
        assert (made.members.seeds, made.training.steps) == (seeds, module.MOST_EPOCHS["dense"] * 10), seconds
    assert "5 networks of 30 s" in made.reasons["members.seeds"]
    assert "no more than 300 passes over all voxels" in made.reasons["training.steps"]


def test_a_case_of_many_windows_takes_as_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a window holds a fifth of a case, 100 s of 0.01 s a step go into one network, not into three."""
    monkeypatch.setattr(FakeLoader, "share", 0.2)
    made = settled(monkeypatch, lambda p: 0.01, Budget(seconds=100)).plan
    assert made.members.seeds == 1
    assert 9500 <= made.training.steps <= 9600
    made = settled(monkeypatch, lambda p: 0.01, Budget(seconds=400)).plan
    assert (made.members.seeds, made.training.steps) == (2, 5 * module.MOST_EPOCHS["dense"] * 10)


def test_whole_images_are_learned_sooner_and_then_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 steps are 30 epochs: a time for 1250 of them trains four networks of 312."""
    counts = tuple(ClassFacts(value=k, name=f"c{k}", cases=50, fraction=0.5) for k in range(2))
    first = plan(facts(classes=counts), "classification")
    made = settled(monkeypatch, lambda p: width(p.model_options) / 800, Budget(seconds=25 / 0.96 + 0.1), first=first).plan
    assert made.members.seeds == 4
    assert 310 <= made.training.steps <= 315
    assert width(made.model_options) == 16


def test_further_networks_must_also_be_evaluated_in_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three networks would train in 96 s, but each keeps 20 s for what it predicts: 2 x (30 + 20)."""
    made = settled(monkeypatch, lambda p: 0.01, Budget(seconds=105), kept=lambda p: 20.0 * p.members.count)
    assert made.plan.members.seeds == 2
    assert made.kept == 40
    assert made.plan.training.steps == 3000


def test_members_that_were_asked_for_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan(facts()).model_copy(update={"members": Members(folds=5, seeds=2), "reasons": {"members.seeds": CHOSEN}})
    made = settled(monkeypatch, lambda p: 0.1, Budget(seconds=100), first=asked).plan
    assert made.members == Members(folds=5, seeds=2)
    assert 90 <= made.training.steps <= 96
    assert "of 10 networks" in made.reasons["training.steps"]


def test_precision_and_layout_only_where_they_were_measured_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    one = {"spacing_median": (1, 1), "spacing_min": (1, 1), "spacing_max": (1, 1)}
    flat = plan(facts(ndim=2, space="none", shape_median=(64, 64), **one))

    def seconds(which: Plan) -> float:
        how = which.training
        return 0.2 * (amp if how.amp else 1) * (last if how.channels_last else 1)

    for amp, last in ((0.5, 0.5), (0.5, 1.5), (1.5, 0.5), (0.95, 0.95)):
        made = settled(monkeypatch, seconds, Budget(seconds=60), first=flat).plan
        assert (made.training.amp, made.training.channels_last) == (amp < 0.9, last < 0.9)
        assert "s with it" in made.reasons["training.amp"]
    wrong = settled(monkeypatch, lambda p: 0.1 if p.training.amp else 0.2, Budget(seconds=60), first=flat, agreed=False).plan
    assert not wrong.training.amp
    assert "gradients differ" in wrong.reasons["training.amp"]


def test_adversaries_are_never_trained_in_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    for model in ("gan", "flow"):
        first = draws(model)
        found = usual_precision(first, torch.device("cuda"))
        assert found.training.amp == (model == "flow")
        made = settled(monkeypatch, lambda p: 0.1 if p.training.amp else 0.2, Budget(seconds=60), first=first).plan
        assert made.training.amp == (model == "flow")
    assert "lost in 16 bits" in usual_precision(draws("dcgan"), torch.device("cuda")).reasons["training.amp"]
    chosen = draws("gan").override({"training.amp": True}, CHOSEN)
    assert usual_precision(chosen, torch.device("cuda")).training.amp


@pytest.mark.parametrize(("sign", "expected"), [(1.0, True), (-1.0, False), (float("nan"), False)])
def test_bfloat16_must_have_the_gradients_of_32_bits(monkeypatch: pytest.MonkeyPatch, sign: float, expected: bool) -> None:
    """A machine whose bfloat16 turns gradients round, or makes them nonsense, is found out."""
    one = {"spacing_median": (1, 1), "spacing_min": (1, 1), "spacing_max": (1, 1)}
    classes = tuple(ClassFacts(value=k, name=f"c{k}", cases=50, fraction=0.5) for k in range(2))
    flat = plan(facts(ndim=2, space="none", shape_median=(56, 56), classes=classes, **one), "classification")
    flat = flat.override({"model_options.width": 8}, CHOSEN)

    class Batches:
        def raw(self, step: int) -> Batch:
            draw = torch.Generator().manual_seed(step)
            return Batch(torch.randn(4, 1, 56, 56, generator=draw), torch.tensor([0, 1, 0, 1]), ("a", "b", "c", "d"))

        def finish(self, batch: Batch, step: int, device: torch.device) -> Batch:
            return batch

    solver = type(TASKS.load("classification").Solver(flat))
    steps = solver.steps

    def turned(self: Any, model: Any, batch: Batch) -> Any:
        for player, loss in steps(self, model, batch):
            yield player, lambda loss=loss: loss() * (sign if torch.is_autocast_enabled("cpu") else 1.0)

    monkeypatch.setattr(solver, "steps", turned)
    loader: Any = Batches()
    assert agrees(flat, loader, CPU) is expected


def test_steps_and_epochs_are_taken_at_their_word(monkeypatch: pytest.MonkeyPatch) -> None:
    made = settled(monkeypatch, lambda p: 9.0, Budget(steps=77))
    assert (made.plan.training.steps, made.step) == (77, None)
    assert settled(monkeypatch, lambda p: 9.0, Budget(epochs=3)).plan.training.steps == 30


def test_a_budget_too_small_for_one_epoch_or_the_evaluation_names_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"BUDGET_TOO_SMALL --budget: found 30 s, expected at least 50 s: ") as caught:
        settled(monkeypatch, lambda p: 5.0, Budget(seconds=30))
    assert "50 s for one epoch of the smallest size" in str(caught.value)
    assert "fix: --budget 60s or more" in str(caught.value)
    assert caught.value.exit_code == 3
    with pytest.raises(ResourceError, match=r"expected at least 41 s: .* 40 s for evaluation and report"):
        settled(monkeypatch, lambda p: 0.1, Budget(seconds=30), kept=lambda p: 40.0)


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = settled(monkeypatch, lambda p: 0.1, Budget(seconds=100)).plan
    jumps = iter(range(0, 10**9, 86400))
    monkeypatch.setattr("time.time", lambda: float(next(jumps)))
    assert abs(settled(monkeypatch, lambda p: 0.1, Budget(seconds=100)).plan.training.steps - expected.training.steps) <= 1
