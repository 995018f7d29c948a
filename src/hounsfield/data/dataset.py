"""A dataset: samples, classes and channels, as a reader found them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.io.formats import DEFAULT, Choices, Peek

# Told apart also by those who see red and green alike (Okabe and Ito, 2008), the first as in core/plan.py.
COLOURS = (
    (230, 60, 60),
    (0, 114, 178),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (140, 86, 75),
    (127, 127, 127),
    (148, 103, 189),
)


@dataclass(frozen=True)
class ImageFile:
    """A lazy image in a file, or a folder of slices, of its own."""

    path: Path
    choices: Choices = DEFAULT

    @property
    def key(self) -> str:
        return f"{file_key(self.path)}:{self.choices.model_dump_json(exclude_defaults=True)}"

    def __call__(self) -> Image:
        return io.read(self.path, self.choices)

    def peek(self) -> Peek:
        """What the header tells, no voxel being read."""
        return io.peek(self.path, self.choices)

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Dataset:
    """samples: sorted by id. classes: foreground or class list in plan order; for segmentation without the background, whose
    value is 0. channels: a name per model input channel. kind: the task that the targets suggest ("classification",
    "segmentation", "detection") or None without targets. multilabel: classes do not exclude each other.
    reader: the member that read it; found: what it found, one sentence for the user; notes: what the user should know.
    root: where it was read, which anchors relative names. ignore_value: mask value that is no class and teaches nothing.
    voxels: by sample id, how many voxels of its mask have each value, where the reader had to count them; else empty.

    Raises InputError OUTPUT_COLLISION where two samples have one id, TOO_FEW without any sample.
    """

    samples: tuple[Sample, ...]
    classes: tuple[Class, ...]
    channels: tuple[str, ...]
    kind: str | None
    reader: str
    found: str
    root: Path
    multilabel: bool = False
    ignore_value: int | None = None
    notes: tuple[str, ...] = ()
    voxels: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = sorted(self.samples, key=lambda s: s.id)
        object.__setattr__(self, "samples", tuple(ordered))
        if not ordered:
            raise InputError(
                "TOO_FEW",
                self.root,
                found="no case",
                expected="at least one",
                fix="check that the images lie below this folder",
            )
        for one, other in pairwise(ordered):
            if one.id == other.id:
                raise InputError(
                    "OUTPUT_COLLISION",
                    self.root,
                    found=f"{one.images[0].path.name} and {other.images[0].path.name}, both named {one.id!r}",
                    expected="names that differ before the suffix",
                    fix="rename or remove one of them",
                )

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def patients(self) -> int | None:
        """How many patients there are; None where one sample's is not known."""
        patients = {s.patient for s in self.samples}
        return None if None in patients else len(patients)

    def only(self, samples: Iterable[Sample]) -> Dataset:
        """The same dataset with `samples` alone."""
        return replace(self, samples=tuple(samples))

    def without_targets(self) -> Dataset:
        """The same images, nothing being said of them."""
        bare = tuple(replace(s, target=None, valid_mask=None, known_classes=None) for s in self.samples)
        return replace(self, samples=bare, classes=(), kind=None, multilabel=False, ignore_value=None, voxels={})

    def select(self, ids: Collection[str]) -> Dataset:
        """The same dataset with the samples of `ids` alone."""
        wanted = set(ids)
        return self.only(s for s in self.samples if s.id in wanted)


def file_key(path: Path) -> str:
    """What stands for the content of a file, or of the files in a folder: path, sizes and modification times."""
    if not path.is_dir():
        stat = path.stat()
        return f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    content = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.is_file()):
        stat = file.stat()
        content.update(f"{file.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
    return f"{path.resolve()}:{content.hexdigest()[:32]}"


def look_up(image: Image) -> Image:
    """An indexed image in its palette's colours: one channel where all of them are grey, else RGB; others as they are.

    For images only: what a mask keeps as indices are its labels.
    """
    if image.meta.palette is None:
        return image
    colours = np.array(image.meta.palette, dtype=np.uint8)
    planes = np.moveaxis(colours[np.minimum(image.array[0], len(colours) - 1)], -1, 0)
    planes = planes[:1] if (planes == planes[:1]).all() else planes
    return Image(np.ascontiguousarray(planes), image.geometry, replace(image.meta, palette=None))


def name_classes(names: Iterable[tuple[int, str]]) -> tuple[Class, ...]:
    """Classes of (value, name) pairs in this order, in colours that differ."""
    return tuple(Class(value=v, name=n, colour=COLOURS[k % len(COLOURS)]) for k, (v, n) in enumerate(names))
