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
from hounsfield.core.sample import Sample
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import RGB, TASKS, Row
from hounsfield.tasks.generation import Solver
from hounsfield.tasks.parts import features as kinds
from hounsfield.tasks.parts.drawing import mosaic
from hounsfield.tasks.parts.features import Features
from hounsfield.tasks.parts.sets import Comparison, Part, compare
from hounsfield.workflow.console import Console, track
from hounsfield.workflow.generate import geometry_of
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run

SEED: Final = 1  # of the images that are measured
MOST: Final = 5000  # images of a set that are compared,
MOST_VALUES: Final = 2**28  # and values of all of them
SHOWN: Final = 16  # images of a picture
ACROSS: Final = 8


@dataclass(frozen=True, eq=False)
class Measured:
    """figures and rows: see `tasks/parts/sets.py`. pictures: by name, "real", "generated" and "closest": pairs of a generated
    image and the training image nearest to it."""

    figures: Mapping[str, Interval]
    rows: Sequence[Row]
    pictures: Mapping[str, RGB]


def measure_sets(
    predictor: Predictor, samples: Sequence[Sample], train: Sequence[Sample], console: Console, seen: Features | None = None
) -> Measured:
    """As many generated images as `samples`, of their classes, beside these, and beside the training ones. seen: by which they
    are compared; None: of random weights. Samples that were learned from, and patients of theirs, are no other images: of the
    training ones they are left out."""
    plan, solver = predictor.plan, cast(Solver, predictor.solver)
    size = cast(tuple[int, ...], plan.grid.size)
    most = min(MOST, MOST_VALUES // (len(plan.channels) * prod(size)))
    held = {s.group for s in samples}
    others = [s for s in train if s.group not in held]
    if not others:
        raise InputError(
            "TOO_FEW", "training images", found="none beside those compared", expected="some", fix="compare with another part"
        )
    seen = kinds.random(len(plan.channels), plan.ndim) if seen is None else seen
    real = _read(predictor, _some(samples, most), seen, console, "reading real images")
    known = _read(predictor, _some(others, most), seen, console, "reading training images")
    labels = [s.target if isinstance(s.target, int) else 0 for s in _some(samples, most)] if solver.out_channels else None
    values = solver.generate(predictor.models, range(len(real)), labels, SEED)
    names = [f"generated {k}" for k in range(len(real))]
    made = Part(names, names, values.numpy(), seen(values))
    note = f"{len(real)} real and as many generated images, {seen.about}"
    found = compare(real, made, known, note)
    return Measured(found.figures, found.rows, _pictures(solver, real, made, known, found))


def trained(judge: Run, run: Run, device: str) -> Features:
    """Features of a classification run, for the images of a generator's run. Raises InputError UNSUPPORTED_PAIR for a judge of
    another task."""
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
    inner = kinds.before_the_last_layer(f"{judge.plan.model} of run {judge.root.resolve().name}", predictor.models[0])

    def of(images: Tensor) -> Tensor:
        each = [predictor.prepare(solver.image(values, geometry, dtype)).tensor for values in images]
        return inner.of(torch.stack(each))

    return replace(inner, of=of)


def _read(predictor: Predictor, samples: Sequence[Sample], seen: Features, console: Console, label: str) -> Part:
    """Real images on the model grid, as the generator learns them."""
    read = [predictor.prepare(predictor.read(sample)).tensor.cpu() for sample in track(console, label, samples)]
    values = torch.stack(read).clamp_(-1, 1)
    return Part([s.id for s in samples], [s.patient for s in samples], values.numpy(), seen(values))


def _some(samples: Sequence[Sample], most: int) -> Sequence[Sample]:
    """At most so many, evenly spaced."""
    count = min(most, len(samples))
    return [samples[k * len(samples) // count] for k in range(count)]


def _pictures(solver: Solver, real: Part, made: Part, known: Part, found: Comparison) -> dict[str, RGB]:
    def tiles(values: npt.NDArray[np.float32]) -> list[RGB]:
        shape = values.shape[2:]
        # A volume is turned as others are, with the patient's right on the left.
        space = Geometry.none(shape) if len(shape) == 2 else Geometry.from_spacing(shape, (1.0,) * len(shape))
        return [solver.image(torch.from_numpy(v), space, "float32").preview() for v in values]

    pictures = {
        "real": mosaic(tiles(real.some(SHOWN).values), ACROSS),
        "generated": mosaic(tiles(made.values[:SHOWN]), ACROSS),
    }
    if found.closest:
        pairs = np.stack([v for i, k, _ in found.closest[:ACROSS] for v in (made.values[i], known.values[k])])
        pictures["closest"] = mosaic(tiles(pairs), 2 * (ACROSS // 4))
    return pictures
