"""NIfTI: nibabel is the oracle for every voxel and its place, read and written."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.io.formats.nifti_files import OBLIQUE, Array, nib, refused, save

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io.formats import Choices

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_and_places_are_nibabels(tmp_path: Path, ending: str, kind: Any) -> None:
    array = RNG.integers(-1000, 1000, (7, 6, 5), dtype=np.int16)
    nib.save(kind(array, OBLIQUE), tmp_path / f"a{ending}")
    image = io.read(tmp_path / f"a{ending}")
    assert image.array.dtype == np.int16
    assert image.array.flags.c_contiguous
    assert image.geometry.space == "patient"
    stored = nib.load(tmp_path / f"a{ending}")
    for w, h, d in np.ndindex(array.shape):
        assert image.array[0, d, h, w] == array[w, h, d]
        world = nib.affines.apply_affine(stored.affine, (w, h, d))
        np.testing.assert_allclose(image.geometry.index_to_world((d, h, w))[0], world, atol=1e-6, rtol=0)


@pytest.mark.parametrize("code", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_dtype_is_kept_in_either_byte_order(tmp_path: Path, code: str, order: str) -> None:
    array = RNG.integers(0, 100, (4, 3, 2)).astype(code)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(code))
    image = nib.Nifti1Image(array, OBLIQUE, header, dtype=np.dtype(order + code))
    nib.save(image, tmp_path / "a.nii")
    read = io.read(tmp_path / "a.nii")
    assert read.array.dtype == np.dtype(code)
    assert read.array.dtype.isnative
    np.testing.assert_array_equal(read.array[0], array.transpose())
    np.testing.assert_allclose(read.geometry.affine, nib.load(tmp_path / "a.nii").affine[:, [2, 1, 0, 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("slope", "inter", "dtype"),
    [(1, 0, "i2"), (0, 5, "i2"), (np.nan, np.nan, "i2"), (1, -1024, "i2"), (2, 0, "i2"), (300, 0, "i4"), (0.5, 1.5, "f4")],
)
def test_scaling_is_nibabels_and_exact(tmp_path: Path, slope: float, inter: float, dtype: str) -> None:
    array = RNG.integers(-2000, 3000, (5, 4, 3), dtype=np.int16)
    path = save(tmp_path / "a.nii", array, scl_slope=slope, scl_inter=inter)
    image = io.read(path)
    assert image.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.array[0].astype(np.float64), nib.load(path).get_fdata().transpose())


def test_a_pair_is_read_by_either_name(tmp_path: Path) -> None:
    array = RNG.integers(0, 255, (5, 4, 3), dtype=np.uint8)
    nib.save(nib.Nifti1Pair(array, OBLIQUE), tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        np.testing.assert_array_equal(io.read(tmp_path / name).array[0], array.transpose())
    (tmp_path / "a.img").unlink()
    assert "a.img beside it" in refused("NOT_FOUND", tmp_path / "a.hdr")


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1)])
def test_a_single_slice_is_2d_and_keeps_its_plane(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = RNG.integers(0, 255, shape, dtype=np.uint8)
    path = save(tmp_path / "a.nii", array)
    image = io.read(path)
    assert (image.ndim, image.array.shape) == (2, (1, 5, 6))
    for w, h in np.ndindex(6, 5):
        assert image.array[0, h, w] == array.reshape(6, 5)[w, h]
        world = nib.affines.apply_affine(nib.load(path).affine, (w, h, 0))
        np.testing.assert_allclose(image.geometry.index_to_world((h, w))[0], world, atol=1e-6, rtol=0)


def test_a_volume_of_a_series_is_chosen(tmp_path: Path) -> None:
    array = RNG.integers(0, 255, (5, 4, 3, 6), dtype=np.int16)
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name, array)
        assert io.peek(path).volumes == 6
        line = refused("WRONG_DIMENSION", path)
        assert "(5, 4, 3, 6)" in line
        assert "--volume 0 to --volume 5" in line
        for volume in (0, 2, 5):
            image = io.read(path, Choices(volume=volume))
            np.testing.assert_array_equal(image.array[0], array[..., volume].transpose())
        assert "--volume 6" in refused("WRONG_DIMENSION", path, volume=6)
        refused("WRONG_DIMENSION", path, volume=-1)


def test_a_fourth_axis_of_one_is_no_series(tmp_path: Path) -> None:
    array = RNG.integers(0, 255, (5, 4, 3, 1), dtype=np.int16)
    assert io.read(save(tmp_path / "a.nii", array)).array.shape == (1, 3, 4, 5)


@pytest.mark.parametrize("shape", [(5, 4, 3, 2), (5, 4, 3, 1, 2)])
def test_vectors_are_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = RNG.normal(size=shape).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", array, intent_code=1007)
    image = io.read(path)
    assert (io.peek(path).channels, io.peek(path).volumes) == (2, 1)
    np.testing.assert_array_equal(image.array, array.reshape(5, 4, 3, 2).transpose(3, 2, 1, 0))


def test_a_series_of_vectors_gives_the_channels_of_one_volume(tmp_path: Path) -> None:
    array = RNG.integers(0, 99, (5, 4, 3, 6, 2), dtype=np.int16)
    image = io.read(save(tmp_path / "a.nii", array), Choices(volume=4))
    np.testing.assert_array_equal(image.array, array[:, :, :, 4].transpose(3, 2, 1, 0))


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colours_are_channels(tmp_path: Path, names: str) -> None:
    array = np.zeros((4, 3, 2), dtype=[(name, np.uint8) for name in names])
    for name in names:
        array[name] = RNG.integers(0, 256, (4, 3, 2))
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(array, OBLIQUE), path)
    image = io.read(path)
    for channel, name in enumerate("RGB"):
        np.testing.assert_array_equal(image.array[channel], array[name].transpose())
    assert (len(image.meta.notes) == 1) is (names == "RGBA")
    assert io.peek(path).channels == 3


def test_metres_and_microns_become_millimetres(tmp_path: Path) -> None:
    array = np.zeros((4, 3, 2), np.uint8)
    for units, factor in ((0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)):
        image = io.read(save(tmp_path / "a.nii", array, xyzt_units=units))
        expected = nib.load(tmp_path / "a.nii").affine[:3, [2, 1, 0, 3]] * factor
        np.testing.assert_allclose(image.geometry.affine[:3], expected, rtol=1e-9)


def test_concatenated_gzip_members_are_one_file(tmp_path: Path) -> None:
    array = RNG.integers(0, 30000, (9, 9, 9), dtype=np.int16)
    content = save(tmp_path / "a.nii", array).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(b"".join(gzip.compress(content[i : i + 300]) for i in range(0, len(content), 300)))
    np.testing.assert_array_equal(io.read(tmp_path / "b.nii.gz").array[0], array.transpose())


def test_peek_agrees_with_read(tmp_path: Path) -> None:
    for array in (np.zeros((5, 4, 3), ">i2"), np.zeros((5, 4), np.float32), np.zeros((5, 4, 3, 1, 2), np.uint8)):
        for name in ("a.nii", "a.nii.gz"):
            path = save(tmp_path / name, array)
            told, image = io.peek(path), io.read(path)
            assert (told.format, told.geometry, told.channels) == ("nifti", image.geometry, image.channels)
            assert told.dtype == image.array.dtype


@st.composite
def images(draw: st.DrawFn) -> Image:
    ndim = draw(st.sampled_from((2, 3)))
    shape = tuple(draw(st.integers(2, 6)) for _ in range(ndim))
    dtype = np.dtype(draw(st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"])))
    array = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 200, (draw(st.sampled_from((1, 2, 3))), *shape))
    columns = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 99))).normal(size=(3, 3)))[0][:, :ndim]
    affine = np.zeros((4, ndim + 1))
    affine[:3, :ndim] = columns * [draw(st.floats(0.2, 5)) for _ in range(ndim)]
    affine[:3, ndim] = [draw(st.floats(-300, 300)) for _ in range(3)]
    affine[3, ndim] = 1
    if draw(st.booleans()) and ndim == 3:
        affine[:3, 0] += 0.2 * affine[:3, 1]  # shear, which a qform cannot hold
    return Image(array.astype(dtype), Geometry(shape, affine))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(image=images(), packed=st.booleans(), view=st.booleans())
def test_what_is_written_is_read_again(tmp_path: Path, image: Image, packed: bool, view: bool) -> None:
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    image = image.canonical() if view else image  # a view with negative strides
    io.write(image, path, overwrite=True)
    again = io.read(path)
    assert again.array.dtype == image.array.dtype
    np.testing.assert_array_equal(again.array, image.array)
    assert image.geometry.same_grid(again.geometry)
    assert again.meta.notes == ()
    stored = nib.load(path)
    np.testing.assert_allclose(stored.get_sform(), stored.affine)
    if image.ndim == 3:
        np.testing.assert_allclose(stored.affine, image.geometry.affine[:, [2, 1, 0, 3]], atol=1e-4)
        if image.channels == 1:
            np.testing.assert_array_equal(np.asarray(stored.dataobj).transpose(), image.array[0])


def test_both_forms_are_set_unless_there_is_shear(tmp_path: Path) -> None:
    straight = Geometry.from_spacing((3, 4, 5), (2, 1, 1))
    sheared = straight.affine.copy()
    sheared[1, 0] = 0.5
    for geometry, code in ((straight, 1), (Geometry((3, 4, 5), sheared), 0)):
        io.write(Image(np.zeros((1, 3, 4, 5), np.uint8), geometry), tmp_path / "a.nii", overwrite=True)
        header = nib.load(tmp_path / "a.nii").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, code)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([0, 1], np.float16), "f4"),
        (np.array([False, True]), "u1"),
        (np.array([0, 7], np.int64), "u1"),
        (np.array([-1, 7], np.int64), "i2"),
        (np.array([0, 60000], np.uint64), "u2"),
        (np.array([0, 70000], np.int64), "i4"),
        (np.array([0, 1 << 40], np.int64), "i8"),
    ],
)
def test_types_that_tools_cannot_read_become_ones_that_hold_the_values(tmp_path: Path, array: Array, dtype: str) -> None:
    image = Image(array.reshape(1, 1, 1, 2).repeat(2, axis=1), Geometry.from_spacing((2, 1, 2), (1, 1, 1)))
    io.write(image, tmp_path / "a.nii.gz")
    again = io.read(tmp_path / "a.nii.gz")
    assert again.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(again.array, image.array)


def test_an_axis_beyond_nifti_1_is_written_as_nifti_2(tmp_path: Path) -> None:
    image = Image(np.arange(40000, dtype=np.uint16).reshape(1, 1, 40000), Geometry.from_spacing((1, 40000), (1, 1)))
    io.write(image, tmp_path / "a.nii")
    assert struct.unpack("<i", (tmp_path / "a.nii").read_bytes()[:4]) == (540,)
    np.testing.assert_array_equal(io.read(tmp_path / "a.nii").array, image.array)


@pytest.mark.parametrize("pick", [min, max])
def test_the_real_hippocampi_are_nibabels(shared_data: Path, pick: Callable[..., Path]) -> None:
    path = pick((shared_data / "hippocampus" / "imagesTr").glob("*.nii.gz"))
    image, stored = io.read(path), nib.load(path)
    np.testing.assert_array_equal(image.array[0], np.asarray(stored.dataobj).transpose())
    np.testing.assert_array_equal(image.geometry.affine, stored.affine[:, [2, 1, 0, 3]])
    assert image.meta.notes == ()
