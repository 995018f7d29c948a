"""Rows of text are read once, and the counts of a case follow the plan's score."""

from __future__ import annotations

from collections import Counter

import numpy as np

from hounsfield.core.boxes import Boxes
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.tasks.parts.box_metrics import Metrics

CLASSES = (Class(value=1, name="a"), Class(value=2, name="b"))


class Counting(dict[str, float | str]):
    """A row that counts how often each cell is asked for."""

    def __init__(self, row: object) -> None:
        super().__init__(row)  # type: ignore[call-overload]
        self.asked: Counter[str] = Counter()

    def __getitem__(self, key: str) -> float | str:
        self.asked[key] += 1
        return super().__getitem__(key)


def some(count: int, seed: int) -> Boxes:
    draw = np.random.default_rng(seed)
    low = draw.integers(0, 40, (count, 2))
    corners = np.concatenate([low, low + draw.integers(3, 12, (count, 2))], axis=1).astype(float)
    return Boxes(corners, draw.integers(0, 2, count), draw.random(count))


def test_each_cell_is_read_once_for_all_figures() -> None:
    metrics = Metrics(CLASSES, 2)
    rows = [Counting(metrics.case(Sample(str(k), (), target=some(6, k)), some(9, 100 + k))) for k in range(8)]
    figures = metrics.summary(rows, [None] * 8)
    assert {"map50", "map", "froc", "sensitivity_small"} <= set(figures)
    assert {n for row in rows for key, n in row.asked.items() if key[:4] in ("scor", "hits", "trut", "best")} == {1}
    assert repr(metrics.summary([dict(row) for row in rows], [None] * 8)) == repr(figures)  # one of which is NaN


def test_a_lower_score_of_the_plan_finds_more() -> None:
    truth = Boxes(np.array([[0, 0, 10, 10.0]]), np.array([0]))
    found = Boxes(np.array([[0, 0, 10, 10.0], [30, 30, 40, 40]]), np.array([0, 0]), np.array([0.4, 0.35]))
    sample = Sample("a", (), target=truth)
    counts = {s: Metrics(CLASSES, 2, s).case(sample, found) for s in (0.5, 0.4, 0.3)}
    assert {s: (row["found"], row["missed"], row["false"]) for s, row in counts.items()} == {
        0.5: (0, 1, 0),
        0.4: (1, 0, 0),
        0.3: (1, 0, 1),
    }
