"""What paces the training loop: the learning rate, the average of weights, progress, and the clock."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from hounsfield.core.plan import Training
from hounsfield.workflow.average import Average
from hounsfield.workflow.fit import Clock, State, one_cycle


def test_the_average_of_weights_and_buffers() -> None:
    """kept <- d kept + (1 - d) live with d = min(decay, (1 + t) / (10 + t)); counters are copied."""
    model = nn.BatchNorm1d(1)
    average = Average(model, decay=0.5)
    kept = 1.0
    for step in range(12):
        with torch.no_grad():
            model.weight.fill_(float(step))
            model.running_mean.fill_(float(step))  # type: ignore[union-attr]
            model.num_batches_tracked.fill_(step)  # type: ignore[union-attr]
        average.update(step)
        d = min(0.5, (1 + step) / (10 + step))
        kept = d * kept + (1 - d) * step
        assert average.kept["weight"].item() == pytest.approx(kept, rel=1e-5)
        assert average.kept["num_batches_tracked"].item() == step
    assert average.kept["running_mean"].item() != model.running_mean.item()  # type: ignore[union-attr]


def test_without_a_decay_the_last_weights_are_kept() -> None:
    model = nn.BatchNorm1d(1)
    average = Average(model, decay=0.0)
    for step in range(3):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update(step)
        assert average.kept["weight"].item() == step


def test_one_cycle() -> None:
    how = Training(lr=2.0, warmup=0.25)
    assert one_cycle(0.0, how) == pytest.approx(0.08)
    assert one_cycle(0.125, how) == pytest.approx(2 * 0.52)
    assert one_cycle(0.25, how) == pytest.approx(2.0)
    assert one_cycle(0.625, how) == pytest.approx(2 * 0.5005)
    assert one_cycle(1.0, how) == pytest.approx(0.002)
    rates = [one_cycle(k / 100, how) for k in range(101)]
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert one_cycle(0.0, Training(lr=2.0, warmup=0)) == pytest.approx(2.0)


def test_progress_reaches_the_end_with_the_steps_whatever_their_number_becomes() -> None:
    state = State(0, 10)
    for _ in range(4):
        state = state.advance(0.5)
    assert [state.progress, state.seconds] == pytest.approx([0.4, 2.0])
    state = State(state.step, 7, state.progress, state.seconds)  # three to go
    gone = [state.progress]
    while state.step < state.total:
        state = state.advance(1.0)
        gone.append(state.progress)
    assert gone == pytest.approx([0.4, 0.6, 0.8, 1.0])


class Watch(Clock):
    """A clock whose steps take as long as the test says."""

    def __init__(self, ends: float | None, **more: Any) -> None:
        super().__init__(ends, **more)
        self.begun = self.last = 0.0

    def pass_(self, seconds: float) -> None:
        self.last += seconds
        self.recent.append(seconds)
        self.longer.append(seconds)


def test_a_slower_machine_makes_fewer_steps_and_a_faster_one_more_again() -> None:
    clock = Watch(ends=100.0)
    state = State(0, 100)
    for step in range(9):
        clock.pass_(1.0)
        state = clock.fit(State(step + 1, state.total), 100)
    assert state.total == 100  # too few steps to judge by
    clock.pass_(1.0)
    state = clock.fit(State(10, 100), 100)
    assert state.total == 100
    for _ in range(20):
        clock.pass_(2.0)
    state = clock.fit(State(30, 100), 100)  # 50 seconds left at 2 a step
    assert state.total == 55
    for _ in range(20):
        clock.pass_(0.5)
    state = clock.fit(State(50, 55), 100)  # 40 left at a half
    assert state.total == 100


def test_a_machine_that_is_faster_than_measured_makes_more_steps_than_planned_and_no_useless_ones() -> None:
    """60 steps planned at a second each, in truth half a second; 100 are useful at most."""

    def run(ends: float, most: int) -> tuple[State, list[float]]:
        clock, state, rates = Watch(ends=ends, expected=1.0, most=most), State(0, 60), []
        while state.step < state.total:
            rates.append(one_cycle(state.progress, Training(lr=1.0)))
            clock.pass_(0.5)
            state = clock.fit(state.advance(0.5), 60)
        return state, rates

    state, rates = run(40.25, 100)
    assert state.step == 80
    assert rates[-1] < 0.01, "annealed to the end all the same"
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.2, "and smoothly"
    assert run(100.0, 100)[0].step == 100
    assert run(40.25, 0)[0].step == 60


def test_a_run_that_goes_on_keeps_the_steps_it_had_won() -> None:
    """Resumed at step 70 of 90, of a plan of 60."""
    clock = Watch(ends=100.0)
    for _ in range(10):
        clock.pass_(1.0)
    assert clock.fit(State(80, 90, 0.8), 60).total == 90


def test_a_slow_start_ends_no_training() -> None:
    """A dozen steps that take five times as long, as the first epoch may, before the usual ones."""
    clock = Watch(ends=200.0, reserve=50.0, expected=1.0)
    state = State(0, 100)
    for step in range(60):
        clock.pass_(5.0 if step < 12 else 1.0)
        state = clock.fit(State(step + 1, state.total), 100)
        assert state.total > step + 1
    assert clock.left == pytest.approx(200 - 50 - 108)
    assert state.total == 100


def test_a_slower_machine_keeps_more_for_the_evaluation() -> None:
    clock = Watch(ends=400.0, reserve=50.0, expected=1.0)
    for _ in range(60):
        clock.pass_(2.0)
    assert clock.left == pytest.approx(400 - 2 * 50 - 120)
    faster = Watch(ends=400.0, reserve=50.0, expected=4.0)
    for _ in range(60):
        faster.pass_(2.0)
    assert faster.left == pytest.approx(400 - 50 - 120)


def test_members_share_what_is_left() -> None:
    clock = Watch(ends=110.0, reserve=10.0, share=4)
    assert clock.left == pytest.approx(25.0)
    clock.pass_(5.0)
    assert clock.left == pytest.approx(20.0)


def test_one_step_in_which_the_machine_slept_changes_no_pace() -> None:
    clock = Watch(ends=1000.0)
    for _ in range(19):
        clock.pass_(1.0)
    clock.pass_(300.0)
    assert clock.pace == 1.0
    assert clock.fit(State(20, 500), 500).total == 500


def test_when_time_is_over_no_step_is_left() -> None:
    clock = Watch(ends=10.0)
    for _ in range(10):
        clock.pass_(0.99)
    assert clock.fit(State(10, 100), 100).total == 10
    late = Watch(ends=10.0)
    late.pass_(11.0)
    assert late.fit(State(1, 100), 100).total == 1
    assert Watch(ends=None).fit(State(1, 100), 100).total == 100
