"""DICOM sources of every kind that results are written of, and what the tests of results share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.dicom_files import enhanced, oblique, series, upright, xray

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.io.formats import DEFAULT, Choices, dicom
from hounsfield.io.results.origin import Author, Origin

hd = pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
AUTHOR = Author("segmentation with unet", "0.1.0", "0123456789abcdef")
CLASSES = (
    Class(value=10, name="liver", colour=(255, 0, 0), code=("SCT", "10200004", "Liver")),
    Class(value=255, name="läsion"),
)
RNG = np.random.default_rng(11)


def ct(folder: Path, grid: Geometry, **more: Any) -> Path:
    series(folder / "ct", RNG.integers(-100, 100, grid.shape).astype(np.int16), grid, **more)
    return folder / "ct"


def mr(folder: Path, grid: Geometry, order: list[int]) -> Path:
    return enhanced(folder / "mr.dcm", RNG.integers(0, 100, grid.shape, dtype=np.uint16), grid, order)


def x(folder: Path) -> Path:
    return xray(folder / "x.dcm", RNG.integers(0, 100, (12, 10), dtype=np.uint16))


SOURCES: dict[str, Callable[[Path], Path]] = {
    "axial": lambda folder: ct(folder, upright((5, 12, 10))),
    "oblique": lambda folder: ct(folder, oblique((5, 12, 10))),
    "reversed": lambda folder: ct(folder, oblique((5, 12, 10)), backwards=True),
    "enhanced": lambda folder: mr(folder, oblique((5, 12, 10)), [0, 1, 2, 3, 4]),
    "enhanced, frames out of order": lambda folder: mr(folder, oblique((5, 12, 10)), [3, 0, 4, 2, 1]),
    "enhanced, one frame": lambda folder: mr(folder, oblique((1, 12, 10)), [0]),
    "one slice": lambda folder: ct(folder, oblique((1, 12, 10))) / "1-000.dcm",
    "x-ray": x,
}


def predicted(image: Image, channels: int = 1) -> Image:
    """A random mask on the image's grid, in the values of CLASSES, or two regions that overlap."""
    shape = (channels, *image.geometry.shape)
    array = RNG.choice(np.array([0, 10, 255], np.uint8), shape) if channels == 1 else RNG.integers(0, 2, shape, dtype=np.uint8)
    return Image(array, image.geometry)


def origin_of(path: Path, choices: Choices = DEFAULT) -> Origin:
    return Origin(dicom.source(path, choices))


def items(tags: Any, value: str) -> Iterator[Any]:
    """Content items whose concept has this code value."""
    for item in tags.get("ContentSequence") or ():
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].get("CodeValue") == value:
            yield item
        yield from items(item, value)


def numbers(tags: Any, value: str) -> list[tuple[float, str]]:
    return [
        (
            float(i.MeasuredValueSequence[0].NumericValue),
            i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for i in items(tags, value)
    ]
