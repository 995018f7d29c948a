"""File formats, one file each: content decides which one reads, geometry is converted here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Options
from hounsfield.core.registry import Folder


class Choices(Options):
    """What a user may choose where a file leaves a choice. volume: index into a 4D series. frame: of a cine.
    affine: which of two disagreeing NIfTI affines. allow_gaps: interpolate missing slices. fix_tilt: resample a stack that a
    gantry tilt has sheared. series: UID or its end, number or description. drop_invalid: leave out boxes of a dataset that have
    no extent or lie beyond their image. Every field is an option of the command line by the same name."""

    volume: int | None = None
    frame: int | None = None
    affine: str | None = None
    allow_gaps: bool = False
    fix_tilt: bool = False
    series: str | None = None
    drop_invalid: bool = False

    def over(self, others: Choices) -> Choices:
        """These choices, and where nothing is chosen here those of `others`."""
        return others.model_copy(update=self.model_dump(exclude_defaults=True))


DEFAULT = Choices()


@dataclass(frozen=True)
class Peek:
    """What a header tells while no voxel is read.

    geometry, channels, modality: of the image that `read` gives. dtype: as stored; rescaling may widen it.
    volumes: how many volumes or frames the file holds, of which `Choices.volume` or `Choices.frame` selects one.
    """

    format: str
    geometry: Geometry
    channels: int
    dtype: np.dtype[Any]
    modality: str | None = None
    volumes: int = 1


class Format(Protocol):
    """What a file in this folder defines.

    SUFFIXES: lower-case file endings that suggest it, such as ".nii.gz" (used for names and messages only).
    recognises: whether the first bytes (up to 4 KiB; of a folder b"") are of this format.
    read: the Image at `path`, checked against its limits before anything is allocated; InputError for what is wrong.
    peek: what the header tells, checked as `read` checks it, without reading voxels.
    series (optional): the `io.series.Series` at `path`.
    write (optional): `image` to `path`, beside it and renamed. WRITES: the endings that it can write.
    """

    SUFFIXES: tuple[str, ...]

    @staticmethod
    def recognises(path: Path, head: bytes) -> bool: ...

    @staticmethod
    def read(path: Path, choices: Choices) -> Image: ...

    @staticmethod
    def peek(path: Path, choices: Choices) -> Peek: ...


FORMATS: Folder[Format] = Folder("hounsfield.io.formats", "format", ("SUFFIXES", "recognises", "read", "peek"))
