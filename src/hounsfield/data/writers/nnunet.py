"""nnU-Net v2's raw format: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, a test part in imagesTs and labelsTs.

Isensee et al., Nat Methods 2021; documentation/dataset_format.md of MIC-DKFZ/nnUNet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.sample import LazyImage, Sample
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.masks import in_threads
from hounsfield.data.writers import Progress, Written, cannot
from hounsfield.data.writers._files import modality_note, own_file, put
from hounsfield.io.formats import Peek
from hounsfield.io.limits import atomic

NIFTI = ".nii.gz"
OWN_NAMES = ("background", "ignore")  # of labels


def write(dataset: Dataset, folder: Path, copy: bool, progress: Progress) -> Written:
    """Volumes as .nii.gz, linked where they are that already; pictures as .png, or .tif where PNG cannot hold them. Label
    values become 1, 2, ... in the order of the classes, and what is ignored or not valid the value behind the last. A val part
    stands in splits_final.json.

    Raises InputError BAD_OPTION for other than masks, OUTPUT_COLLISION where ids differ in their folders alone, BAD_LABEL,
    GRID_MISMATCH, and what reading and writing raise.
    """
    _check(dataset)
    names = _names(dataset)
    kind = _ending(dataset)
    unknown = dataset.ignore_value is not None or any(s.valid_mask for s in dataset.samples)
    values = {c.value: k for k, c in enumerate(dataset.classes, start=1)}
    ignore = len(values) + 1 if unknown else None

    folder.mkdir(parents=True)
    anew = []
    for done, sample in enumerate(dataset.samples):
        progress(done, len(dataset))
        part = "Ts" if sample.split == "test" else "Tr"
        grid = _images(dataset, sample, folder / f"images{part}" / names[sample.id], kind, copy)
        anew += [] if isinstance(grid, Geometry) else [sample.images[0]]
        at = grid if isinstance(grid, Geometry) else grid.geometry
        labels = _labels(dataset, sample, at, values, ignore)
        io.write(Image(labels, at), folder / f"labels{part}" / f"{names[sample.id]}{kind}")
    progress(len(dataset), len(dataset))
    labels_of = {"background": 0, **{c.name: values[c.value] for c in dataset.classes}}
    splits = {p: [names[s.id] for s in dataset.samples if s.split == p] for p in ("train", "val", "test")}
    description = {
        "channel_names": {str(k): name for k, name in enumerate(dataset.channels)},
        "labels": {**labels_of, **({"ignore": ignore} if ignore else {})},
        "numTraining": len(dataset) - len(splits["test"]),
        "file_ending": kind,
        "source_values": {c.name: c.value for c in dataset.classes},
    }
    _write(folder / "dataset.json", description)
    if splits["val"]:
        _write(folder / "splits_final.json", [{"train": splits["train"], "val": splits["val"]}])
    return _written(dataset, names, values, ignore, modality_note(anew))


def _written(
    dataset: Dataset, names: Mapping[str, str], values: Mapping[int, int], ignore: int | None, notes: tuple[str, ...]
) -> Written:
    one_part = len({s.split for s in dataset.samples}) == 1
    samples = (Sample(names[s.id], s.images, s.target, split=None if one_part else s.split) for s in dataset.samples)
    classes = name_classes((values[c.value], c.name) for c in dataset.classes)
    lost = {
        "patients": any(s.patient for s in dataset.samples),
        "attributes": any(s.attributes for s in dataset.samples),
    }
    said = [f"{' and '.join(n for n in lost if lost[n])}: nnU-Net's layout has no place for them"] if any(lost.values()) else []
    renamed = {new: old for old, new in names.items() if new != old}
    changed = {str(new): str(old) for old, new in values.items() if new != old}
    if renamed:
        new, old = next(iter(renamed.items()))
        said.append(f"{len(renamed)} cases have their folders in their names, such as {new} for {old}")
    if changed:
        said.append("label values: " + ", ".join(f"{old} became {new}" for new, old in changed.items()))
    if any(s.valid_mask for s in dataset.samples):
        said.append(f"outside of the valid masks the label is 'ignore' ({ignore})")
    expected = replace(
        dataset.only(samples), classes=classes, ignore_value=ignore, voxels={}, kind="segmentation", multilabel=False
    )
    return Written(expected, (*said, *notes), {"values": changed, "ids": renamed})


def _check(dataset: Dataset) -> None:
    if dataset.kind != "segmentation" or any(not callable(s.target) for s in dataset.samples):
        what = "no labels" if dataset.kind is None else f"{dataset.kind} labels"
        raise cannot("nnunet", what, "masks", "convert to a manifest, which holds every kind")
    names = [c.name for c in dataset.classes]
    twice = next((n for n in names if names.count(n) > 1 or n in OWN_NAMES), None)
    if twice is not None:
        raise cannot("nnunet", f"a class named {twice!r}", "a name for each class, none of background and ignore", "rename it")
    if len({len(s.images) for s in dataset.samples}) > 1:
        raise cannot("nnunet", "cases of different numbers of files", "as many in every case", "leave some cases out")


def _names(dataset: Dataset) -> dict[str, str]:
    """By id, the case's name, which is one file's. Raises InputError OUTPUT_COLLISION."""
    names = {s.id: s.id.replace("/", "_") for s in dataset.samples}
    first: dict[str, str] = {}
    for old, new in names.items():
        if first.setdefault(new, old) != old:
            raise InputError(
                "OUTPUT_COLLISION",
                "--to nnunet",
                found=f"{first[new]} and {old}, both named {new}",
                expected="names that differ without folders",
                fix="rename one of them",
            )
    return names


def _ending(dataset: Dataset) -> str:
    """The one ending of all files. Raises InputError BAD_OPTION for volumes without spacing, and for mixed sets."""
    peeks = in_threads(_peek, [lazy for s in dataset.samples for lazy in s.images])
    kinds = {(p.geometry.space, p.geometry.ndim) for p in peeks}
    if {space for space, _ in kinds} == {"patient"}:
        return NIFTI
    if kinds == {("none", 2)}:
        small = all(p.dtype == np.uint8 or (p.dtype == np.uint16 and p.channels == 1) for p in peeks)
        return ".png" if small else ".tif"
    listed = ", ".join(sorted(f"{ndim}D in space {space!r}" for space, ndim in kinds))
    raise cannot("nnunet", f"images {listed}", "either scans with a place in the patient or pictures", "convert to a manifest")


def _peek(lazy: LazyImage) -> Peek:
    if isinstance(lazy, ImageFile):
        return io.peek(lazy.path, lazy.choices)
    image = lazy()
    return Peek(image.meta.format, image.geometry, image.channels, image.array.dtype, image.meta.modality)


def _images(dataset: Dataset, sample: Sample, place: Path, kind: str, copy: bool) -> Geometry | Image:
    """The files of a case at `place` and its channel's number: their grid where they are linked, else what was written."""
    grid = _linked(sample, kind)
    if grid is not None:
        for k, lazy in enumerate(sample.images):
            put(lazy.path, place.with_name(f"{place.name}_{k:04d}{kind}"), copy)
        return grid
    image = read_case(sample, len(dataset.channels))
    colours = kind != NIFTI and len(sample.images) == 1 and image.channels == 3
    for k, channel in enumerate([image.array] if colours else image.array[:, np.newaxis]):
        io.write(Image(channel, image.geometry), place.with_name(f"{place.name}_{k:04d}{kind}"))
    return image


