"""Whether predicted probabilities mean what they say: Brier score, expected calibration error, reliability bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def brier(probabilities: Floats, truth: Bools) -> Floats:
    """(N,) squared error of each case; the mean over cases is the Brier score (1950), 0 best.

    probabilities: (N, K) in [0, 1], summed over the K classes, so 0 to 2 where they exclude each other; a binary problem
    given as (N, 1) yields (p - y)^2, 0 to 1. truth: (N, K) bool.
    """
    _check(probabilities, truth)
    return np.asarray(((probabilities - truth) ** 2).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Reliability:
    """The bins of a reliability diagram, (B,) each: cases in the bin, their mean confidence, the part that was right (both
    NaN in an empty bin)."""

    count: Floats
    confidence: Floats
    right: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error: |confidence - right| weighted by the cases in each bin (Guo et al. 2017, eq. 3); NaN
        without cases."""
        some = self.count > 0
        gaps = np.abs(self.confidence - self.right)[some]
        return float(np.average(gaps, weights=self.count[some])) if some.any() else float("nan")


def reliability(confidence: Floats, right: Bools, bins: int = 15) -> Reliability:
    """Cases sorted into `bins` of equal width on [0, 1], each bin closed above: (0, 1/B], ..., ((B-1)/B, 1]; 0 joins the first.

    confidence: (N,), the probability of what was decided. right: (N,) bool, whether that was so.
    """
    _check(confidence, right)
    at = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(at, minlength=bins).astype(np.float64)
    total, hits = (np.bincount(at, weights=values, minlength=bins) for values in (confidence, right.astype(np.float64)))
    empty = np.full(bins, np.nan)
    return Reliability(
        count,
        np.divide(total, count, out=empty.copy(), where=count > 0),
        np.divide(hits, count, out=empty.copy(), where=count > 0),
    )


def _check(probabilities: Floats, truth: Bools) -> None:
    if probabilities.shape != truth.shape:
        found = f"probabilities {probabilities.shape}, truth {truth.shape}"
        raise InputError("WRONG_DIMENSION", "calibration", found=found, expected="one shape", fix="one column per class")
    if probabilities.size and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        found = f"values from {probabilities.min():.4g} to {probabilities.max():.4g}"
        raise InputError("BAD_LABEL", "probabilities", found=found, expected="0 to 1", fix="apply softmax or sigmoid")
