"""Labels as the columns of a table tell them: one that names classes, or one of 0 and 1 for each class."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.sample import Split
from hounsfield.data.cells import BETWEEN
from hounsfield.data.dataset import name_classes
from hounsfield.data.layout import listed
from hounsfield.data.readers._table import bad, classes_of

# Columns by their plain names.
LABELS = {
    *("label", "labels", "target", "targets", "class", "classname", "category", "diagnosis", "diagnostic", "dx", "finding"),
    *("findinglabels", "disease", "pathology", "grade", "level", "groundtruth"),
}
PATIENTS = ("patient", "patientid", "subject", "subjectid", "participant", "participantid", "lesionid")  # best first
SPLITS = ("split", "subset", "partition", "set")
NO_CLASS = {"", "index", "sex", "gender", "male", "female", "age", "smoker", *PATIENTS, *SPLITS, *LABELS}

NOTHING = "nofinding"  # beside cells that name several classes: none of them
BLANK = frozenset(("", "nan", "na", "n/a"))
MARKS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
UNKNOWN = BLANK | {"-1", "-1.0"}
SLIPS, MANY = 0.01, 10  # part of a column's cells that may be no marks by mistake, of that many cells one in any case


@dataclass(frozen=True)
class Table:
    """rows: line of the file, and cells by column. id: the column that names images. split: what the file's name says."""

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    id: str
    split: Split | None

    @cached_property
    def called(self) -> dict[str, str]:
        """The first column of each plain name, in order."""
        found: dict[str, str] = {}
        for column in self.columns:
            found.setdefault(plain(column), column)
        return found

    @cached_property
    def split_column(self) -> str | None:
        return next((self.called[name] for name in SPLITS if name in self.called), None)


@dataclass(frozen=True)
class Row:
    """A row that names an image. case: its place among the cases. label: the cells of the label's columns."""

    table: Table
    number: int
    cells: Mapping[str, str]
    case: int
    split: Split | None
    label: tuple[str, ...] = ()

    def bad(self, name: str, found: str, expected: str) -> InputError:
        """InputError BAD_MANIFEST for the cell of a column, by its plain name."""
        return bad(self.table.file, self.number, self.table.called[name], found, expected)


@dataclass(frozen=True)
class Truth:
    """What rows say, in their order. targets: None where a row says nothing. known: classes that a row tells of, None: all."""

    classes: tuple[Class, ...]
    targets: Sequence[int | tuple[int, ...] | None]
    known: Sequence[tuple[int, ...] | None]
    notes: tuple[str, ...] = ()


def label_columns(tables: Sequence[Table]) -> tuple[str, ...]:
    """Plain names of the columns that are called as labels are; where there is none, of those of 0 and 1, if there are two or
    more."""
    cells: defaultdict[str, list[str]] = defaultdict(list)
    for t in tables:
        for name, column in t.called.items():
            if column != t.id:
                cells[name] += [row[column].strip().lower() for _, row in t.rows]
    named = tuple(name for name, own in cells.items() if name in LABELS and not BLANK.issuperset(own))
    if named:
        return named
    marked = []
    for name, own in cells.items():
        others = sum(cell not in MARKS and cell not in UNKNOWN for cell in own)
        allowed = max(SLIPS * len(own), len(own) >= MANY)
        if name not in NO_CLASS and not MARKS.keys().isdisjoint(own) and others <= allowed:
            marked.append(name)
    return tuple(marked) if len(marked) > 1 else ()


def truth(rows: Sequence[Row], columns: Sequence[str]) -> Truth:
    """What the label's columns, by their plain names, say of every row.

    Raises InputError BAD_MANIFEST (a cell of another kind), BAD_LABEL (numbers that are measured, columns of marks
    that tell nothing).
    """
    return _words(rows, columns[0]) if columns[0] in LABELS else _marks(rows, columns)


