"""What makes a dataset's figures doubtful though a training could run: each check as findings, warnings and notes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from hounsfield.core.finding import Finding, Severity, counted
from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data.checks import classes_of, files_of
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate
from hounsfield.data.facts import LEVELS, CaseFacts, Header
from hounsfield.data.layout import split_of
from hounsfield.data.shortcuts import shortcuts
from hounsfield.data.split import PARTS, Split

LOW, HIGH = LEVELS.index(0.005), LEVELS.index(0.995)
FLAT: Final = 0.02  # of the usual range, and of the image's own values: an image with a smaller range shows nothing
APART: Final = 6.0  # times between the ranges of grey of two groups of cases, of which nothing lies between
SIGNED: Final = -200.0  # a value that only signed units such as HU have
OUTLYING: Final = 8.0  # times the median voxel size
FEW: Final = 5  # training cases of a class, below which it is hardly learned
UNEQUAL: Final = (10.0, 4.0)  # times as many cases in the largest class as in the smallest: warning, note
MOST_CLASSES: Final = 50  # tested for shortcuts, the most frequent


def copies(exact: Sequence[Duplicate], near: Sequence[Duplicate], inside: Sequence[Duplicate]) -> Iterator[Finding]:
    """Of exact copies, near copies across parts, and near copies within a part."""
    across = [c for c in exact if c.across]
    apart = [c for c in exact if not c.across]
    if across:
        yield _pairs(
            "warning",
            "DUPLICATE_IMAGE",
            f"dropped {_exact(len(across))} across parts",
            "remove one of each pair; a training leaves out the copy in the lower part of test, val, train",
            across,
        )
    if near:
        yield _pairs(
            "warning",
            "NEAR_DUPLICATE",
            f"kept {counted(len(near), 'near copy', 'near copies')} across parts",
            "look at each pair: where both show one patient or lesion, put them into one part, or tell the patients",
            near,
        )
    differing = [c for c in (*exact, *near, *inside) if not c.same_target and (c.correlation == 1 or c.correlation >= 0.999)]
    if differing:
        yield _pairs(
            "warning",
            "LABEL_CONFLICT",
            f"{counted(len(differing), 'image')} with two different labels",
            "find out which label is right",
            differing,
        )
    if apart:
        yield _pairs(
            "note",
            "DUPLICATE_WITHIN",
            f"kept {_exact(len(apart))} within one part",
            "remove one of each pair, or it counts twice",
            apart,
        )
    if inside:
        yield _pairs(
            "note",
            "NEAR_WITHIN",
            f"{counted(len(inside), 'near copy', 'near copies')} within one part",
            "tell the patients, if the images of one lie together here; a split that is drawn could divide them",
            inside,
        )


def _exact(number: int) -> str:
    return counted(number, "exact copy", "exact copies")


def _pairs(severity: Severity, code: str, found: str, fix: str, pairs: Sequence[Duplicate]) -> Finding:
    return Finding(
        severity=severity,
        code=code,
        found=found,
        fix=fix,
        cases=tuple(name for d in pairs for name in (d.first, d.second)),
        files=tuple(name for d in pairs for name in (d.first_file, d.second_file)),
        details=tuple(map(str, pairs)),
    )


def pixels(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> Iterator[Finding]:
    """Images that show nothing, text in the pixels, intensities of several units."""
    told = [s for s in dataset.samples if facts[s.id].burned_in]
    seen = [s for s in dataset.samples if facts[s.id].characters and not facts[s.id].burned_in]
    if told or seen:
        says = [f"{counted(len(told), 'file')} that say so themselves"] if told else []
        looks = [f"{counted(len(seen), 'image')} with rows of small marks that look like it"] if seen else []
        yield Finding(
            severity="warning",
            code="BURNED_IN_TEXT",
            found=f"text burned into the pixels: {' and '.join(says + looks)}",
            fix="look at them: text may name the patient, and a model can read it; crop or mask it, or use the raw images",
            cases=tuple(s.id for s in told + seen),
            files=files_of(told + seen),
        )
    ranges = {s.id: _range(facts[s.id]) for s in dataset.samples}
    usual = float(np.median([r for r in ranges.values() if r > 0] or [0.0]))
    flat = [s for s in dataset.samples if ranges[s.id] <= FLAT * min(usual, _largest(facts[s.id]))]
    if flat:
        yield Finding(
            severity="warning",
            code="CONSTANT_IMAGE",
            found=f"{len(flat):,} of {counted(len(dataset), 'image')} show nothing: 99% of the voxels have one value or nearly",
            fix="export them again, or leave them out",
            cases=tuple(s.id for s in flat),
            files=files_of(flat),
        )
    blank = {s.id for s in flat}
    yield from _units([s for s in dataset.samples if s.id not in blank], facts, ranges, _arbitrary(dataset, facts))


def _arbitrary(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> bool:
    """Whether the scanner chooses the unit anew for each case, as those of MR and ultrasound do."""
    modalities = {facts[s.id].modality for s in dataset.samples}
    named = any(re.match(r"MR|T1|T2|FLAIR|DWI|ADC|US\b", name, re.I) for name in dataset.channels)
    return named or modalities <= {"MR", "US"}


def _range(facts: CaseFacts) -> float:
    """From the 0.5th to the 99.5th percentile, of the channel where that is widest."""
    return max(c.quantiles[HIGH] - c.quantiles[LOW] for c in facts.whole)


def _largest(facts: CaseFacts) -> float:
    """The largest value that the image's type or, beyond 8 bits, the image has."""
    return 255.0 if facts.dtype == "uint8" else max(abs(c.quantiles[k]) for c in facts.whole for k in (LOW, HIGH))


