"""Measure: the facts of single cases, of the training part alone, drawn together into a fingerprint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity
from hounsfield.data.dataset import Dataset
from hounsfield.data.facts import LEVELS, CaseFacts
from hounsfield.data.facts import Intensity as Channel

T = TypeVar("T")


def fingerprint(train: Dataset, facts: Mapping[str, CaseFacts]) -> Fingerprint:
    """Of the samples of `train`. Raises InputError WRONG_DIMENSION where 2D and 3D cases are mixed."""
    cases = [facts[s.id] for s in train.samples]
    dimensions = {len(c.shape) for c in cases}
    if len(dimensions) > 1:
        odd = min(dimensions, key=lambda n: sum(len(c.shape) == n for c in cases))
        name = next(c.id for c in cases if len(c.shape) == odd)
        raise InputError(
            "WRONG_DIMENSION",
            name,
            found=f"{odd} axes beside cases of other dimension",
            expected="2D or 3D throughout",
            fix="divide the dataset",
        )
    shapes, spacings = _canonical(cases)
    patients = {s.patient for s in train.samples if s.patient is not None}
    channels = len(train.channels)
    return Fingerprint(
        cases=len(cases),
        patients=len(patients) if patients else None,
        ndim=3 if 3 in dimensions else 2,
        space=_common([c.space for c in cases], "none"),
        channels=train.channels,
        modality=_common([c.modality for c in cases], None),
        dtype=Counter(c.dtype for c in cases).most_common(1)[0][0],
        shape_min=tuple(int(v) for v in shapes.min(axis=0)),
        shape_median=tuple(int(v) for v in np.median(shapes, axis=0)),
        shape_max=tuple(int(v) for v in shapes.max(axis=0)),
        spacing_min=tuple(float(v) for v in spacings.min(axis=0)),
        spacing_median=tuple(float(v) for v in np.median(spacings, axis=0)),
        spacing_max=tuple(float(v) for v in spacings.max(axis=0)),
        intensity=tuple(_intensity([c.whole[min(k, len(c.whole) - 1)] for c in cases]) for k in range(channels)),
        classes=_classes(train, cases),
        multilabel=train.multilabel,
        empty_masks=sum(bool(c.voxels) and not any(v for k, v in c.voxels.items() if k != 0) for c in cases)
        if train.kind == "segmentation"
        else 0,
    )


def _canonical(cases: Sequence[CaseFacts]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Shapes and spacings (N, n) of the cases in canonical axis order."""
    shapes, spacings = [], []
    for case in cases:
        order = list(range(len(case.shape)))
        if len(case.shape) == 3 and case.space != "none":
            worlds = ["RLAPSI".index(letter) // 2 for letter in case.orientation]
            order = [worlds.index(world) for world in (2, 1, 0)]
        shapes.append([case.shape[k] for k in order])
        spacings.append([case.spacing[k] for k in order])
    return np.array(shapes), np.array(spacings)


def _intensity(channel: Sequence[Channel]) -> Intensity:
    """Voxel-weighted mean and spread over cases; percentiles are medians of the cases' own, as no pool of voxels is kept."""
    weights = np.array([c.voxels for c in channel], dtype=np.float64)
    means = np.array([c.mean for c in channel])
    stds = np.array([c.std for c in channel])
    mean = float(np.average(means, weights=weights))
    variance = float(np.average(stds**2 + (means - mean) ** 2, weights=weights))
    quantiles = np.array([c.quantiles for c in channel])
    low, median, high = (float(np.median(quantiles[:, LEVELS.index(level)])) for level in (0.005, 0.5, 0.995))
    return Intensity(low=low, median=median, high=high, mean=mean, std=variance**0.5)


def _classes(train: Dataset, cases: Sequence[CaseFacts]) -> tuple[ClassFacts, ...]:
    out = []
    total = sum(sum(c.voxels.values()) for c in cases)
    for index, c in enumerate(train.classes):
        if train.kind == "segmentation":
            held = [case.voxels.get(c.value, 0) for case in cases]
            count, fraction = sum(h > 0 for h in held), sum(held) / max(1, total)
        else:
            held = [index in s.target if isinstance(s.target, tuple) else index == s.target for s in train.samples]
            count, fraction = sum(held), sum(held) / max(1, len(held))
        out.append(ClassFacts(value=c.value, name=c.name, cases=count, fraction=fraction))
    return tuple(out)


def _common(values: Sequence[T], otherwise: T) -> T:
    """The value that all share, else `otherwise`."""
    return values[0] if len(set(values)) == 1 else otherwise
