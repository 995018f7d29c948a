"""Inspect: what a folder holds and all that is wrong with it, before anything is decided; nothing of the user's is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.finding import Finding, worst_first
from hounsfield.core.fingerprint import ClassFacts
from hounsfield.core.sample import Split as Part
from hounsfield.data.audit import audit, glance_over
from hounsfield.data.cache import cache_root
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate
from hounsfield.data.facts import Header
from hounsfield.data.readers import open_dataset
from hounsfield.data.split import PARTS, Split, make_split
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.plan.fingerprint import canonical, fingerprint
from hounsfield.workflow.console import SILENT, Bar, Console, facts_table, first_few
from hounsfield.workflow.distributions import MOST, Drawn, bar, chosen, distributions
from hounsfield.workflow.inspection import Copy, Grid, Inspection, PartFacts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

OF = {"segmentation": "voxels", "detection": "boxes"}  # what a class's share is of; else of cases
INK = {"error": "red", "warning": "yellow", "note": "dim", "good": "green"}
NAMED = 3  # files of a finding on the terminal


def inspect(
    data: str | Path,
    *,
    reader: str | None = None,
    patient_regex: str | None = None,
    choices: Choices = DEFAULT,
    seed: int = 0,
    fast: bool = False,
    html: str | Path | None = None,
    overwrite: bool = False,
    console: Console = SILENT,
) -> Inspection:
    """What the folder or file `data` holds, with labels or without. choices: how files are read that leave one. seed: of the
    split that is drawn where none is given. fast: read headers alone. html: a file for the page, which replaces another with
    `overwrite` alone.

    Whatever is wrong with a case, or lies between the cases, is a finding; raises InputError for a layout that cannot be read,
    where no case can be read at all, and OUTPUT_EXISTS.
    """
    page = None if html is None else Path(html)
    if page is not None and page.exists() and not overwrite:
        fix = "choose another name, or --overwrite"
        raise InputError("OUTPUT_EXISTS", page, found="a file of this name", expected="none", fix=fix)
    dataset = open_dataset(Path(data), reader, patient_regex, choices)
    split, why = _divided(dataset, seed)
    with console.bar("reading headers" if fast else "reading every case") as bar:
        values = (_glanced if fast else _measured)(dataset, split, why, bar)
    found = Inspection(data=str(data), reader=dataset.reader, found=dataset.found, kind=dataset.kind, fast=fast, **values)
    if page is not None:
        from hounsfield.workflow.inspection_page import write

        write(page, found, dataset, console)
    return found


def _divided(dataset: Dataset, seed: int) -> tuple[Split, Finding | None]:
    """The split that a training would use; or all cases as one part, and why if there are labels."""
    whole = Split(train=tuple(s.id for s in dataset.samples), val=(), drawn=("train",))
    if dataset.kind is None:
        return whole, None
    try:
        return make_split(dataset, seed), None
    except InputError as error:
        return whole, Finding.of(error)


def _go_on(found: Sequence[Finding]) -> None:
    """Whatever a check finds, the next one is made."""


def _measured(dataset: Dataset, split: Split, why: Finding | None, progress: Bar) -> dict[str, Any]:
    """What a training's audit says of all cases that can be read."""
    left, split, found = audit(dataset, split, store=cache_root() / "facts", progress=progress, told=_go_on)
    values = _common(dataset, left, split, why, found.findings, found.facts, found.classes, found.empty)
    values |= {"dropped": found.dropped, "copies": _copies(found.copies), "near": _copies(found.near)}
    values["unread"] = tuple(name for name in values["unread"] if name not in set(found.dropped))
    if values["grid"] is not None:
        values["measured"] = fingerprint(left, found.facts, [*found.near, *found.inside])
    return values


def _glanced(dataset: Dataset, split: Split, why: Finding | None, progress: Bar) -> dict[str, Any]:
    """The same of headers alone."""
    left, split, found = glance_over(dataset, split, progress=progress, told=_go_on)
    return _common(dataset, left, split, why, found.findings, found.headers, found.classes, {})


def _common(
    dataset: Dataset,
    left: Dataset,
    split: Split,
    why: Finding | None,
    findings: Sequence[Finding],
    headers: Mapping[str, Header],
    classes: Mapping[Part, Mapping[str, int]],
    empty: Mapping[Part, int],
) -> dict[str, Any]:
    patients = {s.patient for s in dataset.samples if s.patient is not None}
    findings = worst_first([*findings, *([why] if why else [])])
    divided = dataset.kind is not None and why is None
    return {
        "unread": tuple(s.id for s in dataset.samples if s.id not in headers),
        "cases": len(dataset),
        "patients": len(patients) or None,
        "split": split.source if divided else "none",
        "parts": _parts_of(left, split, classes, empty) if divided else {},
        "grid": _grid(list(headers.values())),
        "orientations": _numbers(h.orientation for h in headers.values() if h.space == "patient"),
        "dtypes": _numbers(h.dtype for h in headers.values()),
        "findings": findings,
        "notes": tuple(f.line for f in findings if f.severity != "error"),
        "faults": tuple(f.line for f in findings if f.severity == "error"),
    }


