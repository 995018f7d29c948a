"""DICOM studies with their labels: segmentations (SEG), contours (RTSTRUCT), or boxes in structured reports (SR)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile, file_key, name_classes
from hounsfield.data.layout import Case, cases, channel_names, dicom_headers, given_splits, image_files, split_of
from hounsfield.data.masks import MOST_CLASSES, check_pairs, count_values, in_threads
from hounsfield.data.readers import Match
from hounsfield.data.readers import _boxes as cleaning
from hounsfield.io.contours import Contours
from hounsfield.io.findings import Report
from hounsfield.io.formats import Choices, dicom
from hounsfield.io.regions import Drawn, References, Region, mark, paint, volume_of
from hounsfield.io.series import Header, read_header

_DRAWN: Final = ("SEG", "RTSTRUCT")


@dataclass(frozen=True)
class RegionMask:
    """A lazy label image of what SEG and RTSTRUCT `files` draw on an image, on its grid: (1, *grid) whose values count `names`
    from 1; or, where regions of the dataset overlap, (R, *grid) with a channel of 0 and 1 for each name.

    Raises InputError GRID_MISMATCH when called, for what is drawn beside the image's voxels.
    """

    files: tuple[Path, ...]
    image: ImageFile
    names: tuple[str, ...]
    overlap: bool = False

    @property
    def path(self) -> Path:
        return self.files[0]

    @property
    def choices(self) -> Choices:
        return self.image.choices

    @property
    def key(self) -> str:
        return "|".join([*map(file_key, self.files), self.image.key, *self.names, str(self.overlap)])

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    def __call__(self) -> Image:
        if not self.overlap:
            labels, grid, _ = self.painted()
            return Image(labels[np.newaxis], grid, Meta("dicom"))
        grid = io.peek(self.image.path, self.image.choices).geometry
        channels = np.zeros((len(self.names), *volume_of(grid).shape), dtype=np.uint8)
        for drawn, values in self._drawn():
            mark(drawn, grid, {number: value - 1 for number, value in values.items()}, channels)
        return Image(channels.reshape(-1, *grid.shape), grid, Meta("dicom"))

    def painted(self) -> tuple[npt.NDArray[np.uint8], Geometry, bool]:
        """Labels (*grid), their grid, and whether regions overlap, of which labels show but one."""
        grid = io.peek(self.image.path, self.image.choices).geometry
        labels = np.zeros(volume_of(grid).shape, dtype=np.uint8)
        overlap = [paint(drawn, grid, values, labels) for drawn, values in self._drawn()]
        return labels.reshape(grid.shape), grid, any(overlap)

    def _drawn(self) -> list[tuple[Drawn, dict[int, int]]]:
        """What each file draws, with the value of each region's number."""
        opened = [_open(file) for file in self.files]
        return [(drawn, {r.number: self.names.index(r.name) + 1 for r in drawn.regions}) for drawn in opened]


def match(path: Path) -> Match:
    """A folder with a SEG or RTSTRUCT file in it, or a report that draws on an image."""
    headers = dicom_headers(image_files(path)) if path.is_dir() else {}
    kinds = Counter(header.modality for header in headers.values())
    drawn = [f"{kinds[kind]} {kind}" for kind in _DRAWN if kinds[kind]]
    boxed = 0 if drawn else sum(1 for file, header in headers.items() if header.modality == "SR" and _finds(file))
    if not drawn and not boxed:
        return Match(missed="DICOM images with SEG, RTSTRUCT or SR files")
    return Match(f"DICOM images with {' and '.join(drawn or [f'{boxed} SR'])} files", priority=25)


