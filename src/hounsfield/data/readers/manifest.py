"""A manifest: a CSV, TSV or JSONL table with a row for each case, which says everything that folders cannot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample, Split, Target
from hounsfield.data.cells import BETWEEN, KNOWN, TRUTHS, About, about, boxes_of, words
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.layout import channel_names, split_of, stem
from hounsfield.data.masks import MaskFile, find_classes, in_threads
from hounsfield.data.readers import Match
from hounsfield.data.readers._boxes import checked, clean
from hounsfield.data.readers._table import bad, classes_of, no_text, table
from hounsfield.io.formats import Choices

YAML = (".yaml", ".yml")  # as manifests they are refused by name
ENDINGS = (".csv", ".tsv", ".jsonl", *YAML)


@dataclass(frozen=True)
class Row:
    """number: line of the file, from 1. values: non-empty cells by lower-case column."""

    number: int
    values: dict[str, str]


@dataclass(frozen=True)
class Truth:
    """What one of the columns of `TRUTHS` says. targets: by the row's number."""

    classes: tuple[Class, ...] = ()
    targets: Mapping[int, Target] = field(default_factory=dict)
    multilabel: bool = False
    voxels: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def match(path: Path) -> Match:
    """A .csv, .tsv or .jsonl file, or a folder with manifest.csv (.tsv, .jsonl)."""
    file = _file(path)
    if file is None:
        return Match(missed="manifest.csv, .tsv or .jsonl")
    readable = file.suffix.lower() not in YAML
    return Match(f"the manifest {file.name}", priority=40 if readable else 20)


def read(path: Path, choices: Choices) -> Dataset:
    """Columns: `image`, or `image_NAME` for each channel (paths relative to the manifest); `target` (a class name; "a|b" for
    several, "" for none of them; whole numbers are class values), `mask`, or `boxes` ("a: 3 4 10 12 | b: ...": class, first
    and last corner in array order, half-open, in voxels; "" for none); if known `id`, `valid_mask`, `patient`, `split` (train,
    val, test), `searched` ("a|b", the classes that were looked for in the case; "" for all). Other columns are attributes.
    Beside it may stand what `cells.About` says.

    Raises InputError BAD_MANIFEST naming row and column, CHANNELS for an empty image cell, BAD_LABEL for boxes that are none,
    UNSAFE_FILE for YAML.
    """
    file = _file(path)
    assert file is not None
    if file.suffix.lower() in YAML:
        raise InputError(
            "UNSAFE_FILE",
            file,
            found="YAML, whose tags can run code",
            expected="a manifest in CSV, TSV or JSONL",
            fix="save the table as CSV",
        )
    columns, rows = _rows(file)
    images = [c for c in columns if c == "image" or (c.startswith("image_") and len(c) > len("image_"))]
    if not images or ("image" in images and len(images) > 1):
        raise bad(file, 1, "image", f"the columns {', '.join(columns)}", "image, or image_NAME for each channel")
    truths = [c for c in TRUTHS if c in columns]
    if len(truths) > 1:
        raise bad(file, 1, truths[1], f"both {' and '.join(truths)}", "one of them")
    if not rows:
        raise InputError("TOO_FEW", file, found="no row", expected="a row for each case", fix="add the cases")

    lazy = {row.number: tuple(ImageFile(_path(file, row, c), choices) for c in images) for row in rows}
    names = {row.number: row.values.get("id") or _name(file, row.values[images[0]]) for row in rows}
    first_row: dict[str, int] = {}
    for number, name in names.items():
        if first_row.setdefault(name, number) != number:
            column = "id" if "id" in columns else images[0]
            raise bad(file, number, column, f"{name!r}, which row {first_row[name]} has too", "another name in every row")
    beside = about(file)
    truth = Truth()
    if truths == ["target"]:
        truth = _targets(file, rows, beside)
    elif truths == ["boxes"]:
        truth = _boxes(file, rows, names, lazy, beside, choices)
    elif truths == ["mask"]:
        masks = {row.number: MaskFile((_path(file, row, "mask"),), choices) for row in rows}
        named = {names[n]: mask for n, mask in masks.items()}
        classes, voxels = (beside.classes, {}) if beside.classes else find_classes(named, path)
        truth = Truth(classes, masks, bool(beside.multilabel), voxels)
    splits = _splits(file, rows) if "split" in columns else {}
    samples = []
    for row in rows:
        valid = MaskFile((_path(file, row, "valid_mask"),), choices) if "valid_mask" in row.values else None
        samples.append(
            Sample(
                names[row.number],
                lazy[row.number],
                truth.targets.get(row.number),
                valid,
                _searched(file, row, truth.classes),
                row.values.get("patient"),
                split=splits.get(row.number),
                attributes={c: v for c, v in row.values.items() if c not in KNOWN and c not in images},
            )
        )
    by_column = tuple(c.removeprefix("image_") for c in images) if images != ["image"] else ()
    return Dataset(
        tuple(samples),
        truth.classes,
        beside.channels or by_column or channel_names(*[files[0] for files in lazy.values()]),
        TRUTHS[truths[0]] if truths else None,
        "manifest",
        f"{len(samples)} cases in {file.name}",
        path,
        multilabel=truth.multilabel,
        ignore_value=beside.ignore_value,
        notes=truth.notes,
        voxels=truth.voxels,
    )