def _parts_of(
    left: Dataset, split: Split, classes: Mapping[Part, Mapping[str, int]], empty: Mapping[Part, int]
) -> dict[str, PartFacts]:
    parts: dict[str, PartFacts] = {}
    part_of = split.part_of()
    for part in PARTS:
        samples = [s for s in left.samples if part_of[s.id] == part]
        patients = {s.patient for s in samples if s.patient is not None}
        if samples:
            parts[part] = PartFacts(
                cases=len(samples),
                patients=len(patients) or None,
                classes=dict(classes.get(part, {})),
                empty=empty.get(part, 0),
            )
    return parts


def _grid(headers: Sequence[Header]) -> Grid | None:
    """None where flat images stand beside volumes."""
    if len({len(h.shape) for h in headers}) != 1:
        return None
    spaces = {h.space for h in headers}
    shapes, spacings = (
        np.array([[values[k] for k in canonical(h)] for h in headers for values in (getattr(h, name),)], dtype=np.float64)
        for name in ("shape", "spacing")
    )
    values: dict[str, Any] = {"space": spaces.pop() if len(spaces) == 1 else "mixed"}
    for name, table in (("shape", shapes), ("spacing", spacings)):
        for what, of in (("min", np.min), ("median", np.median), ("max", np.max)):
            values[f"{name}_{what}"] = tuple(float(v) for v in of(table, axis=0))
    return Grid(**values)


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
    return Group(*blocks, Text(), *_findings(found))


def _findings(found: Inspection) -> Iterable[RenderableType]:
    """Each in a line of what was found, one of what to do, and one of files; at last the verdict."""
    from rich.text import Text

    for finding in found.findings:
        ink = INK[finding.severity]
        where = f" in {finding.where}" if finding.where and not finding.details else ""
        expected = f", expected {finding.expected}" if finding.expected else ""
        yield Text(f"{finding.severity}: {finding.code} {shorten(finding.found, 240)}{where}{expected}", style=ink)
        names = finding.details or (finding.files if finding.where not in finding.files else ())
        for name in names[:NAMED]:
            yield Text(f"    {shorten(name, 160)}", style="dim")
        if len(names) > NAMED:
            yield Text(f"    and {len(names) - NAMED:,} more: --json names all", style="dim")
        if finding.severity != "note":
            yield Text(f"    fix: {finding.fix}")
    words, sentence = found.verdict
    yield Text.assemble((f"{words}. ", f"bold {INK[found.state]}"), sentence)


def _about(found: Inspection) -> RenderableType:
    rows = [("data", found.data), ("layout", f"{found.reader}: {found.found}"), ("task", found.kind or "none: no labels")]
    rows.append(("cases", f"{found.cases:,}"))
    rows.append(("patients", "unknown: each case counts as one" if found.patients is None else f"{found.patients:,}"))
    if found.measured is not None:
        m = found.measured
        rows.append(("channels", f"{first_few(m.channels)} ({m.modality or 'modality unknown'}, {_counts(found.dtypes)})"))
    if found.grid is not None:
        rows += _geometry(found, found.grid)
    if found.measured is not None:
        if found.measured.voxels_unknown:
            share = found.measured.voxels_unknown / found.measured.voxels
            rows.append(("unlabelled", f"{share:.1%} of voxels lie outside the valid masks"))
        across = [c for c in found.copies if c.parts[0] != c.parts[1]]
        rows.append(("exact copies", _named(found.copies) + (f"; {len(across)} across parts" if across else "")))
        rows.append(("near copies", _near(found)))
    return facts_table(rows)


def _geometry(found: Inspection, grid: Grid) -> list[tuple[str, str]]:
    rows = [("shape", _range(grid.shape_min, grid.shape_median, grid.shape_max, 0) + " voxels")]
    if grid.space == "none":
        rows.append(("spacing", "unknown: distances are in pixels"))
    else:
        apart = max(grid.spacing_median) / min(grid.spacing_median)
        times = f", {apart:.3g} times as coarse as fine" if apart > 1.05 else ""
        unit = "mm, or unknown" if grid.space == "mixed" else "mm"
        rows.append(("spacing", _range(grid.spacing_min, grid.spacing_median, grid.spacing_max, 3) + f" {unit}{times}"))
        rows.append(("orientation", _counts(found.orientations) or "unknown"))
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
    if not measured:  # headers alone tell no shares
        names = list(next(iter(found.parts.values())).classes)
        for name in names[:MOST]:
            table.add_row(Text(f"with {name}"), *(f"{p.classes[name]:,}" for p in found.parts.values()))
        if len(names) > MOST:
            table.add_row(Text(f"... {len(names) - MOST:,} more ..."))
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
            cases=(d.first, d.second),
            parts=(d.first_part, d.second_part),
            correlation=d.correlation,
            same_label=d.same_target,
            mirrored=d.mirrored,
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
