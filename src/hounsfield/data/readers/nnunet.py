"""nnU-Net v2's raw format: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz.

Isensee et al., Nat Methods 2021; documentation/dataset_format.md of MIC-DKFZ/nnUNet.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.masks import MaskFile, check_pairs
from hounsfield.data.readers import Match
from hounsfield.data.readers._description import bad, below, description, file_of, required
from hounsfield.io import scan
from hounsfield.io.formats import Choices

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def match(path: Path) -> Match:
    """A dataset.json with channel_names."""
    values = description(path)
    if values is None or "channel_names" not in values:
        return Match(missed="dataset.json with channel_names")
    return Match("nnU-Net's dataset.json", priority=30)


def read(path: Path, choices: Choices) -> Dataset:
    """Cases of imagesTr, and as test part those of imagesTs where labelsTs has their labels. A splits_final.json of one fold
    says which of imagesTr are the val part; one of several is a cross-validation, and divides nothing here.

    Raises InputError BAD_MANIFEST, UNPAIRED, CHANNELS for a case without one of its channels, BAD_LABEL for region labels.
    """
    values = description(path) or {}
    root = file_of(path).parent
    channel_names = required(path, values, "channel_names", dict)
    labels = required(path, values, "labels", dict)
    ending = required(path, values, "file_ending", str)
    try:
        channels = tuple(str(channel_names[key]) for key in sorted(channel_names, key=int))
    except ValueError as error:
        raise bad(path, f"channel_names with a key that is no number ({error})", '{"0": "T2", ...}') from error
    classes, ignore = _classes(path, labels)

    if isinstance(values.get("dataset"), dict):
        images, truths = _listed(path, root, values["dataset"])
    else:
        images, truths = _cases(root / "imagesTr", ending), _labels(root / "labelsTr", ending)
    given = _given(path, root, images)
    notes = []
    if (root / "labelsTs").is_dir():
        tests, test_truths = _cases(root / "imagesTs", ending), _labels(root / "labelsTs", ending)
        given = {**dict.fromkeys(images, "train"), **given, **dict.fromkeys(tests, "test")}
        twice = sorted(set(images) & set(tests))
        if twice:
            raise bad(path, f"{', '.join(twice[:10])} in imagesTr and imagesTs", "every case once")
        images, truths = {**images, **tests}, {**truths, **test_truths}
    elif (root / "imagesTs").is_dir():
        notes.append(f"{len(_cases(root / 'imagesTs', ending))} test images have no labels and are left out")
    check_pairs(root, set(images) - set(truths), set(truths) - set(images))
    if not images:
        raise InputError(
            "EMPTY_FOLDER",
            root / "imagesTr",
            found=f"no *_0000{ending}",
            expected="images",
            fix="check file_ending and the folder",
        )
    _check_channels(root, images, channels)
    samples = tuple(
        Sample(name, tuple(ImageFile(f, choices) for f in files), MaskFile((truths[name],), choices), split=given.get(name))
        for name, files in images.items()
    )
    found = (
        f"{len(samples)} cases of {values.get('name', root.resolve().name)}, {len(classes)} classes, {len(channels)} channels"
    )
    return Dataset(
        samples,
        name_classes(classes),
        channels,
        "segmentation",
        "nnunet",
        found,
        path,
        ignore_value=ignore,
        notes=tuple(notes),
    )


def _classes(path: Path, labels: dict[str, Any]) -> tuple[list[tuple[int, str]], int | None]:
    """(value, name) of the classes in order, and the value that is ignored."""
    regions = [name for name, value in labels.items() if isinstance(value, list) and len(value) > 1]
    if regions:
        raise InputError(
            "BAD_LABEL",
            file_of(path),
            found=f"regions of several values: {', '.join(regions)}",
            expected="one value for each label",
            fix="list the plain labels; regions are their unions",
        )
    single = {name: value[0] if isinstance(value, list) and value else value for name, value in labels.items()}
    odd = [name for name, value in single.items() if not isinstance(value, int) or isinstance(value, bool)]
    if odd:
        raise bad(path, f"label {odd[0]!r} = {single[odd[0]]!r}", 'labels as {"background": 0, "name": 1, ...}')
    ignore = single.pop("ignore", None)
    return sorted((value, name) for name, value in single.items() if value != 0), ignore


def _given(path: Path, root: Path, images: Mapping[str, object]) -> dict[str, Split]:
    """The parts of the one fold in splits_final.json. Raises InputError BAD_MANIFEST where it is damaged or lacks cases."""
    file = root / "splits_final.json"
    if not file.is_file():
        return {}
    try:
        folds = json.loads(file.read_text(encoding="utf-8-sig"))
        if len(folds) != 1:
            return {}
        train, val = ([str(name) for name in folds[0][part]] for part in ("train", "val"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise bad(
            path, f"splits_final.json: {type(error).__name__} {error}"[:200], 'a list of {"train": [...], "val": [...]}'
        ) from error
    if sorted([*train, *val]) != sorted(images):
        raise bad(path, f"splits_final.json with {len(train) + len(val)} cases", f"each of the {len(images)} of imagesTr once")
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(val, "val")} if val else {}


def _files(folder: Path, ending: str) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {f.name.removesuffix(ending): f for f in scan.files(folder) if f.parent == folder and f.name.endswith(ending)}


def _labels(folder: Path, ending: str) -> dict[str, Path]:
    return _files(folder, ending)


def _cases(folder: Path, ending: str) -> dict[str, list[Path]]:
    """The files of each case in order of channel; a file without a channel number is a case of its own."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for name, file in sorted(_files(folder, ending).items()):
        hit = _CHANNEL.fullmatch(name)
        found[hit["case"] if hit else name].append(file)
    return dict(found)


def _listed(path: Path, root: Path, cases: dict[str, Any]) -> tuple[dict[str, list[Path]], dict[str, Path]]:
    """Images and labels of the description's own "dataset" object."""
    images, truths = {}, {}
    for name, entry in cases.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or "label" not in entry:
            raise bad(path, f"dataset[{name!r}] = {str(entry)[:80]}", '{"images": [...], "label": ...}')
        files = [below(root, image) for image in entry["images"]]
        if all(f.exists() for f in files):
            images[name] = files
        if below(root, entry["label"]).exists():
            truths[name] = below(root, entry["label"])
    return images, truths


def _check_channels(root: Path, images: dict[str, list[Path]], channels: tuple[str, ...]) -> None:
    """Raises InputError CHANNELS unless every case has a file per channel, or every case one file (of colours)."""
    numbers = {name: len(files) for name, files in images.items()}
    if set(numbers.values()) in ({len(channels)}, {1}):
        return
    odd = sorted(name for name, n in numbers.items() if n != len(channels))
    raise InputError(
        "CHANNELS",
        root,
        found=f"{len(odd)} cases with another number of channels: "
        + ", ".join(f"{name} has {numbers[name]}" for name in odd[:10]),
        expected=f"{len(channels)} files ({', '.join(channels)}) for each case",
        fix="add the missing channel files",
    )
