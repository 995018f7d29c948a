"""Tables as challenges publish them: images in folders, and CSV files whose rows name each by its id and say what it shows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.cells import is_own
from hounsfield.data.dataset import Dataset
from hounsfield.data.layout import Case, cases, channel_names, given_splits, image_files, listed, split_of, stem
from hounsfield.data.readers import Match
from hounsfield.data.readers._labels import LABELS, PATIENTS, Row, Table, is_blank, label_columns, plain, truth
from hounsfield.data.readers._table import bad, no_text, table
from hounsfield.io import scan
from hounsfield.io.formats import Choices

ENDINGS = (".csv", ".tsv")
SUBMISSION = "submission"  # in the name of a table whose labels are made up, to show a form
PROBED = 20  # rows that tell whether a table speaks of images
IDS = {
    "image",
    "imageid",
    "imagename",
    "imageindex",
    "imagepath",
    "img",
    "filename",
    "file",
    "filepath",
    "path",
    "id",
    "idcode",
}


def match(path: Path) -> Match:
    """A folder with images and a table, in it or in one of its folders, whose first rows name images and label them."""
    tables = _probe(path) if path.is_dir() else []
    columns = label_columns(tables)
    labelled = [t.file.name for t in tables if _has(t, columns)]
    if not labelled:
        return Match(missed="CSV whose rows name images by id, with a column such as label or diagnosis, or two of 0 and 1")
    # Beside a table, folders of images are parts of a download rather than classes.
    return Match(f"images that {listed(labelled)} labels", priority=15)


def read(path: Path, choices: Choices) -> Dataset:
    """A sample for each image that a row labels; ids keep the folders. The id is the column that names most images: a file's
    name, with or without its ending and folders. Either one column is the label, several between "|" and "No Finding" for none
    of them; or columns of 1 and 0 are the classes, which exclude each other where every row has a single 1. Blank there, and
    -1 (uncertain), means unknown. Tables without labels give attributes and patients. The parts are those of a column, else of
    the tables' names, else of the folders.

    Raises InputError UNPAIRED (rows without an image), BAD_MANIFEST (naming row and column), UNKNOWN_LAYOUT (two columns that
    could be the label), BAD_LABEL, and as `cases` does.
    """
    found, left_out = cases(path, choices)
    tables = [_whole(t) for t in _probe(path)]
    columns = label_columns(tables)
    labelled = [t for t in tables if _has(t, columns)]
    _check_columns(path, labelled, columns)
    places = Places(found)
    rows, again = _rows(path, labelled, columns, places)
    about, several = _about([t for t in tables if t not in labelled], places)
    said = truth(rows, columns)
    kept = [
        (row, target, known) for row, target, known in zip(rows, said.targets, said.known, strict=True) if target is not None
    ]
    if not kept:
        raise InputError("BAD_LABEL", path, found="no row with a label", expected="labels", fix="check the tables")
    parts = [_split(found[row.case], [row, *about[row.case]]) for row, _, _ in kept]
    samples = []
    for (row, target, known), split in zip(kept, given_splits(parts), strict=True):
        case = found[row.case]
        patient, attributes = _told([row, *about[row.case]], columns)
        samples.append(Sample(case.name, (case.image,), target, None, known, patient or case.patient, split, attributes))
    held = Counter(k for _, target, _ in kept for k in ((target,) if isinstance(target, int) else target or ()))
    classes = listed([f"{held[k]} {c.name}" for k, c in enumerate(said.classes)])
    counts = {
        "images without a row are left out": len(found) - len(rows),
        "images whose row has no label are left out": len(rows) - len(kept),
        "rows repeat an image with its label": again,
        "images are in no part, so that the parts of the others are not taken": parts.count(None) if any(parts) else 0,
    }
    forms = [file.name for file in _files(path) if _is_form(file)]
    return Dataset(
        tuple(samples),
        said.classes,
        channel_names(*[found[row.case].image for row, _, _ in kept]),
        "classification",
        "tables",
        f"{len(samples)} images with {len(said.classes)} classes in {listed([t.file.name for t in labelled])} ({classes})",
        path,
        multilabel=isinstance(kept[0][1], tuple),
        notes=(
            *left_out,
            *(f"{name} is left out: a form for submissions" for name in forms),
            *(f"{name} is left out: it has several rows for one image" for name in several),
            *(f"{n} {what}" for what, n in counts.items() if n),
            *said.notes,
        ),
    )


def _files(path: Path) -> list[Path]:
    """Tables in the folder and in those that it holds."""
    return [f for f in scan.files(path) if f.suffix.lower() in ENDINGS and len(f.relative_to(path).parts) <= 2]


def _is_form(file: Path) -> bool:
    return SUBMISSION in file.name.lower()


def _probe(path: Path) -> list[Table]:
    """The tables whose first rows name images, with these rows."""
    files = [f for f in _files(path) if not _is_form(f)]
    images = image_files(path) if files else []
    names = {stem(image) for image in images}
    # A row can name the folder of a DICOM series.
    names |= {image.parent.name for image in images if io.suffix_member(image) in ("dicom", None)}
    found = []
    for file in files:
        try:
            lines = list(islice(table(file), PROBED + 1))
        except (InputError, UnicodeDecodeError):
            continue  # not a table
        columns, rows = tuple(lines[0][1]), tuple(lines[1:])
        column = _id_column(columns, [cells for _, cells in rows], names)
        if column is not None:
            words = re.split(r"[^a-z]+", file.relative_to(path).as_posix().lower())
            splits = {split for word in words if (split := split_of(word))}
            found.append(Table(file, columns, rows, column, splits.pop() if len(splits) == 1 else None))
    return found


def _id_column(columns: Sequence[str], rows: Sequence[Mapping[str, str]], names: set[str]) -> str | None:
    """The column of which most words, and at least half, name images; of equals the one that is called so, else the first."""
    best = (0, False, 0)
    for place, column in enumerate(columns):
        words = {parts[-1] for cells in rows if (parts := _parts(cells[column].strip()))}
        held = len(words & names)
        if 2 * held >= len(words):
            best = max(best, (held, plain(column) in IDS, -place))
    return columns[-best[2]] if best[0] else None


def _whole(probed: Table) -> Table:
    """All rows of a table, cells without spaces around them. Raises InputError BAD_MANIFEST."""
    try:
        rows = [(number, {c: cell.strip() for c, cell in cells.items()}) for number, cells in table(probed.file)]
    except UnicodeDecodeError as error:
        raise no_text(probed.file, error) from error
    return replace(probed, rows=tuple(rows[1:]))


def _has(t: Table, columns: Sequence[str]) -> bool:
    return any(name in t.called for name in columns)


def _check_columns(path: Path, labelled: Sequence[Table], columns: Sequence[str]) -> None:
    """Raises InputError BAD_LABEL for none, UNKNOWN_LAYOUT for several that could be the label, BAD_MANIFEST for columns
    of 0 and 1 that not every labelled table has."""
    if not columns:
        raise InputError(
            "BAD_LABEL",
            path,
            found="tables whose labels are, beyond the first rows, no longer 0 and 1",
            expected="a column such as label or diagnosis, or two of 0 and 1",
            fix="mend the tables",
        )
    if len(columns) > 1 and LABELS.issuperset(columns):
        held = [f"{t.called[name]} of {t.file.name}" for name in columns for t in labelled if name in t.called]
        raise InputError(
            "UNKNOWN_LAYOUT",
            path,
            found=f"{len(columns)} columns that could be the label: {listed(held)}",
            expected="one",
            fix="remove the others, or name one target in a manifest.csv",
        )
    for t in labelled:
        lacking = next((name for name in columns if name not in t.called), None)
        if lacking is not None:
            column = next(other.called[lacking] for other in labelled if lacking in other.called)
            raise bad(t.file, 1, column, "no such column", "the classes of every table of labels")


class Places:
    """Which cases a cell can name."""

    def __init__(self, found: Sequence[Case]) -> None:
        self.found = found
        self.whole: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self.ends: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for k, case in enumerate(found):
            self.whole[case.parts].append(k)
            for n in range(len(case.parts)):
                self.ends[case.parts[n:]].append(k)

    def of(self, cell: str, split: Split | None) -> list[int]:
        """Places of the cases whose names end as the cell does, or with which the cell ends, when it begins above the dataset;
        of several those of the same ending, then those in a folder of the row's part."""
        parts = _parts(cell)
        tails = (self.whole.get(parts[n:], []) for n in range(1, len(parts)))
        found = self.ends.get(parts) or next(filter(None, tails), [])
        name = cell.replace("\\", "/").rpartition("/")[2]
        narrower: tuple[Callable[[Case], bool], ...] = (
            lambda case: case.image.path.name == name,
            lambda case: split is not None and _folder_split(case) == split,
        )
        for fits in narrower:
            if len(found) > 1:
                found = [k for k in found if fits(self.found[k])] or found
        return found


