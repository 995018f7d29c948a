"""Images of a dataset as files of another: referred to, linked, copied, or written anew without loss."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from hounsfield import io
from hounsfield.core.image import Image
from hounsfield.core.sample import LazyImage
from hounsfield.data.dataset import ImageFile
from hounsfield.data.layout import stem
from hounsfield.data.masks import MaskFile
from hounsfield.io import limits
from hounsfield.io.formats import DEFAULT, Choices

PAIRS = (".hdr", ".hdr.gz", ".img", ".img.gz")  # one image in two files
LABELS = (np.uint8, np.uint16, np.int16, np.int32)


def own_file(lazy: LazyImage) -> Path | None:
    """The file or folder that reads as `lazy` does when nothing is chosen; None for a volume of several, a chosen series, an
    array among others, masks that were merged."""
    if isinstance(lazy, ImageFile) and _unchosen(lazy.choices):
        return lazy.path
    if isinstance(lazy, MaskFile) and _unchosen(lazy.choices) and len(lazy.paths) == 1:
        return lazy.path
    return None


def _unchosen(choices: Choices) -> bool:
    """Whether nothing is chosen of how an image is read."""
    return choices.model_copy(update={"drop_invalid": False}) == DEFAULT


def refer(lazy: LazyImage, folder: Path, name: str, copy: bool) -> str:
    """The path relative to `folder` of what reads as `lazy` does: its own file or, with `copy` or where it has none, a new one
    at `folder`/`name` and an ending. Raises what reading and writing raise."""
    source = own_file(lazy)
    if source is not None and not copy:
        return relative(source, folder)
    if source is not None and not source.name.lower().endswith(PAIRS):
        target = folder / f"{name}{ending(source)}"
        put(source, target, copy=True)
    else:
        image = lazy()
        target = save(as_small_labels(image) if isinstance(lazy, MaskFile) else image, folder / name)
    return target.relative_to(folder).as_posix()


def relative(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`; whole where they lie on two drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def ending(path: Path) -> str:
    """ ".nii.gz" of a.nii.gz; "" where the name has no format's."""
    return "" if path.is_dir() else path.name[len(stem(path)) :]


def put(source: Path, target: Path, copy: bool) -> None:
    """`source`, a file or a folder of slices, at `target` as well: a hard link unless `copy` or where the file system has none.

    Raises ResourceError DISK_FULL.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy and source.is_file():
        try:
            target.hardlink_to(source.resolve())
            return
        except OSError as error:
            if error.errno in limits.NO_ROOM:
                raise limits.disk_full(target.parent, "no space left", 0) from error
    try:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    except (OSError, shutil.Error) as error:
        if isinstance(error, OSError) and error.errno in (*limits.NO_ROOM, errno.EFBIG):
            raise limits.disk_full(target.parent, "no space left", source.stat().st_size) from error
        raise


def save(image: Image, place: Path) -> Path:
    """`image` at `place` and the ending of a format that holds it without loss: PNG, NIfTI or NumPy's .npz. The new path."""
    grid, dtype, channels = image.geometry, image.array.dtype, image.channels
    if grid.space == "patient":
        kind = ".nii.gz"
    elif image.ndim == 2 and ((dtype == np.uint8 and channels in (1, 3)) or (dtype == np.uint16 and channels == 1)):
        kind = ".png" if grid.space == "none" else ".npz"
    else:
        kind = ".npz"
    target = place.with_name(f"{place.name}{kind}")
    io.write(image, target)
    return target


def as_small_labels(image: Image) -> Image:
    """A label image in the smallest type that holds its values, without a palette."""
    low, high = int(image.array.min()), int(image.array.max())
    dtype = next((d for d in LABELS if np.iinfo(d).min <= low and high <= np.iinfo(d).max), image.array.dtype)
    return Image(image.array.astype(dtype), image.geometry, replace(image.meta, palette=None))


def modality_note(lazies: Iterable[LazyImage]) -> tuple[str, ...]:
    """What to say where images that are written anew had a modality, which only DICOM files say."""
    first = next((lazy for lazy in lazies if isinstance(lazy, ImageFile)), None)
    modality = io.peek(first.path, first.choices).modality if first is not None else None
    return (
        (f"the modality, {modality}, stands in DICOM files alone: images that are written anew no longer say it",)
        if modality
        else ()
    )
