"""Tables of a report: figures, classes, confusions, worst cases and decisions, as plain values for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hounsfield.core.plan import Class, Plan
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import Metrics, Row
from hounsfield.workflow.charts import strip
from hounsfield.workflow.evaluate import Evaluation

PARTS: Final = {"train": "training", "val": "validation", "test": "test"}
USES: Final = {
    "selection": "Used for selection: it was looked at during training, so these figures may flatter.",
    "report": "Used for reporting alone: opened once, after training.",
    "training": "Used for training: says nothing about new cases.",
    "another dataset": "Another dataset than the one trained on.",
}
TITLES: Final = {"auroc": "AUROC", "iou": "IoU"}
WORST: Final = 10  # cases listed by name


@dataclass(frozen=True)
class ClassRow:
    """One class of the per-class table. figures: one for each measure. spread: how its cases' first measure is distributed, as
    `charts.strip` draws it."""

    name: str
    colour: tuple[int, int, int]
    figures: tuple[Interval, ...]
    spread: str


@dataclass(frozen=True)
class Matrix:
    """counts[r][c]: cases of row r and column c. total[r]: cases of the row."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    about: str

    @property
    def total(self) -> tuple[int, ...]:
        return tuple(sum(row) for row in self.counts)


@dataclass(frozen=True)
class Section:
    """One evaluation. whole: figures over all classes; measures and classes: those that each class has; worst: (id, what was
    found there), the worst first."""

    part: str
    use: str
    headline: tuple[str, Interval]
    whole: tuple[tuple[str, Interval], ...]
    measures: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    matrix: Matrix | None
    worst: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Decisions:
    """One group of the plan. reason: of the group as a whole; rows: (key, value, reason)."""

    group: str
    reason: str
    rows: tuple[tuple[str, str, str], ...]


def title(name: str) -> str:
    """A figure's name for people: "auroc" -> "AUROC", "balanced_accuracy" -> "Balanced accuracy"."""
    return TITLES.get(name) or name.replace("_", " ").capitalize()


def section(evaluation: Evaluation, plan: Plan, metrics: Metrics) -> Section:
    """The tables of one evaluation."""
    figures = evaluation.metrics
    measures = [m for m in figures if all(f"{m}_{c.name}" in figures for c in plan.classes)]
    of_classes = {f"{m}_{c.name}" for m in measures for c in plan.classes}
    rows = sorted((r for r in evaluation.rows if math.isfinite(metrics.worth(r))), key=metrics.worth)
    return Section(
        part=PARTS.get(evaluation.part, evaluation.part),
        use=USES.get(evaluation.used_for, evaluation.used_for),
        headline=(title(evaluation.headline), figures[evaluation.headline]),
        whole=tuple((title(name), figure) for name, figure in figures.items() if name not in of_classes),
        measures=tuple(title(m) for m in measures),
        classes=tuple(_class_row(c, measures, evaluation) for c in plan.classes) if measures else (),
        matrix=_matrix(evaluation.rows, plan),
        worst=tuple((str(r["id"]), describe(r, evaluation.headline, plan.classes)) for r in rows[:WORST]),
    )


def describe(row: Row, headline: str, classes: Sequence[Class]) -> str:
    """What was found in one case, in a few words."""
    if "prediction" in row:
        given = row.get(f"p_{row['prediction']}")
        probability = "" if given is None else f" ({float(given):.2f})"
        return f"truth {row['truth'] or 'none'}, predicted {row['prediction'] or 'none'}{probability}"
    each = [f"{c.name} {float(row[name]):.3f}" for c in classes if (name := f"{headline}_{c.name}") in row]
    return f"{title(headline)} {float(row[headline]):.3f}" + (f": {', '.join(each)}" if len(each) > 1 else "")


def decisions(plan: Plan) -> tuple[Decisions, ...]:
    """Every value of the plan with its reason, group by group."""
    values = plan.model_dump(mode="json", by_alias=True)
    reasons: dict[str, str] = values.pop("reasons")
    values.pop("schema")
    values["classes"] = [f"{c.name} ({c.value})" for c in plan.classes]
    values["normalise"] = dict(zip(plan.channels, values["normalise"], strict=True))
    groups = {"plan": {k: v for k, v in values.items() if not isinstance(v, dict)}}
    groups |= {k: v for k, v in values.items() if isinstance(v, dict)}
    return tuple(
        Decisions(
            "" if group == "plan" else group,
            reasons.get(group, ""),
            tuple(
                (key, _text(value), reasons.get(key if group == "plan" else f"{group}.{key}", ""))
                for key, value in inside.items()
            ),
        )
        for group, inside in groups.items()
    )


def _class_row(c: Class, measures: Sequence[str], evaluation: Evaluation) -> ClassRow:
    figures = tuple(evaluation.metrics[f"{m}_{c.name}"] for m in measures)
    values = [float(r[f"{measures[0]}_{c.name}"]) for r in evaluation.rows]
    return ClassRow(c.name, c.colour, figures, strip(values))


def _matrix(rows: Sequence[Row], plan: Plan) -> Matrix | None:
    """Confusions of a classification: truth against prediction, or class by class where classes do not exclude each other."""
    if not rows or "prediction" not in rows[0]:
        return None
    names = tuple(c.name for c in plan.classes)
    if not getattr(plan.task_options, "multilabel", False):
        at = {name: k for k, name in enumerate(names)}
        counts = [[0] * len(names) for _ in names]
        for row in rows:
            counts[at[str(row["truth"])]][at[str(row["prediction"])]] += 1
        return Matrix(names, names, tuple(map(tuple, counts)), "Cases by truth (rows) and prediction (columns).")
    sets = [(set(str(r["truth"]).split("|")), set(str(r["prediction"]).split("|"))) for r in rows]
    outcomes = ((True, True), (True, False), (False, True), (False, False))
    table = tuple(tuple(sum((n in truth, n in said) == outcome for truth, said in sets) for outcome in outcomes) for n in names)
    return Matrix(names, ("found", "missed", "false alarm", "rightly absent"), table, "Cases of each class, decided at 0.5.")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inside)}" for key, inside in value.items())
    if isinstance(value, list):
        return ", ".join(_text(inside) for inside in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
