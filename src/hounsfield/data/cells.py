"""Classes and boxes as the cells of a manifest, both ways, and the file beside it that says what cells cannot."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class, Options

BETWEEN = "|"  # two classes, or two boxes, of one cell
TRUTHS = {"target": "classification", "mask": "segmentation", "boxes": "detection"}  # column: the kind that it makes
KNOWN = {"id", *TRUTHS, "valid_mask", "searched", "patient", "split"}


class About(Options):
    """The file beside a manifest. classes: in the order of their indices, those without any case too; () where the cells tell.
    channels: names of all channels; () where files or columns tell. multilabel: classes do not exclude each other; None where
    the cells tell. ignore_value: mask value that is no class and teaches nothing."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    classes: tuple[Class, ...] = ()
    channels: tuple[str, ...] = ()
    multilabel: bool | None = None
    ignore_value: int | None = None

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False) + "\n"


def about_file(manifest: Path) -> Path:
    """manifest.classes.json for manifest.csv."""
    return manifest.with_suffix(".classes.json")


def about(manifest: Path) -> About:
    """What stands beside a manifest; nothing where nothing does. Raises InputError BAD_MANIFEST."""
    file = about_file(manifest)
    if not file.is_file():
        return About(schema=1)
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}")
        return About.parse(values, file)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "BAD_MANIFEST", file, found=f"no JSON object ({error})"[:200], expected='{"classes": [...]}', fix="mend the file"
        ) from error
    except InputError as error:
        raise InputError("BAD_MANIFEST", file, found=error.found, expected=error.expected, fix=error.fix) from error


def words(classes: Sequence[Class]) -> dict[str, int]:
    """What a cell may call each class, and its index: its name where no other class has it, else its value."""
    names = Counter(c.name for c in classes)
    values = {str(c.value): k for k, c in enumerate(classes)}
    return values | {c.name: k for k, c in enumerate(classes) if names[c.name] == 1}


def class_words(classes: Sequence[Class]) -> list[str]:
    """How cells are to call each class, so that `words` finds it again. Raises InputError BAD_OPTION where no cell can."""
    known = words(classes)
    found = []
    for k, c in enumerate(classes):
        fitting = [w for w in (c.name, str(c.value)) if known.get(w) == k and w == w.strip() != "" and BETWEEN not in w]
        if not fitting:
            raise InputError(
                "BAD_OPTION",
                "--to manifest",
                found=f"class {c.name!r} of value {c.value}",
                expected="a name or a value that no other class has",
                fix="rename the class",
            )
        found.append(fitting[0])
    return found


def boxes_of(cell: str) -> list[tuple[str, tuple[float, ...]]]:
    """Class word, first and last corner of each box in a cell: "nodule: 3 4 10 12 | mass: 0 0 5.5 6". Raises ValueError."""
    found = []
    for part in filter(None, map(str.strip, cell.split(BETWEEN))):
        word, colon, numbers = part.rpartition(":")
        if not colon or not word.strip():
            raise ValueError(f"{part[:60]!r} without a class and a colon")
        found.append((word.strip(), tuple(float(number) for number in numbers.split())))
    return found


def boxes_cell(boxes: Iterable[tuple[str, Sequence[float]]]) -> str:
    """The cell that `boxes_of` reads so; every number to its last bit."""
    texts = (f"{word}: {' '.join(repr(float(v)).removesuffix('.0') for v in corners)}" for word, corners in boxes)
    return f" {BETWEEN} ".join(texts)


def is_own(column: str) -> bool:
    """Whether a manifest reads this column itself, so that no attribute can have its name."""
    return column in KNOWN or re.fullmatch(r"image(_.*)?", column) is not None
