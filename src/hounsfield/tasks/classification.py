"""Classification: one of several classes, or any of several (multi-label), for a whole 2D or 3D image."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core import plan as core
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.image import Image
from hounsfield.core.prediction import ClassScores, Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import Placement, Prepared
from hounsfield.io.limits import atomic
from hounsfield.metrics import bootstrap, ranking
from hounsfield.tasks import RGB, Curve, Row
from hounsfield.tasks.parts import drawing
from hounsfield.tasks.parts.windows import flips

Floats = npt.NDArray[np.float64]

KIND = "vector"
MODEL = "resnet"
MOST_CLASSES = 1000
# Scores that the replicates of one figure may weigh in all: with many classes there are fewer replicates, and the note says so.
WEIGHED = 5 * 10**8
FEWEST_REPLICATES = 100
LISTED = 5  # classes of which a note says why they have no figure


class Options(core.Options):
    """multilabel: classes do not exclude each other. smoothing: of the targets. weights: per class in the loss; () for none."""

    multilabel: bool = False
    smoothing: float = 0.05
    weights: tuple[float, ...] = ()


def targets(dataset: Dataset) -> None:
    """Raises InputError BAD_LABEL for samples without a class or too many classes, ONE_CLASS for a single one."""
    without = [s.id for s in dataset.samples if not isinstance(s.target, int | tuple)]
    if without:
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"{len(without)} samples without a class (first: {without[0]})",
            expected="a class for every image",
            fix="add the classes, or choose another task with --task",
        )
    if len(dataset.classes) > MOST_CLASSES:
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"{len(dataset.classes):,} classes, {len(dataset) / len(dataset.classes):.1f} cases each",
            expected=f"at most {MOST_CLASSES:,}",
            fix="merge some of them; numbers that are measured, such as an age, are no classes",
        )
    if len(dataset.classes) < 2 and not dataset.multilabel:
        raise InputError(
            "ONE_CLASS",
            dataset.root,
            found=f"one class, {', '.join(c.name for c in dataset.classes)}",
            expected="at least two",
            fix="add cases of another class",
        )


def rules(fingerprint: Fingerprint) -> core.Decision:
    """Class weights for long-tailed sets."""
    counts = np.array([max(1, c.cases) for c in fingerprint.classes], dtype=np.float64)
    ratio = counts.max() / counts.min()
    changes: dict[str, Any] = {"multilabel": fingerprint.multilabel, "smoothing": 0.0 if fingerprint.multilabel else 0.05}
    reasons = {}
    if ratio > 3 and not fingerprint.multilabel:
        weights = (counts.mean() / counts) ** 0.5
        changes["weights"] = [round(float(w), 3) for w in weights / weights.mean()]
        reasons["weights"] = f"the largest class has {ratio:.1f} times the cases of the smallest: root of inverse frequency"
    return core.Decision(changes, reasons)


class Solver:
    """See hounsfield.tasks.Solver."""

    def __init__(self, plan: core.Plan) -> None:
        assert isinstance(plan.task_options, Options)
        self.plan = plan
        self.options = plan.task_options
        self.out_channels = len(plan.classes)

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[Any]:
        """A class index (), or multi-label (K,) of 0, 1 and -1 where the class is unknown."""
        if not self.options.multilabel:
            assert isinstance(sample.target, int)
            return np.array(sample.target, dtype=np.int64)
        assert isinstance(sample.target, tuple)
        truth = np.zeros(self.out_channels, dtype=np.int64)
        if sample.known_classes is not None:
            truth[:] = -1
            truth[list(sample.known_classes)] = 0
        truth[list(sample.target)] = 1
        return truth

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"model": model}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        def loss() -> Tensor:
            logits = model(batch.image).float()
            if self.options.multilabel:
                known = batch.target >= 0
                truth = batch.target.clamp_min(0).float()
                each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
                return (each * known).sum() / known.sum().clamp_min(1)
            weight = torch.tensor(self.options.weights, device=logits.device) if self.options.weights else None
            return F.cross_entropy(logits, batch.target, weight, label_smoothing=self.options.smoothing)

        yield "model", loss

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Tensor:
        """(K,) probabilities."""
        x = x.to(next(models[0].parameters()).device)
        logits = torch.stack([model(x.flip(axes)).float()[0] for model in models for axes in flips(self.plan)])
        each = logits.sigmoid() if self.options.multilabel else logits.softmax(dim=1)
        return each.mean(dim=0)

    def decode(self, raw: Tensor, prepared: Prepared) -> ClassScores:
        return ClassScores(raw.detach().double().cpu().numpy(), self.options.multilabel)

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """The class's logit."""
        logits: Tensor = model(x).float()
        return logits[:, target]

    def metrics(self) -> Metrics:
        return Metrics(self.plan.classes, self.options.multilabel)

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction) -> RGB:
        return drawing.picture(image)

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path | None:
        return None

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path:
        """`predictions.csv`: id, then one probability column per class."""
        path = folder / "predictions.csv"
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", *(c.name for c in self.plan.classes)])
            for sample, prediction in predictions:
                assert isinstance(prediction, ClassScores)
                table.writerow([sample.id, *(f"{p:.6f}" for p in prediction.probabilities)])
        return path


