"""Class folders: every folder is a class and holds its images; perhaps below train/, val/ and test/."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, name_classes
from hounsfield.data.layout import cases, channel_names, dicom_headers, given_splits, image_files, split_of
from hounsfield.data.readers import BIDS_SUBJECT, Match
from hounsfield.io.formats import Choices

PROBED = 4  # DICOM folders or files of each class folder whose patients are compared


def match(path: Path) -> Match:
    """At least two folders of images, one of them with more than one, and none the folder of a patient."""
    if not path.is_dir():
        return Match(missed="folder")
    files = [f.relative_to(path).parts for f in image_files(path)]
    level = _class_level(files)
    by_class: defaultdict[str, list[Path]] = defaultdict(list)
    for parts in files:
        if len(parts) > level + 1:
            by_class[parts[level]].append(path.joinpath(*parts))
    if len(by_class) < 2 or any(len(parts) <= level + 1 for parts in files):
        return Match(missed="two folders or more with every image in one of them")
    if all(BIDS_SUBJECT.match(name) for name in by_class) or _patients(by_class):
        return Match(missed="folders that are classes (these are patients or single cases)")
    return Match(f"{len(by_class)} class folders: {', '.join(sorted(by_class)[:10])}", priority=10)


def read(path: Path, choices: Choices) -> Dataset:
    """Classes by folder name, values from 0 in order of name; ids keep the folders.

    Raises InputError ONE_CLASS where DICOM objects without pixels were all that a folder held, and as `cases` does.
    """
    found, notes = cases(path, choices)
    level = _class_level([case.parts for case in found])
    names = sorted({case.parts[level] for case in found if len(case.parts) > level + 1})
    if len(names) < 2:
        raise InputError("ONE_CLASS", path, found=f"images in {len(names)} folders", expected="two", fix="check the folders")
    index = {name: k for k, name in enumerate(names)}
    splits = given_splits([split_of(case.parts[0]) if level else None for case in found])
    samples = tuple(
        Sample(c.name, (c.image,), index[c.parts[level]], patient=c.patient, split=split)
        for c, split in zip(found, splits, strict=True)
    )
    counts = ", ".join(f"{sum(s.target == k for s in samples)} {name}" for name, k in index.items())
    return Dataset(
        samples,
        name_classes((k, name) for name, k in index.items()),
        channel_names(*[case.image for case in found]),
        "classification",
        "class_folders",
        f"{len(samples)} images in {len(names)} class folders ({counts})",
        path,
        notes=notes,
    )


def _class_level(files: list[tuple[str, ...]]) -> int:
    """1 where the outermost folders are splits, else 0."""
    return int(bool(files) and all(len(parts) > 1 and split_of(parts[0]) for parts in files))


def _patients(by_class: dict[str, list[Path]]) -> bool:
    """Whether no folder holds more than one case, or every folder has a patient of its own."""
    several, owners = False, []
    for files in by_class.values():
        headers = dicom_headers(_probe(files))
        several |= len({h.series for h in headers.values()} if headers else files) > 1
        owners.append({h.patient for h in headers.values()})
    # One identifier everywhere, or none, is an anonymiser's work and tells nothing.
    own = len(set().union(*owners)) == len(owners) and all(len(o) == 1 and all(o) for o in owners)
    return own or not several


def _probe(files: list[Path]) -> list[Path]:
    """Files far apart: one of each of some folders, or where all lie in one folder, some of it."""
    firsts = list({f.parent: f for f in reversed(files)}.values())
    spread = firsts if len(firsts) > 1 else files
    return spread[:: max(1, len(spread) // PROBED)]
