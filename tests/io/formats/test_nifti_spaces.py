"""What is written from a NIfTI file lies in its spaces and units, also on another grid; no word of its header comes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.formats.nifti_files import Array, nib, patch, refused, save

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta, Spaces
from hounsfield.io.formats import Choices

COS, SIN = np.cos(0.4), np.sin(0.4)
TURNED = np.array([[-COS, -2 * SIN, 0, 10], [-SIN, 2 * COS, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
ARRAY = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)


def header_of(path: Path) -> Any:
    return nib.load(path).header


def again(path: Path, choices: Choices | None = None) -> Path:
    """The same image, read and written."""
    out = path.with_name("again.nii")
    io.write(io.read(path, choices or Choices()), out)
    return out


@pytest.mark.parametrize("codes", [(1, 1), (4, 1), (2, 2), (5, 3), (3, 0), (0, 1), (0, 0)])
@pytest.mark.parametrize("units", [0, 1, 2, 3, 10, 18])
@pytest.mark.parametrize("array", [ARRAY, ARRAY[:, :, :1]], ids=["3D", "2D"])
def test_codes_units_and_places_stay(codes: tuple[int, int], units: int, array: Array, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", array, TURNED, sform_code=codes[0], qform_code=codes[1], xyzt_units=units)
    made = again(path)
    old, new = header_of(path), header_of(made)
    assert (int(new["sform_code"]), int(new["qform_code"])) == codes
    assert int(new["xyzt_units"]) == units
    columns = [0, 1, 2, 3] if array.shape[2] > 1 else [0, 1, 3]
    np.testing.assert_allclose(new.get_best_affine()[:, columns], old.get_best_affine()[:, columns], atol=1e-4)
    assert io.read(made).geometry.same_grid(io.read(path).geometry)
    assert io.read(made).meta.notes == io.read(path).meta.notes


def two_spaces(path: Path) -> Path:
    """The scanner's in the qform; in the sform another, which is turned and moved against it."""
    image = nib.Nifti1Image(ARRAY, TURNED)
    turn = np.array([[0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 1, 11], [0, 0, 0, 1.0]])
    image.set_qform(TURNED, code=1)
    image.set_sform(turn @ TURNED, code=4)
    nib.save(image, path)
    return path


def test_two_spaces_that_differ_are_both_kept(tmp_path: Path) -> None:
    path = two_spaces(tmp_path / "a.nii")
    old, new = header_of(path), header_of(again(path))
    for name in ("sform", "qform"):
        assert int(new[f"{name}_code"]) == int(old[f"{name}_code"])
        np.testing.assert_allclose(getattr(new, f"get_{name}")(), getattr(old, f"get_{name}")(), atol=1e-4)


def test_on_another_grid_every_voxel_has_its_place_in_both(tmp_path: Path) -> None:
    path = two_spaces(tmp_path / "a.nii")
    image = io.read(path)
    old = header_of(path)
    flipped = image.canonical()
    finer = Image(image.array.repeat(2, axis=3), image.geometry.resize((3, 4, 10)), image.meta)
    for made, width in ((flipped, None), (finer, 10)):
        io.write(made, tmp_path / "b.nii", overwrite=True)
        new = nib.load(tmp_path / "b.nii")
        stored = np.asarray(new.dataobj)
        for value in (0, 7, 33, 59):
            before = np.argwhere(value == ARRAY)[0]
            after = np.argwhere(value == stored).mean(axis=0)  # of a finer grid the middle of two
            for name in ("sform", "qform"):
                was, lies = (
                    nib.affines.apply_affine(getattr(header, f"get_{name}")(), index)
                    for header, index in ((old, before), (new.header, after))
                )
                np.testing.assert_allclose(lies, was, atol=1e-4)
        assert width is None or stored.shape[0] == width


def test_of_two_that_cannot_both_be_true_the_chosen_one_is_left(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ARRAY, TURNED)
    patch(path, srow_x=[-4.0, 0, 0, 10])
    refused("AFFINE_CONFLICT", path)
    for name, codes in (("sform", (1, 0)), ("qform", (0, 1))):
        chosen = io.read(path, Choices(affine=name))
        io.write(chosen, tmp_path / "b.nii", overwrite=True)
        header = header_of(tmp_path / "b.nii")
        assert (int(header["sform_code"]), int(header["qform_code"])) == codes
        assert io.read(tmp_path / "b.nii").geometry.same_grid(chosen.geometry)


def test_what_a_qform_cannot_hold_is_an_sform_of_its_space(tmp_path: Path) -> None:
    sheared = Geometry.from_spacing((3, 4, 5), (2, 1, 1)).affine.copy()
    sheared[1, 0] = 0.5
    image = Image(np.zeros((1, 3, 4, 5), np.uint8), Geometry((3, 4, 5), sheared), Meta(spaces=Spaces(0, 3, taken="qform")))
    io.write(image, tmp_path / "a.nii")
    header = header_of(tmp_path / "a.nii")
    assert (int(header["sform_code"]), int(header["qform_code"])) == (3, 0)
    np.testing.assert_allclose(header.get_sform(), sheared[:, [2, 1, 0, 3]])


def test_without_a_code_another_place_needs_an_sform(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ARRAY, TURNED, sform_code=0, qform_code=0)
    image = io.read(path)
    assert image.meta.spaces is not None
    assert (image.meta.spaces.sform, image.meta.spaces.qform) == (0, 0)
    grid = image.geometry.crop((1, 0, 0), (2, 4, 5))
    io.write(Image(image.array[:, 1:], grid, image.meta), tmp_path / "b.nii")
    assert int(header_of(tmp_path / "b.nii")["sform_code"]) == 1
    assert io.read(tmp_path / "b.nii").geometry.same_grid(grid)


def test_no_word_comes_along(tmp_path: Path) -> None:
    words = {"descrip": b"MILLER^ANNA", "aux_file": b"MILLER.txt", "db_name": b"MILLER", "intent_name": b"MILLER"}
    path = save(tmp_path / "a.nii", ARRAY, TURNED, **words)
    assert path.read_bytes().count(b"MILLER") == 4
    assert b"MILLER" not in again(path).read_bytes()


def test_what_was_no_nifti_file_lies_in_the_scanner_s_space(tmp_path: Path) -> None:
    io.write(Image(np.zeros((1, 3, 4, 5), np.uint8), Geometry.from_spacing((3, 4, 5), (1, 1, 1)), Meta()), tmp_path / "a.nii")
    header = header_of(tmp_path / "a.nii")
    assert (int(header["sform_code"]), int(header["qform_code"]), int(header["xyzt_units"])) == (1, 1, 10)
