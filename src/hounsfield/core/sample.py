"""One case of a dataset: its images, still unread, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from hounsfield.core.boxes import Boxes
from hounsfield.core.image import Image

Split = Literal["train", "val", "test"]


class LazyImage(Protocol):
    """An image that is read when called. Equal `key`s mean equal voxels (path, size, modification time, index)."""

    @property
    def path(self) -> Path: ...

    @property
    def key(self) -> str: ...

    def __call__(self) -> Image: ...


# A class index; class indices (multi-label); an image of labels; boxes; nothing.
Target = int | tuple[int, ...] | LazyImage | Boxes | None


@dataclass(frozen=True)
class Sample:
    """id: unique in its dataset, a relative path without suffix, "/" between folders; names outputs.
    images: one per file of the case (channels are stacked from them in order).
    target: a class index into Dataset.classes (classification), a tuple of them (multi-label, perhaps empty), a lazy label
        image in the source's values (segmentation; several channels: overlapping regions), Boxes, or None.
    valid_mask: a lazy image, non-zero where the target is known; None: everywhere.
    known_classes: class indices whose absence in the target is meaningful; None: all.
    patient: pseudonym that groups samples; None: unknown, and every interval says so.
    split: as the dataset gives it, None where it gives none.
    attributes: site, sex, age and what else the dataset tells.
    """

    id: str
    images: tuple[LazyImage, ...]
    target: Target = None
    valid_mask: LazyImage | None = None
    known_classes: tuple[int, ...] | None = None
    patient: str | None = None
    split: Split | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The patient, or where unknown the sample itself."""
        return self.patient if self.patient is not None else f"sample:{self.id}"
