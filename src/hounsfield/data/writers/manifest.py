"""A manifest: manifest.csv with a row for each case, and manifest.classes.json with what cells cannot say."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from hounsfield.core.boxes import Boxes
from hounsfield.core.sample import Sample
from hounsfield.data.cells import BETWEEN, TRUTHS, About, about_file, boxes_cell, class_words, is_own
from hounsfield.data.dataset import Dataset
from hounsfield.data.writers import Progress, Written, cannot
from hounsfield.data.writers._files import modality_note, own_file, refer
from hounsfield.io.limits import atomic

NAME = "manifest.csv"
COLUMNS = {kind: column for column, kind in TRUTHS.items()}


def write(dataset: Dataset, folder: Path, copy: bool, progress: Progress) -> Written:
    """Images and masks are referred to by paths relative to `folder`; copied, and written anew where no file holds exactly one
    image, they lie in images/, masks/ and valid_masks/ by the case's id.

    Raises InputError BAD_OPTION for what a table cannot hold, and what reading and writing raise.
    """
    images = _image_columns(dataset)
    attributes = _attribute_columns(dataset)
    truth = [COLUMNS[dataset.kind]] if dataset.kind else []
    valid = ["valid_mask"] if any(s.valid_mask for s in dataset.samples) else []
    partly = ["searched"] if any(s.known_classes is not None for s in dataset.samples) else []
    known = [name for name in ("patient", "split") if any(getattr(s, name) is not None for s in dataset.samples)]
    words = class_words(dataset.classes)
    for sample in dataset.samples:
        _check(dataset, sample)

    folder.mkdir(parents=True)
    rows = []
    for done, sample in enumerate(dataset.samples):
        progress(done, len(dataset))
        row = {"id": sample.id, "patient": sample.patient or "", "split": sample.split or "", **sample.attributes}
        for k, (column, lazy) in enumerate(zip(images, sample.images, strict=True)):
            number = f"_{k:04d}" if len(images) > 1 else ""
            row[column] = refer(lazy, folder, f"images/{sample.id}{number}", copy)
        if truth:
            row[truth[0]] = _cell(sample, folder, words, copy)
        if sample.known_classes is not None:
            row["searched"] = BETWEEN.join(words[k] for k in sample.known_classes)
        if sample.valid_mask is not None:
            row["valid_mask"] = refer(sample.valid_mask, folder, f"valid_masks/{sample.id}", copy)
        rows.append(row)
    with atomic(folder / NAME) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(
            file, ["id", *images, *truth, *partly, *valid, *known, *attributes], restval="", extrasaction="ignore"
        )
        table.writeheader()
        table.writerows(rows)
    multilabel = dataset.multilabel if dataset.kind == "classification" else None
    said = About(
        schema=1,
        classes=dataset.classes,
        channels=dataset.channels,
        multilabel=multilabel,
        ignore_value=dataset.ignore_value,
    )
    with atomic(about_file(folder / NAME)) as beside:
        beside.write_text(said.to_json(), encoding="utf-8")
    progress(len(dataset), len(dataset))
    plain = (replace(s, attributes={k: v for k, v in s.attributes.items() if v}) for s in dataset.samples)
    anew = (lazy for s in dataset.samples for lazy in s.images if own_file(lazy) is None)
    return Written(dataset.only(plain), modality_note(anew))


def _image_columns(dataset: Dataset) -> list[str]:
    counts = {len(s.images) for s in dataset.samples}
    if len(counts) > 1:
        listed = ", ".join(map(str, sorted(counts)))
        raise cannot("manifest", f"cases of {listed} files", "as many files in every case", "leave some cases out")
    count = counts.pop()
    if count == 1:
        return ["image"]
    names = [name.lower() for name in dataset.channels]
    plain = len(set(names)) == count and all(re.fullmatch(r"[\w-]+", name) for name in names)
    return [f"image_{name}" for name in (names if plain else range(count))]


def _attribute_columns(dataset: Dataset) -> list[str]:
    found = sorted({name for s in dataset.samples for name, value in s.attributes.items() if value})
    taken = [n for n in found if n != n.strip().lower() or not n or is_own(n)]
    if taken:
        raise cannot(
            "manifest",
            f"the attribute {taken[0]!r}",
            "names in lower case that no other column has",
            "rename the attribute in the source",
        )
    return found


def _check(dataset: Dataset, sample: Sample) -> None:
    texts = (sample.id, sample.patient, *sample.attributes.values())
    if sample.id == "" or sample.patient == "" or any(text is not None and text != text.strip() for text in texts):
        raise cannot(
            "manifest",
            f"spaces around a text of case {sample.id!r}",
            "texts that a cell keeps",
            "remove the spaces in the source",
        )
    if sample.known_classes == () or (dataset.kind is not None and sample.target is None):
        raise cannot("manifest", f"an unknown target in case {sample.id!r}", "a target for every case", "leave the case out")


def _cell(sample: Sample, folder: Path, words: list[str], copy: bool) -> str:
    target = sample.target
    if isinstance(target, int):
        return words[target]
    if isinstance(target, tuple):
        return BETWEEN.join(words[k] for k in target)
    if isinstance(target, Boxes):
        return boxes_cell((words[k], c) for k, c in zip(target.labels.tolist(), target.corners.tolist(), strict=True))
    assert target is not None
    return refer(target, folder, f"masks/{sample.id}", copy)
