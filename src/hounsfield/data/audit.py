"""Whether a dataset can be trusted: every case read once, and everything that is wrong with it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, TypeVar

from hounsfield.core.errors import InputError
from hounsfield.core.finding import Finding, counted, listed, worst_first
from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data import checks, duplicates, suspicions
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate
from hounsfield.data.facts import CaseFacts, FactStore, Header, glance, measure, sample_key
from hounsfield.data.masks import in_threads
from hounsfield.data.split import Split

F = TypeVar("F", bound=Header)
Told = Callable[[Sequence[Finding]], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Audit:
    """What was measured and found.

    facts: by sample id, of every sample that is left. dropped: ids of exact copies taken out, the one in the lower part of
    test, val, train. copies: exact copies; across parts, the second was dropped; within one, listed only. near: near copies
    across parts. inside: near copies within a part. classes: per part, the samples that show each class, by name. empty: per
    part, the masks without any labelled voxel. findings: the worst first.
    """

    facts: Mapping[str, CaseFacts]
    dropped: tuple[str, ...]
    copies: tuple[Duplicate, ...]
    near: tuple[Duplicate, ...]
    inside: tuple[Duplicate, ...]
    classes: Mapping[Part, Mapping[str, int]]
    empty: Mapping[Part, int]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Glance:
    """What the headers alone tell. headers: by sample id. classes, findings: as of an Audit."""

    headers: Mapping[str, Header]
    classes: Mapping[Part, Mapping[str, int]]
    findings: tuple[Finding, ...]


def refuse(found: Sequence[Finding]) -> None:
    """Raises the first of the errors among the findings of one check."""
    if errors := [f for f in found if f.severity == "error"]:
        raise errors[0].error()


def audit(
    dataset: Dataset,
    split: Split,
    *,
    strict: bool = False,
    skip: bool = False,
    store: Path | None = None,
    progress: Progress | None = None,
    told: Told = refuse,
) -> tuple[Dataset, Split, Audit]:
    """The dataset and split less the copies that leak, and what was found. Every file is read once, in threads.

    strict: copies and near copies across parts are errors. skip: cases that cannot be read are left out with a warning.
    store: folder in which facts are kept for the next time; None: nowhere. progress: called with (cases done, all cases).
    told: called with what each check found, as soon as it did; the default refuses a dataset with errors, another may go on,
    and cases that cannot be read are then left out.

    Raises, where errors are refused, InputError PATIENT_LEAK, GRID_MISMATCH, WRONG_DIMENSION, CHANNELS, BAD_LABEL,
    NO_FOREGROUND, ONE_CLASS, TOO_FEW, with `strict` DUPLICATE_IMAGE, and whatever a file that cannot be read raises; always
    the last where no case can be read.
    """
    findings = _Findings(told)
    part_of = split.part_of()
    dataset = dataset.select(part_of)
    findings.add(checks.leaks(dataset, part_of))
    facts, failed = measure_all(dataset, store, progress)
    dataset, split = _readable(dataset, split, failed, findings, skip)
    findings.add(checks.dimensions(dataset, facts))
    dataset, found = checks.one_channel_count(dataset, facts)
    findings.add(found)
    findings.add(checks.labels(dataset, facts))

    samples, part_of = {s.id: s for s in dataset.samples}, split.part_of()
    copies = duplicates.exact(samples, facts, part_of)
    near = duplicates.near(samples, facts, part_of)
    inside = duplicates.within(samples, facts, part_of)
    across = [c for c in copies if c.across]
    if strict and (across or near):
        _refuse_copies(dataset, [*across, *near])
    dropped = tuple(sorted(c.second for c in across))
    split, dataset = _without(dataset, split, dropped, findings)
    classes, empty = checks.class_counts(dataset, facts, split)
    findings.add(checks.training(dataset, split, classes, empty))
    findings.add(suspicions.copies(copies, near, inside))
    findings.add(suspicions.pixels(dataset, facts))
    findings.add(suspicions.geometry(dataset, facts))
    findings.add(suspicions.determined(dataset, facts))
    findings.add(suspicions.balance(dataset, split, classes, empty))
    findings.add(suspicions.reader_notes(dataset))
    kept = {s.id: facts[s.id] for s in dataset.samples}
    worst = worst_first(findings.all)
    return dataset, split, Audit(kept, dropped, tuple(copies), tuple(near), tuple(inside), classes, empty, worst)


def glance_over(
    dataset: Dataset, split: Split, *, progress: Progress | None = None, told: Told = refuse
) -> tuple[Dataset, Split, Glance]:
    """What `audit` tells of headers alone, no voxel being read: files, grids, leaks, attributes that tell a class."""
    findings = _Findings(told)
    part_of = split.part_of()
    dataset = dataset.select(part_of)
    findings.add(checks.leaks(dataset, part_of))
    headers, failed = _each(glance, dataset, progress)
    dataset, split = _readable(dataset, split, failed, findings)
    findings.add(checks.dimensions(dataset, headers))
    # What a mask holds, no header tells.
    labelled = dataset.kind in ("classification", "detection")
    classes, empty = checks.class_counts(dataset, {}, split) if labelled else ({}, {})
    findings.add(suspicions.geometry(dataset, headers))
    if labelled:
        findings.add(checks.training(dataset, split, classes, empty))
        findings.add(suspicions.determined(dataset, headers))
        findings.add(suspicions.balance(dataset, split, classes, empty))
    findings.add(suspicions.reader_notes(dataset))
    return dataset, split, Glance(headers, classes, worst_first(findings.all))


class _Findings:
    """All that was found, told check by check."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.all: list[Finding] = []

    def add(self, found: Iterable[Finding]) -> None:
        own = list(found)
        self.all += own
        self.told(own)


