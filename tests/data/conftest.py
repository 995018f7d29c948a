"""Small files and in-memory cases that the dataset tests build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Lazy:
    """An image in memory that looks like a lazy file: channels first."""

    name: str
    array: Array
    affine: Array | None = None

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def key(self) -> str:
        return f"{self.name}:{hash(self.array.tobytes())}"

    def __call__(self) -> Image:
        shape = self.array.shape[1:]
        geometry = Geometry.none(shape) if self.affine is None else Geometry(shape, self.affine)
        return Image(self.array, geometry)

    def __str__(self) -> str:
        return self.name


@pytest.fixture
def lazy() -> type[Lazy]:
    return Lazy


@pytest.fixture
def picture() -> Callable[..., Path]:
    """picture(path, array, palette=None): a picture of (H, W) or (H, W, 3) uint8, its folders made; JPEG at high quality."""

    def write(path: Path, array: Array, palette: list[int] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Pillow.fromarray(np.asarray(array, dtype=np.uint8))
        if palette is not None:
            image = Pillow.frombytes("P", image.size, image.tobytes())
            image.putpalette(palette)
        image.save(path)
        return path

    return write


@pytest.fixture
def volume() -> Callable[..., Path]:
    """volume(path, array, affine=identity): a NIfTI file of (d, h, w), or of (volumes, d, h, w), in this project's order."""

    def write(path: Path, array: Array, affine: Array | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = array.transpose(2, 1, 0) if array.ndim == 3 else np.moveaxis(array.transpose(0, 3, 2, 1), 0, -1)
        image = nib.nifti1.Nifti1Image(stored, np.eye(4) if affine is None else affine)  # type: ignore[no-untyped-call]
        nib.save(image, path)
        return path

    return write


@pytest.fixture
def noise() -> Callable[..., Array]:
    """noise(seed, *shape): uint8 values that no other seed repeats."""
    return lambda seed, *shape: np.random.default_rng(seed).integers(0, 256, shape or (12, 12), dtype=np.uint8)
