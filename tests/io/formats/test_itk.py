"""What NRRD and MetaImage share, header and data in one file or in two: SimpleITK is the oracle of voxels and places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.io.formats.itk_files import DTYPES, RNG, VOLUME, check_same, images, save, sitk

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image

WRITTEN = ("a.nrrd", "a.mha")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_voxels_and_places_are_simpleitks(tmp_path: Path, name: str, packed: bool, dtype: str) -> None:
    path = save(tmp_path / name, RNG.integers(0, 100, (4, 5, 6)).astype(dtype), packed=packed)
    assert len(list(tmp_path.iterdir())) == (1 if name in WRITTEN else 2)
    image = io.read(path)
    check_same(path, image)
    assert image.geometry.space == "patient"
    assert image.meta.notes == ()
    assert io.peek(path).dtype == np.dtype(dtype)


@pytest.mark.parametrize("name", WRITTEN)
def test_two_axes_of_space_lie_at_zero(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(VOLUME[0])
    image.SetSpacing((0.5, 2.0))
    image.SetOrigin((3.0, 4.0))
    sitk.WriteImage(image, str(tmp_path / name))
    read = io.read(tmp_path / name)
    check_same(tmp_path / name, read)
    assert any("S = 0" in note for note in read.meta.notes)


@pytest.mark.parametrize("name", WRITTEN)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(image=images())
def test_what_is_written_is_read_back_by_both(tmp_path: Path, name: str, image: Image) -> None:
    path = tmp_path / name
    io.write(image, path, overwrite=True)
    again = io.read(path)
    np.testing.assert_array_equal(again.array, image.array)
    assert again.array.dtype == image.array.dtype
    np.testing.assert_allclose(again.geometry.affine, image.geometry.affine, rtol=1e-12, atol=1e-9)
    assert again.meta.notes == ()
    check_same(path, again)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
@pytest.mark.parametrize(("given_type", "kept"), [(np.float16, np.float32), (np.bool_, np.uint8)])
def test_an_image_without_a_place_keeps_none(
    tmp_path: Path, name: str, shape: tuple[int, ...], given_type: type, kept: type
) -> None:
    io.write(Image(np.ones((1, *shape), given_type), Geometry.none(shape)), tmp_path / name)
    again = io.read(tmp_path / name)
    assert again.geometry == Geometry.none(shape)
    assert again.array.dtype == kept
    assert (again.array == 1).all()
