"""Where the time went: stages against the budget, and the parts of the steps, all from what the run wrote down."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hounsfield.workflow.run import Run
from hounsfield.workflow.timeline import budget, percent, seconds_text, steps


def stage(name: str, start: float, end: float | None) -> dict[str, Any]:
    return {"name": name, "start": start, "end": end}


@pytest.fixture
def run(segmenter: Run, tmp_path: Path) -> Run:
    shutil.copy(segmenter.root / "plan.json", tmp_path)
    return Run(tmp_path)


def write(run: Run, promised: float | None, *stages: dict[str, Any]) -> None:
    (run.root / "timeline.json").write_text(json.dumps({"schema": 1, "budget": promised, "stages": stages}))


def line(step: int, seconds: float, wait: float | None = 0.01, augment: float | None = 0.02) -> dict[str, Any]:
    return {"step": step, "loss": 1.0, "lr": 0.1, "seconds": seconds, "value": None, "wait": wait, "augment": augment}


def test_stages_in_the_order_of_time_against_the_budget(run: Run) -> None:
    write(run, 300, stage("train 0-0", 40, 240), stage("read", 0, 30), stage("evaluate test", 250, 270))
    found = budget(run)
    assert found is not None
    assert [s.name for s in found.stages] == ["reading and auditing the data", "training", "evaluating the test part"]
    assert [(s.left, s.width) for s in found.stages] == [
        (0, 10),
        (pytest.approx(40 / 3), pytest.approx(200 / 3)),
        (pytest.approx(250 / 3), pytest.approx(20 / 3)),
    ]
    assert [s.seconds for s in found.stages] == ["30 s", "3 min 20 s", "20 s"]
    assert found.about == "Everything before this report took 4 min 30 s, 74% of it training: 90% of the budget of 5 min."
    assert (found.mark, found.end) == (100, "5 min")


def test_a_budget_that_was_overstepped_is_marked_where_it_ended(run: Run) -> None:
    write(run, 100, stage("train 0-0", 0, 125))
    found = budget(run)
    assert found is not None
    assert found.mark == 80
    assert found.about.endswith("125% of the budget of 100 s, 25 s too long.")


def test_without_a_budget_the_stages_fill_the_span(run: Run) -> None:
    write(run, None, stage("read", 0, 5), stage("train 1-0", 5, 10), stage("train 0-0", 10, 20), stage("something new", 20, 21))
    found = budget(run)
    assert found is not None
    assert found.mark is None
    assert [s.name for s in found.stages] == [
        "reading and auditing the data",
        "training member 1-0",
        "training member 0-0",
        "something new",
    ]
    assert found.stages[-1].left + found.stages[-1].width == pytest.approx(100)
    assert found.about.endswith("There was no limit of time.")


def test_a_run_that_was_stopped_or_is_older_shows_what_it_has(run: Run) -> None:
    assert budget(run) is None
    write(run, 300)
    assert budget(run) is None
    write(run, 300, stage("read", 0, 3), stage("train 0-0", 3, None))
    found = budget(run)
    assert found is not None
    assert len(found.stages) == 1


def test_the_time_of_the_steps_divides_into_its_parts() -> None:
    found = steps({"0-0": [line(1, 0.1), line(2, 0.2), line(3, 0.3), line(4, 0.4)]})
    assert found is not None
    assert [(s.name, s.share, s.each) for s in found.shares] == [
        ("the step itself", "70%", "70 ms"),
        ("augmentation", "20%", "20 ms"),
        ("waiting for data", "10%", "10 ms"),
    ]
    assert found.about.startswith("The step waited 10% of the time for data; 20% went into augmentation")
    inks = re.findall(r"fill=\"var\(--(\w+)\)\"", found.svg)
    assert inks == ["second", "third", "accent"]  # stacked from below


def test_members_stand_one_after_the_other() -> None:
    found = steps({"0-0": [line(1, 0.1), line(2, 0.2)], "1-0": [line(1, 0.3), line(2, 0.6)]})
    assert found is not None
    assert found.svg.count("stroke-dasharray") == 1
    assert "A step took 200 ms on average" in found.about


def test_logs_that_do_not_tell_make_no_chart() -> None:
    assert steps({}) is None
    assert steps({"0-0": [{"step": 1, "loss": 1.0, "lr": 0.1, "seconds": 0.1, "value": None}]}) is None
    assert steps({"0-0": [line(1, 0.1, None, None)]}) is None
    assert steps({"0-0": [line(1, 0.0, 0.0, 0.0)]}) is None


def test_a_rounded_step_is_never_less_than_nothing() -> None:
    found = steps({"0-0": [line(1, 0.0, 0.003, 0.004), line(2, 0.001, 0.003, 0.004)]})
    assert found is not None
    assert found.shares[0].share == "0%"


def test_a_long_training_makes_no_longer_a_page() -> None:
    found = steps({"0-0": [line(s, s * 0.1) for s in range(1, 50_000)]})
    assert found is not None
    assert len(found.svg) < 20_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0002, "0.2 ms"), (0.0123, "12 ms"), (0.9996, "1.0 s"), (3.14, "3.1 s"), (42.4, "42 s"), (300, "5 min"),
     (287, "4 min 47 s"), (7199.9, "2 h"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0%"), (0.0001, "<0.1%"), (0.003, "0.3%"), (0.0999, "10%"), (0.5, "50%")])
def test_shares_for_people(share: float, text: str) -> None:
    assert percent(share) == text