def _units(
    samples: Sequence[Sample], facts: Mapping[str, CaseFacts], ranges: Mapping[str, float], arbitrary: bool
) -> Iterator[Finding]:
    """MIXED_UNITS: signed values beside 8-bit ones, or two groups of cases whose ranges lie far apart."""
    lows = {s.id: min(c.quantiles[LOW] for c in facts[s.id].whole) for s in samples}
    signed = [s for s in samples if lows[s.id] <= SIGNED]
    grey = [s for s in samples if lows[s.id] >= 0 and max(c.quantiles[-1] for c in facts[s.id].whole) <= 255]
    if signed and grey:
        odd, others = sorted((signed, grey), key=len)
        what = "signed values such as HU" if odd is signed else "values from 0 to 255"
        than = "values from 0 to 255" if odd is signed else "signed values such as HU"
        text = f"{counted(len(odd), 'case')} of {what} among {counted(len(others), 'case')} of {than}"
        yield _mixed("warning", text, odd)
        return
    if len(samples) < 2:
        return
    ordered = sorted(samples, key=lambda s: ranges[s.id])
    sizes = np.array([ranges[s.id] for s in ordered])
    gap = int(np.argmax(sizes[1:] / sizes[:-1])) + 1
    if sizes[gap] >= APART * sizes[gap - 1]:
        few, many = sorted((ordered[:gap], ordered[gap:]), key=len)
        own, rest = (float(np.median([ranges[s.id] for s in group])) for group in (few, many))
        groups = ((few, own), (many, rest))
        text = " and ".join(f"{counted(len(group), 'case')} with a range of about {_rounded(size)}" for group, size in groups)
        yield _mixed("note" if arbitrary else "warning", text, few)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mixed(severity: Severity, text: str, odd: Sequence[Sample]) -> Finding:
    return Finding(
        severity=severity,
        code="MIXED_UNITS",
        found=f"intensities of different units: {text}",
        fix="bring all cases to one unit, from the files as the scanner wrote them",
        cases=tuple(s.id for s in odd),
        files=files_of(odd),
    )


def geometry(dataset: Dataset, headers: Mapping[str, Header]) -> Iterator[Finding]:
    """Voxel sizes that are unknown or far off."""
    blind = [s for s in dataset.samples if headers[s.id].space == "none"]
    if 0 < len(blind) < len(dataset):
        yield Finding(
            severity="warning",
            code="SPACING_UNKNOWN",
            found=f"{len(blind):,} of {counted(len(dataset), 'case')} do not know the size of their voxels, the others do",
            fix="take those from the files that the scanner wrote",
            cases=tuple(s.id for s in blind),
            files=files_of(blind),
        )
    known = [s for s in dataset.samples if headers[s.id].space != "none"]
    sizes = np.array([math.prod(headers[s.id].spacing) ** (1 / len(headers[s.id].spacing)) for s in known])
    if len(known) > 2:
        usual = float(np.median(sizes))
        far = (sizes > OUTLYING * usual) | (sizes < usual / OUTLYING)
        odd = [s for s, is_far in zip(known, far, strict=True) if is_far]
        if odd:
            yield Finding(
                severity="warning",
                code="SPACING_OUTLIER",
                found=f"{counted(len(odd), 'case')} with voxels over {OUTLYING:g} times off the usual {usual:.3g} mm",
                fix="check the unit of their spacing: mm",
                cases=tuple(s.id for s in odd),
                files=files_of(odd),
                details=tuple(f"{s.images[0]}: {'×'.join(f'{v:.3g}' for v in headers[s.id].spacing)} mm" for s in odd),
            )


