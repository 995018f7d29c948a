"""Inspect: what a folder holds, before anything is decided; nothing is written but the cache of facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint
from hounsfield.core.plan import Options
from hounsfield.data import duplicates
from hounsfield.data.audit import audit, measure_all
from hounsfield.data.cache import cache_root
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate
from hounsfield.data.readers import open_dataset
from hounsfield.data.split import PARTS, make_split
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.plan.fingerprint import fingerprint
from hounsfield.workflow.console import SILENT, Console, facts_table, first_few
from hounsfield.workflow.distributions import Drawn, bar, chosen, distributions

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

OF = {"segmentation": "voxels", "detection": "boxes"}  # what a class's share is of; else of cases


class PartFacts(Options):
    """One part of the split that training would use. patients: None where unknown. classes: cases with each class, by name.
    empty: masks without any labelled voxel."""

    cases: int
    patients: int | None
    classes: dict[str, int]
    empty: int


class Copy(Options):
    """Two cases with one image, or nearly. parts: theirs. correlation: 1 for exact copies."""

    cases: tuple[str, str]
    parts: tuple[str, str]
    correlation: float
    same_label: bool


class Inspection(Options):
    """What was found. kind: the task that the labels suggest, None without labels. split: who divides the cases, "none" where
    they are not divided. parts: of that split, after exact copies across parts were dropped. measured: over all cases, None
    where they cannot be compared. orientations, dtypes: how many cases have each. faults: what would stop a training."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    data: str
    reader: str
    found: str
    kind: str | None
    cases: int
    patients: int | None
    split: Literal["given", "drawn", "none"] = "none"
    parts: dict[str, PartFacts] = Field(default={})
    measured: Fingerprint | None = None
    orientations: dict[str, int]
    dtypes: dict[str, int]
    dropped: tuple[str, ...] = ()
    copies: tuple[Copy, ...]
    near: tuple[Copy, ...] = ()
    notes: tuple[str, ...]
    faults: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def inspect(
    data: str | Path,
    *,
    reader: str | None = None,
    patient_regex: str | None = None,
    choices: Choices = DEFAULT,
    seed: int = 0,
    console: Console = SILENT,
) -> Inspection:
    """What the folder or file `data` holds, with labels or without. choices: how files are read that leave one. seed: of the
    split that is drawn where none is given.

    A fault that lies between the cases (a patient in two parts, labels outside the classes) is listed, as is one that a
    training would meet; raises InputError for what cannot be read at all.
    """
    dataset = open_dataset(Path(data), reader, patient_regex, choices)
    with console.bar("reading every case") as bar:
        facts = measure_all(dataset, _store(), bar)
    samples = {s.id: s for s in dataset.samples}
    patients = {s.patient for s in dataset.samples if s.patient is not None}
    values: dict[str, Any] = {
        "data": str(data),
        "reader": dataset.reader,
        "found": dataset.found,
        "kind": dataset.kind,
        "cases": len(samples),
        "patients": len(patients) or None,
        "orientations": _numbers(f.orientation for f in facts.values() if f.space == "patient"),
        "dtypes": _numbers(f.dtype for f in facts.values()),
        "copies": _copies(duplicates.exact(samples, facts, dict.fromkeys(samples, "train"))),
        "notes": dataset.notes,
    }
    faults = []
    try:
        if dataset.kind is not None:
            dataset, values = _divided(dataset, values, seed)
    except InputError as error:
        faults.append(str(error))
    try:
        values["measured"] = fingerprint(dataset, facts)
    except InputError as error:  # flat images beside volumes
        faults = faults or [str(error)]
    return Inspection(**values, faults=tuple(faults))


def _divided(dataset: Dataset, values: dict[str, Any], seed: int) -> tuple[Dataset, dict[str, Any]]:
    """The dataset as a training would see it, and what the audit found. Raises InputError for what would stop a training."""
    dataset, split, found = audit(dataset, make_split(dataset, seed), store=_store())
    parts = {}
    for part in PARTS:
        samples = dataset.select(getattr(split, part)).samples if getattr(split, part) else ()
        patients = {s.patient for s in samples if s.patient is not None}
        if samples:
            parts[part] = PartFacts(
                cases=len(samples), patients=len(patients) or None, classes=dict(found.classes[part]), empty=found.empty[part]
            )
    values |= {"split": split.source, "parts": parts, "dropped": found.dropped, "notes": (*dataset.notes, *found.notes)}
    return dataset, values | {"copies": _copies(found.copies), "near": _copies(found.near)}


def _store() -> Path:
    return cache_root() / "facts"


def show(found: Inspection) -> RenderableType:
    """The inspection for a terminal."""
    from rich.console import Group
    from rich.text import Text

    blocks: list[RenderableType] = [_about(found)]
    if found.parts:
        blocks += [Text(), _parts(found)]
    if found.measured is not None:
        for table in distributions(found.measured):
            blocks += [Text(), table]
    lines = [Text(f"note: {shorten(note, 240)}", style="yellow") for note in found.notes]
    lines += [Text(f"fault: {fault}", style="red") for fault in found.faults]
    return Group(*blocks, *([Text()] if lines else []), *lines)


