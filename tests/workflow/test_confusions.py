"""Confusions: every case counted once, and of many classes those that went wrong."""

from __future__ import annotations

import math

import pytest

from hounsfield.core.plan import Class, Plan
from hounsfield.tasks import TASKS, Row
from hounsfield.workflow.confusions import SHOWN, matrix, recognised
from hounsfield.workflow.run import Run


def row(truth: str, said: str) -> Row:
    return {"truth": truth, "prediction": said, f"p_{truth}": 0.25}


@pytest.fixture
def many(classifier: Run) -> Plan:
    return classifier.plan.model_copy(update={"classes": tuple(Class(value=k, name=f"c{k}") for k in range(200))})


@pytest.fixture
def several(many: Plan) -> Plan:
    options = TASKS.load("classification").Options.parse({"multilabel": True}, "test")
    return many.model_copy(update={"task_options": options})


def test_of_many_classes_the_most_confused(many: Plan) -> None:
    rows = [row(f"c{k}", f"c{k}") for k in range(200)]
    rows += [row("c150", "c7")] * 5 + [row("c3", "c199")] * 2 + [row("c150", "c9")]
    found = matrix(rows, many)
    assert found is not None
    assert len(found.rows) == SHOWN
    assert {"c3", "c7", "c9", "c150", "c199"} <= set(found.rows)
    assert found.columns == (*found.rows, "another")
    assert found.total[found.rows.index("c150")] == 7
    assert found.counts[found.rows.index("c150")][found.columns.index("c7")] == 5
    assert "10 of 200" in found.about


def test_what_is_taken_for_a_class_that_is_not_shown_is_counted(many: Plan) -> None:
    rows = [row("c0", f"c{k}") for k in range(1, 30) for _ in range(1 + (k < 12))]
    found = matrix(rows, many)
    assert found is not None
    assert sum(found.counts[found.rows.index("c0")]) == len(rows)
    assert found.counts[found.rows.index("c0")][-1] > 0


def test_outcomes_of_many_classes_are_those_with_most_mistakes(several: Plan) -> None:
    rows = [row("c5|c6", "c6|c80"), row("c5", ""), row("c9", "c9")]
    found = matrix(rows, several)
    assert found is not None
    assert len(found.rows) == SHOWN
    assert found.counts[found.rows.index("c5")] == (0, 2, 0, 1)
    assert found.counts[found.rows.index("c80")] == (0, 0, 1, 2)


def test_each_class_with_what_it_was_taken_for(classifier: Run) -> None:
    rows = [row("healthy", "healthy")] * 3 + [row("healthy", "lesion")]
    healthy, lesion = recognised(rows, classifier.plan)
    assert (healthy.cases, healthy.found, healthy.mistaken) == (4, "3 of 4 (75%)", "lesion (1)")
    assert healthy.spread.startswith("M25.00 20")
    assert (lesion.cases, lesion.found, lesion.spread) == (0, "no case", "")
    assert math.isnan(lesion.share)


def test_classes_that_do_not_exclude_each_other(several: Plan) -> None:
    found = {r.name: r.found for r in recognised([row("c1|c2", "c2"), row("", "c1")], several)}
    assert (found["c1"], found["c2"], found["c3"]) == ("0 of 1 (0%)", "1 of 1 (100%)", "no case")


def test_other_tasks_have_none(segmenter: Run) -> None:
    assert matrix([{"dice": 0.5}], segmenter.plan) is None
    assert recognised([{"dice": 0.5}], segmenter.plan) == ()
    assert matrix([], segmenter.plan) is None
