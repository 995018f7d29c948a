"""A CSV file as rows of text, the classes that its words are, and the line that says which cell cannot be read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.data.dataset import name_classes


def table(file: Path, name: Callable[[str], str] = str.strip) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column; of the first line, its columns with blank cells. name: what a column is called by.

    Raises InputError BAD_MANIFEST for a column that stands there twice and for lines of another length; UnicodeDecodeError.
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline(1 << 16)
        stream.seek(0)
        between = "\t" if file.suffix.lower() == ".tsv" else max(",;", key=first.count)
        reader = csv.reader(stream, delimiter=between, strict=True)
        try:
            header = [name(column) for column in next(reader, [])]
            twice = next((column for column in header if header.count(column) > 1), None)
            if twice is not None:
                raise bad(file, 1, twice, "the column twice", "every column once")
            yield 1, dict.fromkeys(header, "")
            for cells in reader:
                if cells and len(cells) != len(header):
                    column = header[min(len(cells), len(header) - 1)]
                    raise bad(file, reader.line_num, column, f"{len(cells)} cells", f"{len(header)}, as in the first row")
                if cells:
                    yield reader.line_num, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise bad(file, reader.line_num, "", str(error), "a table") from error


def classes_of(found: Iterable[str]) -> tuple[tuple[Class, ...], dict[str, int]]:
    """The classes of the words that cells use, and the index of each word: values where all are whole numbers."""
    names = sorted(set(found))
    if all(_whole(name) for name in names):
        values = sorted({int(float(name)) for name in names})
        return name_classes((v, str(v)) for v in values), {name: values.index(int(float(name))) for name in names}
    return name_classes(enumerate(names)), {name: k for k, name in enumerate(names)}


def bad(file: Path, row: int, column: str, found: str, expected: str) -> InputError:
    """InputError BAD_MANIFEST for one cell; row: line of the file, from 1."""
    return InputError(
        "BAD_MANIFEST", file, found=f"{found} in row {row}, column {column!r}", expected=expected, fix="mend that row"
    )


def no_text(file: Path, error: UnicodeDecodeError) -> InputError:
    """InputError BAD_MANIFEST for bytes that are no text."""
    found = f"bytes that are not UTF-8 ({error.reason})"
    return InputError("BAD_MANIFEST", file, found=found, expected="UTF-8 text", fix="save it as UTF-8")


def _whole(text: str) -> bool:
    """Whether it is a whole number, also as spreadsheets write it ("1.0")."""
    try:
        return float(text).is_integer()
    except ValueError:
        return False
