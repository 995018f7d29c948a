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
from hounsfield.data.masks import in_threads
from hounsfield.io import scan
from hounsfield.io.formats import FORMATS, Choices
from hounsfield.io.formats._dicom_file import opened

SPLITS: Final[dict[str, Split]] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}
RGB: Final = ("red", "green", "blue")
_TAGS: Final = ("ImageType", "Modality", "PatientID", "SeriesInstanceUID", "Rows")
_NO_IMAGE: Final = ("RTDOSE", "SEG")


@dataclass(frozen=True)
class Case:
    """One image of a dataset. parts: folders below the dataset and the name without suffix. patient: pseudonym, or None."""

    parts: tuple[str, ...]
    image: ImageFile
    patient: str | None = None

    @property
    def name(self) -> str:
        return "/".join(self.parts)


@dataclass(frozen=True)
class DicomHeader:
    """patient: PatientID, for comparing only. series: SeriesInstanceUID, or the file's path. image: not a report, a dose, a
    segmentation. localizer: a scout view."""

    patient: str
    series: str
    image: bool
    localizer: bool


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


def channel_names(image: ImageFile) -> tuple[str, ...]:
    """A name for each channel of the file: its modality, "intensity" where that is unknown, or the colours."""
    peek = io.peek(image.path, image.choices)
    # A picture's header does not tell whether its palette is grey.
    channels = read_case(Sample("", (image,))).channels if peek.format == "raster" else peek.channels
    if channels == 1:
        return (peek.modality or "intensity",)
    return RGB if channels == 3 else tuple(f"channel {k}" for k in range(channels))


def cases(folder: Path) -> list[Case]:
    """Every image below `folder` by name: a file each, or a DICOM series, named after its folder where it is alone there.
    Localizers beside another series, and DICOM files that hold no image, are left out.

    Raises InputError EMPTY_FOLDER.
    """
    files = scan.images(folder)
    headers = dicom_headers(files)
    found: list[tuple[tuple[str, ...], ImageFile, str]] = []
    series: defaultdict[Path, defaultdict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    scanned = {file.parent for file, header in headers.items() if header.image and not header.localizer}
    for file in files:
        header = headers.get(file)
        if header is None:
            found.append(((*file.relative_to(folder).parts[:-1], stem(file)), ImageFile(file), ""))
        elif header.image and not (header.localizer and file.parent in scanned):
            series[file.parent][header.series].append(file)
    for parent, by_uid in series.items():
        where = parent.relative_to(folder).parts
        # Reading a folder takes in the folders below.
        alone = len(by_uid) == 1 and not any(parent in other.parents for other in series)
        for uid, own in by_uid.items():
            patient = headers[own[0]].patient
            if len(own) == 1:
                found.append(((*where, stem(own[0])), ImageFile(own[0]), patient))
            elif alone:
                found.append((where or (folder.resolve().name,), ImageFile(parent), patient))
            else:
                found.append(((*where, stem(own[0])), ImageFile(parent, Choices(series=uid)), patient))
    if not found:
        raise InputError("EMPTY_FOLDER", folder, found="DICOM files without an image", expected="images", fix="check the path")
    found.sort(key=lambda f: f[0])
    # Numbers, not hashes: a short identifier behind a hash can be found by trying all.
    numbers = {who: k for k, who in enumerate(dict.fromkeys(who for _, _, who in found if who), start=1)}
    return [Case(parts, image, f"patient-{numbers[who]:04d}" if who else None) for parts, image, who in found]


def dicom_headers(files: Iterable[Path]) -> dict[Path, DicomHeader]:
    """What the DICOM files among `files` say of patient and series; no pixel is read."""
    maybe = [f for f in files if io.suffix_member(f) in ("dicom", None)]
    found = in_threads(_header, maybe)
    return {file: header for file, header in zip(maybe, found, strict=True) if header is not None}


def _header(file: Path) -> DicomHeader | None:
    """None for what cannot be read as DICOM: reading the image will say why."""
    from pydicom import dcmread

    try:
        with opened(file) as stream:
            tags = dcmread(stream, specific_tags=list(_TAGS), stop_before_pixels=True)
            return DicomHeader(
                patient=str(tags.get("PatientID") or ""),
                series=str(tags.get("SeriesInstanceUID") or file),
                image="Rows" in tags and tags.get("Modality") not in _NO_IMAGE,
                localizer="LOCALIZER" in [str(v).upper() for v in tags.get("ImageType") or ()],
            )
    except Exception:  # pydicom raises whatever its parsers raise
        return None


@cache
def _suffixes() -> tuple[str, ...]:
    return tuple(s for member in FORMATS.all().values() for s in member.SUFFIXES)
