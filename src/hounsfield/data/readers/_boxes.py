"""Boxes as files give them: what is no box is refused or, when asked, left out; what passes the image's border is cut there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.data.dataset import ImageFile
from hounsfield.data.layout import listed
from hounsfield.data.masks import in_threads
from hounsfield.io.formats import Choices


@dataclass(frozen=True)
class Cleaned:
    """The boxes of one image. flat: how many had no extent. outside: how many lay beyond the image. cut: how many passed its
    border."""

    boxes: Boxes
    flat: int = 0
    outside: int = 0
    cut: int = 0


def clean(corners: Sequence[Sequence[float]], labels: Sequence[int], shape: tuple[int, ...] | None) -> Cleaned:
    """corners: (N, 2n) first corner, then last in the order of array axes, half-open, in voxels. shape: of the image's n axes;
    None where it is unknown."""
    n = len(shape) if shape is not None else len(corners[0]) // 2 if len(corners) else 2
    found = np.array(corners, dtype=np.float64).reshape(-1, 2 * n)
    classes: npt.NDArray[np.int64] = np.array(labels, dtype=np.int64)
    real = (found[:, n:] > found[:, :n]).all(axis=1) & np.isfinite(found).all(axis=1)
    flat = int((~real).sum())
    found, classes = found[real], classes[real]
    if shape is None:
        return Cleaned(Boxes(found, classes), flat)
    within = np.clip(found, 0, [*shape, *shape])
    inside = (within[:, n:] > within[:, :n]).all(axis=1)
    cut = int((within != found).any(axis=1)[inside].sum())
    return Cleaned(Boxes(within[inside], classes[inside]), flat, int((~inside).sum()), cut)


def checked(path: Path, found: Mapping[str, Cleaned], choices: Choices) -> tuple[str, ...]:
    """Sentences on what was left out or cut, with the samples where it was; by sample id.

    Raises InputError BAD_LABEL for what is no box, which `choices.drop_invalid` leaves out.
    """
    invalid = [*_said(found, "flat", "boxes without extent"), *_said(found, "outside", "boxes beyond their image")]
    if invalid and not choices.drop_invalid:
        raise InputError(
            "BAD_LABEL",
            path,
            found=" and ".join(f"{what} ({where})" for what, where in invalid),
            expected="boxes with an extent, within their image",
            fix="mend them, or leave them out with --drop-invalid",
        )
    cut = _said(found, "cut", "boxes")
    return (
        *(f"{what} were left out ({where})" for what, where in invalid),
        *(f"{what} were cut at the border of their image ({where})" for what, where in cut),
    )


def _said(found: Mapping[str, Cleaned], name: str, what: str) -> list[tuple[str, str]]:
    """How many of them there are, and where; nothing where there is none."""
    counts = {sample: getattr(one, name) for sample, one in found.items() if getattr(one, name)}
    return [(f"{sum(counts.values())} {what}", listed(list(counts)))] if counts else []


def sizes_of(path: Path, images: Sequence[ImageFile], said: Sequence[tuple[int, int] | None]) -> list[tuple[int, int] | None]:
    """(H, W) of each picture as its header has it; where that cannot be read, which the audit tells of every such file, as
    its annotation has it. said: by the annotations, None where one does not say.

    Raises InputError WRONG_DIMENSION for a volume, BAD_LABEL where annotations contradict their images.
    """
    found: list[tuple[int, int] | None] = []
    odd = []
    for image, told, shape in zip(images, said, in_threads(_shape, images), strict=True):
        if shape is not None and len(shape) != 2:
            raise InputError(
                "WRONG_DIMENSION",
                image.path,
                found=f"an image of {shape} voxels",
                expected="a picture",
                fix="write a manifest.csv",
            )
        if shape is not None and told is not None and shape != told:
            odd.append((image, told, shape))
        found.append(told if shape is None else (shape[0], shape[1]))
    if odd:
        image, told, shape = odd[0]
        raise InputError(
            "BAD_LABEL",
            path,
            found=f"{len(odd)} annotations of images of another size, the first of {told[1]}x{told[0]} pixels for "
            f"{image.path.name} of {shape[1]}x{shape[0]}",
            expected="the width and height of the image",
            fix="annotate the images as they are, or correct the size in the annotation",
        )
    return found


def _shape(image: ImageFile) -> tuple[int, ...] | None:
    try:
        return image.peek().geometry.shape
    except InputError:
        return None
