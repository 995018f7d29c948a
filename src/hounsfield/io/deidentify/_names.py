"""Names of output files that are no DICOM: pseudonyms part by part, so that an image and its mask still belong together."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

from hounsfield.io.deidentify.identifiers import Collector
from hounsfield.io.deidentify.secret import Secret

# Folders that mean a layout, and ends of names that mean a channel or a mask.
_LAYOUT: Final = frozenset(
    (
        "images",
        "masks",
        "labels",
        "train",
        "val",
        "test",
        "imagesTr",
        "imagesTs",
        "imagesVal",
        "labelsTr",
        "labelsTs",
        "labelsVal",
    )
)
_END: Final = re.compile(r"(.+?)(_00\d\d|[_-](?:mask|seg|label))?")


def place(relative: PurePath, ending: str, secret: Secret, written: str = "") -> str:
    """The output's path: a code for each folder and for the name without its `ending`, then `written`, or the same ending."""
    folders = (part if part in _LAYOUT else secret.code("folder", part) for part in relative.parts[:-1])
    found = _END.fullmatch(_stem(relative, ending))
    name, end = (found[1], found[2] or "") if found else ("", "")
    return "/".join((*folders, f"{secret.code('file', name)}{end}{written or ending.lower()}"))


def collect(relative: PurePath, ending: str, collector: Collector) -> None:
    """The name and the folders may name a person."""
    for part in (*relative.parts[:-1], _stem(relative, ending)):
        collector.phrase(part)


def _stem(relative: PurePath, ending: str) -> str:
    return relative.name[: -len(ending)] if ending and relative.name.lower().endswith(ending.lower()) else relative.name
