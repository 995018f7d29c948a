"""What folder layouts have in common: names that mean a split, file stems, and which files make one case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import ImageFile
from hounsfield.io import scan, series
from hounsfield.io.formats import FORMATS, Choices
from hounsfield.io.headers import read_headers

SPLITS: Final[dict[str, Split]] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}
RGB: Final = ("red", "green", "blue")
NAMED: Final = 5  # names that a sentence lists


@dataclass(frozen=True)
class Case:
    """One image of a dataset. parts: folders below the dataset and the name without suffix. patient: pseudonym, or None.
    series: of a DICOM image the SeriesInstanceUID."""

    parts: tuple[str, ...]
    image: ImageFile
    patient: str | None = None
    series: str = ""

    @property
    def name(self) -> str:
        return "/".join(self.parts)


def split_of(name: str) -> Split | None:
    """The split that a folder of this name means."""
    return SPLITS.get(name.lower())


def given_splits(splits: Sequence[Split | None]) -> list[Split | None]:
    """Splits as the folders give them: where not every case lies in one, or all lie in the same, none is given."""
    found = set(splits)
    return list(splits) if None not in found and len(found) > 1 else [None] * len(splits)


def stem(path: Path) -> str:
    """The name without the ending of its format (".nii.gz" as a whole); a name that has none stays as it is."""
    lower = path.name.lower()
    ending = max((s for s in _suffixes() if lower.endswith(s)), key=len, default="")
    return path.name[: len(path.name) - len(ending)] or path.name


def image_files(folder: Path) -> list[Path]:
    """Every image file below `folder`, sorted; none where there is none."""
    return [f for f in scan.files(folder) if scan.is_image(f)]


def channel_names(*images: ImageFile) -> tuple[str, ...]:
    """A name for each channel of the first file whose header can be read: its modality, "intensity" where that is unknown, or
    the colours. Raises the first file's error where none can."""
    errors = []
    for image in images:
        try:
            peek = io.peek(image.path, image.choices)
            # A picture's header does not tell whether its palette is grey.
            channels = read_case(Sample("", (image,))).channels if peek.format == "raster" else peek.channels
        except InputError as error:
            errors.append(error)
            continue
        if channels == 1:
            return (peek.modality or "intensity",)
        return RGB if channels == 3 else tuple(f"channel {k}" for k in range(channels))
    raise errors[0]


def cases(folder: Path, choices: Choices) -> tuple[list[Case], tuple[str, ...]]:
    """Every image below `folder` by name, to be read by `choices`, and notes on what was not chosen. A case is a file, or a
    DICOM series, named after its folder where it is alone there. Localizers beside another series, and DICOM files that
    hold no image, are left out; where `choices.series` names series, so are the others.

    Raises InputError EMPTY_FOLDER, BAD_OPTION where no series has the chosen name.
    """
    files = scan.images(folder)
    headers = dicom_headers(files)
    images = {file: header for file, header in headers.items() if header.image}
    held = {header.series for header in images.values()}
    chosen = held if choices.series is None else _chosen(folder, choices.series, images.values())
    left = f"{len(held - chosen)} of {len(held)} DICOM series are left out: --series {choices.series} chose the others"
    found: list[tuple[tuple[str, ...], ImageFile, str, str]] = []
    stacks: defaultdict[Path, defaultdict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    others = {file.parent for file, header in images.items() if header.series not in chosen}
    scanned = {file.parent for file, header in images.items() if header.series in chosen and not header.localizer}
    for file in files:
        if file not in headers:
            found.append(((*file.relative_to(folder).parts[:-1], stem(file)), ImageFile(file, choices), "", ""))
        elif (h := images.get(file)) and h.series in chosen and not (h.localizer and file.parent in scanned):
            stacks[file.parent][h.series].append(file)
    for parent, by_uid in stacks.items():
        where = parent.relative_to(folder).parts
        # Reading a folder takes in the folders below.
        named = len(by_uid) == 1 and not any(parent in other.parents for other in stacks)
        alone = named and not any(parent in (other, *other.parents) for other in others)
        for uid, own in by_uid.items():
            patient = headers[own[0]].patient
            if len(own) == 1:
                found.append(((*where, stem(own[0])), ImageFile(own[0], choices), patient, uid))
                continue
            name = (where or (folder.resolve().name,)) if named else (*where, stem(own[0]))
            found.append((name, ImageFile(parent, choices if alone else Choices(series=uid).over(choices)), patient, uid))
    if not found:
        raise InputError("EMPTY_FOLDER", folder, found="DICOM files without an image", expected="images", fix="check the path")
    found.sort(key=lambda f: f[0])
    # Numbers, not hashes: a short identifier behind a hash can be found by trying all.
    numbers = {who: k for k, who in enumerate(dict.fromkeys(who for _, _, who, _ in found if who), start=1)}
    out = [Case(parts, image, f"patient-{numbers[who]:04d}" if who else None, uid) for parts, image, who, uid in found]
    return out, (left,) if held != chosen else ()


def dicom_headers(files: Iterable[Path]) -> dict[Path, series.Header]:
    """What the DICOM files among `files` say of patient and series; no pixel is read. What cannot be read as DICOM is not
    among them: reading the image will say why."""
    maybe = [f for f in files if io.suffix_member(f) in ("dicom", None)]
    found = zip(maybe, read_headers(maybe), strict=True)
    return {file: header for file, header in found if header is not None}


def _chosen(folder: Path, wanted: str, headers: Iterable[series.Header]) -> set[str]:
    """The series that the user can mean. Raises InputError BAD_OPTION where there are series, and none of them is."""
    names = {h.series: (h.number, h.description) for h in headers}
    found = series.called(wanted, names)
    if names and not found:
        ordered = sorted(names.items(), key=lambda item: (len(item[1][0]), item[1][0]))
        listed = [f"{f'number {n}' if n else 'no number'} (UID ...{uid[-6:]})" for uid, (n, _) in ordered]
        raise InputError(
            "BAD_OPTION",
            folder,
            found=f"no series {wanted!r} among {len(names)}: {', '.join(listed[:10])}{', ...' if len(listed) > 10 else ''}",
            expected="the number, the description or the end of the UID of one of them",
            fix="choose another with --series",
        )
    return set(found)


@cache
def _suffixes() -> tuple[str, ...]:
    return tuple(s for member in FORMATS.all().values() for s in member.SUFFIXES)


def listed(names: Sequence[str]) -> str:
    """The first names of a sentence: "a, b, c, d, e, ..."."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
