"""Whether a dataset can be trusted: every case read once, leaks and copies between the parts found, labels checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data import duplicates
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate
from hounsfield.data.facts import CaseFacts, FactStore, mask_of, measure, sample_key
from hounsfield.data.layout import RGB
from hounsfield.data.masks import in_threads
from hounsfield.data.split import PARTS, Split

LISTED = 10  # names in one message


@dataclass(frozen=True)
class Audit:
    """What was measured and found.

    facts: by sample id, of every sample that is left. dropped: ids of exact copies taken out, the one in the lower part of
    test, val, train. copies: exact copies; across parts, the second was dropped; within one, listed only. near: near copies
    across parts. classes: per part, the samples that show each class, by name. empty: per part, the masks without any
    labelled voxel. notes: sentences for the user.
    """

    facts: Mapping[str, CaseFacts]
    dropped: tuple[str, ...]
    copies: tuple[Duplicate, ...]
    near: tuple[Duplicate, ...]
    classes: Mapping[Part, Mapping[str, int]]
    empty: Mapping[Part, int]
    notes: tuple[str, ...]


def audit(
    dataset: Dataset,
    split: Split,
    *,
    strict: bool = False,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Dataset, Split, Audit]:
    """The dataset and split less the copies that leak, and what was found. Every file is read once, in threads.

    strict: copies and near copies across parts are errors. store: folder in which facts are kept for the next time;
    None: nowhere. progress: called with (cases done, all cases).

    Raises InputError PATIENT_LEAK, GRID_MISMATCH, WRONG_DIMENSION, CHANNELS, BAD_LABEL, NO_FOREGROUND, ONE_CLASS, TOO_FEW,
    with `strict` DUPLICATE_IMAGE, and whatever a file that cannot be read raises.
    """
    part_of = split.part_of()
    dataset = dataset.select(part_of)
    _check_patients(dataset, part_of)
    facts = measure_all(dataset, store, progress)
    _check_dimensions(dataset, facts)
    dataset, notes = _one_channel_count(dataset, facts)
    _check_labels(dataset, facts)

    samples = {s.id: s for s in dataset.samples}
    copies = duplicates.exact(samples, facts, part_of)
    near = duplicates.near(samples, facts, part_of)
    across = [c for c in copies if c.first_part != c.second_part]
    if strict and (across or near):
        _refuse_copies(dataset, [*across, *near])
    dropped = tuple(sorted(c.second for c in across))
    split = split.without(dropped)
    if not split.train or not (split.val or split.folds):
        raise InputError(
            "TOO_FEW",
            dataset.root,
            found=f"{len(split.train)} train and {len(split.val)} val cases after {_copies(len(dropped))} were dropped",
            expected="at least one of each",
            fix="give a split whose parts share no images",
        )
    dataset = dataset.select(split.part_of())
    classes, empty = _class_counts(dataset, facts, split)
    _check_training(dataset, split, classes, empty)
    notes += _copy_notes(copies, across, near)
    notes += [f"{n} of {len(getattr(split, part))} {part} masks are empty" for part, n in empty.items() if n]
    kept = {s.id: facts[s.id] for s in dataset.samples}
    return dataset, split, Audit(kept, dropped, tuple(copies), tuple(near), classes, empty, tuple(notes))


def _check_patients(dataset: Dataset, part_of: Mapping[str, Part]) -> None:
    seen: dict[str, Sample] = {}
    leaks: dict[str, tuple[Sample, Sample]] = {}
    for sample in dataset.samples:
        if sample.patient is not None:
            first = seen.setdefault(sample.patient, sample)
            if part_of[first.id] != part_of[sample.id]:
                leaks.setdefault(sample.patient, (first, sample))
    if leaks:
        named = [
            f"patient {who} in {part_of[a.id]} ({a.images[0]}) and {part_of[b.id]} ({b.images[0]})"
            for who, (a, b) in sorted(leaks.items())
        ]
        raise InputError(
            "PATIENT_LEAK",
            dataset.root,
            found=f"{len(leaks)} of {len(seen)} patients in two parts: {_listed(named)}",
            expected="every patient in one part",
            fix="mend the split, or give none and let one be drawn by patient",
        )


def measure_all(dataset: Dataset, store: Path | None, progress: Callable[[int, int], None] | None) -> dict[str, CaseFacts]:
    """Facts of every sample by id, each file read once, in threads; kept in and taken from `store` as `audit` does.

    Raises what a file that cannot be read raises.
    """
    kept = FactStore(store, dataset.root) if store else None
    known = kept.load() if kept else {}

    def facts_of(sample: Sample) -> CaseFacts:
        have = known.get(sample_key(sample, dataset.ignore_value)) if known else None
        return replace(have, id=sample.id) if have else measure(sample, dataset.ignore_value)

    facts = in_threads(facts_of, dataset.samples, progress)
    if kept and any(f.key not in known for f in facts):
        kept.save(facts)
    return {f.id: f for f in facts}


def _check_dimensions(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> None:
    numbers = Counter(len(f.shape) for f in facts.values())
    if len(numbers) > 1:
        rare = min(numbers, key=lambda n: numbers[n])
        named = [str(s.images[0]) for s in dataset.samples if len(facts[s.id].shape) == rare]
        raise InputError(
            "WRONG_DIMENSION",
            dataset.root,
            found=f"{numbers[2]} flat images and {numbers[3]} volumes; {rare}D: {_listed(named)}",
            expected="one number of axes",
            fix="train on each kind by itself",
        )


def _one_channel_count(dataset: Dataset, facts: dict[str, CaseFacts]) -> tuple[Dataset, list[str]]:
    """The dataset with the number of channels that all its images can be read with, `facts` brought to it, and notes.

    Grey pictures among colours are repeated, colours that hold nothing but grey are reduced (data/channels.py reads so).
    """
    numbers = Counter(f.channels for f in facts.values())
    count = len(dataset.channels)
    if set(numbers) == {count}:
        return dataset, []
    if set(numbers) == {1, 3} and count in (1, 3):
        count = 1 if all(f.grey for f in facts.values()) else 3
        names = ("intensity",) if count == 1 else RGB
        changed = {f.id: _with_channels(f, count) for f in facts.values() if f.channels != count}
        facts.update(changed)
        how = "colour pictures of nothing but grey: one channel is used" if count == 1 else "grey among colours: repeated"
        return replace(dataset, channels=names), [f"{len(changed)} of {len(dataset)} images are {how}"]
    odd = [str(s.images[0]) for s in dataset.samples if facts[s.id].channels != count]
    raise InputError(
        "CHANNELS",
        dataset.root,
        found=", ".join(f"{n} images of {c} channel{'s' * (c != 1)}" for c, n in sorted(numbers.items())) + f": {_listed(odd)}",
        expected=f"{count} ({', '.join(dataset.channels)}) in every image",
        fix="save all images alike",
    )


def _with_channels(fact: CaseFacts, count: int) -> CaseFacts:
    times = count // fact.channels or 1
    regions = {name: getattr(fact, name)[:count] * times for name in ("whole", "foreground", "background")}
    return replace(fact, channels=count, **regions)


def _check_labels(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> None:
    ignored = set() if dataset.ignore_value is None else {dataset.ignore_value}
    values = {0, *(c.value for c in dataset.classes)} | ignored
    indices = set(range(len(dataset.classes)))
    odd: dict[str, list[int]] = {}
    for sample in dataset.samples:
        target, have = sample.target, facts[sample.id].voxels
        if isinstance(target, Boxes):
            bad = [c for c in have if c not in indices]
            _check_inside(sample, target, facts[sample.id].shape)
        elif isinstance(target, (int, tuple)):
            bad = [c for c in ((target,) if isinstance(target, int) else target) if c not in indices]
        else:
            bad = [v for v in have if v not in values]
        if bad:
            mask = mask_of(sample)
            odd[str(sample.images[0] if mask is None else mask)] = bad
    if odd:
        named = [f"{where} has {', '.join(map(str, bad[:8]))}" for where, bad in odd.items()]
        allowed = sorted(values) if dataset.kind == "segmentation" else sorted(indices)
        raise InputError(
            "BAD_LABEL",
            dataset.root,
            found=f"labels outside the classes in {len(odd)} case{'s' * (len(odd) != 1)}: {_listed(named)}",
            expected=f"one of {_abridged(allowed)}",
            fix="declare the class, or mend the label",
        )


def _check_inside(sample: Sample, boxes: Boxes, shape: tuple[int, ...]) -> None:
    beyond = (boxes.corners[:, : boxes.ndim] < 0).any() or (boxes.corners[:, boxes.ndim :] > shape).any()
    if len(boxes) and beyond:
        raise InputError(
            "BAD_LABEL",
            sample.images[0].path,
            found="a box that reaches beyond the image",
            expected=f"corners within {shape}",
            fix="clip or drop the box",
        )


def _copy_notes(copies: Sequence[Duplicate], across: Sequence[Duplicate], near: Sequence[Duplicate]) -> list[str]:
    notes = []
    within = [c for c in copies if c.first_part == c.second_part]
    if across:
        notes.append(f"dropped {_copies(len(across))} across parts: {_listed(map(str, across))}")
    if within:
        notes.append(f"kept {_copies(len(within))} within one part: {_listed(map(str, within))}")
    if near:
        notes.append(f"kept {len(near)} near cop{'y' if len(near) == 1 else 'ies'} across parts: {_listed(map(str, near))}")
    return notes


def _copies(number: int) -> str:
    return f"{number} exact cop{'y' if number == 1 else 'ies'}"


def _refuse_copies(dataset: Dataset, found: Sequence[Duplicate]) -> NoReturn:
    number = sum(d.correlation == 1 for d in found)
    raise InputError(
        "DUPLICATE_IMAGE",
        dataset.root,
        found=f"{_copies(number)} and {len(found) - number} near ones across parts: {_listed(map(str, found))}",
        expected="no image in two parts",
        fix="remove one of each, or leave out --strict",
    )


def _class_counts(
    dataset: Dataset, facts: Mapping[str, CaseFacts], split: Split
) -> tuple[dict[Part, dict[str, int]], dict[Part, int]]:
    part_of = split.part_of()
    counts: dict[Part, dict[str, int]] = {p: {c.name: 0 for c in dataset.classes} for p in PARTS}
    empty: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for sample in dataset.samples:
        part, target = part_of[sample.id], sample.target
        have = facts[sample.id].voxels
        if isinstance(target, (int, tuple)):
            present = {target} if isinstance(target, int) else set(target)
        elif isinstance(target, Boxes):
            present = set(have)
        else:
            present = {k for k, c in enumerate(dataset.classes) if have.get(c.value)}
            empty[part] += bool(have) and not present
        for k in present:
            counts[part][dataset.classes[k].name] += 1
    return counts, empty


def _check_training(
    dataset: Dataset, split: Split, classes: Mapping[Part, Mapping[str, int]], empty: Mapping[Part, int]
) -> None:
    """Raises InputError NO_FOREGROUND, ONE_CLASS where the training part has nothing to learn from."""
    present = sum(n > 0 for n in classes["train"].values())
    if dataset.kind == "segmentation" and not present:
        masks = ", ".join(f"{empty[p]} of {len(getattr(split, p))} {p} masks empty" for p in PARTS if getattr(split, p))
        raise InputError(
            "NO_FOREGROUND",
            dataset.root,
            found=masks,
            expected="at least one training mask with a labelled voxel",
            fix="check that the masks are the right files and the split the right one",
        )
    if dataset.kind == "classification" and not dataset.multilabel and present < 2:
        ranked = sorted(classes["train"].items(), key=lambda item: -item[1])
        counts = _abridged(f"{n} {name}" for name, n in (ranked if len(ranked) > LISTED else classes["train"].items()))
        raise InputError(
            "ONE_CLASS",
            dataset.root,
            found=f"training cases by class: {counts}",
            expected="cases of two classes or more",
            fix="add cases of the other class to the training part, or draw the split with another --seed",
        )


def _abridged(values: Iterable[object]) -> str:
    """ "0, 1, 2", or of a hundred "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more"."""
    own = [str(v) for v in values]
    return ", ".join(own[:LISTED]) + (f" and {len(own) - LISTED} more" if len(own) > LISTED else "")


def _listed(names: Iterable[str]) -> str:
    own = list(names)
    return "; ".join(own[:LISTED]) + (f"; and {len(own) - LISTED} more" if len(own) > LISTED else "")