def measure_all(
    dataset: Dataset, store: Path | None, progress: Progress | None
) -> tuple[dict[str, CaseFacts], dict[str, InputError]]:
    """Facts of every sample by id, each file read once, in threads, and the errors of those that cannot be read; facts are
    kept in and taken from `store` as `audit` does."""
    kept = FactStore(store, dataset.root) if store else None
    known = kept.load() if kept else {}

    def facts_of(sample: Sample) -> CaseFacts:
        have = known.get(sample_key(sample, dataset.ignore_value)) if known else None
        return replace(have, id=sample.id) if have else measure(sample, dataset.ignore_value)

    facts, failed = _each(facts_of, dataset, progress)
    if kept and any(f.key not in known for f in facts.values()):
        kept.save(list(facts.values()))
    return facts, failed


def _each(
    work: Callable[[Sample], F], dataset: Dataset, progress: Progress | None
) -> tuple[dict[str, F], dict[str, InputError]]:
    """`work` done on every sample, by id, and the errors of those where it could not be."""

    def tried(sample: Sample) -> F | InputError:
        try:
            return work(sample)
        except InputError as error:
            return error

    done = dict(zip((s.id for s in dataset.samples), in_threads(tried, dataset.samples, progress), strict=True))
    failed = {name: value for name, value in done.items() if isinstance(value, InputError)}
    return {name: value for name, value in done.items() if not isinstance(value, InputError)}, failed


def _readable(
    dataset: Dataset, split: Split, failed: Mapping[str, InputError], findings: _Findings, skip: bool = False
) -> tuple[Dataset, Split]:
    """Both without the cases that cannot be read, of which with `skip` is warned alone. Raises their errors, as one, where none
    can or errors are refused."""
    if not failed:
        return dataset, split
    found = list(checks.unreadable(dataset, failed))
    if len(failed) == len(dataset):
        raise checks.refusal(dataset, found)
    try:
        findings.add(f.model_copy(update={"severity": "warning"}) if skip else f for f in found)
    except InputError as error:
        raise checks.refusal(dataset, found) from error
    return dataset.only(s for s in dataset.samples if s.id not in failed), split.without(failed)


def _without(dataset: Dataset, split: Split, dropped: Sequence[str], findings: _Findings) -> tuple[Split, Dataset]:
    """Both without the copies that leak; as they were where too little would be left."""
    left = split.without(dropped)
    if dropped and (not left.train or not (left.val or left.folds)):
        found = (
            f"{len(left.train)} train and {len(left.val)} val cases after {counted(len(dropped), 'exact copy', 'exact copies')}"
        )
        error = InputError(
            "TOO_FEW",
            dataset.root,
            found=f"{found} were dropped",
            expected="at least one of each",
            fix="give a split whose parts share no images",
        )
        findings.add([Finding.of(error, dropped)])
        return split, dataset
    return left, dataset.select(left.part_of())


def _refuse_copies(dataset: Dataset, found: Sequence[Duplicate]) -> NoReturn:
    number = sum(d.correlation == 1 for d in found)
    copies = counted(number, "exact copy", "exact copies")
    raise InputError(
        "DUPLICATE_IMAGE",
        dataset.root,
        found=f"{copies} and {len(found) - number} near ones across parts: {listed(map(str, found))}",
        expected="no image in two parts",
        fix="remove one of each, or leave out --strict",
    )
