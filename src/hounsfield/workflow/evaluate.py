"""Predictions against truth: a row a case, figures with intervals by patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.masks import Relabelled
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import RGB, TASKS, Row
from hounsfield.workflow.console import SILENT, Console, first_few, track
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.generate import save_picture
from hounsfield.workflow.predict import Predictor, cases_of
from hounsfield.workflow.processes.team import ALONE, Team
from hounsfield.workflow.run import Run, as_planned, read_json, write_json
from hounsfield.workflow.sets import Beside, beside_of, measure_sets, trained
from hounsfield.workflow.usefulness import Downstream, Likeness, More, taught

SHOWN = {  # by the pictures of a generator, as their files say
    "real": "real images",
    "generated": "synthetic images",
    "closest": "synthetic images, each beside the training image nearest to it",
}


@dataclass(frozen=True)
class Evaluation:
    """part: what was measured ("val", "test", or another dataset's name). rows: the per-case table, ordered by id.
    used_for: "training", "selection" (val), "report" (test), "development" (every fold by members that did not train on it) or
    "another dataset". pictures: of a generator, what there is to look at, by name."""

    task: str
    part: str
    used_for: str
    metrics: dict[str, Interval]
    rows: tuple[Row, ...]
    headline: str
    pictures: Mapping[str, RGB] = field(default_factory=dict, compare=False, repr=False)

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

    def noted(self, note: str) -> Evaluation:
        """The same, with `note` beside every figure."""
        return replace(self, metrics={name: interval.noted(note) for name, interval in self.metrics.items()})

    def save(self, run: Run) -> None:
        folder = run.root / "evaluation"
        write_json(folder / f"{self.part}.json", {**self.to_json(), "cases": [_finite(r) for r in self.rows]})
        for name, picture in self.pictures.items():
            save_picture([picture], 1, folder / f"{self.part}-{name}.png", SHOWN[name])


def evaluate(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    choices: Choices = DEFAULT,
    features: str | Path | None = None,
    downstream: str | Path | None = None,
    device: str = "auto",
    console: Console = SILENT,
) -> Evaluation:
    """Measure a run. data: another dataset (its test part where it has one, else all of it); None: the run's own held-out part,
    test where there is one, else every case out of its fold ("folds"), else val. split: another part. choices: how files are
    read that leave one; the run's own data are read as for its training where nothing else is chosen.

    Another dataset's classes are those of the plan by name; masks also by value where the names differ. features: of a
    generator or a restoration, a classification run by whose features images are compared; None: of a generator see
    `sets.Beside`. downstream: of a restoration, a run whose figure on restored images is compared with that on clean ones.
    Raises InputError TOO_FEW, NOT_A_RUN, BAD_LABEL, BAD_OPTION, UNSUPPORTED_PAIR (a run that cannot judge these images).
    """
    opened = run if isinstance(run, Run) else Run(run)
    _refuse_useless(opened, features, downstream)
    trained_on = Path(opened.record["data"])
    path = trained_on if data is None else Path(data)
    own = path.resolve() == trained_on.resolve()
    dataset = opened.dataset(choices) if own else as_planned(open_dataset(path, choices=choices), opened.plan)
    for note in () if own else dataset.notes:
        console.say(f"  {note}")
    TASKS.load(opened.plan.task).targets(dataset)
    dataset = _in_classes_of(opened.plan, dataset)
    more = _more(opened, path, own, features, downstream, choices, device)
    if split is None and own:
        split = "test" if opened.split.test else "folds" if opened.split.folds else "val"
    if split == "folds" and own and opened.split.folds:
        return measure_folds(opened, dataset.select(opened.split.train).samples, choose_device(device), console, more)
    if split is None and any(s.split == "test" for s in dataset.samples):
        split = "test"
    samples = cases_of(dataset, opened, split)
    # Nothing looks at val while a generator trains.
    seen = "report" if TASKS.load(opened.plan.task).KIND == "generator" else "selection"
    uses = {"val": seen, "test": "report", "train": "training"}
    name = dataset.root.resolve().stem
    part = split if own and split else f"another {name}" if name in uses else name
    used = uses[part] if own and split else "another dataset"
    beside = _beside(opened, dataset if own else None, part, features, choices, device)
    return measure(Predictor(opened, device), samples, part, used, console, beside, more)


def _refuse_useless(run: Run, features: str | Path | None, downstream: str | Path | None) -> None:
    """Raises InputError BAD_OPTION for what the run has no use for."""
    compared = run.plan.task == "restoration" or TASKS.load(run.plan.task).KIND == "generator"
    for option, value, fits, expected in (
        ("--features", features, compared, "one of generation or restoration, whose images are compared by features"),
        ("--downstream", downstream, run.plan.task == "restoration", "one of restoration, whose images another run can use"),
    ):
        if value is not None and not fits:
            found = f"a run of {run.plan.task}"
            raise InputError("BAD_OPTION", option, found=found, expected=expected, fix=f"leave {option} out")


def _more(
    run: Run,
    path: Path,
    own: bool,
    features: str | Path | None,
    downstream: str | Path | None,
    choices: Choices,
    device: str,
) -> list[More]:
    """What restored images are measured by beside. path: of the data, own: those of the run. Raises what a task's `targets`
    does where the data have no labels for the other run."""
    if run.plan.task != "restoration":
        return []
    more: list[More] = [] if features is None else [Likeness(run, Run(features), device)]
    if downstream is not None:
        other = Run(downstream)
        labelled = run.dataset(choices, other.plan) if own else as_planned(open_dataset(path, choices=choices), other.plan)
        TASKS.load(other.plan.task).targets(labelled)
        labelled = _in_classes_of(other.plan, labelled)
        more.append(Downstream(run, other, labelled.samples, taught(other, path), device))
    return more


def _beside(
    run: Run, own: Dataset | None, part: str, features: str | Path | None, choices: Choices, device: str
) -> Beside | None:
    """What a generator is measured with, None for other tasks. own: the run's data where they were read. Raises InputError
    NOT_FOUND where the run's data have moved."""
    if TASKS.load(run.plan.task).KIND != "generator":
        return None
    judge = None if features is None else trained(Run(features), run, device)
    return beside_of(run, own or run.dataset(choices), part, judge)


def _in_classes_of(plan: Plan, dataset: Dataset) -> Dataset:
    """The dataset with its targets in the plan's class indices or mask values. Raises InputError BAD_LABEL."""
    place = {c.name: k for k, c in enumerate(plan.classes)}
    if all(c.name in place for c in dataset.classes):
        index = [place[c.name] for c in dataset.classes]
    elif TASKS.load(plan.task).KIND == "dense" and len(dataset.classes) == len(plan.classes) == 1:
        index = [0]
    elif TASKS.load(plan.task).KIND == "dense" and {c.value for c in dataset.classes} <= {c.value for c in plan.classes}:
        by_value = {c.value: k for k, c in enumerate(plan.classes)}
        index = [by_value[c.value] for c in dataset.classes]
    else:
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"classes {first_few(f'{c.name} ({c.value})' for c in dataset.classes)}",
            expected=f"those of the run, {first_few(f'{c.name} ({c.value})' for c in plan.classes)}",
            fix="rename the classes of this dataset",
        )
    values = tuple((c.value, plan.classes[k].value) for c, k in zip(dataset.classes, index, strict=True))
    lacking = len(index) < len(plan.classes)

    def translated(sample: Sample) -> Sample:
        target, known = sample.target, sample.known_classes
        if isinstance(target, int):
            return replace(sample, target=index[target])
        if isinstance(target, tuple):
            known = tuple(range(len(index))) if known is None and lacking else known
            known = None if known is None else tuple(index[k] for k in known)
            return replace(sample, target=tuple(index[k] for k in target), known_classes=known)
        if isinstance(target, Boxes):
            target = replace(target, labels=np.array([index[k] for k in target.labels.tolist()], dtype=np.int64))
            known = tuple(range(len(index))) if known is None and lacking else known
        elif target is not None and any(old != new for old, new in values):
            target = Relabelled(target, values)
        known = None if known is None else tuple(sorted(index[k] for k in known))
        return replace(sample, target=target, known_classes=known)

    return dataset.only(translated(s) for s in dataset.samples)


