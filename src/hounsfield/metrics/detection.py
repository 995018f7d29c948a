"""How well boxes were found: average precision as COCO defines it, FROC, and sensitivity, in any number of dimensions.

Lin et al., "Microsoft COCO", ECCV 2014, as its evaluation code computes it: in each image the best-scored boxes choose first,
each the truth that it overlaps most among those left; precision is read at 101 recalls. Every measure takes `weights`
(R, images): a row per bootstrap replicate that says how often each image counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOST = 100  # boxes of one image and class that count, the best scored
CHUNK = 1 << 22  # sums held at a time, replicates x detections: 32 MB of float64
RECALLS = np.linspace(0, 1, 101)
RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # false positives an image at which FROC is read


def iou(one: Floats, other: Floats) -> Floats:
    """(N, M) intersection over union of half-open boxes (N, 2n) and (M, 2n), first corners then last."""
    n = one.shape[1] // 2
    low = np.maximum(one[:, None, :n], other[None, :, :n])
    high = np.minimum(one[:, None, n:], other[None, :, n:])
    shared = np.prod((high - low).clip(0), axis=-1)
    sizes = [np.prod(boxes[:, n:] - boxes[:, :n], axis=1) for boxes in (one, other)]
    union = sizes[0][:, None] + sizes[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def match(overlap: Floats, threshold: float) -> Ints:
    """(D,) index of the truth that each detection finds, -1 for none. overlap: (D, G), detections by falling score.

    A truth is found once; of equal overlaps the last counts, as in COCO's own code.
    """
    found = np.full(len(overlap), -1, dtype=np.int64)
    free = np.ones(overlap.shape[1], dtype=bool)
    if not free.any():
        return found
    for d, row in enumerate(overlap):
        open_ = np.where(free, row, -1.0)
        best = len(open_) - 1 - int(open_[::-1].argmax())
        if open_[best] >= min(threshold, 1 - 1e-10):
            found[d] = best
            free[best] = False
    return found


@dataclass(frozen=True, eq=False)
class Found:
    """The detections of one class over many images. scores: (D,). hit: (D,) whether each found a truth. image: (D,) index of
    its image. truths: (N,) how many each image holds."""

    scores: Floats
    hit: Bools
    image: Ints
    truths: Ints

    @classmethod
    def of(cls, each: Sequence[tuple[Floats, Bools, int]]) -> Found:
        """From (scores, hits, number of truths) of every image."""
        counts = [len(scores) for scores, _, _ in each]
        return cls(
            np.concatenate([np.zeros(0), *(s for s, _, _ in each)]),
            np.concatenate([np.zeros(0, dtype=bool), *(h for _, h, _ in each)]),
            np.repeat(np.arange(len(each)), counts),
            np.array([t for _, _, t in each], dtype=np.int64),
        )

    def ordered(self, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Weighted hits and false alarms (R, D) summed over falling scores, and the weighted number of truths (R,)."""
        order = np.argsort(-self.scores, kind="mergesort")
        each = weights[:, self.image[order]]
        hit = self.hit[order]
        return np.cumsum(each * hit, axis=1), np.cumsum(each * ~hit, axis=1), weights @ self.truths


def average_precision(found: Found, weights: Floats) -> Floats:
    """(R,) mean over 101 recalls of the best precision at that recall or a higher one; NaN where there is no truth."""
    return np.concatenate([_average_precision(found, few) for few in _few(found, weights)])


def _average_precision(found: Found, weights: Floats) -> Floats:
    hits, alarms, truths = found.ordered(weights)
    recall = np.divide(hits, truths[:, None], out=np.zeros_like(hits), where=truths[:, None] > 0)
    precision = hits / (hits + alarms + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    out = np.full(len(weights), np.nan)
    for row in np.flatnonzero(truths > 0):
        at = np.searchsorted(recall[row], RECALLS, side="left")
        inside = at < recall.shape[1]
        out[row] = precision[row, at[inside]].sum() / len(RECALLS)
    return out


def froc(found: Found, weights: Floats, rates: Sequence[float] = RATES) -> Floats:
    """(R, len(rates)) the highest sensitivity with at most so many false positives an image; NaN where there is no truth."""
    return np.concatenate([_froc(found, few, rates) for few in _few(found, weights)])


def _froc(found: Found, weights: Floats, rates: Sequence[float]) -> Floats:
    hits, alarms, truths = found.ordered(weights)
    images = weights.sum(axis=1)
    out = np.full((len(weights), len(rates)), np.nan)
    _, ends = _ends(found)
    for row in np.flatnonzero(truths > 0):
        alarmed = np.r_[0.0, alarms[row, ends] / images[row]]
        reached = np.r_[0.0, hits[row, ends] / truths[row]]
        out[row] = reached[np.searchsorted(alarmed, np.array(rates) + 1e-12, side="right") - 1]
    return out


def threshold_at(found: Found, rate: float) -> float:
    """The lowest score at which there are at most `rate` false positives an image; infinite where the best box is one too
    many."""
    _, alarms, _ = found.ordered(np.ones((1, len(found.truths))))
    scores, ends = _ends(found)
    allowed = ends[alarms[0, ends] <= rate * len(found.truths)]
    return float(scores[allowed[-1]]) if len(allowed) else np.inf


def sensitivity(best: Floats, threshold: float, weights: Floats) -> Floats:
    """(R,) part of the truths that were found at `threshold`; NaN where there is none. best: (G,) score of the detection that
    found each, -inf for none. weights: (R, G), of each truth's image."""
    total = weights.sum(axis=1)
    return np.asarray(np.divide(weights @ (best >= threshold), total, out=np.full(len(weights), np.nan), where=total > 0))


def _few(found: Found, weights: Floats) -> Iterator[Floats]:
    """Replicates in blocks whose sums over all detections stay small."""
    step = max(1, CHUNK // max(1, len(found.scores)))
    for start in range(0, max(1, len(weights)), step):
        yield weights[start : start + step]


def _ends(found: Found) -> tuple[Floats, Ints]:
    """Scores, falling, and the last place of each run of equal ones: a threshold takes all of a run or none."""
    scores = -np.sort(-found.scores, kind="mergesort")
    return scores, np.flatnonzero(np.r_[scores[1:] != scores[:-1], True]) if len(scores) else np.zeros(0, dtype=np.int64)
