"""What held-out cases cost, and how many a budget holds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.data.readers import open_dataset
from hounsfield.tasks.parts.windows import starts
from hounsfield.workflow.costs import fitting, seconds_a_case
from hounsfield.workflow.evaluate import stored
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train


def cases(count: int) -> list[Sample]:
    return [Sample(f"{k:03}", ()) for k in range(count)]


@given(st.integers(1, 60), st.floats(0.01, 10), st.floats(-5, 200))
def test_what_fits_is_what_the_time_holds_and_at_least_one(count: int, each: float, seconds: float) -> None:
    chosen = fitting(cases(count), each, seconds)
    assert len(chosen) == max(1, min(count, int(max(seconds, 0) / each)))
    ids = [s.id for s in chosen]
    assert ids == sorted(set(ids))


def test_all_fit_where_a_case_costs_nothing() -> None:
    assert len(fitting(cases(7), 0.0, 1.0)) == 7
    assert len(fitting(cases(7), 1.0, math.inf)) == 7
    assert list(fitting([], 1.0, 100.0)) == []


def test_no_case_costs_nothing(segmenter: Run) -> None:
    assert seconds_a_case(Predictor(segmenter, "cpu"), []) == 0.0


def test_a_small_case_is_predicted_whole(segmenter: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(segmenter, "cpu")
    calls = slow(predictor, monkeypatch)
    assert seconds_a_case(predictor, segmenter.dataset().samples) >= 0.02
    assert 2 <= len(calls) <= 6
    assert set(calls) == {tuple(segmenter.plan.patch)}


@pytest.mark.parametrize("kind", ["segmenter", "detector"])
def test_a_large_case_is_reckoned_from_one_window(
    kind: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(kind)
    predictor = Predictor(run, "cpu")
    height, width = run.plan.patch
    huge = Image(np.zeros((1, 40 * height, width), np.uint8), Geometry.none((40 * height, width)))
    monkeypatch.setattr(predictor, "read", lambda _: huge)
    calls = slow(predictor, monkeypatch)
    windows = len(starts(40 * height, height, run.plan.inference.overlap))
    assert windows * 0.02 <= seconds_a_case(predictor, cases(1)) < windows * 2
    assert calls == [(height, width)] * 2


def slow(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Makes inference take 0.02 s more; returns the list of sizes that it will be called with."""
    sizes: list[tuple[int, ...]] = []
    infer = predictor.solver.infer

    def slower(models: Sequence[nn.Module], x: Tensor) -> Any:
        sizes.append(tuple(x.shape[2:]))
        time.sleep(0.02)
        return infer(models, x)

    monkeypatch.setattr(predictor.solver, "infer", slower)
    return sizes


def test_a_budget_that_cannot_hold_the_evaluation_says_what_it_measured(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.workflow.train.fitting", lambda every, each, seconds: list(every)[:2])
    run = train(phantoms, tmp_path / "run", Options(budget="25s", device="cpu"))
    (val,) = stored(run)
    held = len(open_dataset(phantoms).samples) - len(run.split.train)
    assert len(val.rows) == 2 < held
    assert f"2 of {held} cases: the budget held no more" in val.metrics["dice"].note
