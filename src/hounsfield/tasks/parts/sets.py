"""Figures of a set of generated images beside real ones: how far apart, how good, how various, and whether copied.

Such figures compare only under one network and the same numbers of images, so each stands beside `<name>_real`, that of other
real images in the place of the generated ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.metrics import bootstrap, generative
from hounsfield.metrics.bootstrap import Interval
from hounsfield.tasks import Row

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 5
REPLICATES = 200  # of the Fréchet distance, each of which takes matrices apart
PAIRS = 100  # of images whose likeness says how various a set is
FEWEST = 4  # images of a kernel distance


@dataclass(frozen=True, eq=False)
class Part:
    """Images of one kind. ids, patients: (N,), None where unknown; values: (N, C, *grid) in [-1, 1]; features: (N, F) by one
    network."""

    ids: Sequence[str]
    patients: Sequence[str | None]
    values: npt.NDArray[np.float32]
    features: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def some(self, count: int) -> Part:
        """`count` of them, evenly spaced; all where there are no more."""
        count = min(count, len(self))
        kept = [k * len(self) // count for k in range(count)]
        ids, patients = ([names[k] for k in kept] for names in (self.ids, self.patients))
        return Part([str(name) for name in ids], patients, self.values[kept], self.features[kept])


@dataclass(frozen=True, eq=False)
class Comparison:
    """figures: by name. rows: of the real images, in order. closest: pairs of a generated and a training image, by index, with
    their distance, of which the first `copies` are near copies."""

    figures: Mapping[str, Interval]
    rows: Sequence[Row]
    closest: Sequence[tuple[int, int, float]]
    copies: int


def compare(real: Part, generated: Part, train: Part, note: str) -> Comparison:
    """real: held-out images; train: those that were learned from, no patient of which is among the real. note: what is said of
    every figure. A figure for which there are too few images has no value, and its note says how many it takes."""
    own, among = _figures(real, generated), _figures(real, train.some(len(real)))
    figures = {key: figure for name in own for key, figure in ((name, own[name]), (f"{name}_real", among[name]))}
    copied, closest, copies = _copied(real, generated, train)
    every = [note] if any(real.patients) else ["patient unknown", note]
    noted: dict[str, Interval] = {}
    for name, figure in (figures | copied).items():
        told = figure.note.split("; ")
        noted[name] = replace(figure, note="; ".join(n for n in (*told, *(n for n in every if n not in told)) if n))
    return Comparison(noted, _rows(real, generated), closest, copies)


def _figures(real: Part, other: Part) -> dict[str, Interval]:
    a, b = real.features, other.features
    figures: dict[str, Interval] = {}
    # Where none is known, none of these is said to be.
    names: Sequence[str | None] = other.ids if any(real.patients) else [None] * len(other)
    for name, statistic, fewest, replicates in (
        ("kid", generative.kernel_distance, FEWEST, bootstrap.REPLICATES),
        ("fid", generative.frechet, a.shape[1] + 1, REPLICATES),
    ):
        if min(len(a), len(b)) < fewest:
            figures[name] = _none(real, f"{min(len(a), len(b))} images, at least {fewest} wanted")
        else:
            both = bootstrap.two_samples(partial(statistic, a, b), real.patients, names, replicates=replicates)
            figures[name] = replace(both, n=len(real))
    if min(len(a), len(b)) <= NEIGHBOURS:
        wanted = f"{min(len(a), len(b))} images, at least {NEIGHBOURS + 1} wanted"
        figures |= {name: _none(real, wanted) for name in ("precision", "recall", "density", "coverage")}
    else:
        found = generative.support(a, b, NEIGHBOURS)
        figures["precision"] = bootstrap.mean(found.precise.astype(np.float64), names)
        figures["recall"] = bootstrap.mean(found.recalled.astype(np.float64), real.patients)
        figures["density"] = bootstrap.mean(found.crowd, names)
        figures["coverage"] = bootstrap.mean(found.covered.astype(np.float64), real.patients)
    if len(other) < 2:
        figures["diversity"] = _none(real, "1 image, at least 2 wanted")
    else:
        alike = generative.diversity(other.values.astype(np.float64), PAIRS, limits=(-1.0, 1.0))
        figures["diversity"] = Interval(alike, nan, nan, len(other), len(other), f"of {PAIRS} pairs")
    return figures


def _copied(real: Part, generated: Part, train: Part) -> tuple[dict[str, Interval], Sequence[tuple[int, int, float]], int]:
    """Whether training images were copied: figures, the closest pairs, and how many of them are near copies."""
    try:
        patients = (train.patients, real.patients)
        found = generative.memorisation(train.features, real.features, generated.features, patients=patients)
    except InputError as error:
        if error.code != "TOO_FEW":
            raise
        lacking = _none(real, f"{error.found} of {error.where}, {error.expected} wanted")
        return {"nearer_train": lacking, "copies": lacking}, (), 0
    n, copies = len(generated), len(found.copies)
    verdict = "passed" if found.p >= generative.LEVEL else "failed"
    by_chance = f"{found.expected:.3f} by chance, p = {found.p:.3f}: {verdict}"
    figures = {
        "nearer_train": Interval(found.share, nan, nan, n, n, by_chance),
        "copies": Interval(copies / n, nan, nan, n, n, "passed" if not copies else f"failed: {copies} near copies"),
    }
    return figures, found.closest(), copies


def _rows(real: Part, generated: Part) -> list[Row]:
    """Of every real image the distance to the nearest generated one, and whether the two sets hold each other there."""
    from scipy.spatial.distance import cdist

    enough = min(len(real), len(generated)) > NEIGHBOURS
    found = generative.support(real.features, generated.features, NEIGHBOURS) if enough else None
    apart = cdist(real.features, generated.features).min(axis=1)
    return [
        {
            "id": name,
            "patient": patient or "",
            "nearest": float(apart[k]),
            "covered": nan if found is None else float(found.covered[k]),
            "recalled": nan if found is None else float(found.recalled[k]),
        }
        for k, (name, patient) in enumerate(zip(real.ids, real.patients, strict=True))
    ]


def _none(part: Part, note: str) -> Interval:
    return Interval(nan, nan, nan, len(part), len(part), note)