def _words(rows: Sequence[Row], column: str) -> Truth:
    """Classes by name or number, several between "|", where "No Finding" stands for none of them."""
    cells = [[word for part in row.label[0].split(BETWEEN) if not is_blank(word := part.strip())] for row in rows]
    multilabel = any(len(words) > 1 for words in cells)
    nothing = [multilabel and any(plain(word) == NOTHING for word in words) for words in cells]
    odd = next((row for row, words, none in zip(rows, cells, nothing, strict=True) if none and len(words) > 1), None)
    if odd is not None:
        raise odd.bad(column, repr(odd.label[0]), "findings, or that there is none")
    classes, index = classes_of(word for words, none in zip(cells, nothing, strict=True) if not none for word in words)
    measured = next((c.name for c in classes if _is_fraction(c.name)), None)
    if measured is not None:
        raise InputError(
            "BAD_LABEL",
            rows[0].table.file,
            found=f"the label {measured}",
            expected="classes: words, or whole numbers",
            fix="numbers that are measured are no classes: sort them into some",
        )
    targets: list[int | tuple[int, ...] | None] = []
    for words, none in zip(cells, nothing, strict=True):
        found = tuple(sorted({index[word] for word in words})) if not none else ()
        targets.append(None if not words else found if multilabel else found[0])
    notes = ("'No Finding' means none of the classes",) if any(nothing) else ()
    return Truth(classes, targets, [None] * len(rows), notes)


def _marks(rows: Sequence[Row], columns: Sequence[str]) -> Truth:
    """Classes by their columns, exclusive where every row has one 1 and else 0. What is unknown somewhere and nowhere 0 is left
    out: nothing would teach what is without it."""
    names = [rows[0].table.called[column] for column in columns]
    marks = [[_mark(row, column, cell) for column, cell in zip(columns, row.label, strict=True)] for row in rows]
    by_class = [set(own) for own in zip(*marks, strict=True)]
    never = [name for name, own in zip(names, by_class, strict=True) if True not in own]
    always = [name for name, own in zip(names, by_class, strict=True) if own == {True, None}]
    taken = [k for k, name in enumerate(names) if name not in (*never, *always)]
    if not taken:
        found = f"{listed(never or always)}, nowhere {int(bool(never))}"
        raise InputError(
            "BAD_LABEL", rows[0].table.file, found=found, expected="both 1 and 0", fix="write 0 for what is absent"
        )
    known = [tuple(place for place, k in enumerate(taken) if own[k] is not None) for own in marks]
    held = [tuple(place for place in knows if own[taken[place]]) for own, knows in zip(marks, known, strict=True)]
    told = [len(knows) == len(taken) and len(own) == 1 for own, knows in zip(held, known, strict=True) if knows]
    targets: list[int | tuple[int, ...] | None] = [
        None if not knows else own[0] if all(told) else own for own, knows in zip(held, known, strict=True)
    ]
    unknown = {names[k]: sum(own[k] is None for own in marks) for k in taken}
    notes = []
    if never:
        notes.append(f"{listed(never)}: left out, nowhere 1")
    if always:
        notes.append(f"{listed(always)}: left out, 1 or unknown but nowhere 0")
    if any(unknown.values()):
        counts = listed([f"{name} in {n}" for name, n in unknown.items() if n])
        notes.append(f"blank or -1 (uncertain), so unknown there, neither learned nor counted: {counts} of {len(rows)} images")
    return Truth(
        name_classes((place, names[k]) for place, k in enumerate(taken)),
        targets,
        [None if len(knows) == len(taken) else knows for knows in known],
        tuple(notes),
    )


def _mark(row: Row, column: str, cell: str) -> bool | None:
    """Whether the class is there; None: unknown."""
    if cell.lower() in UNKNOWN:
        return None
    if cell.lower() not in MARKS:
        raise row.bad(column, repr(cell), "1, 0, -1 or nothing")
    return MARKS[cell.lower()]


def plain(name: str) -> str:
    """A name without spaces, signs and capitals: "Patient ID" is "patientid"."""
    return re.sub(r"[\W_]+", "", name.lower())


def is_blank(cell: str) -> bool:
    return cell.lower() in BLANK


def _is_fraction(word: str) -> bool:
    try:
        return not float(word).is_integer()
    except ValueError:
        return False
