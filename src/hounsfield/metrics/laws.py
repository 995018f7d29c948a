"""Power laws of learning: how the error falls with the number of cases, with intervals by the bootstrap.

error(n) = a n^-b + c, the form that learning curves of deep networks were found to have between guessing and their floor c:
Hestness et al., "Deep Learning Scaling is Predictable, Empirically", arXiv:1712.00409 (2017); Rosenfeld et al., "A Constructive
Prediction of the Generalization Error Across Scales", ICLR 2020. Fitted by least squares of log error, as trainings err in
proportion to it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.metrics.bootstrap import LEVEL, MOST_UNDEFINED, REPLICATES

Floats = npt.NDArray[np.float64]

FLOORED: Final = 500  # replicates of a law with a floor, which are fitted one by one
STEEPEST: Final = 10.0  # exponent of a law with a floor: beyond it a single number of cases would bend it
TINY: Final = 1e-6  # exponents, and floors over the least error, that the search for a floor leaves where there are none


@dataclass(frozen=True)
class Law:
    """error(n) = a n^-b + c. a: above 0, the error that falls, at one case. b: 0 or above. c: 0 or above, the floor."""

    a: float
    b: float
    c: float = 0.0

    def __call__(self, n: npt.ArrayLike) -> Floats:
        """The error at n cases, any shape, above 0."""
        return np.asarray(self.a * np.asarray(n, dtype=np.float64) ** -self.b + self.c)


@dataclass(frozen=True)
class Estimate:
    """value, and the bounds of its 95% interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there are bounds."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def text(self) -> str:
        """ "0.127 [0.101, 0.152]", "0.127" without bounds; three digits that count."""
        bounds = f" [{self.low:.3g}, {self.high:.3g}]" if self.known else ""
        return f"{self.value:.3g}{bounds}"

    def to_json(self) -> dict[str, float | None]:
        return {name: v if math.isfinite(v := getattr(self, name)) else None for name in ("value", "low", "high")}


@dataclass(frozen=True)
class Noise:
    """How far trainings that should be alike lie apart. sd: standard deviation of their log error. freedom: what it rests on,
    the trainings less the groups of them."""

    sd: float
    freedom: int

    @classmethod
    def of(cls, groups: Mapping[Hashable, Sequence[float]]) -> Noise | None:
        """From the errors, above 0, of trainings on as many cases; None where every group holds one alone."""
        logs = [np.log(np.asarray(errors, dtype=np.float64)) for errors in groups.values()]
        freedom = sum(len(g) - 1 for g in logs)
        if not freedom:
            return None
        return cls(math.sqrt(sum(float(((g - g.mean()) ** 2).sum()) for g in logs) / freedom), freedom)

    def spreads(self, count: int, rng: np.random.Generator) -> Floats:
        """(count,) what the standard deviation might as well be, as few repeats tell little of it: normal deviations, one with
        each, have Student's distribution together."""
        return np.asarray(self.sd * np.sqrt(self.freedom / rng.chisquare(self.freedom, size=count)))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A law, and what it might as well be. replicates: (R, 3) a, b, c of the law on other patients and other trainings, R = 0
    where nothing is known of them. spreads: (R,) what trainings lie apart by in each, in log error; 0 where no training was
    repeated, and intervals then say nothing of it."""

    law: Law
    replicates: Floats
    spreads: Floats
    seed: int = 0

    @property
    def exponent(self) -> Estimate:
        """b; the lower bound is 0 where the error cannot be told from one that does not fall."""
        return _estimate(self.law.b, self.replicates[:, 1])

    def training(self, n: float) -> Estimate:
        """The error that one more training on n cases would have."""
        rng = np.random.default_rng((self.seed, 1))
        return _estimate(float(self.law(n)), self._at(n) * np.exp(self.spreads * rng.standard_normal(len(self.spreads))))

    def curve(self, n: Floats) -> tuple[Floats, Floats, Floats]:
        """(value, low, high), each of the shape of n (N,): the law, training by training."""
        each = [self.training(float(k)) for k in n]
        return self.law(n), np.array([e.low for e in each]), np.array([e.high for e in each])

    def ratio(self, n: float, times: float) -> Estimate:
        """The law's error on `times` as many cases as n, over that on n."""
        return _estimate(float(self.law(times * n) / self.law(n)), self._at(times * n) / self._at(n))

    def _at(self, n: float) -> Floats:
        a, b, c = self.replicates.T
        return np.asarray(a * n**-b + c)


def fit(n: npt.ArrayLike, error: npt.ArrayLike, *, floor: bool = False) -> Law:
    """The law of trainings (T,) on n cases with these errors above 0. floor: whether c is fitted too, from at least three
    numbers of cases; else it is 0, as few numbers of cases cannot tell a floor from a small b.

    Raises InputError TOO_FEW, VALUE_RANGE.
    """
    cases, errors = np.asarray(n, dtype=np.float64), np.asarray(error, dtype=np.float64)
    _check(cases, errors, 3 if floor else 2)
    found = _straight(cases, errors[None])[0]
    if floor:
        least = float(errors.min())
        lowered = [_straight(cases, (errors - c)[None])[0] + np.array([0, 0, c]) for c in (0.5 * least, 0.9 * least)]
        found = _floored(cases, errors, [found, *lowered], 1e-15)
    return Law(*map(float, found))


