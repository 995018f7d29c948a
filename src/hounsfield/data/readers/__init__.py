"""Dataset layouts, one file each: the layout decides which one reads, and says what it found."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hounsfield.core.errors import InputError
from hounsfield.core.registry import Folder
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.io import scan
from hounsfield.io.formats import DEFAULT, Choices


@dataclass(frozen=True)
class Match:
    """Whether a layout fits. found: one sentence when it does, else None. missed: what was looked for and not there."""

    found: str | None = None
    missed: str = ""
    priority: int = (
        0  # of several that fit, the highest reads: 40 manifest, 30 descriptions, 20 pairs, 15 tables, 10 folders, 0 files
    )


class Reader(Protocol):
    """What a file in this folder defines.

    match: looks at names and small headers only. read: the Dataset, every pair checked; InputError for what is wrong.
    choices: the user's, which every image and mask is read by; a reader's own (the volume of a channel) go before them.
    """

    @staticmethod
    def match(path: Path) -> Match: ...

    @staticmethod
    def read(path: Path, choices: Choices) -> Dataset: ...


READERS: Folder[Reader] = Folder("hounsfield.data.readers", "reader", ("match", "read"))

# BIDS: the first entity of every file name, and a folder of its own.
BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[_/]|$)")


def open_dataset(
    path: Path,
    reader: str | None = None,
    patient_regex: str | None = None,
    choices: Choices = DEFAULT,
    without: Collection[str] = (),
) -> Dataset:
    """The dataset at `path`, a folder or a file, by the reader whose layout fits best, or by the one named.

    patient_regex: searched in sample id, then in the first file's name; its first group, or the whole match, is the patient.
    BIDS subjects are patients without asking. choices: how every file is read that leaves one. without:
    readers that are not asked.
    Raises InputError NOT_FOUND, EMPTY_FILE, EMPTY_FOLDER, UNKNOWN_LAYOUT (what each reader missed), UNKNOWN_MEMBER, BAD_OPTION
    for a pattern that is invalid or fits not every case, and what the reader's `read` names.
    """
    if not path.exists():
        raise InputError("NOT_FOUND", path, found="no such file or folder", expected="a dataset", fix="check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError("EMPTY_FILE", path, found="0 bytes", expected="a dataset", fix="copy or export the file again")
    if path.is_dir() and not scan.files(path):
        raise InputError("EMPTY_FOLDER", path, found="no file", expected="images", fix="check the path")
    readers = READERS.all() if reader is None else {reader: READERS.load(reader)}
    matches = {name: member.match(path) for name, member in readers.items() if name not in without}
    fitting = [name for name, match in matches.items() if match.found is not None]
    if not fitting:
        raise _unknown_layout(path, matches)
    best = max(fitting, key=lambda name: matches[name].priority)  # of equals the first by name
    return _with_patients(readers[best].read(path, choices), patient_regex)


def unknown_layout(path: Path) -> InputError:
    """Error UNKNOWN_LAYOUT that says what each reader of labelled data missed at `path`."""
    return _unknown_layout(path, {name: member.match(path) for name, member in READERS.all().items()})


def _unknown_layout(path: Path, matches: dict[str, Match]) -> InputError:
    table = "; ".join(f"{name}: no {match.missed}" for name, match in matches.items() if match.found is None)
    return InputError(
        "UNKNOWN_LAYOUT",
        path,
        found=table,
        expected="one of these layouts",
        fix="arrange the files so, or write a manifest.csv with the columns image and target or mask",
    )


def _with_patients(dataset: Dataset, pattern: str | None) -> Dataset:
    if pattern is None:
        return dataset.only(
            s if s.patient is not None or not (hit := BIDS_SUBJECT.search(s.id)) else replace(s, patient=hit[1])
            for s in dataset.samples
        )
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise InputError(
            "BAD_OPTION", "--patient-regex", found=f"{pattern!r}: {error}", expected="a regular expression", fix="mend it"
        ) from error
    patients = {s.id: _patient(regex, s) for s in dataset.samples}
    without = [i for i, who in patients.items() if not who]
    if without:
        raise InputError(
            "BAD_OPTION",
            "--patient-regex",
            found=f"{len(without)} of {len(dataset)} cases where {pattern!r} finds nothing, such as {without[0]}",
            expected="a pattern that finds a patient in every case's name",
            fix="widen the pattern",
        )
    return dataset.only(replace(s, patient=patients[s.id]) for s in dataset.samples)


def _patient(regex: re.Pattern[str], sample: Sample) -> str | None:
    hit = regex.search(sample.id) or regex.search(sample.images[0].path.name)
    if hit is None:
        return None
    return next((group for group in hit.groups() if group is not None), None) if hit.re.groups else hit[0]