def measure(
    predictor: Predictor,
    samples: Sequence[Sample],
    part: str,
    used_for: str,
    console: Console,
    beside: Beside | None = None,
    more: Sequence[More] = (),
    team: Team = ALONE,
) -> Evaluation:
    """Predict and score every sample, by what there is `more`, too, each process of `team` its part of them; of a generator
    compare as many of its images with the samples, and with what lies `beside`."""
    if TASKS.load(predictor.plan.task).KIND == "generator":
        found = measure_sets(predictor, samples, beside or Beside(), console)
        headline = predictor.solver.metrics().headline
        return Evaluation(predictor.plan.task, part, used_for, dict(found.figures), tuple(found.rows), headline, found.pictures)
    return _measure(lambda sample: predictor, samples, part, used_for, console, more, team)


def measure_folds(
    run: Run, samples: Sequence[Sample], device: torch.device, console: Console, more: Sequence[More] = (), team: Team = ALONE
) -> Evaluation:
    """Predict and score every sample by the members of its fold, which did not train on it."""
    folds = run.split.folds
    predictors = [Predictor.of(run.plan, run.models(device, fold)) for fold in range(len(folds))]
    of = {name: predictor for predictor, fold in zip(predictors, folds, strict=True) for name in fold}
    return _measure(lambda sample: of[sample.id], samples, "folds", "development", console, more, team)


def _measure(
    predictor_of: Callable[[Sample], Predictor],
    samples: Sequence[Sample],
    part: str,
    used_for: str,
    console: Console,
    more: Sequence[More],
    team: Team,
) -> Evaluation:
    if not samples:
        raise InputError("TOO_FEW", part, found="no case", expected="at least one", fix="choose another part")
    first = predictor_of(samples[0])
    metrics = first.solver.metrics()
    every: list[More] = [metrics, *more]
    rows: list[Row] = []
    for sample in track(console, f"evaluating {part}", team.mine(samples)):
        prediction = predictor_of(sample).examine(sample)
        row: dict[str, float | str] = {"id": sample.id, "patient": sample.patient or ""}
        for measured in every:
            row |= measured.case(sample, prediction)
        rows.append(row)
    rows = team.gathered(rows)
    patients = [s.patient for s in samples]
    summary = {name: figure for measured in every for name, figure in measured.summary(rows, patients).items()}
    return Evaluation(first.plan.task, part, used_for, summary, tuple(rows), metrics.headline)


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