def read(path: Path, choices: Choices) -> Dataset:
    """A label belongs to the series that it names, or else of whose images it names most, or else to the one series of its
    frame of reference. Classes are the names of segments and ROIs, counted from 1; ids and patients are those of `cases`.
    Series without a label, in a study that has one, are left out.

    Raises InputError UNPAIRED for studies without a label and labels without an image, GRID_MISMATCH, NO_FOREGROUND, BAD_LABEL,
    and as `cases` and the files' readers do.
    """
    found, left_out = cases(path, choices)
    headers = dicom_headers(image_files(path))
    labels = [file for file, header in headers.items() if header.modality in (*_DRAWN, "SR")]
    files = [file for file in labels if headers[file].modality in _DRAWN]
    drawn = dict(zip(files, in_threads(_look, files), strict=True))
    reports = {} if drawn else {file: report for file in labels if (report := _finds(file))}
    references = {file: label.references for file, label in drawn.items()}
    references |= {file: report.references for file, report in reports.items()}
    images = [header for header in headers.values() if header.image]
    partners = dict(zip(references, _partners(list(references.values()), found, images), strict=True))
    own: defaultdict[Case, list[Path]] = defaultdict(list)
    for file, partner in sorted(partners.items()):
        if isinstance(partner, Case):
            own[partner].append(file)
    studies = {h.series: h.study for h in images}
    labelled = {studies[case.series] for case in own}
    alone = [case for case in found if case not in own and case.series and studies[case.series] not in labelled]
    lost = [str(file.relative_to(path)) for file, partner in partners.items() if partner is None]
    check_pairs(path, [case.name for case in (alone if own else found)], lost)

    chosen = [case for case in found if case in own]
    notes = [*left_out]
    if others := len(found) - len(chosen):
        notes.append(f"{others} series without a label, beside labelled ones, are left out")
    if beside := len(labels) - len(references):
        notes.append(f"{beside} structured reports are left out")
    splits = given_splits([next((s for p in case.parts[:-1] if (s := split_of(p))), None) for case in chosen])
    samples = [Sample(c.name, (c.image,), patient=c.patient, split=s) for c, s in zip(chosen, splits, strict=True)]
    channels = channel_names(chosen[0].image)
    if drawn:
        masks = {sample.id: (tuple(own[case]), case.image) for sample, case in zip(samples, chosen, strict=True)}
        return _segmentation(path, samples, masks, drawn, channels, notes)
    findings = {sample.id: [reports[file] for file in own[case]] for sample, case in zip(samples, chosen, strict=True)}
    return _detection(path, samples, findings, channels, notes, choices)


@dataclass(frozen=True)
class _Label:
    """What is kept of a SEG or RTSTRUCT file while others are read: its outlines may be large."""

    references: References
    regions: tuple[Region, ...]
    notes: tuple[str, ...]


def _open(file: Path) -> Drawn:
    """A SEG or RTSTRUCT file."""
    header = read_header(file)
    return Contours(file) if header is not None and header.modality == "RTSTRUCT" else dicom.segments(file)


def _look(file: Path) -> _Label:
    drawn = _open(file)
    return _Label(drawn.references, drawn.regions, drawn.notes)


def _finds(file: Path) -> Report | None:
    """A report that draws something; None for another, and for one that cannot be read."""
    try:
        report = Report(file)
    except InputError:
        return None
    return report if report.findings else None


def _partners(labels: Sequence[References], found: Sequence[Case], images: Sequence[Header]) -> Iterator[Case | bool | None]:
    """For each label the case that it was drawn on; True where that is a series which was not chosen; None where it is not
    here."""
    instances: defaultdict[str, set[str]] = defaultdict(set)
    frames = {"": ""}
    for header in images:
        instances[header.series].add(header.instance)
        frames[header.series] = header.frame
    for refers in labels:
        named = [case for case in found if case.series in refers.series]
        of_images = [case for case in found if not instances[case.series].isdisjoint(refers.images)]
        of_frame = [case for case in found if frames[case.series] in refers.frames]
        if named or of_images:
            shared = {case: len(instances[case.series] & refers.images) for case in named or of_images}
            yield max(shared, key=lambda case: shared[case])
        elif refers.series & set(frames):
            yield True
        else:
            yield of_frame[0] if len(of_frame) == 1 else None


