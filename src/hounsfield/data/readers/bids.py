"""BIDS: sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz, masks below derivatives/, what is known of subjects in participants.tsv.

Gorgolewski et al., Sci Data 2016; bids-specification, "Imaging data types" of the derivatives.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.layout import image_files
from hounsfield.data.masks import MaskFile, check_pairs, find_classes, same_grid
from hounsfield.data.readers import Match
from hounsfield.io import scan
from hounsfield.io.formats import Choices

ENDINGS = (".nii.gz", ".nii")
MASKS = ("dseg", "mask")
NO_IMAGES = (*MASKS, "probseg", "defacemask")
NATIVE = ("orig", "native")  # spaces in which nothing was moved
CLASS_COLUMNS = ("diagnosis", "group", "dx", "class", "label")  # of participants.tsv
MISSING = ("", "n/a")
ASIDE = ("derivatives", "sourcedata", "code", "stimuli")  # folders beside those of the subjects
FIRST = "anat"  # the datatype that is taken of several

_FILE = re.compile(r"(?P<subject>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?(?P<rest>(?:_[A-Za-z0-9+-]+)+)")


@dataclass(frozen=True)
class _File:
    """case: subject and session. datatype: the folder. entities: those of the name beside subject and session. suffix: the last
    word. pipeline: the folder of derivatives/, "" of the raw data."""

    path: Path
    case: tuple[str, str]
    datatype: str
    entities: Mapping[str, str]
    suffix: str
    pipeline: str

    def kind(self, *without: str) -> str:
        """Entities and suffix: what files of one kind share over all cases."""
        return "_".join([*(f"{k}-{v}" if v else k for k, v in self.entities.items() if k not in without), self.suffix])


@dataclass(frozen=True)
class LabelFiles:
    """A lazy label image of masks that each mark one label: file k becomes the value k + 1. Raises InputError BAD_LABEL where
    two overlap, and as MaskFile does."""

    parts: tuple[MaskFile | None, ...]  # None: this case has no such file

    @property
    def path(self) -> Path:
        return next(part.path for part in self.parts if part is not None)

    @property
    def key(self) -> str:
        return "+".join("" if part is None else part.key for part in self.parts)

    def __call__(self) -> Image:
        images = {k: part() for k, part in enumerate(self.parts, start=1) if part is not None}
        first = next(iter(images.values()))
        labels: npt.NDArray[Any] = np.zeros(first.array.shape, np.uint8)
        for k, image in images.items():
            same_grid(first, image, self.path, self.path)
            inside = image.array != 0
            if labels[inside].any():
                raise InputError(
                    "BAD_LABEL",
                    self.path,
                    found="masks of two labels that overlap",
                    expected="one label per voxel",
                    fix="write them as one _dseg.nii.gz, or name one mask in a manifest.csv",
                )
            labels[inside] = k
        return replace(first, array=labels)


def match(path: Path) -> Match:
    """Folders of subjects with NIfTI files in folders of datatypes."""
    files = [f for f in _files(path) if _is_image(f)] if path.is_dir() else []
    if not files:
        return Match(missed="sub-*/anat/sub-*_T1w.nii.gz or the like")
    return Match(
        f"BIDS with {len({f.case for f in files})} sessions of {len({f.case[0] for f in files})} subjects", priority=30
    )


def read(path: Path, choices: Choices) -> Dataset:
    """A sample for each session of each subject, who is the patient. Channels are the images that every one has, by the suffix
    and what else tells them apart; of repeated runs the first. Masks come from derivatives/, in the space of the images: one
    kind of _dseg, or one _mask or several that differ in their label alone. Columns of participants.tsv are attributes; without
    masks the one among CLASS_COLUMNS, if it is alone, is the class.

    Raises InputError CHANNELS (no image that all have), UNPAIRED, UNKNOWN_LAYOUT (several segmentations), BAD_MANIFEST
    (participants.tsv), BAD_LABEL, NO_FOREGROUND.
    """
    files = _files(path)
    masks, notes = _target_masks(path, [f for f in files if f.pipeline and f.suffix in MASKS])
    raw = [f for f in files if _is_image(f)]
    datatypes = sorted({f.datatype for f in raw})
    of_masks = {f.datatype for group in masks.values() for f in group.values()} & set(datatypes)
    taken = next(iter(sorted(of_masks)), FIRST if FIRST in datatypes else datatypes[0])
    named = {f.path for f in files}
    strays = [f for f in image_files(path) if f not in named and f.relative_to(path).parts[0] not in ASIDE]
    if strays:
        notes.append(f"{len(strays)} images whose names are not BIDS are left out ({strays[0].relative_to(path)}, ...)")
    if others := [d for d in datatypes if d != taken]:
        notes.append(f"{', '.join(others)} are left out: the images are those of {taken}")
    channels, images = _channels(path, [f for f in raw if f.datatype == taken], notes)
    people = _participants(path)
    samples = [
        Sample(
            "_".join(filter(None, case)),
            tuple(ImageFile(f, choices) for f in own),
            patient=case[0],
            attributes=people.get(case[0], {}),
        )
        for case, own in images.items()
    ]
    kind: str | None = None
    classes: tuple[Class, ...] = ()
    voxels: dict[str, dict[int, int]] = {}
    if masks:
        samples, classes, voxels = _with_masks(path, samples, images, masks, choices)
        kind = "segmentation"
    else:
        samples, classes = _with_classes(samples, notes)
        kind = "classification" if classes else None
    subjects = len({s.patient for s in samples})
    what = {"segmentation": " with masks", "classification": " with classes"}.get(kind or "", " without labels")
    return Dataset(
        tuple(samples),
        classes,
        channels,
        kind,
        "bids",
        f"{len(samples)} sessions of {subjects} subjects{what}, {', '.join(channels)}",
        path,
        notes=tuple(notes),
        voxels=voxels,
    )


def _files(path: Path) -> list[_File]:
    """The NIfTI files of subjects, those of the dataset itself and those below derivatives/."""
    found = []
    for file in scan.files(path):
        parts = file.relative_to(path).parts
        ending = next((e for e in ENDINGS if file.name.endswith(e)), None)
        hit = _FILE.fullmatch(file.name.removesuffix(ending)) if ending else None
        if not hit or hit["subject"] not in parts[:-2] or (parts[0] != hit["subject"] and parts[0] != "derivatives"):
            continue
        *entities, suffix = hit["rest"][1:].split("_")
        pairs = {e.partition("-")[0]: e.partition("-")[2] for e in entities}
        pipeline = "" if parts[0] == hit["subject"] else "/".join(parts[1 : parts.index(hit["subject"])]) or "derivatives"
        found.append(_File(file, (hit["subject"], hit["session"] or ""), parts[-2], pairs, suffix, pipeline))
    return found


def _is_image(file: _File) -> bool:
    return not file.pipeline and file.suffix not in NO_IMAGES


def _channels(
    path: Path, files: Sequence[_File], notes: list[str]
) -> tuple[tuple[str, ...], dict[tuple[str, str], list[Path]]]:
    """Names of the images that every case has, and each case's in that order. Raises InputError CHANNELS."""
    by_case: defaultdict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    repeats = 0
    for file in files:  # sorted: the first run comes first
        repeats += file.kind("run") in by_case[file.case]
        by_case[file.case].setdefault(file.kind("run"), file.path)
    counts = Counter(kind for own in by_case.values() for kind in own)
    names = tuple(sorted(kind for kind, n in counts.items() if n == len(by_case)))
    listed = ", ".join(f"{kind} in {n} of {len(by_case)}" for kind, n in sorted(counts.items()) if kind not in names)
    if not names:
        raise InputError(
            "CHANNELS",
            path,
            found=f"no image that every session has: {listed}"[:300],
            expected="one kind of image in all of them",
            fix="remove the sessions that lack it, or name the images in a manifest.csv",
        )
    if listed:
        notes.append(f"left out, since not every session has them: {listed}")
    if repeats:
        notes.append(f"{repeats} repeated runs are left out: the first of each is taken")
    return names, {case: [own[name] for name in names] for case, own in by_case.items()}