def _searched(file: Path, row: Row, classes: tuple[Class, ...]) -> tuple[int, ...] | None:
    """Indices of the classes that a case was searched for; None for all."""
    if "searched" not in row.values:
        return None
    index = words(classes)
    found = {_known(file, row.number, "searched", word.strip(), index) for word in row.values["searched"].split(BETWEEN)}
    return tuple(sorted(found)) if len(found) < len(classes) else None


def _file(path: Path) -> Path | None:
    if path.is_dir():
        return next((f for e in ENDINGS if (f := path / f"manifest{e}").is_file()), None)
    return path if path.suffix.lower() in ENDINGS else None


def _rows(file: Path) -> tuple[list[str], list[Row]]:
    """The columns in order, lower case, and the rows that are not blank."""
    rows: list[Row] = []
    names: dict[str, None] = {}
    try:
        for number, cells in _objects(file) if file.suffix.lower() == ".jsonl" else table(file, _lower):
            names.update(dict.fromkeys(cells))
            values = {key: value.strip() for key, value in cells.items() if value.strip()}
            if values:
                rows.append(Row(number, values))
    except UnicodeDecodeError as error:
        raise no_text(file, error) from error
    return list(names), rows


def _lower(column: str) -> str:
    return column.strip().lower()


def _objects(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                values: Any = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise bad(file, number, "", f"no JSON ({error})", "one JSON object a line") from error
            if not isinstance(values, dict):
                raise bad(file, number, "", f"{type(values).__name__} {line.strip()[:40]}", "one JSON object a line")
            cells = {}
            for key, value in values.items():
                parts = value if isinstance(value, list) else [value]
                if not all(isinstance(p, (str, int, float, bool, type(None))) for p in parts):
                    raise bad(file, number, key, json.dumps(value)[:60], "a text or a number")
                cells[key.strip().lower()] = "|".join("" if p is None else str(p) for p in parts)
            yield number, cells


def _path(file: Path, row: Row, column: str) -> Path:
    """The file that a cell names. Raises InputError BAD_MANIFEST, or CHANNELS for an absent channel."""
    cell = row.values.get(column)
    if cell is None and column.startswith("image_"):
        raise InputError(
            "CHANNELS",
            file,
            found=f"no channel {column.removeprefix('image_')!r} in row {row.number}",
            expected="every channel of every case",
            fix="add the file, or remove the row",
        )
    if cell is None:
        raise bad(file, row.number, column, "an empty cell", "a path relative to the manifest")
    path = file.parent / cell
    if not path.exists():
        raise bad(file, row.number, column, f"{cell!r}, which does not exist", "a path relative to the manifest")
    return path


def _name(file: Path, cell: str) -> str:
    relative = Path(cell)
    if relative.is_absolute() or ".." in relative.parts:
        relative = Path(relative.name)
    return (relative.parent / stem(file.parent / relative)).as_posix()


def _targets(file: Path, rows: list[Row], beside: About) -> Truth:
    """Classes, whether several may hold at once, and each row's class indices."""
    cells = {row.number: [p.strip() for p in row.values.get("target", "").split(BETWEEN) if p.strip()] for row in rows}
    several = any(len(parts) > 1 for parts in cells.values())
    multilabel = several if beside.multilabel is None else beside.multilabel
    unfit = [number for number, parts in cells.items() if len(parts) != 1]
    if unfit and not multilabel:
        found = "several classes" if cells[unfit[0]] else "an empty cell"
        raise bad(file, unfit[0], "target", found, "a class name")
    classes, index = _classes(beside, [p for parts in cells.values() for p in parts])
    targets: dict[int, Target] = {}
    for number, parts in cells.items():
        found_here = tuple(sorted({_known(file, number, "target", p, index) for p in parts}))
        targets[number] = found_here if multilabel else found_here[0]
    return Truth(classes, targets, multilabel)


def _boxes(
    file: Path,
    rows: list[Row],
    names: Mapping[int, str],
    lazy: Mapping[int, tuple[ImageFile, ...]],
    beside: About,
    choices: Choices,
) -> Truth:
    """Each row's boxes, cut at the border of its image. Raises InputError BAD_MANIFEST, BAD_LABEL for boxes that are none."""
    try:
        cells = {}
        for row in rows:
            cells[row.number] = boxes_of(row.values.get("boxes", ""))
    except ValueError as error:
        raise bad(
            file, row.number, "boxes", str(error), "class: first corner last corner, such as nodule: 3 4 10 12"
        ) from error
    classes, index = _classes(beside, [word for cell in cells.values() for word, _ in cell])
    shapes = in_threads(lambda row: io.peek((first := lazy[row.number][0]).path, first.choices).geometry.shape, rows)
    cleaned = {}
    for row, shape in zip(rows, shapes, strict=True):
        cell = cells[row.number]
        odd = next((corners for _, corners in cell if len(corners) != 2 * len(shape)), None)
        if odd is not None:
            raise bad(file, row.number, "boxes", f"{len(odd)} numbers of a box", f"{2 * len(shape)}: first and last corner")
        labels = [_known(file, row.number, "boxes", word, index) for word, _ in cell]
        cleaned[row.number] = clean([corners for _, corners in cell], labels, shape)
    said = checked(file, {names[number]: one for number, one in cleaned.items()}, choices)
    return Truth(classes, {number: one.boxes for number, one in cleaned.items()}, notes=said)


def _classes(beside: About, found: Iterable[str]) -> tuple[tuple[Class, ...], dict[str, int]]:
    """The classes, and the index of each word that a cell may use: what no file declares are the words that are found."""
    return (beside.classes, words(beside.classes)) if beside.classes else classes_of(found)


def _known(file: Path, number: int, column: str, word: str, index: Mapping[str, int]) -> int:
    if word not in index:
        raise bad(file, number, column, f"class {word!r}", f"one of {', '.join(index)}"[:200])
    return index[word]


def _splits(file: Path, rows: list[Row]) -> dict[int, Split]:
    splits: dict[int, Split] = {}
    for row in rows:
        split = split_of(row.values.get("split", ""))
        if split is None:
            found = repr(row.values["split"]) if "split" in row.values else "an empty cell"
            raise bad(file, row.number, "split", found, "train, val or test")
        splits[row.number] = split
    return splits