def _about(found: Inspection) -> RenderableType:
    rows = [("data", found.data), ("layout", f"{found.reader}: {found.found}"), ("task", found.kind or "none: no labels")]
    rows.append(("cases", f"{found.cases:,}"))
    rows.append(("patients", "unknown: each case counts as one" if found.patients is None else f"{found.patients:,}"))
    if found.measured is not None:
        rows += _geometry(found, found.measured)
    across = [c for c in found.copies if c.parts[0] != c.parts[1]]
    rows.append(("exact copies", _named(found.copies) + (f"; {len(across)} across parts" if across else "")))
    rows.append(("near copies", _near(found)))
    return facts_table(rows)


def _geometry(found: Inspection, m: Fingerprint) -> list[tuple[str, str]]:
    rows = [
        ("channels", f"{first_few(m.channels)} ({m.modality or 'modality unknown'}, {_counts(found.dtypes)})"),
        ("shape", _range(m.shape_min, m.shape_median, m.shape_max, 0) + " voxels"),
    ]
    if m.space == "none":
        rows.append(("spacing", "unknown: distances are in pixels"))
    else:
        times = f", {m.anisotropy:.3g} times as coarse as fine" if m.anisotropy > 1.05 else ""
        rows.append(("spacing", _range(m.spacing_min, m.spacing_median, m.spacing_max, 3) + f" mm{times}"))
        rows.append(("orientation", _counts(found.orientations)))
    if m.voxels_unknown:
        rows.append(("unlabelled", f"{m.voxels_unknown / m.voxels:.1%} of voxels lie outside the valid masks"))
    if m.constant_images:
        rows.append(("constant", f"{m.constant_images:,} of {m.cases:,} images hold one value alone"))
    return rows


def _near(found: Inspection) -> str:
    """How much repeats itself, and what leaks."""
    every = found.measured.near_copies if found.measured else 0
    parts = [f"{every:,} case{'s' * (every != 1)} nearly repeat{'s' * (every == 1)} another"] if every else []
    if found.near:
        parts.append(f"{len(found.near):,} across parts ({first_few((' ~ '.join(c.cases) for c in found.near), 2)})")
    return "; ".join(parts) or "none"


def _parts(found: Inspection) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    measured = found.measured.classes if found.measured else ()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(Text(f"split ({found.split})"), overflow="ellipsis", no_wrap=True, max_width=24)
    for heading in found.parts:
        table.add_column(Text(heading), justify="right")
    if measured:
        table.add_column(Text(f"of {OF.get(found.kind or '', 'cases')}"), justify="right")
        table.add_column(no_wrap=True)
    table.add_row(Text("cases"), *(f"{p.cases:,}" for p in found.parts.values()))
    if found.patients is not None:
        table.add_row(Text("patients"), *("" if p.patients is None else f"{p.patients:,}" for p in found.parts.values()))
    most = max((c.fraction for c in measured), default=0.0)
    large, small = chosen(measured)
    for c in large:
        _class(table, c, found.parts, most)
    if small:
        table.add_row(Text(f"... {len(measured) - len(large) - len(small):,} more ..."))
    for c in small:
        _class(table, c, found.parts, most)
    if any(p.empty for p in found.parts.values()):
        table.add_row(Text("empty masks"), *(f"{p.empty:,}" for p in found.parts.values()))
    return table


def _class(table: Table, c: ClassFacts, parts: Mapping[str, PartFacts], most: float) -> None:
    from rich.text import Text

    counts = (f"{p.classes.get(c.name, 0):,}" for p in parts.values())
    table.add_row(Text(f"with {c.name}"), *counts, f"{c.fraction:.2%}", Drawn(bar(c.fraction, most)))


def _copies(found: Iterable[Duplicate]) -> tuple[Copy, ...]:
    return tuple(
        Copy(
            cases=(d.first, d.second), parts=(d.first_part, d.second_part), correlation=d.correlation, same_label=d.same_target
        )
        for d in found
    )


def _named(found: Sequence[Copy]) -> str:
    return f"{len(found)} ({first_few((' = '.join(c.cases) for c in found), 3)})" if found else "none"


def _numbers(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _counts(numbers: Mapping[str, int]) -> str:
    """ "LPS", or "LPS 12, RAS 3"."""
    return next(iter(numbers)) if len(numbers) == 1 else ", ".join(f"{name} {n}" for name, n in numbers.items())


def _range(low: tuple[float, ...], median: tuple[float, ...], high: tuple[float, ...], digits: int) -> str:
    """ "96×96", or "median 96×96, 80×90 to 120×130"."""
    least, middle, most = ("×".join(f"{v:.{digits}f}" for v in values) for values in (low, median, high))
    return middle if least == most else f"median {middle}, {least} to {most}"
