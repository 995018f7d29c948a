"""Budgets: read from text, settled by measurement into size and steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.plan.test_rules import facts, plan

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Options, Plan
from hounsfield.plan import budget as module
from hounsfield.plan.budget import Budget, Measured, settle

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", Budget(seconds=90)),
        ("10m", Budget(seconds=600)),
        ("1.5h", Budget(seconds=5400)),
        ("200steps", Budget(steps=200)),
        ("20 epochs", Budget(epochs=20)),
    ],
)
def test_budgets_as_people_write_them(text: str, expected: Budget) -> None:
    assert Budget.parse(text) == expected


def test_what_is_no_budget_is_refused_with_examples() -> None:
    with pytest.raises(InputError, match=r"BAD_OPTION --budget: found 'tomorrow', expected such as 90s"):
        Budget.parse("tomorrow")


class FakeLoader:
    """Ten samples; a step sees one."""

    def epochs(self, step: int) -> float:
        return step / 10


def settled(
    monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Options, bool], float], left: float | None, budget: Budget
) -> tuple[Plan, float | None]:
    """`settle` on a machine where a step takes `seconds(options, amp)`."""

    def fake(which: Plan, *_: object, amp: bool) -> Measured:
        return Measured(which.model_options, amp, seconds(which.model_options, amp))

    monkeypatch.setattr(module, "measure", fake)

    def loader(_: Plan) -> Any:
        return FakeLoader()

    return settle(plan(facts()), loader, CPU, budget, lambda _: None if left is None else time.monotonic() + left)


def width(options: Options) -> int:
    return int(options.model_dump()["width"])


def test_the_largest_size_that_makes_enough_steps_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    made, ends = settled(monkeypatch, lambda o, amp: width(o) / 100, 100.0, Budget(seconds=100))
    assert width(made.model_options) == 16  # 0.32 s a step are 300 steps, 0.16 s are 600
    assert 590 <= made.training.steps <= 610
    assert ends is not None
    assert "width 32: 0.32 s" in made.reasons["model_options"]


def test_the_smallest_size_is_taken_where_none_makes_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = settled(monkeypatch, lambda o, amp: 1.0, 20.0, Budget(seconds=20))
    assert width(made.model_options) == 8
    assert made.training.steps == 19


def test_more_time_than_is_useful_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = settled(monkeypatch, lambda o, amp: 0.001, 3600.0, Budget(seconds=3600))
    assert made.training.steps == module.MOST_EPOCHS * 10
    assert "no more than 300 epochs" in made.reasons["training.steps"]


def test_half_precision_only_where_it_was_measured_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    fast, _ = settled(monkeypatch, lambda o, amp: 0.1 if amp else 0.2, 60.0, Budget(seconds=60))
    slow, _ = settled(monkeypatch, lambda o, amp: 0.3 if amp else 0.2, 60.0, Budget(seconds=60))
    assert (fast.training.amp, slow.training.amp) == (True, False)


def test_steps_and_epochs_are_taken_at_their_word(monkeypatch: pytest.MonkeyPatch) -> None:
    made, ends = settled(monkeypatch, lambda o, amp: 9.0, None, Budget(steps=77))
    assert (made.training.steps, ends) == (77, None)
    made, _ = settled(monkeypatch, lambda o, amp: 9.0, None, Budget(epochs=3))
    assert made.training.steps == 30


def test_no_time_for_a_single_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"BUDGET_TOO_SMALL .*5.0 s a step") as caught:
        settled(monkeypatch, lambda o, amp: 5.0, 3.0, Budget(seconds=3))
    assert caught.value.exit_code == 3
