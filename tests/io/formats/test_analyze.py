"""Analyze 7.5: nibabel is the oracle; that orientation is assumed is said."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.formats.nifti_files import nib, refused

from hounsfield import io
from hounsfield.io.formats import Choices

RNG = np.random.default_rng(6)
VOLUME = RNG.integers(0, 100, (7, 6, 5)).astype(np.int16)
AFFINE = np.diag([-2.0, 3.0, 4.0, 1.0])


def save(path: Path, kind: Any = nib.AnalyzeImage, array: np.ndarray[Any, Any] = VOLUME) -> Path:
    """The pair at path, .img, and its .hdr."""
    nib.save(kind(array, AFFINE), path)
    path.with_suffix(".mat").unlink(missing_ok=True)  # SPM's, which nibabel would take the place from
    return path


def patch(path: Path, at: int, value: float, kind: str) -> Path:
    content = bytearray(path.with_suffix(".hdr").read_bytes())
    struct.pack_into(f"<{kind}", content, at, value)
    path.with_suffix(".hdr").write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
@pytest.mark.parametrize("name", ["a.img", "a.hdr"])
def test_voxels_and_places_are_nibabels(tmp_path: Path, kind: Any, name: str) -> None:
    save(tmp_path / "a.img", kind)
    image, stored = io.read(tmp_path / name), nib.load(tmp_path / "a.img")
    np.testing.assert_array_equal(image.array[0], stored.get_fdata().transpose())
    np.testing.assert_allclose(image.geometry.affine, stored.affine[:, [2, 1, 0, 3]], atol=1e-6)
    assert "does not say where left is" in image.meta.notes[0]
    assert image.meta.format == "nifti"


@pytest.mark.parametrize("code", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_dtype_in_either_byte_order(tmp_path: Path, code: str, order: str) -> None:
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_dtype(np.dtype(code))
    nib.save(nib.AnalyzeImage(VOLUME.astype(code), AFFINE, header), tmp_path / "a.img")
    image = io.read(tmp_path / "a.img")
    assert image.array.dtype == np.dtype(code)
    np.testing.assert_array_equal(image.array[0], VOLUME.transpose())


def test_spms_scale_and_origin_are_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.img", nib.Spm99AnalyzeImage)
    patch(path, 112, 2.0, "f")
    for k, value in enumerate((3, 2, 1)):
        patch(path, 253 + 2 * k, value, "h")
    image, stored = io.read(path), nib.load(path)
    np.testing.assert_array_equal(image.array[0], stored.get_fdata().transpose())
    np.testing.assert_allclose(image.geometry.affine, stored.affine[:, [2, 1, 0, 3]], atol=1e-6)
    np.testing.assert_allclose(image.geometry.index_to_world((0, 1, 2))[0], 0, atol=1e-6)


def test_a_display_range_is_no_scale(tmp_path: Path) -> None:
    path = save(tmp_path / "a.img")
    for at, value, kind in ((124, 1.0, "f"), (140, 100, "i")):  # cal_max, glmax
        patch(path, at, value, kind)
    image = io.read(path)
    np.testing.assert_array_equal(image.array[0], VOLUME.transpose())
    assert any("cal_max" in note for note in image.meta.notes)


def test_a_mat_file_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.img")
    path.with_suffix(".mat").write_bytes(b"MATLAB 5.0")
    assert any(".mat" in note for note in io.read(path).meta.notes)


def test_a_series_has_a_volume_to_choose(tmp_path: Path) -> None:
    array = RNG.integers(0, 100, (7, 6, 5, 3)).astype(np.int16)
    path = save(tmp_path / "a.img", array=array)
    refused("WRONG_DIMENSION", path)
    np.testing.assert_array_equal(io.read(path, Choices(volume=1)).array[0], array[..., 1].transpose())


def test_a_flat_one_needs_no_third_side(tmp_path: Path) -> None:
    path = patch(save(tmp_path / "a.img", array=VOLUME[:, :, :1]), 88, 0.0, "f")  # pixdim[3]
    assert io.read(path).array.shape == (1, 6, 7)


def test_faults_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.img")
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert "found 400 bytes of voxels, expected 420 bytes" in refused("TRUNCATED", path)
    path.write_bytes(content)
    assert "pixdim[2] = 0" in refused("BAD_SPACING", patch(path, 84, 0.0, "f"))
    refused("BAD_HEADER", patch(path, 70, 999, "h"))  # datatype: then it is no Analyze
    path.unlink()
    save(tmp_path / "b.img").unlink()
    refused("NOT_FOUND", tmp_path / "b.hdr")


def test_a_header_of_another_program_is_neither(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_text("ENVI\nsamples = 10\n" * 40)
    refused("WRONG_FORMAT", tmp_path / "a.hdr")
    (tmp_path / "a.img").write_bytes(bytes(100))
    refused("BAD_HEADER", tmp_path / "a.img")
