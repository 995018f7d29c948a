"""A generator measured: its images beside held-out real ones, by features of one network, and what there is to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.prepare import Placement
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import RGB, TASKS, Row
from hounsfield.tasks.generation import Solver
from hounsfield.tasks.parts import features, judges
from hounsfield.tasks.parts.drawing import mosaic
from hounsfield.tasks.parts.judges import Judge
from hounsfield.tasks.parts.sets import Comparison, Part, compare
from hounsfield.workflow.console import Console, track
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run
from hounsfield.workflow.wishes import geometry_of

SEED: Final = 1  # of the images that are measured
MOST: Final = 5000  # images of a set that are compared,
MOST_VALUES: Final = 2**28  # and values of all of them
SHOWN: Final = 16  # images of a picture
ACROSS: Final = 8
LEARNING: Final = 0.002  # seconds a voxel that features take to be learned; 8 s for pictures of 64x64 on two cores
LEARNING_SHARE: Final = 0.1  # of a budget that it may take


@dataclass(frozen=True)
class Beside:
    """What a generator is measured with beside the held-out images. train: that it learned from; spare: from which nothing did
    learn, and with which nothing is compared. judge: by whose features; None: of a network that learns from the spare ones, or
    where these are few, or `seconds` of a budget do not hold that, of random weights."""

    train: Sequence[Sample] = ()
    spare: Sequence[Sample] = ()
    judge: Judge | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Known:
    """What generated images are compared with: held-out real ones, with what each is as the task encodes it, and those
    that were learned from; all seen by one judge. note: what is said of every figure."""

    real: Part
    targets: Tensor
    train: Part
    judge: Judge
    note: str


@dataclass(frozen=True, eq=False)
class Measured:
    """figures and rows: see `tasks/parts/sets.py`. pictures: by name, "real", "generated" and "closest": pairs of a generated
    image and the training image nearest to it."""

    figures: Mapping[str, Interval]
    rows: Sequence[Row]
    pictures: Mapping[str, RGB]


def beside_of(run: Run, data: Dataset, part: str, judge: Judge | None = None) -> Beside:
    """What images of a part of `data` are measured with, those that the run learned from: where it is none of the run's own, or
    test, features may learn from val."""
    train, val = (data.select(ids).samples if ids else () for ids in (run.split.train, run.split.val))
    return Beside(train, () if part in ("val", "train") else val, judge)


def learning(plan: Plan, spare: int, seconds: float | None) -> float:
    """Seconds that it takes to learn features from so many images; 0 where that is not done."""
    takes = LEARNING * prod(plan.patch)
    fits = seconds is None or takes <= LEARNING_SHARE * seconds
    return takes if spare >= features.FEWEST and fits else 0.0


def measure_sets(predictor: Predictor, samples: Sequence[Sample], beside: Beside, console: Console) -> Measured:
    """As many generated images as `samples`, of their classes, beside these, and beside the training ones. Raises InputError
    TOO_FEW as `known` does."""
    there = known(predictor, samples, beside, console)
    made = drawn(predictor, there)
    found = compare(there.real, made, there.train, there.note)
    return Measured(found.figures, found.rows, _pictures(cast(Solver, predictor.solver), there, made, found))


def known(predictor: Predictor, samples: Sequence[Sample], beside: Beside, console: Console) -> Known:
    """Of the training images, those of a patient that is among the samples are left out. Raises InputError TOO_FEW where then
    none is left."""
    plan, solver = predictor.plan, cast(Solver, predictor.solver)
    most = min(MOST, MOST_VALUES // (len(plan.channels) * prod(plan.patch)))
    held = {s.group for s in samples}
    others = [s for s in beside.train if s.group not in held]
    if not others:
        raise InputError(
            "TOO_FEW", "training images", found="none beside those compared", expected="some", fix="compare with another part"
        )
    some, taught = _some(samples, most), _some(others, most)
    real, places = _read(predictor, some, console, "reading real images")
    learned, _ = _read(predictor, taught, console, "reading training images")
    judge = beside.judge or _judge(predictor, beside, learned, console)
    targets = [solver.encode(sample, place) for sample, place in zip(some, places, strict=True)]
    return Known(
        Part([s.id for s in some], [s.patient for s in some], real.numpy(), judge(real)),
        torch.from_numpy(np.stack(targets)),
        Part([s.id for s in taught], [s.patient for s in taught], learned.numpy(), judge(learned)),
        judge,
        f"{len(some)} real and as many generated images, {judge.about}",
    )


def drawn(predictor: Predictor, beside: Known) -> Part:
    """As many generated images as real ones, each of what the real one is."""
    solver = cast(Solver, predictor.solver)
    made = solver.generate(predictor.models, range(len(beside.real)), beside.targets, SEED)
    names = [f"generated {k}" for k in range(len(made))]
    return Part(names, names, made.numpy(), beside.judge(made))


def trained(judge: Run, run: Run, device: str) -> Judge:
    """A classification run as judge of the images of a generator's run; of several networks the first, as the figures want one
    vector an image. Raises InputError UNSUPPORTED_PAIR for a run of another task."""
    if TASKS.load(judge.plan.task).KIND != "vector":
        raise InputError(
            "UNSUPPORTED_PAIR",
            judge.root,
            found=f"a run of {judge.plan.task}",
            expected="one of classification, whose features tell images apart",
            fix="name another run with --features",
        )
    predictor, solver = Predictor(judge, device), cast(Solver, run.solver)
    geometry, dtype = geometry_of(run), run.fingerprint.dtype
    several = f", the first of its {len(predictor.models)} networks" if len(predictor.models) > 1 else ""
    inner = judges.classifier(f"{judge.plan.model} of run {judge.root.resolve().name}{several}", predictor.models[0])

    def of(images: Tensor) -> Tensor:
        each = [predictor.prepare(solver.image(values, geometry, dtype)).tensor for values in images]
        return inner.of(torch.stack(each))

    return replace(inner, of=of)


def _judge(predictor: Predictor, beside: Beside, known: Tensor, console: Console) -> Judge:
    if not learning(predictor.plan, len(beside.spare), beside.seconds):
        return judges.random(known)
    spare, _ = _read(predictor, beside.spare, console, "reading spare images")
    with console.bar("learning features") as bar:
        return judges.learned(spare, bar)


def _read(predictor: Predictor, samples: Sequence[Sample], console: Console, label: str) -> tuple[Tensor, Sequence[Placement]]:
    """(N, C, *grid) in [-1, 1]: real images on the model grid, as the generator learns them; and where it lies in each."""
    read = [predictor.prepare(predictor.read(sample)) for sample in track(console, label, samples)]
    values = torch.stack([prepared.tensor.cpu() for prepared in read])
    return values.clamp_(-1, 1), [prepared.placement for prepared in read]


def _some(samples: Sequence[Sample], most: int) -> Sequence[Sample]:
    """At most so many, evenly spaced."""
    count = min(most, len(samples))
    return [samples[k * len(samples) // count] for k in range(count)]


def _pictures(solver: Solver, beside: Known, made: Part, found: Comparison) -> dict[str, RGB]:
    def tiles(values: npt.NDArray[np.float32]) -> list[RGB]:
        shape = values.shape[2:]
        # A volume is turned as others are, with the patient's right on the left.
        space = Geometry.none(shape) if len(shape) == 2 else Geometry.from_spacing(shape, (1.0,) * len(shape))
        return [solver.image(torch.from_numpy(v), space, "float32").preview() for v in values]

    pictures = {
        "real": mosaic(tiles(beside.real.some(SHOWN).values), ACROSS),
        "generated": mosaic(tiles(made.values[:SHOWN]), ACROSS),
    }
    if found.closest:
        pairs = np.stack([v for i, k, _ in found.closest[:ACROSS] for v in (made.values[i], beside.train.values[k])])
        pictures["closest"] = mosaic(tiles(pairs), ACROSS // 2)
    return pictures