def _target_masks(path: Path, files: Sequence[_File]) -> tuple[dict[str, dict[tuple[str, str], _File]], list[str]]:
    """By label ("" where one file holds all labels), each case's mask; and notes. Raises InputError UNKNOWN_LAYOUT."""
    notes = []
    moved = [f for f in files if f.entities.get("space", NATIVE[0]) not in NATIVE]
    if moved:
        notes.append(f"{len(moved)} masks in another space than their images are left out")
    groups: defaultdict[tuple[str, str], list[_File]] = defaultdict(list)
    for f in files:
        if f not in moved:
            label = ("label", "space", "run") if f.suffix == "mask" and "label" in f.entities else ("space", "run")
            groups[f.pipeline, f.kind(*label)].append(f)
    if len(groups) > 1:  # that every pipeline writes a mask of the brain says nothing of what is to be learned
        brains = [key for key, own in groups.items() if all("brain" in f.entities.values() for f in own)]
        for key in brains if len(brains) < len(groups) else []:
            notes.append(f"{'/'.join(key)} is left out: there is another segmentation")
            del groups[key]
    if len(groups) > 1:
        raise InputError(
            "UNKNOWN_LAYOUT",
            path,
            found=f"several segmentations: {', '.join(sorted('/'.join(key) for key in groups))}"[:300],
            expected="one",
            fix="move the others away, or say in a manifest.csv which is the mask",
        )
    found: defaultdict[str, dict[tuple[str, str], _File]] = defaultdict(dict)
    for f in next(iter(groups.values()), []):
        found[f.entities.get("label", "") if f.suffix == "mask" else ""].setdefault(f.case, f)
    return dict(sorted(found.items())), notes