def _named(t: Table, places: Places) -> Iterator[tuple[int, Mapping[str, str], Split | None, list[int]]]:
    """Of each row its line, cells, part, and places of the cases that it can mean. Raises InputError BAD_MANIFEST for a part of
    another name."""
    for number, cells in t.rows:
        split = t.split
        if t.split_column and not is_blank(cells[t.split_column]):
            split = split_of(cells[t.split_column])
            if split is None:
                raise bad(t.file, number, t.split_column, repr(cells[t.split_column]), "train, val or test")
        yield number, cells, split, places.of(cells[t.id], split)


def _rows(path: Path, labelled: Sequence[Table], columns: Sequence[str], places: Places) -> tuple[list[Row], int]:
    """A row for each image that one names, and how many more say the same. Raises InputError UNPAIRED, BAD_MANIFEST."""
    rows: dict[int, Row] = {}
    lost, again = [], 0
    for t in labelled:
        for number, cells, split, found in _named(t, places):
            name = cells[t.id]
            if not found:
                lost.append(name)
                continue
            if len(found) > 1:
                raise bad(t.file, number, t.id, f"{name!r}, which names {len(found)} images", "the folders before the name")
            row = Row(t, number, cells, found[0], split, tuple(cells[t.called[column]] for column in columns))
            first = rows.setdefault(row.case, row)
            if first.label != row.label or (first.split and row.split and first.split != row.split):
                other = f"row {first.number} of {first.table.file.name}"
                raise bad(t.file, number, t.id, f"{name!r}, of another label or part in {other}", "one row for each image")
            if row.split and not first.split:
                rows[row.case] = row
            again += first is not row
    if lost:
        raise InputError(
            "UNPAIRED",
            path,
            found=f"{len(lost)} rows without an image ({listed(lost)})",
            expected="an image for every row",
            fix="add the images, or remove the rows",
        )
    return list(rows.values()), again


