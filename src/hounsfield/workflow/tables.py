"""Tables of a report: figures, classes, confusions, worst cases and decisions, as plain values for the page."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
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
class Figure:
    """One line of a table. intervals: one for each measure of the table. note: what is said of this line alone. spread: how its
    cases' first measure is distributed, as `charts.strip` draws it; colour: of a class; both empty for other figures."""

    name: str
    intervals: tuple[Interval, ...]
    note: str
    colour: tuple[int, ...] = ()
    spread: str = ""


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
    """One evaluation. note: what is said of every figure; about: what they speak of. whole: figures over all classes; measures
    and classes: those that each class has; worst: (id, what was found there), the worst first."""

    part: str
    use: str
    note: str
    about: str
    headline: Figure
    whole: tuple[Figure, ...]
    measures: tuple[str, ...]
    classes: tuple[Figure, ...]
    matrix: Matrix | None
    worst: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Decisions:
    """One group of the plan. reason: of the group as a whole; rows: (key, value, reason); others: (key, value) of what has no
    reason of its own."""

    group: str
    reason: str
    rows: tuple[tuple[str, str, str], ...]
    others: tuple[tuple[str, str], ...]


def title(name: str) -> str:
    """A figure's name for people: "auroc" -> "AUROC", "balanced_accuracy" -> "Balanced accuracy"."""
    return TITLES.get(name) or name.replace("_", " ").capitalize()


def section(evaluation: Evaluation, plan: Plan, metrics: Metrics) -> Section:
    """The tables of one evaluation."""
    figures = evaluation.metrics
    measures = [m for m in figures if all(f"{m}_{c.name}" in figures for c in plan.classes)]
    of_classes = {f"{m}_{c.name}" for m in measures for c in plan.classes}
    common = set.intersection(*(set(_notes(figure)) for figure in figures.values()))
    whole = {
        name: Figure(title(name), (figure,), _rest([figure], common))
        for name, figure in figures.items()
        if name not in of_classes
    }
    rows = sorted((r for r in evaluation.rows if math.isfinite(metrics.worth(r))), key=metrics.worth)
    return Section(
        part=PARTS.get(evaluation.part, evaluation.part),
        use=USES.get(evaluation.used_for, evaluation.used_for),
        note="; ".join(note for note in _notes(figures[evaluation.headline]) if note in common),
        about=_about(evaluation, plan),
        headline=whole[evaluation.headline],
        whole=tuple(whole.values()),
        measures=tuple(title(m) for m in measures),
        classes=tuple(_class_figure(c, measures, evaluation, common) for c in plan.classes) if measures else (),
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
    loose = {key: value for key, value in values.items() if not isinstance(value, dict)}
    groups = {"": loose} | {key: value for key, value in values.items() if isinstance(value, dict)}
    return tuple(_group(group, inside, reasons) for group, inside in groups.items())


def _group(group: str, values: Mapping[str, Any], reasons: Mapping[str, str]) -> Decisions:
    why = {key: reasons.get(f"{group}.{key}" if group else key, "") for key in values}
    rows = tuple((key, _text(value), why[key]) for key, value in values.items() if why[key])
    return Decisions(group, reasons.get(group, ""), rows, tuple((k, _text(v)) for k, v in values.items() if not why[k]))


def _class_figure(c: Class, measures: Sequence[str], evaluation: Evaluation, common: Collection[str]) -> Figure:
    intervals = tuple(evaluation.metrics[f"{m}_{c.name}"] for m in measures)
    values = [float(r[f"{measures[0]}_{c.name}"]) for r in evaluation.rows]
    return Figure(c.name, intervals, _rest(intervals, common), c.colour, strip(values))


def _rest(intervals: Iterable[Interval], common: Collection[str]) -> str:
    """The notes of these figures that are not said of all."""
    return "; ".join(dict.fromkeys(note for interval in intervals for note in _notes(interval) if note not in common))


def _notes(interval: Interval) -> list[str]:
    return [note for note in interval.note.split("; ") if note]


def _matrix(rows: Sequence[Row], plan: Plan) -> Matrix | None:
    """Confusions of a classification: truth against prediction, or class by class where classes do not exclude each other."""
    if not rows or "prediction" not in rows[0]:
        return None
    names = tuple(c.name for c in plan.classes)
    if not _is_multilabel(plan):
        at = {name: k for k, name in enumerate(names)}
        counts = [[0] * len(names) for _ in names]
        for row in rows:
            counts[at[str(row["truth"])]][at[str(row["prediction"])]] += 1
        return Matrix(
            names,
            names,
            tuple(map(tuple, counts)),
            "Cases by truth (rows) and prediction (columns), shaded by their part of the row.",
        )
    sets = [(set(str(r["truth"]).split("|")), set(str(r["prediction"]).split("|"))) for r in rows]
    outcomes = ((True, True), (True, False), (False, True), (False, False))
    table = tuple(tuple(sum((n in truth, n in said) == outcome for truth, said in sets) for outcome in outcomes) for n in names)
    return Matrix(names, ("found", "missed", "false alarm", "rightly absent"), table, "Cases of each class, decided at 0.5.")


def _is_multilabel(plan: Plan) -> bool:
    return bool(getattr(plan.task_options, "multilabel", False))


def _about(evaluation: Evaluation, plan: Plan) -> str:
    if "prediction" not in evaluation.rows[0] or len(plan.classes) != 2 or _is_multilabel(plan):
        return ""
    return f"Sensitivity, specificity and average precision take {plan.classes[1].name} as the finding."


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inside)}" for key, inside in value.items())
    if isinstance(value, list):
        return ", ".join(f"({_text(v)})" if isinstance(v, list) else _text(v) for v in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)
