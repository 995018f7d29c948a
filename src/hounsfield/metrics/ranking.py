"""How well scores rank cases and how well decisions fit them, exact under ties and vectorised over case weights.

Every measure takes `weights` (..., N): a row per bootstrap replicate that says how often each case counts (None: once). The
result has the leading shape `...`. A measure without a value (a class that no case has) is NaN; `undefined` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
BinaryMeasure = Callable[[Floats, Bools, Floats | None], Floats]


def auroc(scores: Floats, positive: Bools, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: the chance that a positive case scores above a negative one, ties counting half.

    scores: (N,), finite, higher for positive. positive: (N,) bool. weights: (..., N), >= 0. Returns (...,) in [0, 1]; NaN
    where one of the two classes is absent. Equals the Mann-Whitney U statistic over midranks (Hanley and McNeil 1982).
    Raises InputError BAD_LABEL (scores not finite), WRONG_DIMENSION (shapes).
    """
    yes, no = _by_score(scores, positive, weights)
    below = np.cumsum(no, axis=-1) - no / 2
    pairs = yes.sum(axis=-1) * no.sum(axis=-1)
    return _divide((yes * below).sum(axis=-1), pairs)


def average_precision(scores: Floats, positive: Bools, weights: Floats | None = None) -> Floats:
    """Average precision: sum over thresholds of (recall gained) x precision, cases of one score entering together.

    Arguments and errors as `auroc`. Returns (...,) in [0, 1]; NaN where no case is positive.
    """
    yes, no = _by_score(scores, positive, weights)
    hits = np.cumsum(yes[..., ::-1], axis=-1)
    chosen = hits + np.cumsum(no[..., ::-1], axis=-1)
    gained = yes[..., ::-1] * _divide(hits, chosen, otherwise=0.0)
    return _divide(gained.sum(axis=-1), yes.sum(axis=-1))


def per_class(measure: BinaryMeasure, scores: Floats, truth: Ints | Bools, weights: Floats | None = None) -> Floats:
    """`measure` of each class against the rest, (..., K); its mean over the last axis is the macro average.

    scores: (N, K). truth: (N,) class indices, or (N, K) bool where classes do not exclude each other.
    The mean is NaN as soon as one class is: a class that drops out in silence would change what the number means.
    """
    table = members(truth, scores.shape[1])
    return np.stack([measure(scores[:, k], table[:, k], weights) for k in range(scores.shape[1])], axis=-1)


def members(truth: Ints | Bools, classes: int) -> Bools:
    """(N, K) bool from (N,) class indices; (N, K) bool passes through. Raises InputError BAD_LABEL outside the classes."""
    if truth.ndim == 2:
        if truth.shape[1] != classes or truth.dtype != np.bool_:
            found = f"labels of {truth.dtype} and {truth.shape}"
            raise InputError("BAD_LABEL", "labels", found=found, expected=f"bool (N, {classes})", fix="one column per class")
        return truth.astype(bool, copy=False)
    outside = truth[(truth < 0) | (truth >= classes)]
    if len(outside):
        raise InputError(
            "BAD_LABEL", "labels", found=f"class index {outside[0]}", expected=f"0 to {classes - 1}", fix="check the classes"
        )
    return np.asarray(truth[:, None] == np.arange(classes))


def undefined(truth: Ints | Bools, names: Sequence[str]) -> str:
    """Why a per-class measure or its macro average has no value; "" where every class has cases for and against it."""
    table = members(truth, len(names))
    if not len(table):
        return "no case"
    cases = table.sum(axis=0, dtype=np.int64)
    absent = [name for name, count in zip(names, cases, strict=True) if count == 0]
    only = [name for name, count in zip(names, cases, strict=True) if count == len(table)]
    return "; ".join([f"no case of {name}" for name in absent] + [f"every case is {name}" for name in only])