def balance(
    dataset: Dataset, split: Split, classes: Mapping[Part, Mapping[str, int]], empty: Mapping[Part, int]
) -> Iterator[Finding]:
    """Classes that are rare, absent from a part, or of very different frequency; empty masks; unknown patients."""
    totals: Counter[str] = Counter()
    for counts in classes.values():
        totals.update(counts)
    parts = [p for p in PARTS if getattr(split, p)]
    if dataset.kind is not None and totals:
        absent = {name: [p for p in parts if not classes[p][name]] for name in totals}
        lines = [
            f"{name}: {classes['train'][name]} of {totals[name]} cases in train"
            for name in totals
            if classes["train"][name] < FEW
        ]
        lines += [
            f"{name}: none in {', '.join(absent[name])}" for name in totals if absent[name] and classes["train"][name] >= FEW
        ]
        if lines:
            yield Finding(
                severity="warning",
                code="RARE_CLASS",
                found=f"{counted(len(lines), 'class', 'classes')} with fewer than {FEW} training cases or none in another part",
                fix="add cases, or join classes; figures of such a class mean nothing",
                details=tuple(lines),
            )
    present = [n for n in totals.values() if n]
    if dataset.kind in ("classification", "detection") and len(present) > 1 and max(present) >= UNEQUAL[1] * min(present):
        times = max(present) / min(present)
        large, small = (max(totals, key=lambda c: totals[c]), min((c for c in totals if totals[c]), key=lambda c: totals[c]))
        yield Finding(
            severity="warning" if times >= UNEQUAL[0] else "note",
            code="CLASS_IMBALANCE",
            found=f"{times:.0f} times as many cases with {large} ({totals[large]:,}) as with {small} ({totals[small]:,})",
            fix="judge by balanced accuracy, AUROC and each class's own figures, not by accuracy; add cases of the rare class",
        )
    for part, n in empty.items():
        if n:
            yield Finding(
                severity="note",
                code="EMPTY_MASK",
                found=f"{n} of {len(getattr(split, part))} {part} masks are empty",
                fix="nothing, if those cases are healthy; else label them",
            )
    if dataset.kind is not None and dataset.patients is None:
        yield Finding(
            severity="note",
            code="PATIENTS_UNKNOWN",
            found="patients are unknown: each case counts as one, and a patient in two parts cannot be seen",
            fix="tell them in a manifest, or by --patient-regex",
        )


def determined(dataset: Dataset, headers: Mapping[str, Header]) -> Iterator[Finding]:
    """SHORTCUT: attributes of cases and files that tell a class."""
    if len(dataset.classes) < 1 or dataset.kind is None:
        return
    shown = {s.id: classes_of(s, getattr(headers[s.id], "voxels", {}), dataset) for s in dataset.samples}
    if dataset.kind != "classification" and not any(shown.values()):
        return
    frequent = [k for k, _ in Counter(k for own in shown.values() for k in own).most_common(MOST_CLASSES)]
    names = [c.name for c in dataset.classes]
    if dataset.kind == "classification" and not dataset.multilabel and len(names) == 2:
        frequent = frequent[-1:]  # of two that exclude each other the rarer one says all
    searched = {s.id: range(len(names)) if s.known_classes is None else s.known_classes for s in dataset.samples}
    labels = {names[k]: [k in shown[s.id] if k in searched[s.id] else None for s in dataset.samples] for k in frequent}
    found = shortcuts(labels, attributes(dataset, headers), [s.group for s in dataset.samples])
    for attribute in dict.fromkeys(f.attribute for f in found):
        own = [f for f in found if f.attribute == attribute]
        strong = any(f.strong for f in own)
        told = ", ".join(f.label for f in own[:3])
        yield Finding(
            severity="warning" if strong else "note",
            code="SHORTCUT",
            found=f"{attribute} alone {'nearly tells' if strong else 'says much about'} {told}"
            + (f" and {len(own) - 3} more" if len(own) > 3 else ""),
            fix="add cases of each class from every source, or test on a source that was left out (--leave-out); "
            "a model may learn the source in place of the disease",
            details=tuple(map(str, own)),
        )


def attributes(dataset: Dataset, headers: Mapping[str, Header]) -> dict[str, list[str]]:
    """What the dataset and its files tell of each case, by name; "" where unknown. What only repeats the class is left out."""
    columns = sorted({a for s in dataset.samples for a in s.attributes})
    found = {name: [s.attributes.get(name, "") for s in dataset.samples] for name in columns}
    own = [headers[s.id] for s in dataset.samples]
    shapes = ["×".join(map(str, h.shape)) for h in own]
    areas = [str(math.prod(h.shape)) for h in own]
    found |= {
        "image size": shapes if len(set(shapes)) <= 12 else areas,
        "spacing": ["×".join(f"{v:.2g}" for v in h.spacing) if h.space != "none" else "" for h in own],
        "orientation": [h.orientation if h.space == "patient" else "" for h in own],
        "pixel type": [h.dtype for h in own],
        "channels": [str(h.channels) for h in own],
        "modality": [h.modality or "" for h in own],
        "file type": [_ending(s.images[0].path) for s in dataset.samples],
        "folder": [s.images[0].path.parent.name for s in dataset.samples],
    }
    classes = {c.name.casefold() for c in dataset.classes}
    return {name: values for name, values in found.items() if not _repeats(set(values), classes)}


def _repeats(values: set[str], classes: set[str]) -> bool:
    """Whether the values are those of the classes, or parts of a split."""
    known = {v.casefold() for v in values if v}
    return known <= classes or all(split_of(v) for v in known)


def _ending(path: Path) -> str:
    return "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()


def reader_notes(dataset: Dataset) -> Iterator[Finding]:
    """What the reader had to say."""
    for note in dataset.notes:
        yield Finding(severity="note", code="READER_NOTE", found=note, fix="nothing, if that is meant")
