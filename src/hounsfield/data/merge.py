"""Many datasets become one: labels by an explicit mapping, what a source never annotated unknown there, patients kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import LazyImage, Sample, Target
from hounsfield.data.dataset import Dataset
from hounsfield.data.masks import Relabelled, same_grid

SITE = "site"
OWN_SITE = "source_site"  # where a source has sites of its own


@dataclass(frozen=True)
class Source:
    """One dataset of a merge. to: its class indices to those of the merged one, None for what is none of them. known: merged
    class indices that were searched for in it, sorted."""

    name: str
    dataset: Dataset
    to: Mapping[int, int | None]
    known: tuple[int, ...]


@dataclass(frozen=True)
class WithoutIgnored:
    """A valid mask that leaves out the voxels of a label mask that teach nothing. valid: another one, which holds as well."""

    labels: LazyImage
    value: int
    valid: LazyImage | None

    @property
    def path(self) -> Path:
        return self.labels.path

    @property
    def key(self) -> str:
        return f"{self.labels.key}:not {self.value}:{self.valid.key if self.valid else ''}"

    def __call__(self) -> Image:
        labels = self.labels()
        kept = labels.array != self.value
        if self.valid is not None:
            valid = self.valid()
            same_grid(labels, valid, self.labels.path, self.valid.path)
            kept &= valid.array != 0
        return replace(labels, array=kept.astype(np.uint8))


def merge(sources: Sequence[Source], classes: tuple[Class, ...], root: Path) -> Dataset:
    """One dataset of all samples: `<source>/<id>`, patients `<source>:<patient>`, the attribute "site" naming the source.

    Targets speak of `classes`. Where no source lacks a class, whole images stay in exclusive classes; else each may have
    several or none, and `known_classes` says which were searched for. A source's own split is kept.
    Raises InputError BAD_OPTION for sources of different tasks or with overlapping regions, CHANNELS for different channels.
    """
    first = sources[0].dataset
    _check(sources, root)
    every = tuple(range(len(classes)))
    whole = all(
        source.known == every and None not in source.to.values() and not source.dataset.multilabel for source in sources
    )
    multilabel = first.kind == "classification" and not whole
    samples = [_sample(source, sample, multilabel, every) for source in sources for sample in source.dataset.samples]
    voxels = {
        f"{source.name}/{name}": _counted(source, counts, classes)
        for source in sources
        for name, counts in source.dataset.voxels.items()
    }
    listed = ", ".join(f"{len(source.dataset)} of {source.name}" for source in sources)
    return Dataset(
        tuple(samples),
        classes,
        first.channels,
        first.kind,
        "merge",
        f"{len(samples)} cases: {listed}",
        root,
        multilabel=multilabel,
        voxels=voxels,
    )


def _check(sources: Sequence[Source], root: Path) -> None:
    kinds = {source.name: source.dataset.kind for source in sources}
    if len(set(kinds.values())) > 1 or None in kinds.values():
        raise InputError(
            "BAD_OPTION",
            root,
            found=", ".join(f"{name}: {kind or 'no labels'}" for name, kind in kinds.items()),
            expected="datasets of one task",
            fix="merge those of one task alone",
        )
    regions = [s.name for s in sources if s.dataset.kind == "segmentation" and s.dataset.multilabel]
    if regions:
        raise InputError(
            "BAD_OPTION",
            root,
            found=f"overlapping regions in {', '.join(regions)}",
            expected="classes that exclude each other",
            fix="save its masks with one label a voxel",
        )
    channels = {source.name: source.dataset.channels for source in sources}
    single = all(len(names) == 1 for names in channels.values())
    if len(set(channels.values())) > 1 and not single:
        raise InputError(
            "CHANNELS",
            root,
            found="; ".join(f"{name}: {', '.join(names)}" for name, names in channels.items()),
            expected="the same channels in the same order",
            fix="name them alike in a manifest, image_NAME for each",
        )


def _sample(source: Source, sample: Sample, multilabel: bool, every: tuple[int, ...]) -> Sample:
    target, valid = sample.target, sample.valid_mask
    ignored = source.dataset.ignore_value
    if ignored is not None and _is_mask(target):
        assert callable(target)
        valid = WithoutIgnored(target, ignored, valid)
    attributes = {OWN_SITE if key == SITE else key: value for key, value in sample.attributes.items()}
    known = source.known
    if sample.known_classes is not None:  # of a merge of merges
        lacking = {source.to.get(k) for k in range(len(source.dataset.classes)) if k not in sample.known_classes}
        known = tuple(k for k in known if k not in lacking)
    return replace(
        sample,
        id=f"{source.name}/{sample.id}",
        target=_target(source, target, multilabel),
        valid_mask=valid,
        known_classes=None if known == every else known,
        patient=None if sample.patient is None else f"{source.name}:{sample.patient}",
        attributes={**attributes, SITE: source.name},
    )


def _target(source: Source, target: Target, multilabel: bool) -> Target:
    if isinstance(target, int | tuple):
        given = (target,) if isinstance(target, int) else target
        found = tuple(sorted({k for index in given if (k := source.to[index]) is not None}))
        return found if multilabel else found[0]
    if isinstance(target, Boxes):
        places = [source.to[index] for index in target.labels.tolist()]
        kept = np.array([k is not None for k in places], dtype=bool)
        return Boxes(target.corners[kept], np.array([k for k in places if k is not None], dtype=np.int64))
    if target is None:
        return None
    values = tuple((c.value, 0 if (k := source.to[i]) is None else k + 1) for i, c in enumerate(source.dataset.classes))
    if source.dataset.ignore_value is not None:
        values = (*values, (source.dataset.ignore_value, 0))
    return target if all(old == new for old, new in values) else Relabelled(target, values)


def _is_mask(target: Target) -> bool:
    return target is not None and not isinstance(target, int | tuple | Boxes)


def _counted(source: Source, counts: Mapping[int, int], classes: Sequence[Class]) -> dict[int, int]:
    """Voxels by the merged classes' values."""
    to = {c.value: source.to[k] for k, c in enumerate(source.dataset.classes)}
    out: dict[int, int] = {}
    for value, number in counts.items():
        index = to.get(value)
        new = 0 if index is None else classes[index].value
        out[new] = out.get(new, 0) + number
    return out
