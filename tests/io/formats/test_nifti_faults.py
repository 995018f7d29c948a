"""NIfTI: every fault is refused before it costs memory, and named with its numbers."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.formats.nifti_files import Array, nib, patch, refused, save, with_qform

from hounsfield import io
from hounsfield.io.formats import Choices

RNG = np.random.default_rng(8)
STRAIGHT = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("cut", [400, -2000, -40])
def test_truncation_says_the_bytes_found_and_needed(tmp_path: Path, ending: str, cut: int) -> None:
    path = save(tmp_path / f"a{ending}", RNG.integers(0, 30000, (20, 20, 20), dtype=np.int16))
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    line = refused("TRUNCATED", path)
    found, needed = (int(part.split(" bytes")[0].split()[-1]) for part in line.split("expected"))
    assert needed == 16000
    assert found < needed
    if ending == ".nii":
        assert found == len(content[:cut]) - 352


def test_a_header_cut_short_is_truncated(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    path.write_bytes(path.read_bytes()[:200])
    assert "found 200 bytes of header, expected 348 bytes" in refused("TRUNCATED", path)


def test_a_lost_gzip_checksum_is_truncation_and_a_wrong_one_corruption(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", RNG.integers(0, 30000, (9, 9, 9), dtype=np.int16))
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    assert f"{len(content) - 8} bytes of gzip without its end" in refused("TRUNCATED", path)
    path.write_bytes(content[:-8] + bytes(8))
    refused("CORRUPT_PIXELS", path)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0x55
    path.write_bytes(damaged)
    refused("CORRUPT_PIXELS", path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_claim_of_32767_cubed_is_refused_before_allocating(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", np.zeros((2, 2, 2), np.int16), dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    line = refused("TOO_LARGE", path)
    assert f"{32767**3 * 2} bytes ({32767**3 * 2 / 2**30:.2f} GiB)" in line
    assert "16.00 GiB" in line


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii", np.zeros((64, 64, 64), np.int16))
    monkeypatch.setenv("HOUNSFIELD_MAX_GIB", "0.0004")
    assert "524288 bytes" in refused("TOO_LARGE", path)
    monkeypatch.setenv("HOUNSFIELD_MAX_GIB", "0.0005")
    assert io.read(path).array.size == 64**3


def test_gzip_that_cannot_hold_the_claim_is_refused_before_allocating(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.zeros((2, 2, 2), np.int16), dim=[3, 1000, 1000, 1000, 1, 1, 1, 1])
    assert "all that these can hold" in refused("TOO_LARGE", path)


def test_a_gzip_bomb_is_not_expanded(tmp_path: Path) -> None:
    content = save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.int16)).read_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = packer.compress(content) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    (tmp_path / "b.nii.gz").write_bytes(bomb)
    assert "after the voxels that the header claims" in refused("EXPANDS_TOO_FAR", tmp_path / "b.nii.gz")


@pytest.mark.parametrize("value", [0.0, -1.5, np.nan])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_spacing_must_be_positive(tmp_path: Path, value: float, axis: int) -> None:
    path = patch(save(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8)), **{f"pixdim_at_{axis}": value})
    assert f"pixdim[{axis}] = {value:g}" in refused("BAD_SPACING", path)


def test_a_rigid_difference_takes_sform_and_says_so(tmp_path: Path) -> None:
    moved = STRAIGHT.copy()
    moved[:3, 3] = (0, 3, 4)
    image = io.read(with_qform(tmp_path / "a.nii", moved, STRAIGHT))
    np.testing.assert_allclose(image.geometry.affine, moved[:, [2, 1, 0, 3]])
    assert image.meta.notes == ("sform and qform place the voxels up to 5 mm apart: sform was taken",)
    chosen = io.read(tmp_path / "a.nii", Choices(affine="qform"))
    np.testing.assert_allclose(chosen.geometry.affine, STRAIGHT[:, [2, 1, 0, 3]], atol=1e-6)


def test_sform_and_qform_that_agree_need_no_note(tmp_path: Path) -> None:
    assert io.read(with_qform(tmp_path / "a.nii", STRAIGHT, STRAIGHT)).meta.notes == ()


@pytest.mark.parametrize("other", [np.diag([1.0, 2.1, 3.0, 1.0]), np.diag([-1.0, 2.0, 3.0, 1.0])])
def test_other_spacing_or_handedness_must_be_chosen(tmp_path: Path, other: Array) -> None:
    path = with_qform(tmp_path / "a.nii", other, STRAIGHT)
    line = refused("AFFINE_CONFLICT", path)
    assert "sform [[" in line
    assert "qform [[" in line
    assert "--affine sform|qform" in line
    for name, affine in (("sform", other), ("qform", STRAIGHT)):
        read = io.read(path, Choices(affine=name))
        np.testing.assert_allclose(read.geometry.affine, affine[:, [2, 1, 0, 3]], atol=1e-6)
    assert "sform or qform" in refused("BAD_OPTION", path, affine="both")


def test_a_singular_affine_is_printed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 3, 3), np.uint8), qform_code=0, srow_x=[0, 0, 0, 0])
    assert "sform [[0.0,0.0,0.0,0.0]" in refused("BAD_AFFINE", path)
    path = save(tmp_path / "b.nii", np.zeros((3, 3, 3), np.uint8), STRAIGHT, srow_x=[0, 0, 0, 0])
    line = refused("BAD_AFFINE", path)
    assert "qform [[1.0," in line
    np.testing.assert_allclose(io.read(path, Choices(affine="qform")).geometry.spacing, (3, 2, 1), rtol=1e-6)
    path = save(tmp_path / "c.nii", np.zeros((3, 3, 3), np.uint8), qform_code=0, srow_x=[np.nan, 0, 0, 0])
    assert "nan" in refused("BAD_AFFINE", path)


def test_without_sform_the_qform_places_and_without_both_pixdim_as_in_nibabel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.uint8), STRAIGHT, sform_code=0)
    np.testing.assert_allclose(io.read(path).geometry.affine, STRAIGHT[:, [2, 1, 0, 3]], atol=1e-6)
    patch(path, qform_code=0)
    image = io.read(path)
    np.testing.assert_allclose(image.geometry.affine, nib.load(path).affine[:, [2, 1, 0, 3]], atol=1e-6)
    assert "no sform or qform" in image.meta.notes[0]


@pytest.mark.parametrize(("value", "told"), [(np.nan, "NaN or infinite"), (-np.inf, "NaN or infinite")])
def test_voxels_that_are_no_numbers_are_counted_and_the_first_is_named(tmp_path: Path, value: float, told: str) -> None:
    array = np.zeros((6, 5, 4), np.float32)
    array[4, 3, 2] = array[5, 3, 2] = array[0, 0, 3] = value
    line = refused("NOT_FINITE", save(tmp_path / "a.nii.gz", array))
    assert f"3 of 120 voxels {told}, the first at (2, 3, 4)" in line


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"dim": [8, 2, 2, 2, 1, 1, 1, 1]}, "BAD_HEADER", "dim = [8,"),
        ({"dim": [3, 2, -2, 2, 1, 1, 1, 1]}, "BAD_HEADER", "-2"),
        ({"dim": [1, 8, 1, 1, 1, 1, 1, 1]}, "WRONG_DIMENSION", "(8,)"),
        ({"dim": [6, 1, 2, 2, 1, 1, 2, 1]}, "WRONG_DIMENSION", "(1, 2, 2, 1, 1, 2)"),
        ({"datatype": 32}, "BAD_HEADER", "datatype 32"),  # complex64
        ({"datatype": 1}, "BAD_HEADER", "datatype 1"),  # one bit
        ({"datatype": 999}, "BAD_HEADER", "datatype 999"),
        ({"vox_offset": 100}, "BAD_HEADER", "vox_offset = 100"),
        ({"vox_offset": np.nan}, "BAD_HEADER", "vox_offset = nan"),
        ({"vox_offset": 4000}, "TRUNCATED", "0 bytes of voxels"),
    ],
)
def test_header_fields_outside_their_domain_are_named(tmp_path: Path, fields: dict[str, Any], code: str, told: str) -> None:
    path = save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8), **fields)
    assert told in refused(code, path)


def test_an_intercept_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((2, 2, 2), np.int16), scl_slope=2.0, scl_inter=np.inf)
    assert "scl_inter = inf" in refused("BAD_HEADER", path)
