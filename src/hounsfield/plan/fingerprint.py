"""Measure: the facts of single cases, of the training part alone, drawn together into a fingerprint."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity, Spread
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate, count_within
from hounsfield.data.facts import LEVELS, CaseFacts, Header
from hounsfield.data.facts import Intensity as Channel
from hounsfield.plan.symmetry import likeness

T = TypeVar("T")
Floats = npt.NDArray[np.float64]

BINS: Final = 16  # of what varies over cases
WIDE: Final = 4.0  # times the smallest number: from there on, bins are of equal ratio
INTENSITY_BINS: Final = 32
NO_SIDES: Final = np.zeros((0, 0))
BLOCK: Final = 4096  # cases whose quantiles are drawn together at once


def fingerprint(train: Dataset, facts: Mapping[str, CaseFacts], near: Iterable[Duplicate] | None = None) -> Fingerprint:
    """Of the samples of `train`. near: the near copies that an audit found among them, and perhaps others; None: searched
    here, for which images that look alike are read again.

    facts: by sample id. Raises InputError WRONG_DIMENSION where 2D and 3D cases are mixed.
    """
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
    axes = [canonical(c) for c in cases]
    shapes = np.array([[c.shape[k] for k in order] for c, order in zip(cases, axes, strict=True)])
    spacings = np.array([[c.spacing[k] for k in order] for c, order in zip(cases, axes, strict=True)])
    patients = {s.patient for s in train.samples if s.patient is not None}
    alike = likeness(cases)
    exact_copies, near_copies = count_within(train.samples, facts, near)
    channels = range(len(train.channels))
    whole = tuple(_intensity([c.whole for c in cases], k, None) for k in channels)
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
        shapes=tuple(_spread(column) for column in shapes.T),
        spacing_min=tuple(float(v) for v in spacings.min(axis=0)),
        spacing_median=tuple(float(v) for v in np.median(spacings, axis=0)),
        spacing_max=tuple(float(v) for v in spacings.max(axis=0)),
        spacings=tuple(_spread(column) for column in spacings.T),
        orientations=dict(Counter(c.orientation for c in cases if c.space == "patient").most_common()),
        voxels=sum(math.prod(c.shape) for c in cases),
        voxels_unknown=sum(c.unknown for c in cases),
        intensity=whole,
        intensity_foreground=_region([c.foreground for c in cases], whole),
        intensity_background=_region([c.background for c in cases], whole),
        classes=_masks(train, cases) if train.kind == "segmentation" else _labels(train, axes),
        multilabel=train.multilabel,
        unknown_classes=_unknown(train),
        boxes=_some([len(s.target) for s in train.samples if isinstance(s.target, Boxes) and len(s.target)]),
        empty_masks=_empty(train, cases),
        constant_images=sum(all(w.quantiles[0] == w.quantiles[-1] for w in c.whole) for c in cases),
        exact_copies=exact_copies,
        near_copies=near_copies,
        alike=round(alike.as_is, 4),
        alike_mirrored=tuple(round(value, 4) for value in alike.mirrored),
    )


def canonical(case: Header) -> tuple[int, ...]:
    """The array axes of a case in canonical order."""
    if len(case.shape) != 3 or case.space == "none":
        return tuple(range(len(case.shape)))
    worlds = ["RLAPSI".index(letter) // 2 for letter in case.orientation]
    return tuple(worlds.index(world) for world in (2, 1, 0))


def _spread(values: npt.ArrayLike) -> Spread:
    """Of numbers above 0, one or more."""
    own = np.asarray(values, dtype=np.float64)
    low, high = float(own.min()), float(own.max())
    edges = _edges(own, low, high)
    counts = np.histogram(own, edges)[0]
    return Spread(
        min=low, median=float(np.median(own)), max=high, histogram=tuple(counts.tolist()), edges=tuple(edges.tolist())
    )


def _edges(values: Floats, low: float, high: float) -> Floats:
    """Of at most BINS bins. Whole numbers of a narrow range are equally many in each bin, so that none looks rare or empty
    only because its bin holds fewer."""
    if low == high:
        return np.array([low, high])
    narrow = high <= WIDE * low
    if (values % 1 == 0).all() and (narrow or high - low < 4 * BINS):
        step = math.ceil((high - low + 1) / BINS)
        return low - 0.5 + step * np.arange(math.ceil((high - low + 1) / step) + 1, dtype=np.float64)
    if narrow:
        return np.linspace(low, high, BINS + 1)
    inner = np.geomspace(low, high, BINS + 1)[1:-1]
    return np.array([low, *inner, high])  # both as they are, so that rounding pushes neither out of its bin


def _some(values: npt.ArrayLike) -> Spread | None:
    """None of no values."""
    return _spread(values) if np.size(values) else None


def _region(cases: Sequence[Sequence[Channel]], whole: Sequence[Intensity]) -> tuple[Intensity, ...]:
    """Of a region of the cases that have it; () where none has."""
    there = [c for c in cases if c]
    return tuple(_intensity(there, k, channel) for k, channel in enumerate(whole)) if there else ()


def _intensity(cases: Sequence[Sequence[Channel]], k: int, whole: Intensity | None) -> Intensity:
    """Of channel `k`: voxel-weighted mean and spread over cases; percentiles are medians of the cases' own, as no pool of
    voxels is kept. whole: what its histogram's bins are taken from; None: it is itself the whole."""
    channel = [c[min(k, len(c) - 1)] for c in cases]
    weights = np.array([c.voxels for c in channel], dtype=np.float64)
    means = np.array([c.mean for c in channel])
    stds = np.array([c.std for c in channel])
    mean = float(np.average(means, weights=weights))
    variance = float(np.average(stds**2 + (means - mean) ** 2, weights=weights))
    quantiles = np.array([c.quantiles for c in channel])
    low, median, high = (float(np.median(quantiles[:, LEVELS.index(level)])) for level in (0.005, 0.5, 0.995))
    ends = (low, high) if whole is None else (whole.low, whole.high)
    shares = _shares(quantiles, weights / weights.sum(), *ends)
    standard = _landmarks(quantiles) if whole is None else ()
    return Intensity(low=low, median=median, high=high, mean=mean, std=variance**0.5, histogram=shares, landmarks=standard)


