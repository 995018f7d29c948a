"""What a study says: every answer as a sentence, and all of it as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.workflow.ladders.trainings import ABOUT, PARTS, parts, sizes, told

from hounsfield.metrics.laws import Law


def test_the_budget_of_a_larger_size_is_said() -> None:
    line = next(line for line in sizes(0.2, 0.15, 0.1).said() if line.startswith("base"))
    told_of = "train --budget 37m makes the 1,000 steps from which on its width pays"
    assert line == f"base (25.1 million parameters): 1.9 s a step; {told_of}"


def test_few_patients_and_cases_that_time_did_not_hold_are_said() -> None:
    lines = list(told(parts(Law(0.8, 0.4)), held=(6, 5), unit="cases").said())
    assert "only 5 validation cases: the intervals are likely too narrow" in lines
    assert "measured on 6 of 40 validation cases: the budget held no more" in lines


def test_decibels_become_a_mean_squared_error() -> None:
    assert replace(ABOUT, metric="psnr").error == "10^(-PSNR / 10)"
    assert ABOUT.error == "1 - Dice"
    assert replace(ABOUT, metric="auroc").error == "1 - AUROC"


def test_the_document_is_json_and_holds_what_was_said() -> None:
    found = sizes(0.2, 0.15, 0.1)
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["schema"] == 1
    assert [t["run"] for t in values["trainings"]] == [
        *(f"runs/{name}" for name in PARTS),
        "runs/tiny",
        "runs/small",
    ]
    assert values["recommended"] == "runs/small"
    assert values["check"]["inside"] is True
    assert values["law"]["falls"] is True
    assert values["said"] == list(found.said())


def test_short_trainings_are_said_to_be_short() -> None:
    short = [replace(t, steps=180) for t in parts(Law(0.8, 0.4))]
    line = (
        "the trainings were short, 180 of the 1,000 steps that networks want: "
        "with a longer --budget more patients may bring more"
    )
    assert line in list(told(short).said())
    assert not any("short" in text for text in told(parts(Law(0.8, 0.4))).said())
