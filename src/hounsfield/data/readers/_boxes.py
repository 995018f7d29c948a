"""Boxes as files give them: what is no box is named and left out, what passes the image's border is cut there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.boxes import Boxes

NAMED = 5  # samples that a note names


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


def notes(found: Mapping[str, Cleaned]) -> tuple[str, ...]:
    """Sentences on what was left out or cut, with the samples where it was; by sample id."""
    said = []
    for name, what in (
        ("flat", "boxes without extent were left out"),
        ("outside", "boxes beyond their image were left out"),
        ("cut", "boxes were cut at the border of their image"),
    ):
        counts = {sample: getattr(one, name) for sample, one in found.items() if getattr(one, name)}
        if counts:
            listed = ", ".join(list(counts)[:NAMED]) + (", ..." if len(counts) > NAMED else "")
            said.append(f"{sum(counts.values())} {what} ({listed})")
    return tuple(said)