def _landmarks(quantiles: Floats) -> tuple[tuple[float, float], ...]:
    """See Intensity.landmarks. quantiles: (N, len(LEVELS)) of each case."""
    first, last = LEVELS.index(0.005), LEVELS.index(0.995)
    inner = quantiles[:, first : last + 1]
    varied = inner[inner[:, -1] > inner[:, 0]]
    if not len(varied):
        return ()
    low, high = varied[:, :1], varied[:, -1:]
    means = ((varied - low) / (high - low)).mean(axis=0).round(6).tolist()
    return tuple(zip((100 * level for level in LEVELS[first : last + 1]), means, strict=True))


def _shares(quantiles: Floats, weights: Floats, low: float, high: float) -> tuple[float, ...]:
    """The shares of all voxels in INTENSITY_BINS equal bins from `low` to `high`, the last one closed.

    quantiles: (N, len(LEVELS)) of each case. weights: (N,), of sum 1. Between two quantiles a case's voxels are taken to be
    spread evenly, on one value where both are equal.
    """
    if not low < high:
        return ()
    edges = np.linspace(low, high, INTENSITY_BINS + 1)
    shares = np.zeros(INTENSITY_BINS)
    for start in range(0, len(quantiles), BLOCK):
        left, right = quantiles[start : start + BLOCK, :-1], quantiles[start : start + BLOCK, 1:]
        mass = weights[start : start + BLOCK, None] * np.diff(LEVELS)
        wide = right > left
        for k in range(mass.shape[1]):
            a, b, m = (x[:, k][wide[:, k]] for x in (left, right, mass))
            below = ((edges[:, None] - a) / (b - a)).clip(0, 1) @ m
            shares += np.diff(below)
        shares += np.histogram(left[~wide], edges, weights=mass[~wide])[0]
    return tuple(shares.round(6).tolist())


def _masks(train: Dataset, cases: Sequence[CaseFacts]) -> tuple[ClassFacts, ...]:
    """Classes by the voxels of masks."""
    held: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)  # voxels, and the size of one in mm
    total = 0
    for case in cases:
        size = math.prod(case.spacing) if case.space != "none" else math.nan
        for value, voxels in case.voxels.items():
            if value != train.ignore_value:
                total += voxels
                held[value].append((voxels, size))
    out = []
    for c in train.classes:
        counts = np.array(held[c.value], dtype=np.float64).reshape(-1, 2)
        known = counts[~np.isnan(counts[:, 1])]
        out.append(
            ClassFacts(
                value=c.value,
                name=c.name,
                cases=len(counts),
                fraction=float(counts[:, 0].sum()) / max(1, total),
                voxels=_some(counts[:, 0]),
                volume=_some(known.prod(axis=1)),
            )
        )
    return tuple(out)


def _labels(train: Dataset, axes: Sequence[tuple[int, ...]]) -> tuple[ClassFacts, ...]:
    """Classes by the labels of whole images or of boxes. axes: of each case in canonical order."""
    cases = Counter(label for sample in train.samples for label in _present(sample))
    sides = _sides(train.samples, axes)
    boxes = sum(len(own) for own in sides.values())
    out = []
    for k, c in enumerate(train.classes):
        own = sides.get(k, NO_SIDES)
        out.append(
            ClassFacts(
                value=c.value,
                name=c.name,
                cases=cases[k],
                fraction=len(own) / boxes if boxes else cases[k] / len(train.samples),
                boxes=len(own),
                box_sides=tuple(_spread(side) for side in own.T),
            )
        )
    return tuple(out)


def _present(sample: Sample) -> Iterable[int]:
    """Indices of the classes that a sample is labelled with."""
    target = sample.target
    if isinstance(target, int):
        return (target,)
    if isinstance(target, tuple):
        return set(target)
    return set(target.labels.tolist()) if isinstance(target, Boxes) else ()


def _sides(samples: Sequence[Sample], axes: Sequence[tuple[int, ...]]) -> dict[int, Floats]:
    """By class index, the sides (N, n) of its boxes in voxels."""
    found: defaultdict[int, list[Floats]] = defaultdict(list)
    for sample, order in zip(samples, axes, strict=True):
        if isinstance(sample.target, Boxes):
            for label, side in zip(sample.target.labels.tolist(), sample.target.sizes[:, order], strict=True):
                found[label].append(side)
    return {label: np.array(own) for label, own in found.items()}


def _unknown(train: Dataset) -> tuple[tuple[int, ...], ...]:
    """The different sets of class indices that samples were not searched for."""
    known = {s.known_classes for s in train.samples if s.known_classes is not None}
    lacking = {tuple(k for k in range(len(train.classes)) if k not in some) for some in known}
    return tuple(sorted(lacking - {()}))


def _empty(train: Dataset, cases: Sequence[CaseFacts]) -> int:
    if train.kind == "segmentation":
        values = {c.value for c in train.classes}
        return sum(bool(c.voxels) and values.isdisjoint(c.voxels) for c in cases)
    return sum(isinstance(s.target, Boxes) and not len(s.target) for s in train.samples)


def _common(values: Sequence[T], otherwise: T) -> T:
    """The value that all share, else `otherwise`."""
    return values[0] if len(set(values)) == 1 else otherwise
