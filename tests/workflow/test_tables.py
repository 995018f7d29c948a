"""Tables of the report: notes said once, confusions counted, every value of the plan with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from hounsfield.core.plan import Class, Plan
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import TASKS, Curve, Row
from hounsfield.workflow.evaluate import Evaluation
from hounsfield.workflow.run import Run
from hounsfield.workflow.tables import decisions, describe, meaning, section, title


class Worth:
    """Metrics of which only the order of cases matters."""

    headline = "auroc"

    def case(self, *_: object) -> Row:
        return {}

    def worth(self, row: Row) -> float:
        return float(row["worth"])

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, Interval]:
        return {}

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        return ()


def evaluation(rows: Sequence[Row], metrics: dict[str, Interval]) -> Evaluation:
    return Evaluation("classification", "test", "report", metrics, tuple(rows), next(iter(metrics)))


def figure(value: float = 0.5, note: str = "") -> Interval:
    return Interval(value, 0.4, 0.6, 9, 9, note)


def row(truth: str, said: str, worth: float = 0.5) -> Row:
    return {"id": f"{truth}-{said}-{worth}", "truth": truth, "prediction": said, f"p_{said}": 0.9, "worth": worth}


@pytest.fixture
def plan(classifier: Run) -> Plan:
    return classifier.plan  # healthy, lesion


def test_what_is_said_of_all_is_said_once(plan: Plan) -> None:
    metrics = {"auroc": figure(note="patient unknown"), "accuracy": figure(note="no case of lesion; patient unknown")}
    made = section(evaluation([row("healthy", "lesion")], metrics), plan, Worth())
    assert made.note == "patient unknown"
    assert {f.name: f.note for f in made.whole} == {"AUROC": "", "Accuracy": "no case of lesion"}
    assert made.headline.name == "AUROC"
    assert made.part == "test"
    assert made.use.startswith("Used for reporting alone")


def test_figures_of_classes_stand_apart(plan: Plan) -> None:
    metrics = {"dice": figure(), "dice_healthy": figure(0.7), "dice_lesion": figure(0.3, "odd")}
    rows: list[Row] = [{"id": "a", "dice": 0.5, "dice_healthy": 0.7, "dice_lesion": 0.3, "worth": 0.5}]
    made = section(evaluation(rows, metrics), plan, Worth())
    assert [f.name for f in made.whole] == ["Dice"]
    assert made.measures == ("Dice",)
    assert [(f.name, f.intervals[0].value, f.note) for f in made.classes] == [("healthy", 0.7, ""), ("lesion", 0.3, "odd")]
    assert made.matrix is None


def test_confusions_by_truth_and_prediction(plan: Plan) -> None:
    rows = [row("healthy", "healthy"), row("healthy", "lesion"), row("lesion", "lesion"), row("lesion", "lesion")]
    matrix = section(evaluation(rows, {"auroc": figure()}), plan, Worth()).matrix
    assert matrix is not None
    assert matrix.rows == matrix.columns == ("healthy", "lesion")
    assert matrix.counts == ((1, 1), (0, 2))
    assert matrix.total == (2, 2)


def test_outcomes_class_by_class_where_classes_do_not_exclude_each_other(plan: Plan) -> None:
    options = TASKS.load("classification").Options.parse({"multilabel": True}, "test")
    several = plan.model_copy(update={"task_options": options})
    rows = [row("healthy|lesion", "lesion"), row("", "lesion"), row("lesion", ""), row("lesion", "healthy|lesion")]
    made = section(evaluation(rows, {"auroc": figure()}), several, Worth())
    assert made.matrix is not None
    assert made.matrix.columns == ("found", "missed", "false alarm", "rightly absent")
    assert made.matrix.counts == ((0, 1, 1, 2), (2, 1, 1, 0))
    assert made.about == ""


def test_the_worst_come_first_and_no_more_than_ten(plan: Plan) -> None:
    rows = [row("healthy", "lesion", worth) for worth in (0.9, 0.1, math.nan, *[0.5] * 12)]
    worst = section(evaluation(rows, {"auroc": figure()}), plan, Worth()).worst
    assert len(worst) == 10
    assert worst[0] == ("healthy-lesion-0.1", "truth healthy, predicted lesion (0.90)")
    assert all("nan" not in name for name, _ in worst)


def test_a_case_in_words() -> None:
    classes = [Class(value=1, name="liver"), Class(value=2, name="spleen")]
    several: Row = {"dice": 0.4567, "dice_liver": 0.9, "dice_spleen": 0.0134}
    assert describe(several, "dice", classes) == "Dice 0.457: liver 0.900, spleen 0.013"
    assert describe({"dice": 0.9, "dice_liver": 0.9}, "dice", classes[:1]) == "Dice 0.900"
    assert describe({"truth": "", "prediction": ""}, "auroc", classes) == "truth none, predicted none"


def test_every_value_of_the_plan_once_with_its_reason(segmenter: Run) -> None:
    plan = segmenter.plan
    groups = decisions(plan)
    told = {f"{g.group}.{key}" if g.group else key: reason for g in groups for key, _, reason in g.rows}
    told |= {g.group: g.reason for g in groups if g.reason}
    assert told == plan.reasons
    values = plan.model_dump(mode="json", by_alias=True)
    for group in groups:
        keys = [key for key, _, _ in group.rows] + [key for key, _ in group.others]
        assert len(keys) == len(set(keys))
        if group.group and group.group != "normalise":
            assert set(keys) == set(values[group.group])
    everything = {k for g in groups if not g.group for k in [*(r[0] for r in g.rows), *(o[0] for o in g.others)]}
    assert everything | {g.group for g in groups if g.group} == values.keys() - {"schema", "reasons"}


def test_values_for_people(segmenter: Run) -> None:
    shown = {key: value for g in decisions(segmenter.plan) for key, value in [*(r[:2] for r in g.rows), *g.others]}
    assert shown["patch"] == ", ".join(map(str, segmenter.plan.patch))
    assert shown["deep_supervision"] in ("yes", "no")
    assert shown["ignore_value"] == "none"
    assert shown["classes"].startswith("liver (1), spleen (2)")


def test_what_a_figure_tells_depends_on_the_classes(plan: Plan, segmenter: Run) -> None:
    assert meaning("sensitivity", plan) == "the share of cases with the finding that was recognised"
    third = plan.model_copy(update={"classes": (*plan.classes, Class(value=2, name="third"))})
    assert meaning("sensitivity", third) == "the share of cases with the class that was recognised; mean over the classes"
    assert meaning("accuracy", third) == meaning("accuracy", plan)
    assert meaning("dice", segmenter.plan).endswith("; mean over classes and cases")
    assert meaning("another", plan) == ""


def test_of_many_classes_the_poorest_are_named() -> None:
    classes = [Class(value=k, name=f"c{k}") for k in range(1, 10)]
    row: Row = {"dice": 0.5, **{f"dice_c{k}": k / 10 for k in range(1, 10)}}
    said = describe(row, "dice", classes)
    assert said.startswith("Dice 0.500: c1 0.100, c2 0.200")
    assert said.endswith("c6 0.600 and 3 better")


def test_names_of_figures() -> None:
    assert [title(n) for n in ("auroc", "iou", "dice", "balanced_accuracy")] == ["AUROC", "IoU", "Dice", "Balanced accuracy"]
