"""From the runs of a ladder to what they tell: errors of the same validation cases, the law and its check, the size to take."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Final

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.metrics.laws import Estimate, Fitted, Floats, Noise, compared, fitted
from hounsfield.plan.sizes import parameters
from hounsfield.tasks import TASKS
from hounsfield.workflow.charts import read_log
from hounsfield.workflow.evaluate import Evaluation, stored
from hounsfield.workflow.ladders.ladder import AGAIN, Ladder, Rung
from hounsfield.workflow.ladders.study import MORE, About, Check, More, Study, Training
from hounsfield.workflow.run import Run
from hounsfield.workflow.tables import title

FLOORED: Final = 5  # numbers of cases from which on a floor of the error can be told from a small exponent


def study(data: str, runs: Mapping[str, Run], rungs: Sequence[Rung], ladder: Ladder) -> Study:
    """What the runs of a ladder tell, by name; `rungs` are all that a ladder may have."""
    whole = runs["whole"]
    evaluations = {name: next(e for e in stored(run) if e.part == "val") for name, run in runs.items()}
    shared = set.intersection(*({str(row["id"]) for row in e.rows} for e in evaluations.values()))
    if not shared:
        found = "no validation case that all trainings were measured on"
        raise InputError("TOO_FEW", whole.root.parent, found=found, expected="some", fix="train anew with a longer --budget")
    trained = [_training(r, runs[r.name], evaluations[r.name], shared) for r in rungs if r.name in runs]
    rows = [row for row in evaluations["whole"].rows if str(row["id"]) in shared]
    about = About(
        data=data,
        task=whole.plan.task,
        kind=TASKS.load(whole.plan.task).KIND,
        metric=evaluations["whole"].headline,
        unit="patients" if whole.fingerprint.patients is not None else "cases",
        network=whole.plan.network,
        held=(len(rows), len({row["patient"] or row["id"] for row in rows})),
        val=whole.record["cases"]["val"],
    )
    return conclude(about, trained, ladder)


def conclude(about: About, trained: Sequence[Training], ladder: Ladder) -> Study:
    """What trainings tell, the whole first."""
    parts = tuple(t for t in trained if t.size is None)
    whole, sizes = parts[0], sorted((t for t in trained if t.size is not None or t is parts[0]), key=lambda t: t.parameters)
    lacking = next((why for t in parts if (why := _lacking(t, about.metric))), "")
    noise = None if lacking else _noise(parts)
    law, check = (None, None) if lacking else _laws(parts, noise)
    best, recommended = _recommended(sizes, noise) if len(sizes) > 1 else (None, None)
    return Study(
        about=about,
        ladder=ladder,
        parts=parts,
        sizes=tuple(sizes) if len(sizes) > 1 else (),
        check=check,
        law=law,
        noise=noise,
        more=tuple(More(k, k * whole.n, law.training(k * whole.n), law.ratio(whole.n, k)) for k in MORE) if law else (),
        best=best,
        recommended=recommended,
        lacking=lacking,
    )


def _training(rung: Rung, run: Run, evaluation: Evaluation, shared: set[str]) -> Training:
    """Measured on the validation cases that every training was measured on, with replicates that draw the same patients."""
    rows = [row for row in evaluation.rows if str(row["id"]) in shared]
    patients = [str(row["patient"]) or None for row in rows]
    figure = run.solver.metrics().summary(rows, patients)[evaluation.headline]
    draws = np.zeros(0) if figure.draws is None else _error(evaluation.headline, figure.draws)
    low, high = (float(_error(evaluation.headline, np.array(bound))) for bound in (figure.high, figure.low))
    error = Estimate(float(_error(evaluation.headline, np.array(figure.value))), low, high)
    steps = steps_of(run)
    counts = run.record
    return Training(
        name=rung.name,
        size=rung.size,
        n=counts["patients"]["train"],
        cases=counts["cases"]["train"],
        parameters=parameters(run.plan),
        steps=steps,
        step=read_log(run.members[0])[-1]["seconds"] / steps,
        error=error,
        draws=draws,
    )


def steps_of(run: Run) -> int:
    """That its one network has made."""
    return int(read_log(run.members[0])[-1]["step"])


def _error(metric: str, values: Floats) -> Floats:
    """What falls to 0 where a figure is perfect: of decibels the mean squared error, in squares of the range of values."""
    return np.asarray(10 ** (-values / 10) if metric == "psnr" else 1 - values)


def _lacking(training: Training, metric: str) -> str:
    """Why a training has no place in a law."""
    if not math.isfinite(training.error.value):
        return f"{training.name} has no {title(metric)} on the validation part"
    if training.error.value <= 0:
        return f"{training.name} makes no error on the validation part, so that nothing is left to fall"
    return ""


def _noise(parts: Sequence[Training]) -> Noise | None:
    """What trainings on as large a part tell; by its name, as two halves may differ by a patient."""
    groups: dict[Hashable, list[float]] = {}
    for training in parts:
        groups.setdefault(training.name.removesuffix(AGAIN), []).append(training.error.value)
    return Noise.of(groups)


def _laws(parts: Sequence[Training], noise: Noise | None) -> tuple[Fitted, Check]:
    """The law of all parts, and the whole as one of the same form predicts it from the smaller ones."""
    floor = len({t.name.removesuffix(AGAIN) for t in parts}) >= FLOORED

    def of(own: Sequence[Training]) -> Fitted:
        draws = np.stack([t.draws for t in own], axis=1)
        return fitted([t.n for t in own], [t.error.value for t in own], draws, noise, floor=floor)

    whole = parts[0]
    predicted = of(parts[1:]).training(whole.n)
    return of(parts), Check(whole.n, predicted, whole.error.value)


def _recommended(sizes: Sequence[Training], noise: Noise | None) -> tuple[Training | None, Training | None]:
    """The size of the least error, and the smallest that is not clearly worse; none where an error has no value."""
    if not all(math.isfinite(t.error.value) for t in sizes):
        return None, None
    best = min(sizes, key=lambda t: t.error.value)
    if best.error.value <= 0:
        return best, best
    for smaller in sizes:
        if smaller is best:
            break
        ratio = compared((smaller.error.value, smaller.draws), (best.error.value, best.draws), noise)
        if not ratio.low > 1:  # NaN, where nothing tells them apart, is above nothing
            return best, smaller
    return best, best
