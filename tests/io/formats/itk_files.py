"""SimpleITK as the oracle of NRRD and MetaImage: the images it writes, and what it reads."""

from __future__ import annotations

import importlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io.formats import Choices

sitk: Any = importlib.import_module("SimpleITK")  # untyped

Array = npt.NDArray[Any]
DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
RNG = np.random.default_rng(4)
VOLUME = RNG.integers(0, 30000, (5, 6, 7)).astype("<i2")


def turn(seed: int) -> Array:
    """A rotation (3, 3), perhaps with a mirror."""
    return np.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0])


def save(path: Path, array: Array, seed: int = 0, packed: bool = False, channels: bool = False) -> Path:
    """array: (d, h, w), or with `channels` (d, h, w, C), oblique in the patient."""
    image = sitk.GetImageFromArray(array, isVector=channels)
    image.SetDirection(turn(seed).ravel().tolist())
    image.SetSpacing((0.7, 1.3, 2.5))
    image.SetOrigin((12.5, -80.25, 33.0))
    sitk.WriteImage(image, str(path), packed)
    return path


def check_same(path: Path, image: Image) -> None:
    """`image` has the voxels that SimpleITK reads at `path`, at the same places in the patient."""
    stored = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(stored)
    channels = stored.GetNumberOfComponentsPerPixel()
    expected = np.moveaxis(array, -1, 0) if channels > 1 else array[np.newaxis]
    assert image.array.dtype == array.dtype
    assert image.array.dtype.isnative
    assert image.array.flags.c_contiguous
    np.testing.assert_array_equal(image.array, expected.reshape(image.array.shape))
    for corner in product(*[(0, n - 1) for n in stored.GetSize()]):
        left, back, *up = stored.TransformIndexToPhysicalPoint(corner)
        world = image.geometry.index_to_world(corner[::-1][-image.ndim :])[0]
        np.testing.assert_allclose(world, (-left, -back, *(up or [0.0])), atol=1e-6, rtol=1e-12)


def refused(code: str, path: Path, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path, Choices(**choices))
    assert caught.value.code == code
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{code} {path}: ")
    return line


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Flat or not, of one or several channels, of any dtype, anywhere in the patient."""
    ndim = draw(st.sampled_from((2, 3, 3)))
    shape = (*draw(st.tuples(*[st.integers(2, 5)] * ndim)),)
    spacing = draw(st.tuples(*[st.floats(0.01, 50)] * ndim))
    affine = np.zeros((4, ndim + 1))
    affine[:3, :ndim] = turn(draw(st.integers(0, 10**6)))[:, :ndim] * spacing
    affine[:3, ndim] = draw(st.tuples(*[st.floats(-1e4, 1e4)] * 3))
    affine[3, ndim] = 1
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    channels = draw(st.sampled_from((1, 1, 2, 3)))
    draws = np.random.default_rng(draw(st.integers(0, 10**6)))
    array = draws.integers(0, 100, (channels, *shape)).astype(dtype)
    return Image(array, Geometry(shape, affine))
