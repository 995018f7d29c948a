"""Detection: a box, a class and a score for every object, in 2D and 3D through one path."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from hounsfield.core import plan as core
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.image import Image
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import Placement, Prepared, prepare_boxes
from hounsfield.io.limits import atomic
from hounsfield.tasks import RGB
from hounsfield.tasks.parts.assign import detection_loss
from hounsfield.tasks.parts.box_drawing import Judge, draw_boxes
from hounsfield.tasks.parts.box_files import xyz
from hounsfield.tasks.parts.box_metrics import FROC_OVERLAP, SURE, Metrics
from hounsfield.tasks.parts.boxes import fuse, suppress
from hounsfield.tasks.parts.windows import flips, starts, window

KIND = "boxes"
MODEL = "fcos"
HARDLY = 0.01  # score below which a box is not kept
MOST_OF_WINDOW = 1000  # boxes of one window that are compared with each other, the best scored
MOST = 300  # boxes of one image


class Options(core.Options):
    """merge: overlap from which boxes of one class are taken for one object. views: overlap from which those of several
    networks or mirrored images are fused. sure: score from which a box is drawn, counted as found or as a false alarm, and
    written where scores cannot be looked at: everywhere but in lists of boxes."""

    merge: float = Field(default=0.6, gt=0, lt=1)
    views: float = Field(default=0.55, gt=0, lt=1)
    sure: float = Field(default=SURE, ge=0, le=1)


def targets(dataset: Dataset) -> None:
    """Raises InputError BAD_LABEL where samples carry no boxes, NO_FOREGROUND where none has any."""
    without = [s.id for s in dataset.samples if not isinstance(s.target, Boxes)]
    if without:
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"{len(without)} samples without a list of boxes (first: {without[0]})",
            expected="boxes, perhaps none, for every image",
            fix="add them, or choose another task with --task",
        )
    if not any(len(s.target) for s in dataset.samples if isinstance(s.target, Boxes)):
        raise InputError(
            "NO_FOREGROUND",
            dataset.root,
            found=f"{len(dataset)} images without any box",
            expected="at least one box",
            fix="check that the annotations are the right files",
        )


def rules(fingerprint: Fingerprint) -> core.Decision:
    """Nothing of its own: levels and resolution are the network's and the grid's."""
    return core.Decision({})


class Solver:
    """See hounsfield.tasks.Solver."""

    def __init__(self, plan: core.Plan) -> None:
        assert isinstance(plan.task_options, Options)
        self.plan = plan
        self.options = plan.task_options
        self.out_channels = len(plan.classes)

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[np.float32]:
        """(M, 2n + 1) corners in voxels of the model grid and class index; then a row of -2 - k for each class k that the
        sample was not searched for."""
        assert isinstance(sample.target, Boxes)
        boxes = prepare_boxes(sample.target, placement)
        rows = np.concatenate([boxes.corners, boxes.labels[:, None]], axis=1)
        known = range(self.out_channels) if sample.known_classes is None else sample.known_classes
        unknown = [k for k in range(self.out_channels) if k not in known]
        marks = np.zeros((len(unknown), rows.shape[1]))
        marks[:, -1] = [-2 - k for k in unknown]
        return np.concatenate([rows, marks]).astype(np.float32)

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"model": model}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        def loss() -> Tensor:
            logits, boxes, places, strides = self._flat(model(batch.image), batch.image.shape[2:])
            label = batch.target[..., -1].long()
            unknown = torch.stack([(label == -2 - k).any(dim=1) for k in range(self.out_channels)], dim=1)
            return detection_loss(logits, boxes, places, strides, batch.target[..., :-1].float(), label, ~unknown)

        yield "model", loss

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Boxes:
        """Boxes on the model grid, the best scored first."""
        device = next(models[0].parameters()).device
        views = [(model, axes) for model in models for axes in flips(self.plan)]
        found = [self._view(model, axes, x[0], device) for model, axes in views]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        if len(views) > 1:
            boxes, scores, labels = fuse(boxes, scores, labels, self.options.views, len(views))
        order = scores.argsort(descending=True, stable=True)[:MOST]
        corners, confidence = (part[order].double().cpu().numpy() for part in (boxes, scores))
        return Boxes(corners, labels[order].cpu().numpy(), confidence)

    def decode(self, raw: Boxes, prepared: Prepared) -> Boxes:
        """In voxels of the source."""
        return prepared.back_boxes(raw)

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """The class's logits over all places, drawn together by their log-sum-exp: what the best places say."""
        logits, *_ = self._flat(model(x), x.shape[2:])
        together: Tensor = logits[:, :, target].logsumexp(dim=1)
        return together

    def metrics(self) -> Metrics:
        return Metrics(self.plan.classes, self.plan.ndim, self.options.sure)

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction) -> RGB:
        assert isinstance(prediction, Boxes)
        truth = sample.target if sample is not None and isinstance(sample.target, Boxes) else None
        known = None if sample is None else sample.known_classes
        judge = None if truth is None else Judge(truth, FROC_OVERLAP[self.plan.ndim], known)
        return draw_boxes(image, self.sure(prediction), self.plan.classes, judge)

    def sure(self, prediction: Boxes) -> Boxes:
        """The boxes that are scored well enough for the plan."""
        assert prediction.scores is not None
        kept = prediction.scores >= self.options.sure
        return Boxes(prediction.corners[kept], prediction.labels[kept], prediction.scores[kept])

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path | None:
        return None

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path:
        """`predictions.json`: a list with, for each image, its file name `image`, `id`, `boxes` in source pixels (x1, y1, x2,
        y2 or x1, y1, z1, x2, y2, z2), `scores` and `labels`."""
        path = folder / "predictions.json"
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for sample, prediction in predictions:
            assert isinstance(prediction, Boxes)
            assert prediction.scores is not None
            entries.append(
                {
                    "image": sample.images[0].path.name,
                    "id": sample.id,
                    "boxes": xyz(prediction),
                    "scores": prediction.scores.round(5).tolist(),
                    "labels": [self.plan.classes[k].name for k in prediction.labels.tolist()],
                }
            )
        with atomic(path) as beside:
            beside.write_text(json.dumps(entries) + "\n", encoding="utf-8")
        return path

    def _flat(self, maps: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of all maps together: logits (B, P, K), boxes (B, P, 2n) in voxels of the input, places (P, n) and the strides (P,)
        of their maps, along the axis where it is largest."""
        n = self.plan.ndim
        logits, boxes, places, strides = [], [], [], []
        for level in maps:
            step = torch.tensor([a / b for a, b in zip(size, level.shape[2:], strict=True)], device=level.device)
            axes = [torch.arange(s, device=level.device) + 0.5 for s in level.shape[2:]]
            place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, n) * step
            flat = level.flatten(2).transpose(1, 2).float()
            distance = flat[..., self.out_channels :] * step.repeat(2)
            logits.append(flat[..., : self.out_channels])
            boxes.append(torch.cat([place - distance[..., :n], place + distance[..., n:]], dim=-1))
            places.append(place)
            strides.append(step.max().expand(len(place)))
        return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(places), torch.cat(strides)

    def _view(self, model: nn.Module, axes: tuple[int, ...], x: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels of one network on one mirrored image, by windows: each has a say on what lies nearest to its
        own middle, and what two neighbours still see both is one."""
        size, patch = x.shape[1:], self.plan.patch
        grid = [starts(s, p, self.plan.inference.overlap) for s, p in zip(size, patch, strict=True)]
        own = [_shares(first, p, s) for first, p, s in zip(grid, patch, size, strict=True)]
        found = []
        for index in product(*(range(len(first)) for first in grid)):
            corner = [first[k] for first, k in zip(grid, index, strict=True)]
            view = window(x, corner, patch).to(device)[None]
            logits, boxes, *_ = self._flat(model(view.flip(axes) if axes else view), patch)
            found.append(
                self._kept(logits[0].sigmoid(), boxes[0], axes, corner, [o[k] for o, k in zip(own, index, strict=True)])
            )
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        n, limit = len(size), torch.tensor(size, device=device, dtype=boxes.dtype)
        middle = (boxes[:, :n] + boxes[:, n:]) / 2
        boxes = torch.minimum(boxes.clamp_min(0), limit.repeat(2))
        # What repeats the border of a small image is no part of it.
        there = ((middle >= 0) & (middle <= limit)).all(dim=1) & (boxes[:, n:] - boxes[:, :n] > 1e-2).all(dim=1)
        boxes, scores, labels = boxes[there], scores[there], labels[there]
        kept = suppress(boxes, scores, labels, self.options.merge, MOST)
        return boxes[kept], scores[kept], labels[kept]

    def _kept(
        self, scores: Tensor, boxes: Tensor, axes: tuple[int, ...], corner: Sequence[int], own: Sequence[tuple[float, float]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best of one window, in voxels of the grid: scores (P, K), boxes (P, 2n) of the mirrored window."""
        n = len(corner)
        values, place = scores.flatten().topk(min(MOST_OF_WINDOW, scores.numel()))
        place = place[values > HARDLY]
        values = values[values > HARDLY]
        labels, boxes = place % scores.shape[1], boxes[place // scores.shape[1]]
        for axis in (a - 2 for a in axes):
            side = self.plan.patch[axis]
            boxes = boxes.clone()
            boxes[:, axis], boxes[:, n + axis] = side - boxes[:, n + axis], side - boxes[:, axis]
        boxes = boxes + torch.tensor([*corner, *corner], device=boxes.device)
        middle = (boxes[:, :n] + boxes[:, n:]) / 2
        low, high = (torch.tensor(edge, device=boxes.device) for edge in zip(*own, strict=True))
        mine = ((middle >= low) & (middle < high)).all(dim=1)
        return boxes[mine], values[mine], labels[mine]


def _shares(first: Sequence[int], patch: int, size: int) -> list[tuple[float, float]]:
    """For windows that begin at `first`: the interval whose objects each answers for, half-way to its neighbours and an eighth
    of the shared part beyond, so that nothing falls between two that draw it differently."""
    out = []
    for k, start in enumerate(first):
        low, high = -float("inf"), float("inf")
        if k > 0:
            shared = first[k - 1] + patch - start
            low = start + shared / 2 - shared / 8
        if k < len(first) - 1:
            shared = start + patch - first[k + 1]
            high = first[k + 1] + shared / 2 + shared / 8
        out.append((low, high))
    return out
