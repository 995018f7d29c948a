"""Medical Segmentation Decathlon: dataset.json lists images and labels (Antonelli et al., Nat Commun 2022)."""

from __future__ import annotations

from pathlib import Path

from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.layout import stem
from hounsfield.data.masks import MaskFile, check_pairs
from hounsfield.data.readers import Match
from hounsfield.data.readers._description import bad, below, description, file_of, required, stems
from hounsfield.io.formats import Choices


def match(path: Path) -> Match:
    """A dataset.json that is not nnU-Net's."""
    values = description(path)
    if values is None or "channel_names" in values:
        return Match(missed="dataset.json with a training list")
    return Match("dataset.json of the Medical Segmentation Decathlon", priority=30)


def read(path: Path, choices: Choices) -> Dataset:
    """Samples of the training list. Several modalities are the volumes of one 4D file. The test list has no labels, and is
    left out.

    Raises InputError BAD_MANIFEST for a faulty description, UNPAIRED for files without their partner, listed or lying there.
    """
    values = description(path) or {}
    root = file_of(path).parent
    entries = required(path, values, "training", list)
    labels = required(path, values, "labels", dict)
    modality = required(path, values, "modality", dict)
    try:
        names = sorted((int(value), str(name)) for value, name in labels.items())
        channels = tuple(str(modality[key]) for key in sorted(modality, key=int))
    except ValueError as error:
        raise bad(path, f"a key that is no number ({error})", "labels and modality by number") from error

    listed: dict[str, tuple[Path, Path]] = {}
    for k, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            raise bad(path, f"training[{k}] = {str(entry)[:80]}", '{"image": ..., "label": ...}')
        image, label = below(root, entry["image"]), below(root, entry["label"])
        if stem(image) in listed:
            raise bad(path, f"{stem(image)} listed twice", "every case once")
        listed[stem(image)] = (image, label)
    lying = [set().union(*(stems(f) for f in {pair[side].parent for pair in listed.values()})) for side in (0, 1)]
    images = {name for name, (image, _) in listed.items() if image.exists()} | (lying[0] - set(listed))
    truths = {name for name, (_, label) in listed.items() if label.exists()} | (
        lying[1] - {stem(p) for _, p in listed.values()}
    )
    absent = sorted(set(listed) - images - truths)
    if absent:
        raise bad(path, f"{len(absent)} listed cases that are not there ({', '.join(absent[:10])})", "the files it lists")
    check_pairs(root, images - truths, truths - images)
    unlisted = sorted(images - set(listed))
    notes = [f"{len(unlisted)} cases that dataset.json does not list are left out"] if unlisted else []
    if isinstance(values.get("test"), list) and values["test"]:
        notes.append(f"{len(values['test'])} test images have no labels and are left out")

    volumes = [Choices(volume=k).over(choices) for k in range(len(channels))] if len(channels) > 1 else [choices]
    samples = tuple(
        Sample(name, tuple(ImageFile(image, choice) for choice in volumes), MaskFile((label,), choices))
        for name, (image, label) in listed.items()
    )
    classes = name_classes((v, name) for v, name in names if v != 0)
    found = f"{len(samples)} cases of {values.get('name', 'a Medical Segmentation Decathlon task')}, {len(classes)} classes"
    return Dataset(samples, classes, channels, "segmentation", "msd", found, path, notes=tuple(notes))