class Metrics:
    """AUROC, accuracy, balanced accuracy, sensitivity and specificity (macro over classes where there are more than two)."""

    headline = "auroc"

    def __init__(self, classes: Sequence[core.Class], multilabel: bool) -> None:
        self.classes = classes
        self.multilabel = multilabel

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        """truth, prediction: names joined by "|"; unknown: those that the truth says nothing of; p_<name>: probabilities."""
        assert isinstance(prediction, ClassScores)
        truth = sample.target if isinstance(sample.target, tuple) else (sample.target,)
        known = set(range(len(self.classes)) if sample.known_classes is None else sample.known_classes) | set(truth)
        scores = prediction.probabilities
        chosen = scores > 0.5 if self.multilabel else np.arange(len(scores)) == np.argmax(scores)
        row: dict[str, float | str] = {
            "truth": "|".join(c.name for k, c in enumerate(self.classes) if k in truth),
            "prediction": "|".join(c.name for c, is_in in zip(self.classes, chosen, strict=True) if is_in),
            "unknown": "|".join(c.name for k, c in enumerate(self.classes) if k not in known),
        }
        row.update({f"p_{c.name}": float(p) for c, p in zip(self.classes, scores, strict=True)})
        return row

    def worth(self, row: Row) -> float:
        """Smallest probability given to what is true; NaN where nothing is known."""
        true, unknown = _names(row, "truth"), _names(row, "unknown")
        known = [(float(row[f"p_{c.name}"]), c.name in true) for c in self.classes if c.name not in unknown]
        return min((p if is_true else 1 - p for p, is_true in known), default=float("nan"))

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        return ()

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, bootstrap.Interval]:
        names = [c.name for c in self.classes]
        every = range(len(names))
        scores = np.array([[float(r[f"p_{n}"]) for n in names] for r in rows])
        truth, known = self._marked(rows, "truth"), ~self._marked(rows, "unknown")
        lacking = [ranking.undefined(truth[known[:, k], k : k + 1], names[k : k + 1]) for k in every]
        decided = scores > 0.5 if self.multilabel else np.arange(len(names)) == scores.argmax(axis=1)[:, None]
        # With two exclusive classes every figure speaks of the second one, the finding.
        binary = len(names) == 2 and not self.multilabel
        replicates = min(bootstrap.REPLICATES, max(FEWEST_REPLICATES, WEIGHED // max(1, scores.size)))
        fewer = f"{replicates} replicates for {len(names)} classes" if replicates < bootstrap.REPLICATES else ""
        right = np.where(known.any(axis=1), ((decided == truth) | ~known).all(axis=1), np.nan)

        def of(measure: Callable[[int, Floats], Floats]) -> bootstrap.Interval:
            """measure: (class, case weights (..., N)) -> (...,)"""

            def statistic(weights: Floats) -> Floats:
                each = [measure(k, weights * known[:, k]) for k in ((1,) if binary else every)]
                return np.asarray(np.mean(each, axis=0))

            absent = [n for n in dict.fromkeys(lacking) if n]
            more = f"{len(absent) - LISTED} more classes alike" if len(absent) > LISTED else ""
            note = "; ".join(n for n in (*absent[:LISTED], more, fewer) if n)
            return bootstrap.interval(statistic, patients, replicates=replicates, note=note)

        def outcome(name: str) -> bootstrap.Interval:
            def measure(k: int, w: Floats) -> Floats:
                found = ranking.Outcomes.of(decided[:, k : k + 1], truth[:, k : k + 1], w)
                of_class: Floats = getattr(found, name)[..., 0]
                return of_class

            return of(measure)

        return {
            "auroc": of(lambda k, w: ranking.auroc(scores[:, k], truth[:, k], w)),
            "accuracy": bootstrap.mean(right, patients),
            "balanced_accuracy": outcome("balanced_accuracy" if binary or self.multilabel else "sensitivity"),
            "sensitivity": outcome("sensitivity"),
            "specificity": outcome("specificity"),
            "average_precision": of(lambda k, w: ranking.average_precision(scores[:, k], truth[:, k], w)),
        }

    def _marked(self, rows: Sequence[Row], column: str) -> npt.NDArray[np.bool_]:
        """(N, K): which classes a column of names holds."""
        place = {c.name: k for k, c in enumerate(self.classes)}
        marked = np.zeros((len(rows), len(place)), dtype=bool)
        for i, row in enumerate(rows):
            for name in _names(row, column):
                if name in place:  # "" where there is none
                    marked[i, place[name]] = True
        return marked


def _names(row: Row, column: str) -> list[str]:
    return str(row[column]).split("|")
