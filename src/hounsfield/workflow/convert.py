"""Convert: a dataset of any layout written in another, read again and compared before it gets its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Options
from hounsfield.core.sample import Sample, Target
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import READERS, open_dataset
from hounsfield.data.writers import WRITERS
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.workflow.console import SILENT, Console

PIXELS = 1e-6  # by which a box's border may move: sums of decimals


class Conversion(Options):
    """What was written. classes: value in the new files -> name. mapping: new to old "values" of labels and "ids" of cases,
    where they differ. notes: what was changed or left out."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    data: str
    reader: str
    to: str
    out: str
    cases: int
    classes: dict[str, str]
    mapping: dict[str, dict[str, str]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def convert(
    data: str | Path,
    to: str,
    out: str | Path,
    *,
    copy: bool = False,
    reader: str | None = None,
    patient_regex: str | None = None,
    choices: Choices = DEFAULT,
    console: Console = SILENT,
) -> Conversion:
    """The dataset at `data` in the layout `to` as the new folder `out`, which appears when it is complete.

    Raises InputError UNKNOWN_MEMBER (no such layout), OUTPUT_EXISTS, BAD_OPTION (what the layout cannot hold, named), and what
    reading and writing raise.
    """
    out = Path(out)
    writer = WRITERS.load(to)
    if out.exists():
        raise InputError(
            "OUTPUT_EXISTS", out, found="an existing path", expected="a new folder", fix="choose another name with --out"
        )
    dataset = open_dataset(Path(data), reader, patient_regex, choices)
    console.say(f"{dataset.reader}: {dataset.found}")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with console.bar(f"writing {to}") as bar:
            written = writer.write(dataset, beside, copy, bar)
        difference = next(differences(written.dataset, READERS.load(to).read(beside, DEFAULT)), None)
        if difference is not None:
            raise InputError(
                "BAD_OPTION",
                f"--to {to}",
                found=difference,
                expected="the same dataset when it is read again",
                fix="rename or leave out what differs, or choose another layout",
            )
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    notes = (*dataset.notes, *written.notes)
    for note in notes:
        console.say(f"  {note}")
    return Conversion(
        schema=1,
        data=str(data),
        reader=dataset.reader,
        to=to,
        out=str(out),
        cases=len(dataset),
        classes={str(c.value): c.name for c in written.dataset.classes},
        mapping={what: dict(pairs) for what, pairs in written.mapping.items() if pairs},
        notes=notes,
    )


def differences(expected: Dataset, found: Dataset) -> Iterator[str]:
    """What is not the same in two datasets, in words; voxels are not looked at."""
    for name in ("kind", "classes", "channels", "multilabel", "ignore_value"):
        if getattr(expected, name) != getattr(found, name):
            yield f"{name} {_short(getattr(found, name))} in the place of {_short(getattr(expected, name))}"
    ids = [s.id for s in expected.samples], [s.id for s in found.samples]
    if ids[0] != ids[1]:
        odd = sorted(set(ids[0]) ^ set(ids[1]))
        yield f"{len(ids[1])} cases in the place of {len(ids[0])}, the first that differs {odd[0]!r}"
        return
    for one, other in zip(expected.samples, found.samples, strict=True):
        yield from (f"{what} of case {one.id!r} differs" for what in _of_sample(one, other))


def _of_sample(one: Sample, other: Sample) -> Iterator[str]:
    for name in ("patient", "split", "attributes", "known_classes"):
        if getattr(one, name) != getattr(other, name):
            yield name
    if (one.valid_mask is None) != (other.valid_mask is None):
        yield "valid_mask"
    if not _same(one.target, other.target):
        yield "target"


def _same(one: Target, other: Target) -> bool:
    if isinstance(one, Boxes) and isinstance(other, Boxes):
        return (
            one.corners.shape == other.corners.shape
            and bool((one.labels == other.labels).all())
            and np.allclose(one.corners, other.corners, rtol=0, atol=PIXELS)
        )
    if callable(one) or callable(other):
        return callable(one) and callable(other)
    return one == other and type(one) is type(other)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