def _segmentation(
    path: Path,
    samples: Sequence[Sample],
    masks: Mapping[str, tuple[tuple[Path, ...], ImageFile]],
    drawn: Mapping[Path, _Label],
    channels: tuple[str, ...],
    notes: list[str],
) -> Dataset:
    """masks: of each sample the files that draw on its image."""
    opened = [drawn[file] for files, _ in masks.values() for file in files]
    first: dict[str, int] = {}
    held: Counter[str] = Counter()
    codes: dict[str, tuple[str, str, str]] = {}
    for files, _ in masks.values():
        held.update({region.name for file in files for region in drawn[file].regions})
    for label in opened:
        for region in label.regions:
            first[region.name] = min(region.number, first.get(region.name, region.number))
            if region.code is not None:
                codes.setdefault(region.name, region.code)
    names = tuple(sorted(first, key=lambda name: (first[name], name)))
    if len(names) > MOST_CLASSES:
        raise InputError(
            "BAD_LABEL",
            path,
            found=f"{len(names)} names of regions",
            expected=f"at most {MOST_CLASSES} classes",
            fix="name the same region the same in every study",
        )
    lazies = {name: RegionMask(files, image, names) for name, (files, image) in masks.items()}
    painted = dict(zip(lazies, in_threads(_count, list(lazies.values())), strict=True))
    if not any(set(counts) - {0} for counts, _ in painted.values()):
        raise InputError(
            "NO_FOREGROUND",
            path,
            found=f"{len(painted)} label files, all of them empty",
            expected="at least one labelled voxel",
            fix="check that the labels are the right files",
        )
    overlap = any(overlaps for _, overlaps in painted.values())
    notes += dict.fromkeys(note for label in opened for note in label.notes)
    if overlap:
        notes.append("regions overlap: each class is a region of its own")
    if merged := [name for name, (files, _) in masks.items() if len(files) > 1]:
        notes.append(f"{len(merged)} series have several label files, which are joined ({', '.join(merged[:5])})")
    if rare := [f"{name} in {held[name]}" for name in names if held[name] < len(masks)]:
        notes.append(f"not all of {len(masks)} series name every region, which is background there: {', '.join(rare[:10])}")
    return Dataset(
        tuple(replace(s, target=replace(lazies[s.id], overlap=overlap)) for s in samples),
        tuple(_coded(c, codes) for c in name_classes((k, name) for k, name in enumerate(names, start=1))),
        channels,
        "segmentation",
        "dicom_studies",
        f"{len(samples)} DICOM series with regions of {len(names)} class{'es' * (len(names) > 1)}",
        path,
        multilabel=overlap,
        notes=tuple(notes),
        voxels={} if overlap else {name: counts for name, (counts, _) in painted.items()},
    )


def _count(mask: RegionMask) -> tuple[dict[int, int], bool]:
    labels, _, overlap = mask.painted()
    return count_values(labels), overlap


def _coded(c: Class, codes: Mapping[str, tuple[str, str, str]]) -> Class:
    return c.model_copy(update={"code": codes.get(c.name)})


def _detection(
    path: Path,
    samples: Sequence[Sample],
    reports: Mapping[str, Sequence[Report]],
    channels: tuple[str, ...],
    notes: list[str],
    choices: Choices,
) -> Dataset:
    found: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    odd = 0
    for sample in samples:
        image: Any = sample.images[0]
        source = dicom.source(image.path, image.choices)
        shapes[sample.id] = source.geometry.shape
        slices = {(str(source.headers[file].SOPInstanceUID), frame): k for k, (file, frame) in enumerate(source.frames)}
        found[sample.id] = []
        for report in reports[sample.id]:
            boxes, others = report.boxes(source.geometry, slices)
            found[sample.id] += boxes
            odd += others + report.others
    names = sorted({name for boxes in found.values() for name, _ in boxes})
    cleaned = {
        key: cleaning.clean([corners for _, corners in boxes], [names.index(name) for name, _ in boxes], shapes[key])
        for key, boxes in found.items()
    }
    if odd:
        notes.append(f"{odd} regions that are no boxes along the image's axes were left out")
    return Dataset(
        tuple(replace(s, target=cleaned[s.id].boxes) for s in samples),
        name_classes(enumerate(names)),
        channels,
        "detection",
        "dicom_studies",
        f"{len(samples)} DICOM series with {sum(len(c.boxes) for c in cleaned.values())} boxes of {len(names)} "
        f"class{'es' * (len(names) > 1)}",
        path,
        notes=(*notes, *cleaning.checked(path, cleaned, choices)),
    )
