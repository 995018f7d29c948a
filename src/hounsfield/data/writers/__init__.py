"""Dataset layouts that are written, one file each: the reader of the same name reads what was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hounsfield.core.errors import InputError
from hounsfield.core.registry import Folder
from hounsfield.data.dataset import Dataset

Progress = Callable[[int, int], None]  # cases done, of all


@dataclass(frozen=True)
class Written:
    """dataset: what reading the folder must give, voxels unseen. notes: what was changed or left out, for the user.
    mapping: what was renamed or renumbered, new to old, by what it is ("values", "ids")."""

    dataset: Dataset
    notes: tuple[str, ...] = ()
    mapping: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Writer(Protocol):
    """What a file in this folder defines.

    write: `dataset` into `folder`, which is not there yet and may be renamed within its parent afterwards. copy: images are
    copied where they could be referred to or linked. What the layout cannot hold is refused, InputError BAD_OPTION, before
    anything is written; what is changed or left out is noted.
    """

    @staticmethod
    def write(dataset: Dataset, folder: Path, copy: bool, progress: Progress) -> Written: ...


WRITERS: Folder[Writer] = Folder("hounsfield.data.writers", "layout to write", ("write",))


def cannot(layout: str, found: str, expected: str, fix: str) -> InputError:
    """The error for a dataset that a layout cannot hold."""
    return InputError("BAD_OPTION", f"--to {layout}", found=found, expected=expected, fix=fix)