def _with_masks(
    path: Path,
    samples: Sequence[Sample],
    images: Iterable[tuple[str, str]],
    masks: Mapping[str, Mapping[tuple[str, str], _File]],
    choices: Choices,
) -> tuple[list[Sample], tuple[Class, ...], dict[str, dict[int, int]]]:
    """The samples with their masks, the classes, and the voxels of each value. Raises UNPAIRED and as find_classes."""
    cases = dict(zip(images, samples, strict=True))
    masked = {case for of in masks.values() for case in of}
    check_pairs(path, (cases[c].id for c in set(cases) - masked), ("_".join(filter(None, c)) for c in masked - set(cases)))
    labels = list(masks)
    done = []
    for case, sample in cases.items():
        parts = tuple(MaskFile((of[case].path,), choices) if case in of else None for of in masks.values())
        single = parts[0] if len(parts) == 1 else None
        done.append(replace(sample, target=single or LabelFiles(parts)))
    table = _names(path, next(iter(next(iter(masks.values())).values())))
    if labels != [""]:
        table = {k: (label or "mask", None) for k, label in enumerate(labels, start=1)}
    targets = {s.id: s.target for s in done if isinstance(s.target, MaskFile | LabelFiles)}
    classes, voxels = find_classes(targets, path, {value: name for value, (name, _) in table.items()})
    coloured = (c if not (own := table.get(c.value, ("", None))[1]) else c.model_copy(update={"colour": own}) for c in classes)
    return done, tuple(coloured), voxels


def _names(path: Path, mask: _File) -> dict[int, tuple[str, tuple[int, int, int] | None]]:
    """Name and colour by value: of the .tsv beside a mask, or of a dseg.tsv in a folder above. Raises BAD_MANIFEST."""
    stem = next(mask.path.name.removesuffix(e) for e in ENDINGS if mask.path.name.endswith(e))
    folders = [f for f in mask.path.parents if f.is_relative_to(path)]
    tables = [
        mask.path.with_name(f"{stem}.tsv"),
        *(f / "dseg.tsv" for f in folders),
        *(f / f"{mask.kind('space')}.tsv" for f in folders),
    ]
    file = next((t for t in tables if t.is_file()), None)
    if file is None:
        return {}
    found = {}
    for row in _table(file):
        colour = row.get("color", "")
        try:
            rgb = tuple(bytes.fromhex(colour[1:7])) if re.fullmatch(r"#[0-9A-Fa-f]{6}", colour) else None
            found[int(row["index"])] = (row["name"], rgb if rgb is None else (rgb[0], rgb[1], rgb[2]))
        except (KeyError, ValueError) as error:
            raise _bad(file, f"a row without {error}", "the columns index and name") from error
    return found


def _participants(path: Path) -> dict[str, dict[str, str]]:
    """By subject, what participants.tsv says. Raises InputError BAD_MANIFEST."""
    file = path / "participants.tsv"
    if not file.is_file():
        return {}
    rows = _table(file)
    if any("participant_id" not in row for row in rows):
        raise _bad(file, "a row without participant_id", "the column participant_id")
    return {row["participant_id"]: {k: v for k, v in row.items() if k != "participant_id" and v not in MISSING} for row in rows}


def _with_classes(samples: Sequence[Sample], notes: list[str]) -> tuple[list[Sample], tuple[Class, ...]]:
    """Where no mask says what is to be learned: the samples with the class that one column names, and the classes."""
    present = {c: {v for s in samples if (v := s.attributes.get(c))} for c in CLASS_COLUMNS}
    columns = [c for c, values in present.items() if len(values) > 1]
    if len(columns) != 1:
        if columns:
            notes.append(f"{' and '.join(columns)} of participants.tsv could both be the class: name one in a manifest.csv")
        return list(samples), ()
    column = columns[0]
    names = sorted(present[column])
    kept = [s for s in samples if column in s.attributes]
    notes.append(f"there is no mask: the column {column} of participants.tsv is taken as the class")
    if len(kept) < len(samples):
        notes.append(f"{len(samples) - len(kept)} sessions without {column} are left out")
    out = [
        replace(s, target=names.index(s.attributes[column]), attributes={k: v for k, v in s.attributes.items() if k != column})
        for s in kept
    ]
    return out, name_classes(enumerate(names))


def _table(file: Path) -> list[dict[str, str]]:
    """Rows by lower-case column. Raises InputError BAD_MANIFEST."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t", strict=True, quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _bad(file, f"no table ({error})"[:200], "tab-separated UTF-8 text") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    odd = next((k for k, row in enumerate(rows, start=1) if row and len(row) != len(header)), None)
    if odd is not None:
        raise _bad(file, f"{len(rows[odd - 1])} cells in line {odd}", f"{len(header)}, as in the first line")
    return [dict(zip(header, (cell.strip() for cell in row), strict=True)) for row in rows[1:] if row]


def _bad(file: Path, found: str, expected: str) -> InputError:
    return InputError("BAD_MANIFEST", file, found=found, expected=expected, fix="mend the file")
