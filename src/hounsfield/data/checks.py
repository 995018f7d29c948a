"""Faults of a dataset that stop a training, each check as findings: unreadable files, leaks, grids, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import CODES, InputError
from hounsfield.core.finding import LISTED, Finding, counted, listed
from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data.dataset import Dataset
from hounsfield.data.facts import CaseFacts, Header, mask_of
from hounsfield.data.layout import RGB
from hounsfield.data.split import PARTS, Split


def files_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The first file of each."""
    return tuple(str(s.images[0]) for s in samples)


def leaks(dataset: Dataset, part_of: Mapping[str, Part]) -> Iterator[Finding]:
    """Patients in two parts: PATIENT_LEAK."""
    seen: dict[str, Sample] = {}
    found: dict[str, tuple[Sample, Sample]] = {}
    for sample in dataset.samples:
        if sample.patient is not None:
            first = seen.setdefault(sample.patient, sample)
            if part_of[first.id] != part_of[sample.id]:
                found.setdefault(sample.patient, (first, sample))
    if found:
        pairs = [pair for _, pair in sorted(found.items())]
        yield Finding(
            severity="error",
            code="PATIENT_LEAK",
            where=str(dataset.root),
            found=f"{len(found)} of {len(seen)} patients in two parts",
            expected="every patient in one part",
            fix="mend the split, or give none and let one be drawn by patient",
            cases=tuple(s.id for pair in pairs for s in pair),
            files=files_of(s for pair in pairs for s in pair),
            details=tuple(
                f"patient {who} in {part_of[a.id]} ({a.images[0]}) and {part_of[b.id]} ({b.images[0]})"
                for who, (a, b) in sorted(found.items())
            ),
        )


def unreadable(dataset: Dataset, failed: Mapping[str, InputError]) -> Iterator[Finding]:
    """Every file that could not be read, by its error's code; failed: by sample id."""
    samples = {s.id: s for s in dataset.samples}
    by_code: dict[str, list[str]] = {}
    for name, error in failed.items():
        by_code.setdefault(error.code, []).append(name)
    for code, names in by_code.items():
        first = failed[names[0]]
        if len(names) == 1:
            yield Finding.of(first, names, [first.where])
            continue
        yield Finding(
            severity="error",
            code=code,
            where=str(dataset.root),
            found=f"{len(names)} of {len(dataset)} cases: {CODES[code]}",
            expected=first.expected,
            fix=first.fix,
            cases=tuple(names),
            files=files_of(samples[name] for name in names),
            details=tuple(f"{failed[name].where}: {failed[name].found}" for name in names),
        )


def dimensions(dataset: Dataset, headers: Mapping[str, Header]) -> Iterator[Finding]:
    """Flat images beside volumes: WRONG_DIMENSION."""
    numbers = Counter(len(h.shape) for h in headers.values())
    if len(numbers) > 1:
        rare = min(numbers, key=lambda n: numbers[n])
        odd = [s for s in dataset.samples if len(headers[s.id].shape) == rare]
        yield Finding(
            severity="error",
            code="WRONG_DIMENSION",
            where=str(dataset.root),
            found=f"{numbers[2]} flat images and {numbers[3]} volumes; {rare}D",
            expected="one number of axes",
            fix="train on each kind by itself",
            cases=tuple(s.id for s in odd),
            files=files_of(odd),
            details=files_of(odd),
        )


