"""95% intervals by the percentile bootstrap over patients: whole patients are drawn with replacement, never single cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REPLICATES = 2000
LEVEL = 0.95
# Weights held at a time, replicates x cases: 32 MB of float64.
CHUNK = 1 << 22
# Replicates without a value (say, without one positive case) are left out, and with more than this part of them there is no
# interval: what is left would describe only the lucky draws. A class that lives in two patients alone is past it.
MOST_UNDEFINED = 0.1
# Below this number of patients the note warns: the percentile interval of a mean then covers 90% or less of the time.
FEW_PATIENTS = 10


@dataclass(frozen=True)
class Interval:
    """value: of the measure on all cases; NaN where it has none. low, high: bounds of the interval; NaN where there is none.
    n: cases that the value rests on. clusters: patients among them. note: what limits the interval, "" for nothing. draws: (R,)
    the measure on each replicate, for `difference`; None where none was drawn."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    note: str = ""
    draws: Floats | None = field(default=None, compare=False, repr=False)

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def noted(self, note: str) -> Interval:
        """The same, with `note` beside it."""
        return replace(self, note="; ".join(n for n in (self.note, note) if n))

    def text(self, digits: int = 3) -> str:
        """ "0.873 [0.851, 0.892]", "0.873" without bounds, "n/a" without a value."""
        if not math.isfinite(self.value):
            return "n/a"
        bounds = f" [{self.low:.{digits}f}, {self.high:.{digits}f}]" if self.known else ""
        return f"{self.value:.{digits}f}{bounds}"

    def to_json(self) -> dict[str, float | int | str | None]:
        """The fields, null for NaN, which JSON does not know."""
        bounds = {name: getattr(self, name) for name in ("value", "low", "high")}
        finite = {name: value if math.isfinite(value) else None for name, value in bounds.items()}
        return {**finite, "n": self.n, "clusters": self.clusters, "note": self.note}