def _linked(sample: Sample, kind: str) -> Geometry | None:
    """The grid of a case whose files are what nnU-Net reads: NIfTI of one channel, all on one grid."""
    if kind != NIFTI or not all((f := own_file(i)) and f.name.endswith(NIFTI) for i in sample.images):
        return None
    peeks = [io.peek(lazy.path) for lazy in sample.images]
    first = peeks[0].geometry
    fit = all(p.format == "nifti" and p.channels == 1 and p.geometry.same_grid(first) for p in peeks)
    return first if fit else None


def _labels(
    dataset: Dataset, sample: Sample, grid: Geometry, values: Mapping[int, int], ignore: int | None
) -> npt.NDArray[Any]:
    """(1, *spatial) in the new values. Raises InputError BAD_LABEL, GRID_MISMATCH."""
    assert callable(sample.target)
    mask = sample.target()
    valid = sample.valid_mask() if sample.valid_mask is not None else None
    for other in (mask, valid):
        if other is not None and not other.geometry.same_grid(grid):
            raise InputError(
                "GRID_MISMATCH",
                sample.target.path,
                found=f"a mask of {other.geometry.shape} on another grid than its image of {grid.shape}",
                expected="one grid",
                fix="resample the mask to its image with nearest neighbour",
            )
    found = np.unique(mask.array).tolist()
    known = {0: 0, **values, **({dataset.ignore_value: ignore} if dataset.ignore_value is not None else {})}
    odd = [v for v in found if v not in known]
    if odd:
        raise InputError(
            "BAD_LABEL",
            sample.target.path,
            found=f"the value {odd[0]}",
            expected=f"one of {', '.join(map(str, known))}",
            fix="add it to the classes, or mend the mask",
        )
    labels = np.zeros(mask.array.shape, np.uint8 if len(known) < 255 else np.uint16)
    for value in found:
        labels[mask.array == value] = known[value] or 0
    if valid is not None:
        labels[valid.array == 0] = ignore or 0
    return labels


def _write(path: Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    with atomic(path) as beside:
        beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