def _about(tables: Sequence[Table], places: Places) -> tuple[defaultdict[int, list[Row]], list[str]]:
    """By case the rows of tables without labels; and the names of tables with several for one case, which tell of something
    else."""
    about: defaultdict[int, list[Row]] = defaultdict(list)
    several = []
    for t in tables:
        rows = [Row(t, n, cells, found[0], split) for n, cells, split, found in _named(t, places) if len(found) == 1]
        if len({row.case for row in rows}) < len(rows):
            several.append(t.file.name)
            continue
        for row in rows:
            about[row.case].append(row)
    return about, several


def _told(rows: Sequence[Row], columns: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The patient and the attributes that the rows of one image tell, of each the first that does."""
    own: dict[str, str] = {}
    groups: dict[str, str] = {}
    for row in rows:
        t = row.table
        for name, column in t.called.items():
            value = row.cells[column]
            if is_blank(value) or name in columns or not name:
                continue
            if name in PATIENTS:
                groups.setdefault(name, value)
            elif column not in (t.id, t.split_column):
                own.setdefault(_attribute(column), value)
    patient = next((name for name in PATIENTS if name in groups), "")
    return groups.pop(patient, None), {**own, **groups}


def _attribute(column: str) -> str:
    """A name in lower case that a manifest leaves to attributes."""
    name = re.sub(r"\W+", "_", column.lower()).strip("_")
    return f"table_{name}" if is_own(name) else name


def _split(case: Case, rows: Sequence[Row]) -> Split | None:
    return next((row.split for row in rows if row.split), _folder_split(case))


def _folder_split(case: Case) -> Split | None:
    return next((split for part in case.parts[:-1] if (split := split_of(part))), None)


def _parts(cell: str) -> tuple[str, ...]:
    """Folders and name without ending of a path in a cell."""
    parts = [part for part in cell.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return (*parts[:-1], stem(Path(parts[-1]))) if parts else ()