def mean(values: npt.ArrayLike, patients: Sequence[str | None], *, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """The interval of the mean over cases.

    values: (N,), NaN for a case without a value (left out, and the note counts them). patients: (N,) pseudonyms; None: the
    patient is unknown, the case stands for itself and the note says so.
    """
    every = np.asarray(values, dtype=np.float64)
    _check(len(every), patients)
    some = np.isfinite(every)
    left_out = int((~some).sum())
    notes = [f"{left_out} of {len(every)} cases have no value"] if left_out else []
    kept = [patient for patient, ok in zip(patients, some, strict=True) if ok]
    clusters = _clusters(kept)
    # A mean needs only each patient's sum and size, not a weight per case.
    sums = np.bincount(clusters, weights=every[some])
    sizes = np.bincount(clusters).astype(np.float64)
    point = float(every[some].mean()) if some.any() else math.nan
    draws = [(weights @ sums) / (weights @ sizes) for weights in _draws(len(sizes), len(sizes), replicates, seed)]
    return _interval(point, draws, len(kept), len(sizes), notes + _about(kept))


def interval(
    statistic: Callable[[Floats], Floats],
    patients: Sequence[str | None],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    note: str = "",
) -> Interval:
    """The interval of any statistic of weighted cases.

    statistic: (R, N) weights, each row how often every case was drawn -> (R,) values, NaN where there is none, as the measures
    of `ranking` do. patients: (N,) as in `mean`. note: why the value may be missing, said first.
    Replicates are those of `mean` for the same patients and seed, so that measures of one table are comparable.
    """
    n = len(patients)
    clusters = _clusters(patients)
    count = int(clusters.max()) + 1 if n else 0
    point = float(statistic(np.ones((1, n)))[0]) if n else math.nan
    draws = [statistic(weights[:, clusters]) for weights in _draws(count, n, replicates, seed)] if math.isfinite(point) else []
    return _interval(point, draws, n, count, ([note] if note else []) + _about(patients))


def two_samples(
    statistic: Callable[[Floats, Floats], Floats],
    patients_a: Sequence[str | None],
    patients_b: Sequence[str | None],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """The interval of a statistic of two sets of weighted cases, whose patients are drawn apart: a distance of two sets, say.

    statistic: weights (R, N) and (R, M) -> (R,), as in `interval`. patients_a, patients_b: (N,) and (M,) as in `mean`, none of
    them in both; cases that have no patient, such as generated images, want a name each. Replicates are moved so that their
    mean is the value: repeated cases alone raise most distances. n: cases of both sets; clusters: patients of the set that has
    fewer.
    """
    of_a, of_b = _clusters(patients_a), _clusters(patients_b)
    n = len(of_a) + len(of_b)
    if not len(of_a) or not len(of_b):
        return _interval(math.nan, [], 0, 0, [])
    counts = [int(of.max()) + 1 for of in (of_a, of_b)]
    point = float(statistic(np.ones((1, len(of_a))), np.ones((1, len(of_b))))[0])
    # One width, so that both come in pieces of as many replicates.
    drawn_a, drawn_b = (_draws(count, n, replicates, 2 * seed + k) for k, count in enumerate(counts))
    draws = [statistic(a[:, of_a], b[:, of_b]) for a, b in zip(drawn_a, drawn_b, strict=True)] if min(counts) > 1 else []
    if draws and np.isfinite(values := np.concatenate(draws)).any():
        draws = [values - np.nanmean(values) + point]
    return _interval(point, draws, n, min(counts), _about([*patients_a, *patients_b]))


def difference(one: Interval, other: Interval, patients: Sequence[str | None]) -> Interval:
    """`one` less `other`, two measures of the same cases: their replicates drew the same patients, and what moves both alike
    cancels. patients: (N,) as in `mean`. Raises InputError WRONG_DIMENSION for measures of other cases."""
    draws: list[Floats] = []
    if one.draws is not None and other.draws is not None:
        if (one.n, one.clusters, len(one.draws)) != (other.n, other.clusters, len(other.draws)):
            found = f"{one.n} and {other.n} cases, {len(one.draws)} and {len(other.draws)} replicates"
            raise InputError("WRONG_DIMENSION", "difference", found=found, expected="the same", fix="compare the same cases")
        draws = [one.draws - other.draws]
    return _interval(one.value - other.value, draws, one.n, one.clusters, _about(patients))


def _draws(clusters: int, width: int, replicates: int, seed: int) -> Iterator[Floats]:
    """(R, clusters) counts of how often each cluster was drawn, in pieces of at most CHUNK / width replicates.

    The draws do not depend on the piece: the generator is consumed row by row.
    """
    if clusters < 2:
        return
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    step = max(1, CHUNK // max(clusters, width))
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = rng.integers(clusters, size=(rows, clusters))
        drawn += np.arange(rows)[:, None] * clusters
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(np.float64)


def _interval(point: float, draws: list[Floats], n: int, clusters: int, notes: list[str]) -> Interval:
    every = np.concatenate(draws) if draws else None

    def without(reason: str) -> Interval:
        return Interval(point, math.nan, math.nan, n, clusters, "; ".join([*notes, reason] if reason else notes), every)

    if n == 0:
        return without("no case")
    if not math.isfinite(point):
        return without("" if notes else "no value")
    if clusters == 1:
        return without("one case: no interval" if n == 1 else "one patient: no interval")
    assert every is not None
    defined = every[np.isfinite(every)]
    undefined = len(every) - len(defined)
    if undefined > MOST_UNDEFINED * len(every):
        return without(f"{undefined} of {len(every)} replicates have no value: no interval")
    if undefined:
        notes = [*notes, f"{undefined} of {len(every)} replicates without value left out"]
    if np.ptp(defined) <= 1e-12 * max(1.0, abs(point)):
        return without("all replicates equal: no interval")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if clusters < FEW_PATIENTS:
        notes = [*notes, f"only {clusters} patients: the interval is likely too narrow"]
    return Interval(point, float(low), float(high), n, clusters, "; ".join(notes), every)


def _clusters(patients: Sequence[str | None]) -> Ints:
    """(N,) cluster numbers from 0 in order of first appearance; an unknown patient is a cluster of its own."""
    numbers: dict[object, int] = {}
    keys = [patient if patient is not None else (index,) for index, patient in enumerate(patients)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _about(patients: Sequence[str | None]) -> list[str]:
    unknown = sum(patient is None for patient in patients)
    if not unknown:
        return []
    return ["patient unknown" if unknown == len(patients) else f"patient unknown for {unknown} of {len(patients)} cases"]


def _check(n: int, patients: Sequence[str | None]) -> None:
    if n != len(patients):
        found = f"{n} values and {len(patients)} patients"
        raise InputError("WRONG_DIMENSION", "bootstrap", found=found, expected="as many", fix="give one patient per case")
