"""Merge: several datasets become one by a mapping of their labels, with a report of what was found between them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Options
from hounsfield.core.registry import nearest
from hounsfield.data import duplicates
from hounsfield.data.audit import measure_all
from hounsfield.data.cache import cache_root
from hounsfield.data.dataset import Dataset
from hounsfield.data.duplicates import Duplicate
from hounsfield.data.facts import CaseFacts
from hounsfield.data.mapping import LabelMapping, read_mapping
from hounsfield.data.merge import SITE, Source
from hounsfield.data.merge import merge as merged
from hounsfield.data.readers import open_dataset
from hounsfield.data.writers import WRITERS
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.workflow.console import SILENT, Console, facts_table, first_few
from hounsfield.workflow.run import write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

REPORT = "merge.json"


class SourceFacts(Options):
    """One source. patients: None where unknown. labels: its label -> the class that it became, null for none. known: classes
    that its cases were searched for."""

    data: str
    reader: str
    cases: int
    patients: int | None
    labels: dict[str, str | None]
    known: tuple[str, ...]


class Shared(Options):
    """Two cases of different sources with one image, or nearly. correlation: 1 for exact copies."""

    cases: tuple[str, str]
    correlation: float
    same_label: bool


class Merge(Options):
    """What was merged. splits: whether those of the sources were kept. shared: images that stand in two sources."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    out: str
    kind: str
    cases: int
    classes: dict[str, int]
    sources: dict[str, SourceFacts]
    splits: Literal["kept", "none"]
    shared: tuple[Shared, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def merge(
    data: Sequence[str | Path],
    labels: str | Path,
    out: str | Path,
    *,
    copy: bool = False,
    strict: bool = False,
    choices: Choices = DEFAULT,
    console: Console = SILENT,
) -> Merge:
    """The datasets `data` as one manifest in the new folder `out`, which appears when it is complete. labels: the mapping file.

    Raises InputError OUTPUT_EXISTS, BAD_MAPPING, UNSAFE_FILE, BAD_OPTION, CHANNELS, WRONG_DIMENSION, with `strict`
    DUPLICATE_IMAGE, and what reading raises.
    """
    out = Path(out)
    if out.exists():
        raise InputError(
            "OUTPUT_EXISTS", out, found="an existing path", expected="a new folder", fix="choose another name with --out"
        )
    mapping = read_mapping(Path(labels))
    sources = []
    for name, path in _named(data, mapping).items():
        dataset = open_dataset(path, choices=choices)
        console.say(f"{name}: {dataset.reader}: {dataset.found}")
        to, known = mapping.of(name, dataset)
        sources.append(Source(name, dataset, to, known))
    every = _one_split(merged(sources, mapping.classes, out))
    with console.bar("reading every case") as bar:
        facts, failed = measure_all(every, cache_root() / "facts", bar)
    if failed:
        raise next(iter(failed.values()))
    _check_dimensions(every, facts)
    shared = _shared(every, facts, [s.name for s in sources])
    if strict and shared:
        raise InputError(
            "DUPLICATE_IMAGE",
            out,
            found=f"{len(shared)} images in two sources: {first_few(map(str, shared))}",
            expected="every image in one source",
            fix="remove one of each, or leave out --strict",
        )
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with console.bar("writing") as bar:
            written = WRITERS.load("manifest").write(every, beside, copy, bar)
        made = Merge(
            schema=1,
            out=str(out),
            kind=str(every.kind),
            cases=len(every),
            classes={c.name: c.value for c in mapping.classes},
            sources={s.name: _about(s, mapping) for s in sources},
            splits="kept" if any(s.split for s in every.samples) else "none",
            shared=tuple(
                Shared(cases=(d.first, d.second), correlation=d.correlation, same_label=d.same_target) for d in shared
            ),
            notes=(*(f"{s.name}: {note}" for s in sources for note in s.dataset.notes), *written.notes),
        )
        write_json(beside / REPORT, made.to_json())
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return made


def show(made: Merge) -> RenderableType:
    """The merge for a terminal."""
    from rich.console import Group
    from rich.text import Text

    rows = [("dataset", made.out), ("task", made.kind), ("cases", f"{made.cases:,}"), ("classes", first_few(made.classes, 12))]
    for name, source in made.sources.items():
        unknown = [c for c in made.classes if c not in source.known]
        lacking = f"; not searched for {first_few(unknown)}" if unknown else ""
        rows.append((name, f"{source.cases:,} cases{lacking}"))
    rows.append(("split", "kept as the sources give it" if made.splits == "kept" else "none: training draws one by patient"))
    exact = sum(s.correlation == 1 for s in made.shared)
    differ = sum(not s.same_label for s in made.shared)
    labels = f", {differ} of them with other labels" if differ else ""
    rows.append(("in two sources", f"{exact} images exactly, {len(made.shared) - exact} nearly{labels}"))
    lines = [Text(f"{' = ' if s.correlation == 1 else ' ~ '}".join(s.cases), style="yellow") for s in made.shared[:10]]
    return Group(facts_table(rows), *lines, *(Text(f"note: {note}", style="yellow") for note in made.notes))


def _named(data: Sequence[str | Path], mapping: LabelMapping) -> dict[str, Path]:
    """The datasets by the name of their folder or file. Raises InputError BAD_OPTION where two have one name, BAD_MAPPING where
    the mapping speaks of others."""
    found: dict[str, Path] = {}
    for path in map(Path, data):
        name = path.resolve().name if path.is_dir() else path.stem
        if name in found:
            raise InputError(
                "BAD_OPTION",
                path,
                found=f"a second dataset called {name}",
                expected="folders of different names",
                fix="rename one, or link to it by another name",
            )
        found[name] = path
    odd = next((name for name in found if name not in mapping.sources), None)
    if odd is not None:
        raise InputError(
            "BAD_MAPPING",
            f"{mapping.file} sources",
            found=f"nothing of {odd}",
            expected="an entry for every dataset",
            fix=f"add {odd}; {nearest(odd, mapping.sources)}",
        )
    absent = next((name for name in mapping.sources if name not in found), None)
    if absent is not None:
        raise InputError(
            "BAD_MAPPING",
            f"{mapping.file} sources.{absent}",
            found="no dataset of this name among those to merge",
            expected=f"one of {first_few(found)}",
            fix=nearest(absent, found),
        )
    return found


def _one_split(dataset: Dataset) -> Dataset:
    """Without any split where not every case has one: half a split would say that the rest is in none."""
    if all(s.split is not None for s in dataset.samples):
        return dataset
    return dataset.only(replace(s, split=None) for s in dataset.samples)


def _check_dimensions(dataset: Dataset, facts: Mapping[str, CaseFacts]) -> None:
    by_site = {s.attributes[SITE]: len(facts[s.id].shape) for s in dataset.samples}
    if len({len(f.shape) for f in facts.values()}) > 1:
        raise InputError(
            "WRONG_DIMENSION",
            dataset.root,
            found=", ".join(f"{name}: {ndim}D" for name, ndim in by_site.items()),
            expected="one number of axes",
            fix="merge flat images and volumes apart",
        )


def _shared(dataset: Dataset, facts: Mapping[str, CaseFacts], names: Sequence[str]) -> list[Duplicate]:
    """Images that stand in two sources: exact copies, and for each image of a later source the most alike of an earlier one."""
    samples = {s.id: s for s in dataset.samples}
    site = {s.id: s.attributes[SITE] for s in dataset.samples}
    exact = duplicates.exact(samples, facts, dict.fromkeys(samples, "train"))
    found = [d for d in exact if site[d.first] != site[d.second]]
    for k, name in enumerate(names[1:], start=1):
        part_of = {i: "test" if site[i] == name else "train" for i in samples if site[i] in names[: k + 1]}
        found += duplicates.near(samples, facts, part_of)  # type: ignore[arg-type]
    return found


def _about(source: Source, mapping: LabelMapping) -> SourceFacts:
    dataset = source.dataset
    places = {k: None if to is None else mapping.classes[to].name for k, to in source.to.items()}
    return SourceFacts(
        data=str(dataset.root),
        reader=dataset.reader,
        cases=len(dataset),
        patients=dataset.patients,
        labels={dataset.classes[k].name: name for k, name in places.items()},
        known=tuple(mapping.classes[k].name for k in source.known),
    )