def one_channel_count(dataset: Dataset, facts: dict[str, CaseFacts]) -> tuple[Dataset, list[Finding]]:
    """The dataset with the number of channels that all its images can be read with, `facts` brought to it, and what was found.

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
        own = [s for s in dataset.samples if s.id in changed]
        found = Finding(
            severity="note",
            code="MIXED_CHANNELS",
            found=f"{len(changed)} of {len(dataset)} images are {how}",
            fix="nothing, unless grey and colour come from different sources",
            cases=tuple(s.id for s in own),
            files=files_of(own),
        )
        return replace(dataset, channels=names), [found]
    odd = [s for s in dataset.samples if facts[s.id].channels != count]
    return dataset, [
        Finding(
            severity="error",
            code="CHANNELS",
            where=str(dataset.root),
            found=", ".join(f"{n} images of {c} channel{'s' * (c != 1)}" for c, n in sorted(numbers.items())),
            expected=f"{count} ({', '.join(dataset.channels)}) in every image",
            fix="save all images alike",
            cases=tuple(s.id for s in odd),
            files=files_of(odd),
            details=files_of(odd),
        )
    ]


def _with_channels(fact: CaseFacts, count: int) -> CaseFacts:
    times = count // fact.channels or 1
    regions = {name: getattr(fact, name)[:count] * times for name in ("whole", "foreground", "background")}
    return replace(fact, channels=count, **regions)


def labels(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> Iterator[Finding]:
    """Labels that are no class, and boxes that leave their image: BAD_LABEL."""
    ignored = set() if dataset.ignore_value is None else {dataset.ignore_value}
    values = {0, *(c.value for c in dataset.classes)} | ignored
    indices = set(range(len(dataset.classes)))
    odd: dict[str, tuple[str, list[int]]] = {}
    beyond = []
    for sample in dataset.samples:
        target, have = sample.target, facts[sample.id].voxels
        if isinstance(target, Boxes):
            bad = [c for c in have if c not in indices]
            beyond += [sample] if _leaves(target, facts[sample.id].shape) else []
        elif isinstance(target, (int, tuple)):
            bad = [c for c in ((target,) if isinstance(target, int) else target) if c not in indices]
        else:
            bad = [v for v in have if v not in values]
        if bad:
            mask = mask_of(sample)
            odd[sample.id] = (str(sample.images[0] if mask is None else mask), bad)
    if odd:
        allowed = sorted(values) if dataset.kind == "segmentation" else sorted(indices)
        yield Finding(
            severity="error",
            code="BAD_LABEL",
            where=str(dataset.root),
            found=f"labels outside the classes in {counted(len(odd), 'case')}",
            expected=f"one of {abridged(allowed)}",
            fix="declare the class, or mend the label",
            cases=tuple(odd),
            files=tuple(where for where, _ in odd.values()),
            details=tuple(f"{where} has {', '.join(map(str, bad[:8]))}" for where, bad in odd.values()),
        )
    if beyond:
        yield Finding(
            severity="error",
            code="BAD_LABEL",
            where=str(beyond[0].images[0].path),
            found="a box that reaches beyond the image",
            expected=f"corners within {facts[beyond[0].id].shape}",
            fix="clip or drop the box",
            cases=tuple(s.id for s in beyond),
            files=files_of(beyond),
        )


def _leaves(boxes: Boxes, shape: tuple[int, ...]) -> bool:
    beyond = (boxes.corners[:, : boxes.ndim] < 0).any() or (boxes.corners[:, boxes.ndim :] > shape).any()
    return bool(len(boxes) and beyond)


def class_counts(
    dataset: Dataset, facts: Mapping[str, CaseFacts], split: Split
) -> tuple[dict[Part, dict[str, int]], dict[Part, int]]:
    """Per part the samples that show each class, by name, and the masks without any labelled voxel."""
    part_of = split.part_of()
    counts: dict[Part, dict[str, int]] = {p: {c.name: 0 for c in dataset.classes} for p in PARTS}
    empty: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for sample in dataset.samples:
        have = facts[sample.id].voxels if sample.id in facts else {}
        present = classes_of(sample, have, dataset)
        empty[part_of[sample.id]] += bool(mask_of(sample) and have and not present)
        for k in present:
            counts[part_of[sample.id]][dataset.classes[k].name] += 1
    return counts, empty


def classes_of(sample: Sample, voxels: Mapping[int, int], dataset: Dataset) -> set[int]:
    """Indices of the classes that a sample shows; voxels: of its mask, by value."""
    target = sample.target
    if isinstance(target, (int, tuple)):
        own = {target} if isinstance(target, int) else set(target)
    elif isinstance(target, Boxes):
        own = set(target.labels.tolist())
    else:
        own = {k for k, c in enumerate(dataset.classes) if voxels.get(c.value)}
    return {k for k in own if 0 <= k < len(dataset.classes)}


def training(
    dataset: Dataset, split: Split, classes: Mapping[Part, Mapping[str, int]], empty: Mapping[Part, int]
) -> Iterator[Finding]:
    """A training part with nothing to learn from: NO_FOREGROUND, ONE_CLASS."""
    present = sum(n > 0 for n in classes["train"].values())
    masks = dataset.kind == "segmentation"
    if (masks or dataset.kind == "detection") and not present:
        parts = (f"{empty[p]} of {len(getattr(split, p))} {p} masks empty" for p in PARTS if getattr(split, p))
        yield Finding(
            severity="error",
            code="NO_FOREGROUND",
            where=str(dataset.root),
            found=", ".join(parts) if masks else f"no box in any of {counted(len(split.train), 'training image')}",
            expected=f"at least one training {'mask with a labelled voxel' if masks else 'image with a box'}",
            fix="check that the masks are the right files and the split the right one"
            if masks
            else "check that the annotations are the right files, mend the split, or draw it with another --seed",
        )
    if dataset.kind == "classification" and not dataset.multilabel and present < 2:
        ranked = sorted(classes["train"].items(), key=lambda item: -item[1])
        counts = abridged(f"{n} {name}" for name, n in (ranked if len(ranked) > LISTED else classes["train"].items()))
        yield Finding(
            severity="error",
            code="ONE_CLASS",
            where=str(dataset.root),
            found=f"training cases by class: {counts}",
            expected="cases of two classes or more",
            fix="add cases of the other class to the training part, or draw the split with another --seed",
        )


def abridged(values: Iterable[object]) -> str:
    """ "0, 1, 2", or of a hundred "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more"."""
    own = [str(v) for v in values]
    return ", ".join(own[:LISTED]) + (f" and {len(own) - LISTED} more" if len(own) > LISTED else "")


def refusal(dataset: Dataset, found: Sequence[Finding]) -> InputError:
    """Several kinds of unreadable files as one error, with the code of the first."""
    if len(found) == 1:
        return found[0].error()
    total = sum(len(f.cases) for f in found)
    lines = [line for f in found for line in (f.details or (f"{f.where}: {f.found}",))]
    return InputError(
        found[0].code,
        dataset.root,
        found=f"{total} of {len(dataset)} cases that cannot be used ({', '.join(f.code for f in found)}): {listed(lines)}",
        expected="files that can be read, on the grids of their images",
        fix=found[0].fix,
    )
