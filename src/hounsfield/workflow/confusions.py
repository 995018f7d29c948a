"""Classes of a classification in a report: how many cases of each were found, and what they were taken for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hounsfield.core.plan import Plan
from hounsfield.tasks import Row, classification
from hounsfield.workflow.charts import strip

MANY: Final = 12  # classes up to which a table shows all
SHOWN: Final = 10  # of more classes, those that went worst


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
class Recognised:
    """One class. found: of its `cases`, as text; mistaken: what the others were taken for; spread: the probability that its
    cases were given for it, as `charts.strip` draws it. share: found of cases, NaN without a case."""

    name: str
    colour: tuple[int, ...]
    cases: int
    found: str
    share: float
    mistaken: str
    spread: str


def is_multilabel(plan: Plan) -> bool:
    return isinstance(plan.task_options, classification.Options) and plan.task_options.multilabel


def matrix(rows: Sequence[Row], plan: Plan) -> Matrix | None:
    """Confusions of a classification: truth against prediction, of many classes those most often confused; or class by class
    where classes do not exclude each other. None for another task."""
    if not rows or "prediction" not in rows[0]:
        return None
    names = [c.name for c in plan.classes]
    return _outcomes(rows, names) if is_multilabel(plan) else _pairs(rows, names)


def recognised(rows: Sequence[Row], plan: Plan) -> tuple[Recognised, ...]:
    """A line for each class of a classification; none for another task."""
    if not rows or "prediction" not in rows[0]:
        return ()
    cases: dict[str, list[Row]] = {c.name: [] for c in plan.classes}
    for row in rows:
        for name in _labels(row["truth"], plan):
            cases[name].append(row)
    return tuple(_recognised(c.name, c.colour, cases[c.name], plan) for c in plan.classes)


def _recognised(name: str, colour: tuple[int, ...], cases: Sequence[Row], plan: Plan) -> Recognised:
    said = [_labels(row["prediction"], plan) for row in cases]
    found = sum(name in names for names in said)
    others = Counter(other for names in said if name not in names for other in names).most_common(2)
    share = found / len(cases) if cases else math.nan
    return Recognised(
        name,
        colour,
        len(cases),
        f"{found} of {len(cases)} ({100 * share:.0f}%)" if cases else "no case",
        share,
        ", ".join(f"{other} ({count})" for other, count in others),
        strip([float(row.get(f"p_{name}", math.nan)) for row in cases]),
    )


def _labels(value: float | str, plan: Plan) -> list[str]:
    """The classes in a cell of the per-case table."""
    return [name for name in str(value).split("|") if name] if is_multilabel(plan) else [str(value)]


def _pairs(rows: Sequence[Row], names: Sequence[str]) -> Matrix:
    pairs = Counter((str(row["truth"]), str(row["prediction"])) for row in rows)
    about = "Cases by truth (rows) and prediction (columns), shaded by their part of the row."
    if len(names) <= MANY:
        counts = tuple(tuple(pairs[truth, said] for said in names) for truth in names)
        return Matrix(tuple(names), tuple(names), counts, about)
    shown = _most_confused(pairs, names)
    rest = [name for name in names if name not in shown]
    counts = tuple((*(pairs[t, said] for said in shown), sum(pairs[t, said] for said in rest)) for t in shown)
    return Matrix(shown, (*shown, "another"), counts, f"The {len(shown)} of {len(names)} classes most often confused. {about}")


def _most_confused(pairs: Mapping[tuple[str, str], int], names: Sequence[str]) -> tuple[str, ...]:
    """SHOWN classes, those of the most frequent confusions first taken; in the plan's order."""
    chosen: dict[str, None] = {}
    wrong = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: (-pairs[pair], pair))
    for name in [name for pair in wrong for name in pair] + list(names):
        if len(chosen) < SHOWN:
            chosen[name] = None
    return tuple(name for name in names if name in chosen)


def _outcomes(rows: Sequence[Row], names: Sequence[str]) -> Matrix:
    """Rightly and wrongly found and left out, for each class; of many classes those with most mistakes."""
    sets = [(set(str(r["truth"]).split("|")), set(str(r["prediction"]).split("|"))) for r in rows]
    outcomes = ((True, True), (True, False), (False, True), (False, False))
    table = {n: tuple(sum((n in truth, n in said) == outcome for truth, said in sets) for outcome in outcomes) for n in names}
    shown, about = tuple(names), "Cases of each class, decided at 0.5."
    if len(names) > MANY:
        worst = set(sorted(names, key=lambda n: -table[n][1] - table[n][2])[:SHOWN])
        shown = tuple(n for n in names if n in worst)
        about = f"The {SHOWN} of {len(names)} classes with most mistakes. {about}"
    columns = ("found", "missed", "false alarm", "rightly absent")
    return Matrix(shown, columns, tuple(table[n] for n in shown), about)
