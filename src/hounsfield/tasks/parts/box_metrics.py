"""What is measured of boxes: a row for each image, and figures over all with intervals by patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core import plan as core
from hounsfield.core.boxes import Boxes
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.metrics import bootstrap, detection, ranking
from hounsfield.tasks import Curve, Row

Floats = npt.NDArray[np.float64]

SURE = 0.5  # score from which a box counts as found, where the plan says nothing else
THRESHOLDS = (0.1, *(round(0.5 + 0.05 * k, 2) for k in range(10)))  # overlaps at which hits are told
FROC_OVERLAP = {2: 0.5, 3: 0.1}  # from which a box counts as a hit in FROC: lesions of a few voxels overlap little
SIZES = ("small", "medium", "large")
REPLICATES = 500  # of the bootstrap of figures that are means over ten overlaps


@dataclass(frozen=True, eq=False)
class _OfClass:
    """What a row says of one class: see `Metrics.case`. hits: int64 (D,), bits of THRESHOLDS."""

    scores: Floats
    hits: npt.NDArray[np.int64]
    truths: Floats
    best: Floats

    @classmethod
    def read(cls, row: Row, name: str) -> _OfClass:
        scores, hits, truths, best = (_numbers(row[f"{what}_{name}"]) for what in ("scores", "hits", "truths", "best"))
        return cls(scores, hits.astype(np.int64), truths, best)


class Metrics:
    """COCO's mean average precision, AP at a low overlap, FROC and the sensitivity at one false alarm an image, by class and
    size; a class's own figures where there are several. Images without any box count. sure: score from which a box of a case
    is counted as found or as a false alarm."""

    headline = "map50"

    def __init__(self, classes: Sequence[core.Class], ndim: int, sure: float = SURE) -> None:
        self.classes = classes
        self.ndim = ndim
        self.sure = sure

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        """Per class, as text of numbers: scores of the boxes, best first; hits, of each box a number whose bit t says that it
        finds a truth at THRESHOLDS[t]; truths: their sizes (the mean side, in voxels); best: the score that found each, -1 for
        none."""
        assert isinstance(sample.target, Boxes)
        assert isinstance(prediction, Boxes)
        assert prediction.scores is not None
        known = range(len(self.classes)) if sample.known_classes is None else sample.known_classes
        row: dict[str, float | str] = {}
        right = wrong = missed = 0
        for k, c in enumerate(self.classes):
            of_class = np.flatnonzero(prediction.labels == k)
            order = of_class[np.argsort(-prediction.scores[of_class], kind="mergesort")][: detection.MOST]
            scores, boxes = prediction.scores[order].round(6), prediction.corners[order]
            truth = sample.target.corners[sample.target.labels == k]
            overlap = detection.iou(boxes, truth)
            each = np.stack([detection.match(overlap, t) for t in THRESHOLDS])
            hits = ((each >= 0) << np.arange(len(THRESHOLDS))[:, None]).sum(axis=0)
            best = np.full(len(truth), -1.0)
            chosen = each[THRESHOLDS.index(FROC_OVERLAP[self.ndim])]
            best[chosen[chosen >= 0]] = scores[chosen >= 0]
            sizes = (truth[:, self.ndim :] - truth[:, : self.ndim]).prod(axis=1) ** (1 / self.ndim)
            row |= {f"scores_{c.name}": _text(scores), f"hits_{c.name}": _text(hits)}
            row |= {f"truths_{c.name}": _text(sizes.round(2)), f"best_{c.name}": _text(best)}
            row[f"known_{c.name}"] = float(k in known)
            if k in known:
                right += int((best >= self.sure).sum())
                missed += int((best < self.sure).sum())
                wrong += int(((chosen < 0) & (scores >= self.sure)).sum())
        total = 2 * right + wrong + missed
        return {"f1": 2 * right / total if total else 1.0, "found": right, "missed": missed, "false": wrong, **row}

    def worth(self, row: Row) -> float:
        return float(row["f1"])

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, bootstrap.Interval]:
        read = [[_OfClass.read(r, c.name) for r in rows] for c in self.classes]
        found = {t: [_found(own, t) for own in read] for t in range(len(THRESHOLDS))}
        known = np.array([[float(r[f"known_{c.name}"]) for c in self.classes] for r in rows]).reshape(len(rows), -1)
        froc_at = THRESHOLDS.index(FROC_OVERLAP[self.ndim])

        def over(
            measure: Callable[[detection.Found, Floats], Floats],
            thresholds: Sequence[int],
            replicates: int,
            only: int | None = None,
        ) -> bootstrap.Interval:
            every = list(range(len(self.classes))) if only is None else [only]
            # As COCO does: a class without any truth has no figure, and the mean is over the others.
            held = [k for k in every if found[thresholds[0]][k].truths.sum()] or every
            lacking = [self.classes[k].name for k in every if not found[thresholds[0]][k].truths.sum()]

            def statistic(weights: Floats) -> Floats:
                values = [measure(found[t][k], weights * known[:, k]) for t in thresholds for k in held]
                return np.asarray(np.mean(values, axis=0))

            note = f"no box of {', '.join(lacking)}" if lacking else ""
            fewer = f"{replicates} replicates" if replicates < bootstrap.REPLICATES else ""
            return bootstrap.interval(statistic, patients, replicates=replicates, note="; ".join(n for n in (note, fewer) if n))

        def at_rate(rate: float) -> Callable[[detection.Found, Floats], Floats]:
            return lambda f, w: detection.froc(f, w, (rate,))[:, 0]

        ap, coco = detection.average_precision, range(1, len(THRESHOLDS))
        out = {
            "map50": over(ap, (1,), bootstrap.REPLICATES),
            "map": over(ap, tuple(coco), REPLICATES),
            "map10": over(ap, (0,), bootstrap.REPLICATES),
            "froc": over(lambda f, w: detection.froc(f, w).mean(axis=1), (froc_at,), bootstrap.REPLICATES),
            "sensitivity_at_1": over(at_rate(1.0), (froc_at,), bootstrap.REPLICATES),
            "image_auroc": _images(read, patients),
        }
        if len(self.classes) > 1:
            for k, c in enumerate(self.classes):
                out[f"map50_{c.name}"] = over(ap, (1,), bootstrap.REPLICATES, k)
        return {**out, **_by_size(read, patients, found[froc_at])}

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        """Precision over recall at an overlap of a half, and sensitivity over false positives an image, class by class."""
        ones, at = np.ones((1, len(rows))), THRESHOLDS.index(FROC_OVERLAP[self.ndim])
        precision, froc = [], []
        for k, c in enumerate(self.classes):
            own = [_OfClass.read(r, c.name) for r in rows]
            half, low = (_found(own, t) for t in (1, at))
            if not half.truths.sum():
                continue
            hits, alarms, truths = (part[0] for part in half.ordered(ones))
            if len(hits):
                precision.append((k, hits / truths, hits / (hits + alarms)))
            rates = np.geomspace(1 / 16, 16, 49)
            froc.append((k, np.log2(rates), detection.froc(low, ones, rates.tolist())[0]))
        overlap = FROC_OVERLAP[self.ndim]
        return (
            Curve(
                "Precision and recall",
                "recall",
                "precision",
                "boxes that overlap the truth by half, each class in its colour",
                tuple(precision),
            ),
            Curve(
                "FROC",
                "false positives an image, powers of 2",
                "sensitivity",
                f"boxes that overlap the truth by {overlap:g}, each class in its colour",
                tuple(froc),
                4.0,
                -4.0,
            ),
        )


def _found(own: Sequence[_OfClass], threshold: int) -> detection.Found:
    """What was found of one class in every image, at THRESHOLDS[threshold]."""
    return detection.Found.of([(r.scores, (r.hits >> threshold & 1).astype(bool), len(r.truths)) for r in own])


def _images(read: Sequence[Sequence[_OfClass]], patients: Sequence[str | None]) -> bootstrap.Interval:
    """Whether the best score tells images with a box from those without. read: by class, then by image."""
    each = list(zip(*read, strict=True))
    best = np.array([max((0.0, *(s for own in image for s in own.scores))) for image in each])
    some = np.array([any(len(own.truths) for own in image) for image in each], dtype=bool)
    note = "" if some.any() and not some.all() else f"every image has {'a' if some.any() else 'no'} box"
    return bootstrap.interval(lambda w: ranking.auroc(best, some, w), patients, note=note)


def _by_size(
    read: Sequence[Sequence[_OfClass]], patients: Sequence[str | None], found: Sequence[detection.Found]
) -> dict[str, bootstrap.Interval]:
    """Sensitivity at one false alarm an image, of the smallest, middle and largest third of the truths."""
    image, sizes, best, sure = [], [], [], []
    for f, images in zip(found, read, strict=True):
        limit = detection.threshold_at(f, 1.0)
        for i, own in enumerate(images):
            image += [i] * len(own.truths)
            sizes += own.truths.tolist()
            best += own.best.tolist()
            sure += [limit] * len(own.truths)
    if len(sizes) < 3 * len(SIZES):
        return {}
    cuts = np.quantile(sizes, (1 / 3, 2 / 3))
    third = np.searchsorted(cuts, sizes, side="left")
    hit, at = np.array(best) >= np.array(sure), np.array(image)
    out = {}
    for k, name in enumerate(SIZES):
        few = third == k
        if few.any():
            part, places = hit[few].astype(np.float64), at[few]
            low, high = np.array(sizes)[few].min(), np.array(sizes)[few].max()
            note = f"mean sides of {low:.0f} to {high:.0f} voxels"
            out[f"sensitivity_{name}"] = bootstrap.interval(partial(_part_found, part, places), patients, note=note)
    return out


def _part_found(found: Floats, image: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """(R,) part of the truths that were found. found: (G,) 0 or 1; image: (G,) that each lies in."""
    return detection.sensitivity(found, 0.5, weights[:, image])


def _text(values: npt.NDArray[Any]) -> str:
    return " ".join(f"{v:.6g}" for v in values.tolist())


def _numbers(text: float | str) -> Floats:
    return np.array(str(text).split(), dtype=np.float64)