def fitted(
    n: npt.ArrayLike,
    error: npt.ArrayLike,
    draws: npt.ArrayLike,
    noise: Noise | None = None,
    *,
    floor: bool = False,
    seed: int = 0,
) -> Fitted:
    """As `fit`, and the laws of replicates.

    draws: (R, T) the errors of the same trainings on other patients, a row the same patients for all of them, as
    `bootstrap.Interval.draws` are; R = 0 for no interval. noise: of single trainings, which is added to each.
    Rows with an error that is not above 0 are left out; where they are more than a tenth there is no interval.
    """
    cases, errors = np.asarray(n, dtype=np.float64), np.asarray(error, dtype=np.float64)
    law = fit(cases, errors, floor=floor)
    other = np.asarray(draws, dtype=np.float64).reshape(-1, len(cases))[: FLOORED if floor else REPLICATES]
    some = (np.isfinite(other) & (other > 0)).all(axis=1)
    if not len(other) or 1 - some.mean() > MOST_UNDEFINED:
        return Fitted(law, np.zeros((0, 3)), np.zeros(0), seed)
    other, rng = other[some], np.random.default_rng((seed, 0))
    spreads = np.zeros(len(other)) if noise is None else noise.spreads(len(other), rng)
    other = other * np.exp(spreads[:, None] * rng.standard_normal(other.shape))
    replicates = _straight(cases, other)
    if floor:
        start = np.array([law.a, law.b, law.c])
        lines = zip(other, replicates, strict=True)
        replicates = np.stack([_floored(cases, row, [line, start], 1e-6) for row, line in lines])
    return Fitted(law, replicates, spreads, seed)


def compared(
    one: tuple[float, npt.ArrayLike], other: tuple[float, npt.ArrayLike], noise: Noise | None, *, seed: int = 0
) -> Estimate:
    """The error of one training over that of another: (value, draws (R,)) of each, on the same patients row by row."""
    a, b = (np.asarray(draws, dtype=np.float64) for _, draws in (one, other))
    some = np.isfinite(a) & np.isfinite(b) & (a > 0) & (b > 0)
    value = one[0] / other[0] if other[0] > 0 else math.nan
    if not len(some) or 1 - some.mean() > MOST_UNDEFINED:
        return Estimate(value)
    ratios = a[some] / b[some]
    if noise is not None:
        rng = np.random.default_rng((seed, 2))
        ratios = ratios * np.exp(noise.spreads(len(ratios), rng) * math.sqrt(2) * rng.standard_normal(len(ratios)))
    return _estimate(value, ratios)


def _straight(cases: Floats, errors: Floats) -> Floats:
    """(R, 3): a, b and c = 0 of errors (R, T): a line in logarithms, level where it would rise."""
    x, y = np.log(cases), np.log(errors)
    apart = x - x.mean()
    b = np.maximum(-(y @ apart) / (apart @ apart), 0.0)
    return np.stack([np.exp(y.mean(axis=1) + b * x.mean()), b, np.zeros_like(b)], axis=1)


def _floored(cases: Floats, errors: Floats, starts: Sequence[Floats], tolerance: float) -> Floats:
    """(3,): a, b, c of errors (T,), c no higher than the least of them, by the best of the searches from `starts` (3,) each."""
    from scipy.optimize import least_squares

    x, y, most = np.log(cases), np.log(errors), float(errors.min())
    middle = float(x.mean())  # in its logarithm a and b hardly depend on each other

    def residual(p: Floats) -> Floats:
        return np.asarray(np.log(np.exp(p[0] - p[1] * (x - middle)) + p[2]) - y)

    def slopes(p: Floats) -> Floats:
        falling = np.exp(p[0] - p[1] * (x - middle))
        return np.asarray(np.stack([falling, -(x - middle) * falling, np.ones_like(x)], axis=1) / (falling + p[2])[:, None])

    best: tuple[float, Floats] | None = None
    bounds = ([-np.inf, 0.0, 0.0], [np.inf, STEEPEST, most])
    limits = {"xtol": tolerance, "ftol": tolerance, "gtol": tolerance}
    for a, b, c in starts:
        start = [math.log(a) - b * middle, min(max(b, 1e-6), STEEPEST), min(max(c, 1e-6 * most), (1 - 1e-6) * most)]
        found = least_squares(residual, start, slopes, bounds=bounds, x_scale="jac", **limits)
        if best is None or found.cost < best[0]:
            best = float(found.cost), found.x
    assert best is not None
    level, b, c = (0.0 if abs(p) < TINY * scale else p for p, scale in zip(best[1], (0.0, 1.0, most), strict=True))
    return np.array([math.exp(level + b * middle), b, c])


def _estimate(value: float, draws: Floats) -> Estimate:
    if not len(draws):
        return Estimate(value)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def _check(cases: Floats, errors: Floats, least: int) -> None:
    if len(np.unique(cases)) < least:
        found = f"{len(np.unique(cases))} numbers of cases"
        raise InputError("TOO_FEW", "law", found=found, expected=f"at least {least}", fix="train on more of them")
    if not (np.isfinite(errors) & (errors > 0)).all():
        found = f"errors from {errors.min():g} to {errors.max():g}"
        raise InputError("VALUE_RANGE", "law", found=found, expected="errors above 0", fix="leave out those without")
