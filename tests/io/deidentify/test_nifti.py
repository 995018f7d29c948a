"""NIfTI: no free text and no extension is left, every voxel byte is as it was, and names are pseudonyms."""

from __future__ import annotations

import gzip
from pathlib import Path, PurePath
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.io.deidentify.planted import SECRET

import hounsfield as hu
from hounsfield.core.errors import InputError
from hounsfield.io.deidentify import deidentify, holds
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Action, Result

VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
AFFINE = np.array([[0, -2, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 9], [0, 0, 0, 1.0]])


def scan(path: Path, kind: Any = nib.Nifti1Image, order: str = "<", voxels: Any = VOXELS) -> Path:
    header = kind.header_class(endianness=order)
    image = kind(voxels, AFFINE, header=header)
    image.header["descrip"] = b"scan of Ottilie Zwicker"
    image.header["aux_file"] = b"Zwicker.lut"
    image.header["intent_name"] = b"Zwicker"
    if kind is nib.Nifti1Image:
        image.header["db_name"] = b"Zwicker"
        image.header["data_type"] = b"Zwicker"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"seen: Ottilie Zwicker"))
    nib.save(image, path)
    return path


def cleaned(path: Path, relative: str = "images/Zwicker.nii.gz") -> tuple[Path, Result]:
    staged = path.with_name("staged")
    result = deidentify(path, PurePath(relative), staged, Profile(), SECRET)
    out = path.with_name(PurePath(result.name).name)
    staged.rename(out)
    return out, result


def plain(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_text_goes_and_voxels_and_place_stay(tmp_path: Path, kind: Any, order: str, ending: str) -> None:
    source = scan(tmp_path / f"Zwicker{ending}", kind, order)
    out, result = cleaned(source, f"Zwicker{ending}")
    assert out.name.endswith(ending)
    assert b"Zwicker" in plain(source)
    assert b"Zwicker" not in plain(out) + out.read_bytes()
    assert b"Zwicker" not in out.name.encode()
    assert plain(out)[-VOXELS.nbytes :] == plain(source)[-VOXELS.nbytes :]
    before, after = hu.read(source), hu.read(out)
    np.testing.assert_array_equal(before.array, after.array)
    assert before.geometry.same_grid(after.geometry)
    assert result.actions[Action.EMPTY, "descrip"] == result.actions[Action.REMOVE, "extension"] == 1
    assert not nib.load(out).header.extensions  # type: ignore[attr-defined]


def test_gzip_tells_neither_name_nor_time(tmp_path: Path) -> None:
    out, _ = cleaned(scan(tmp_path / "a.nii.gz"), "a.nii.gz")
    assert out.read_bytes()[3:8] == bytes(5)


def test_the_search_finds_what_is_put_back(tmp_path: Path) -> None:
    out, result = cleaned(scan(tmp_path / "a.nii"), "Zwicker_Ottilie.nii")
    assert not holds(out, "nifti", result.identifiers, Identifiers())
    raw = bytearray(out.read_bytes())
    raw[148:171] = b"scan of Ottilie Zwicker"
    out.write_bytes(raw)
    assert holds(out, "nifti", result.identifiers, Identifiers())
    assert holds(out, "nifti", Identifiers(), result.identifiers)


def test_what_follows_the_voxels_goes(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.nii")
    source.write_bytes(source.read_bytes() + b"Zwicker trails")
    out, _ = cleaned(source, "a.nii")
    assert b"Zwicker" not in out.read_bytes()


def test_an_image_and_its_mask_keep_one_name(tmp_path: Path) -> None:
    source = scan(tmp_path / "a.nii.gz")
    names = [
        cleaned(source, relative)[1].name
        for relative in ("imagesTr/p1_0001.nii.gz", "labelsTr/p1.nii.gz", "imagesTr/p2_0001.nii.gz", "ward/p1_mask.nii.gz")
    ]
    folders, stems = zip(*(name.removesuffix(".nii.gz").split("/") for name in names), strict=True)
    assert folders[:3] == ("imagesTr", "labelsTr", "imagesTr")
    assert folders[3] == SECRET.code("folder", "ward")
    code = SECRET.code("file", "p1")
    assert stems == (f"{code}_0001", code, f"{SECRET.code('file', 'p2')}_0001", f"{code}_mask")


def test_a_pair_of_files_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), tmp_path / "a.hdr")  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED .*two files"):
        cleaned(tmp_path / "a.hdr", "a.hdr")


@pytest.mark.parametrize("cut", [200, 360, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    source = scan(tmp_path / "a.nii")
    source.write_bytes(source.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"^(TRUNCATED|UNKNOWN_FORMAT)"):
        cleaned(source, "a.nii")


def test_a_claim_beyond_every_limit_is_refused(tmp_path: Path) -> None:
    raw = bytearray(scan(tmp_path / "a.nii").read_bytes())
    raw[40:48] = np.array([3, 32767, 32767, 32767], dtype="<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(InputError, match=r"^TOO_LARGE"):
        cleaned(tmp_path / "a.nii", "a.nii")


def test_voxels_before_the_end_of_the_header_are_refused(tmp_path: Path) -> None:
    raw = bytearray(scan(tmp_path / "a.nii").read_bytes())
    raw[108:112] = np.float32(100).tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(InputError, match=r"^BAD_HEADER"):
        cleaned(tmp_path / "a.nii", "a.nii")
