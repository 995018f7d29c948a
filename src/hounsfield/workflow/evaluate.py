"""Predictions against truth: a row a case, figures with intervals by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample
from hounsfield.data.readers import open_dataset
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import TASKS, Row
from hounsfield.workflow.console import SILENT, Console, track
from hounsfield.workflow.predict import Predictor, cases_of
from hounsfield.workflow.run import Run, read_json, write_json


@dataclass(frozen=True)
class Evaluation:
    """part: what was measured ("val", "test", or another dataset's name). rows: the per-case table, ordered by id.
    used_for: "selection" (val), "report" (test) or "another dataset"."""

    task: str
    part: str
    used_for: str
    metrics: dict[str, Interval]
    rows: tuple[Row, ...]
    headline: str

    def to_json(self) -> dict[str, Any]:
        metrics = {name: interval.to_json() for name, interval in self.metrics.items()}
        return {
            "schema": 1,
            "task": self.task,
            "part": self.part,
            "used_for": self.used_for,
            "headline": self.headline,
            "metrics": metrics,
        }

    def save(self, run: Run) -> None:
        write_json(run.root / "evaluation" / f"{self.part}.json", {**self.to_json(), "cases": [_finite(r) for r in self.rows]})


def evaluate(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    device: str = "auto",
    console: Console = SILENT,
) -> Evaluation:
    """Measure a run. data: another dataset (its test part where it has one, else all of it); None: the run's own held-out part,
    test where there is one, else val. split: another part. Raises InputError TOO_FEW, NOT_A_RUN, BAD_LABEL."""
    opened = run if isinstance(run, Run) else Run(run)
    dataset = open_dataset(Path(data) if data is not None else opened.record["data"])
    own = Path(opened.record["data"]).resolve() == dataset.root.resolve()
    TASKS.load(opened.plan.task).targets(dataset)
    if split is None and own:
        split = "test" if opened.split.test else "val"
    elif split is None and any(s.split == "test" for s in dataset.samples):
        split = "test"
    samples = cases_of(dataset, opened, split)
    part = split if own and split else dataset.root.stem
    used = (
        {"val": "selection", "test": "report", "train": "training"}.get(part, "another dataset") if own else "another dataset"
    )
    return measure(Predictor(opened, device), samples, part, used, console)


def measure(predictor: Predictor, samples: Sequence[Sample], part: str, used_for: str, console: Console) -> Evaluation:
    """Predict and score every sample."""
    if not samples:
        raise InputError("TOO_FEW", part, found="no case", expected="at least one", fix="choose another part")
    metrics = predictor.solver.metrics()
    rows: list[Row] = [
        {"id": sample.id, "patient": sample.patient or "", **metrics.case(sample, predictor(sample))}
        for sample in track(console, f"evaluating {part}", samples)
    ]
    summary = dict(metrics.summary(rows, [s.patient for s in samples]))
    return Evaluation(predictor.plan.task, part, used_for, summary, tuple(rows), metrics.headline)


def stored(run: Run) -> list[Evaluation]:
    """What the run measured before: test first."""
    found = []
    for path in sorted((run.root / "evaluation").glob("*.json"), key=lambda p: (p.stem != "test", p.stem)):
        values = read_json(path)
        intervals = {name: Interval(**_nan(fields)) for name, fields in values["metrics"].items()}
        rows = tuple(_nan(row) for row in values["cases"])
        found.append(Evaluation(values["task"], values["part"], values["used_for"], intervals, rows, values["headline"]))
    return found


def _nan(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float("nan") if v is None else v for k, v in fields.items()}


def _finite(row: Row) -> dict[str, float | str | None]:
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}
