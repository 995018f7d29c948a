"""Segmentation: a class for every voxel (exclusive classes with background, or regions that may overlap), in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hounsfield import io
from hounsfield.core import plan as core
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.image import Image, Meta
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import IGNORE, PARTIAL, Placement, Prepared, grid_mismatch, prepare_labels
from hounsfield.metrics import bootstrap, overlap
from hounsfield.tasks import RGB, Curve, Row
from hounsfield.tasks.parts import drawing, losses
from hounsfield.tasks.parts.windows import Slab, flips, slabs

KIND = "dense"
MODEL = "unet"


class Options(core.Options):
    """regions: classes may overlap, one output each with a sigmoid; else they exclude each other. dice: weight of the Dice
    loss beside cross-entropy. ignore_value: mask value that teaches nothing. unknown: sets of class indices that some of the
    samples were not searched for, so that their background teaches nothing about these."""

    regions: bool = False
    dice: float = 1.0
    ignore_value: int | None = None
    unknown: tuple[tuple[int, ...], ...] = ()


def targets(dataset: Dataset) -> None:
    """Raises InputError BAD_LABEL where samples carry no masks, there is no class, or there are more of them, or of different
    sets of known ones, than a target can number."""
    without = [s.id for s in dataset.samples if not callable(s.target)]
    if without or not dataset.classes:
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"{len(without)} samples without a mask (first: {without[0]})" if without else "no class in any mask",
            expected="a mask for every image",
            fix="add the masks, or choose another task with --task",
        )
    sets = {s.known_classes for s in dataset.samples if s.known_classes is not None}
    if len(dataset.classes) >= PARTIAL or len(sets) > IGNORE - PARTIAL:
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"{len(dataset.classes)} classes, of which samples know {len(sets)} different parts",
            expected=f"at most {PARTIAL - 1} classes and {IGNORE - PARTIAL} parts",
            fix="merge some of the classes",
        )


def rules(fingerprint: Fingerprint) -> core.Decision:
    """Dice weight, region outputs, and which classes are unknown in some cases."""
    changes = {"regions": fingerprint.multilabel, "dice": 1.0, "unknown": fingerprint.unknown_classes}
    smallest = min(c.fraction for c in fingerprint.classes)
    reasons = {"dice": f"smallest class is {smallest:.2%} of voxels: Dice beside cross-entropy"}
    if fingerprint.unknown_classes:
        lacking = sorted({fingerprint.classes[k].name for part in fingerprint.unknown_classes for k in part})
        reasons["unknown"] = f"not every case was searched for {', '.join(lacking)}: left out of the loss there"
    return core.Decision(changes, reasons)


class Solver:
    """See hounsfield.tasks.Solver."""

    def __init__(self, plan: core.Plan) -> None:
        assert isinstance(plan.task_options, Options)
        self.plan = plan
        self.options = plan.task_options
        self.out_channels = len(plan.classes) + (0 if self.options.regions else 1)

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[np.uint8]:
        """Raises InputError GRID_MISMATCH where a mask lies on another grid than the image, BAD_PLAN where the plan does not
        know which classes the sample was not searched for."""
        assert callable(sample.target)
        truth, valid = sample.target(), sample.valid_mask() if sample.valid_mask else None
        for mask in (truth, valid):
            if mask is not None and not mask.geometry.same_grid(placement.source):
                raise grid_mismatch(sample.id, mask.geometry, placement.source)
        labels = prepare_labels(truth, placement, self.plan.classes, valid, self.options.ignore_value)
        encoded: npt.NDArray[np.uint8] = labels.numpy()
        lacking = _unknown(sample, self.plan.classes)
        if lacking and self.options.regions:
            encoded[list(lacking)] = IGNORE
        elif lacking:
            if lacking not in self.options.unknown:
                raise InputError(
                    "BAD_PLAN",
                    sample.id,
                    found=f"a case not searched for {', '.join(self.plan.classes[k].name for k in lacking)}",
                    expected="that set of classes in task_options.unknown",
                    fix="let the rules plan for this dataset",
                )
            encoded[encoded == 0] = PARTIAL + self.options.unknown.index(lacking)
        return encoded

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"model": model}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        def loss() -> Tensor:
            outputs = model(batch.image)
            if self.options.regions:
                return losses.deep(losses.region_overlap, outputs, batch.target, self.options.dice)
            exclusive = partial(losses.exclusive_overlap, unknown=self.options.unknown)
            return losses.deep(exclusive, outputs, batch.target[:, 0], self.options.dice)

        yield "model", loss

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Iterable[Slab]:
        device = next(models[0].parameters()).device
        views = [(model, axes) for model in models for axes in flips(self.plan)]

        def probabilities(window: Tensor) -> Tensor:
            def one(model: nn.Module, axes: tuple[int, ...]) -> Tensor:
                if not axes:  # a flip along no axis is a copy
                    return self._activate(model(window).float())
                return self._activate(model(window.flip(axes)).float()).flip(axes)

            # Nothing is kept but the sum: with many classes one output is hundreds of megabytes.
            total = one(*views[0])
            for view in views[1:]:
                total += one(*view)
            return total.div_(len(views)) if len(views) > 1 else total

        return slabs(probabilities, x[0], self.plan.patch, self.plan.inference.overlap, self.out_channels, device)

    def decode(self, raw: Iterable[Slab], prepared: Prepared) -> Image:
        """Labels in the source's values, on the source's grid: (1, *source), or (R, *source) 0/1 regions."""
        if self.options.regions:
            return Image(prepared.back_labels(raw, lambda p: (p > 0.5).to(torch.uint8)), prepared.source, Meta("prediction"))
        # Not argmax, which takes three times as long along the first axis on CPUs.
        index = prepared.back_labels(raw, lambda p: p.max(dim=0, keepdim=True).indices.to(torch.uint8))
        values = np.array([0, *(c.value for c in self.plan.classes)])
        if np.array_equal(values, np.arange(len(values))):
            return Image(index, prepared.source, Meta("prediction"))
        kinds = (np.uint8, np.uint16, np.int32)
        kind = next(k for k in kinds if np.iinfo(k).min <= values.min() and values.max() <= np.iinfo(k).max)
        return Image(values.astype(kind)[index], prepared.source, Meta("prediction"))

    def maps(self, raw: Iterable[Slab], prepared: Prepared) -> Image:
        """(K, *source) uint8: the probability of each class, times 255, on the source's grid."""
        first = 0 if self.options.regions else 1  # channel 0 is the background
        array = prepared.back_labels(raw, lambda p: (p[first:] * 255).round().to(torch.uint8))
        return Image(array, prepared.source, Meta("prediction"))

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """Log-odds of the class, log p - log(1 - p), averaged over the voxels where the model sees it (over all by their
        probability where it sees none). A constant added to every logit changes nothing."""
        logits = model(x).float()
        channel = target if self.options.regions else target + 1
        odds = logits[:, channel]
        if not self.options.regions:
            odds = odds - torch.cat([logits[:, :channel], logits[:, channel + 1 :]], dim=1).logsumexp(dim=1)
        share = odds.detach().sigmoid().flatten(1)
        seen = torch.where(share > 0.5, share, 0.0)
        weight = torch.where(seen.sum(dim=1, keepdim=True) > 0, seen, share + 1e-6)
        mean: Tensor = (odds.flatten(1) * weight).sum(dim=1) / weight.sum(dim=1)
        return mean

    def metrics(self) -> Metrics:
        return Metrics(self.plan.classes, self.options.ignore_value)

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction) -> RGB:
        assert isinstance(prediction, Image)
        truth = sample.target() if sample is not None and callable(sample.target) else None
        return drawing.contours(image, truth, prediction, self.plan.classes)

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path:
        """`<id>.nii.gz`, or `<id>.png` for raster input, in the values of the source masks."""
        assert isinstance(prediction, Image)
        raster = prediction.ndim == 2 and prediction.geometry.space == "none" and prediction.channels == 1
        path = folder / f"{sample.id}{'.png' if raster else '.nii.gz'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        io.write(prediction, path, overwrite=True)
        return path

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path | None:
        return None

    def _activate(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.options.regions else logits.softmax(dim=1)


class Metrics:
    """Dice and IoU per class and their means; both masks empty count 1, one empty 0, and never a case is dropped. A class that
    a case was not searched for has no figure there."""

    headline = "dice"

    def __init__(self, classes: Sequence[core.Class], ignore_value: int | None) -> None:
        self.classes = classes
        self.ignore_value = ignore_value

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        assert callable(sample.target)
        assert isinstance(prediction, Image)
        valid = sample.valid_mask() if sample.valid_mask else None
        truth = sample.target()
        if not truth.geometry.same_grid(prediction.geometry):
            raise grid_mismatch(sample.id, truth.geometry, prediction.geometry)
        known = None if valid is None else valid.array[0]
        if len(truth.array) > 1:
            counts = overlap.count_regions(prediction.array > 0, truth.array > 0, valid=known)
        else:
            values = [c.value for c in self.classes]
            counts = overlap.count_labels(prediction.array[0], truth.array[0], values, valid=known, ignore=self.ignore_value)
        lacking = _unknown(sample, self.classes)
        searched = [k not in lacking for k in range(len(self.classes))]
        dice, iou = (np.where(searched, values, np.nan) for values in (counts.dice, counts.iou))
        row: dict[str, Any] = {name: float(np.mean(v[searched])) for name, v in (("dice", dice), ("iou", iou))}
        for k, c in enumerate(self.classes):
            row |= {f"dice_{c.name}": float(dice[k]), f"iou_{c.name}": float(iou[k])}
            row |= {f"voxels_{c.name}": int(counts.truth[k]), f"predicted_{c.name}": int(counts.prediction[k])}
        return row

    def worth(self, row: Row) -> float:
        return float(row["dice"])

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        return ()

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, bootstrap.Interval]:
        names = ["dice", "iou", *(f"{m}_{c.name}" for m in ("dice", "iou") for c in self.classes)]
        return {n: bootstrap.mean([float(r[n]) for r in rows], patients) for n in names}


def _unknown(sample: Sample, classes: Sequence[core.Class]) -> tuple[int, ...]:
    """Indices of the classes that a sample was not searched for, never all of them."""
    return () if sample.known_classes is None else tuple(k for k in range(len(classes)) if k not in sample.known_classes)
