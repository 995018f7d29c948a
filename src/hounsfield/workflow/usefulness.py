"""Restored images measured by other networks: how like the truth a classifier finds them, and what another run sees in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.channels import read_case
from hounsfield.data.prepare import prepare
from hounsfield.metrics import bootstrap
from hounsfield.metrics.bootstrap import Interval
from hounsfield.metrics.restoration import feature_distance
from hounsfield.tasks import TASKS, Row, restoration
from hounsfield.tasks.parts import judges
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run

LABELLED: Final = ("vector", "dense", "boxes")  # kinds of tasks that say something of an image
VARIANTS: Final = ("clean", "given", "restored")


class More(Protocol):
    """Figures beside those of the task."""

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        """More columns of one case."""

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, Interval]:
        """Figures with 95% intervals by patient, as `tasks.Metrics` makes them."""


class Likeness:
    """The distance of features (`metrics.restoration.feature_distance`) of what was restored, and of what was given, to the
    truth, in the holes alone where there are some; of several networks the mean. judge: a run of classification, for which each
    image is prepared. Raises InputError UNSUPPORTED_PAIR for another run, or one of images of another kind."""

    def __init__(self, run: Run, judge: Run, device: str) -> None:
        self.solver = _solver(run)
        _check(self.solver, judge, "--features", ("vector",), "one of classification")
        predictor = Predictor(judge, device)
        self.plan = predictor.plan
        name = f"{judge.plan.network} of run {judge.root.resolve().name}"
        self.networks = [judges.layers(name, model) for model in predictor.models]
        mean = f"mean of {len(self.networks)} networks, " if len(self.networks) > 1 else ""
        self.about = f"{mean}features of {name} ({', '.join(network.digest for network in self.networks)})"

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        assert isinstance(prediction, Image)
        riddle, made = self.solver.riddle(sample), prediction.canonical()
        images = [self._prepared(Image(array, made.geometry)) for array in (riddle.truth, made.array, riddle.given)]
        each = []
        for network in self.networks:
            truth, *others = (network.of(x) for x in images)
            each.append([feature_distance(truth, other, riddle.hole) for other in others])
        restored, given = np.mean(each, axis=0)
        return {"feature_distance": float(restored), "feature_distance_given": float(given)}

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, Interval]:
        return {
            name: bootstrap.mean([float(row[name]) for row in rows], patients).noted(self.about)
            for name in ("feature_distance", "feature_distance_given")
        }

    def _prepared(self, image: Image) -> Tensor:
        # All of the image, so that a hole has one place in all maps.
        grid = self.plan.grid.model_copy(update={"crop_foreground": False})
        return prepare(image, grid, self.plan.normalise).tensor[None]


class Downstream:
    """The headline figure of another run on clean images, on what was given and on what was restored, each on the grid of the
    source. labelled: the samples of the data with targets as that run knows them; known: ids of those that it learned from.
    Raises InputError UNSUPPORTED_PAIR for a run that says nothing of an image, or was trained on images of another kind."""

    def __init__(self, run: Run, other: Run, labelled: Iterable[Sample], known: Iterable[str], device: str) -> None:
        self.solver = _solver(run)
        _check(self.solver, other, "--downstream", LABELLED, "one of classification, detection or segmentation")
        self.predictor = Predictor(other, device)
        self.metrics = self.predictor.solver.metrics()
        self.labelled = {sample.id: sample for sample in labelled}
        self.known = set(known)
        self.about = f"{self.metrics.headline} of {other.plan.network} of run {other.root.resolve().name}"

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        """What the other run's own table says of each variant, behind `downstream_VARIANT_`."""
        assert isinstance(prediction, Image)
        every = read_case(sample, len(self.solver.plan.channels))
        clean = Image(every.array[-self.solver.channels :], every.geometry, every.meta)  # of two acquisitions the second
        given = _over(clean, self.solver.riddle(sample).given)
        restored = _over(clean, prediction.canonical().array)
        row: dict[str, float | str] = {}
        for name, image in zip(VARIANTS, (clean, given, restored), strict=True):
            found = self.metrics.case(self.labelled[sample.id], self.predictor(image))
            row |= {f"downstream_{name}_{key}": value for key, value in found.items()}
        return row

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, Interval]:
        """`downstream` is of what was restored; `gain` what it has over what was given, `gap` over the clean image."""
        clean, given, restored = (
            self.metrics.summary(_of(rows, f"downstream_{name}_"), patients)[self.metrics.headline] for name in VARIANTS
        )
        figures = {
            "downstream": restored,
            "downstream_given": given,
            "downstream_clean": clean,
            "downstream_gain": bootstrap.difference(restored, given, patients),
            "downstream_gap": bootstrap.difference(restored, clean, patients),
        }
        taught = sum(str(row["id"]) in self.known for row in rows)
        note = f"{self.about}, which learned from {taught} of these {len(rows)} cases" if taught else self.about
        return {name: figure.noted(note) for name, figure in figures.items()}


def _solver(run: Run) -> restoration.Solver:
    solver = run.solver
    assert isinstance(solver, restoration.Solver)
    return solver


def _check(solver: restoration.Solver, other: Run, option: str, kinds: Sequence[str], expected: str) -> None:
    """Raises InputError UNSUPPORTED_PAIR for a run that cannot judge the solver's images."""
    plan, member = other.plan, TASKS.load(other.plan.task)
    of_images = (plan.ndim, len(plan.channels)) == (solver.plan.ndim, solver.channels)
    if member.KIND in kinds and getattr(member, "TRUTH", "labels") == "labels" and of_images:
        return
    raise InputError(
        "UNSUPPORTED_PAIR",
        other.root,
        found=f"a run of {plan.task} of {plan.ndim}D images of {len(plan.channels)} channels",
        expected=f"{expected}, of {solver.plan.ndim}D images of {solver.channels}",
        fix=f"name another run with {option}",
    )


def _over(image: Image, values: npt.NDArray[np.generic]) -> Image:
    """The image as float32 with values (C, *spatial), along its canonical axes from their beginning on, in the place of its
    own: what is left over at the ends, where resolution was raised, stays."""
    made = Image(image.array.astype(np.float32), image.geometry, image.meta)
    made.canonical().array[(slice(None), *(slice(n) for n in values.shape[1:]))] = values
    return made


def _of(rows: Sequence[Row], prefix: str) -> list[Row]:
    return [{key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)} for row in rows]


def taught(other: Run, root: Path) -> Iterable[str]:
    """Ids of the cases below `root` that a run learned from; none where it learned from other data."""
    return other.split.train if Path(other.record["data"]).resolve() == root.resolve() else ()