def confusion(predicted: Ints, truth: Ints, classes: int, weights: Floats | None = None) -> Floats:
    """(..., K, K) weighted counts, truth along rows, prediction along columns. predicted, truth: (N,) class indices.

    Raises InputError BAD_LABEL for an index outside the classes, WRONG_DIMENSION for other shapes.
    """
    for indices in (predicted, truth):
        members(indices, classes)
    w = _weights(weights, len(truth), predicted.shape)
    cells = truth * classes + predicted
    order = np.argsort(cells, kind="stable")
    found, starts = np.unique(cells[order], return_index=True)
    out = np.zeros((*w.shape[:-1], classes * classes))
    if len(found):
        out[..., found] = np.add.reduceat(w[..., order], starts, axis=-1)
    return out.reshape(*w.shape[:-1], classes, classes)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Weighted counts (..., K) of the four outcomes of deciding each class; each measure is (..., K) in [0, 1] or NaN."""

    true_positive: Floats
    false_positive: Floats
    false_negative: Floats
    true_negative: Floats

    @classmethod
    def of(cls, predicted: Bools, truth: Bools, weights: Floats | None = None) -> Outcomes:
        """From decisions on classes that do not exclude each other: (N, K) bool each."""
        w = _weights(weights, len(truth), predicted.shape, truth.shape)
        masks = (predicted & truth, predicted & ~truth, ~predicted & truth, ~predicted & ~truth)
        return cls(*(w @ mask.astype(np.float64) for mask in masks))

    @classmethod
    def one_vs_rest(cls, matrix: Floats) -> Outcomes:
        """From a (..., K, K) `confusion`."""
        hit = np.diagonal(matrix, axis1=-2, axis2=-1)
        truth, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
        every = matrix.sum(axis=(-2, -1))[..., None]
        return cls(hit, predicted - hit, truth - hit, every - truth - predicted + hit)

    @property
    def accuracy(self) -> Floats:
        """Part of the cases on which the class was decided rightly."""
        right, wrong = self.true_positive + self.true_negative, self.false_positive + self.false_negative
        return _divide(right, right + wrong)

    @property
    def sensitivity(self) -> Floats:
        """Recall: part of the class that was found; NaN where the class is absent."""
        return _divide(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> Floats:
        """Part of the others that was left alone; NaN where there are no others."""
        return _divide(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> Floats:
        """Part of the findings that is right; NaN where nothing was found."""
        return _divide(self.true_positive, self.true_positive + self.false_positive)

    @property
    def f1(self) -> Floats:
        """2 TP / (2 TP + FP + FN); NaN where the class is neither present nor found."""
        twice = 2 * self.true_positive
        return _divide(twice, twice + self.false_positive + self.false_negative)

    @property
    def balanced_accuracy(self) -> Floats:
        """Mean of sensitivity and specificity."""
        return (self.sensitivity + self.specificity) / 2


def accuracy(matrix: Floats) -> Floats:
    """(...,) part of the cases whose class was named rightly, from a (..., K, K) `confusion`."""
    return _divide(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def balanced_accuracy(matrix: Floats) -> Floats:
    """(...,) mean sensitivity over the classes, from a (..., K, K) `confusion`; NaN where a class is absent."""
    return np.asarray(Outcomes.one_vs_rest(matrix).sensitivity.mean(axis=-1))


def _by_score(scores: Floats, positive: Bools, weights: Floats | None) -> tuple[Floats, Floats]:
    """Weight of positive and of negative cases at each distinct score, rising: two arrays (..., G)."""
    w = _weights(weights, len(scores), scores.shape, positive.shape)
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise InputError("BAD_LABEL", "scores", found=f"{bad} not finite", expected="finite scores", fix="check the model")
    if not len(scores):
        return np.zeros((*w.shape[:-1], 0)), np.zeros((*w.shape[:-1], 0))
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    w, is_positive = w[..., order], positive[order]
    yes, no = np.where(is_positive, w, 0.0), np.where(is_positive, 0.0, w)
    if len(starts) == len(scores):
        return yes, no
    return np.add.reduceat(yes, starts, axis=-1), np.add.reduceat(no, starts, axis=-1)


def _weights(weights: Floats | None, n: int, *shapes: tuple[int, ...]) -> Floats:
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape[-1:] != (n,) or any(shape != shapes[0] or shape[0] != n for shape in shapes):
        found = ", ".join(str(shape) for shape in (*shapes, w.shape))
        raise InputError("WRONG_DIMENSION", "measure", found=found, expected=f"{n} cases in each", fix="pass one row per case")
    return w


def _divide(a: Floats, b: Floats, otherwise: float = np.nan) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(b), otherwise), where=np.asarray(b) > 0))
