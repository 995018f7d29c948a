"""Masks become boxes, so that a dataset with masks can train a detector: one around every connected component."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.facts import mask_of
from hounsfield.data.masks import in_threads


def for_task(dataset: Dataset, task: str) -> Dataset:
    """The dataset as a task wants it: for detection, boxes in the place of masks; for restoration and pretraining, images
    alone; for generation, one of several classes for each image, or images alone."""
    if task in ("restoration", "pretraining"):
        return dataset.without_targets()
    if task == "generation" and not _classed(dataset):
        notes = () if dataset.kind is None else ("generation learns from the images alone: their labels are not used",)
        return replace(dataset.without_targets(), notes=(*dataset.notes, *notes))
    return as_boxes(dataset) if task == "detection" and dataset.kind == "segmentation" else dataset


def _classed(dataset: Dataset) -> bool:
    """Whether every image is of one of several classes."""
    one = all(isinstance(sample.target, int) for sample in dataset.samples)
    return dataset.kind == "classification" and len(dataset.classes) > 1 and one


def with_masks(dataset: Dataset) -> Dataset:
    """The dataset, where every image has a mask from which it can be drawn anew. Raises InputError BAD_LABEL."""
    without = [sample.id for sample in dataset.samples if not callable(sample.target)]
    if without or not dataset.classes:
        found = f"{len(without)} samples without a mask (first: {without[0]})" if without else "no class in any mask"
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=found,
            expected="a mask for every image, as task_options.masks says",
            fix="add the masks, or leave the option out",
        )
    return dataset


def as_boxes(dataset: Dataset) -> Dataset:
    """The dataset with boxes in the place of masks, class by class; every mask is read, and a note says so."""

    def one(sample: Sample) -> Sample:
        mask = mask_of(sample)
        return sample if mask is None else replace(sample, target=boxes_of(mask(), dataset.classes), valid_mask=None)

    found = in_threads(one, dataset.samples)
    partial = sum(s.valid_mask is not None for s in dataset.samples)
    notes = [*dataset.notes, "a box was drawn around every connected part of each mask"]
    if partial:
        notes.append(f"{partial} valid masks are not used: beyond them counts as without objects")
    return replace(
        dataset,
        samples=tuple(found),
        kind="detection",
        multilabel=False,
        voxels={},
        ignore_value=None,
        notes=tuple(notes),
    )


def boxes_of(mask: Image, classes: tuple[Class, ...]) -> Boxes:
    """Around the components of each class of a mask (1, *spatial), or of each region (R, *spatial)."""
    if mask.channels == 1:
        return Boxes.around(mask.array[0], tuple(c.value for c in classes))
    each = [Boxes.around((region != 0).astype(np.uint8), (1,)) for region in mask.array]
    labels = np.concatenate([np.full(len(b), k, dtype=np.int64) for k, b in enumerate(each)])
    return Boxes(np.concatenate([b.corners for b in each]), labels)
