"""What was done to one file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from hounsfield.io.deidentify.identifiers import Identifiers


class Action(StrEnum):
    """What can be done to an element; the value is the word for it in a report."""

    KEEP = "kept"
    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced"
    PSEUDONYM = "pseudonym"
    UID = "new UID"
    SHIFT = "shifted"
    CLEAN = "cleaned"


@dataclass
class Result:
    """kind: "dicom", "nifti", "raster". name: the output's path below the output folder, of pseudonyms alone. identifiers: what
    the input tells of a person. actions: how often which action met which keyword. warnings: what a human should look at."""

    kind: str
    name: str
    identifiers: Identifiers
    actions: Counter[tuple[Action, str]] = field(default_factory=Counter)
    warnings: tuple[str, ...] = ()
