"""The image verb: what it says of one image is what the image is, and what it writes is the same image."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom.data
import pytest
from rich.console import Console

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io.formats import Choices
from hounsfield.workflow.image import image, show

ARRAY = np.random.default_rng(0).normal(100, 20, (1, 5, 6, 7)).astype(np.float32)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    geometry = Geometry.from_spacing((5, 6, 7), (3.0, 0.5, 0.7), origin=(-10, 20, 30))
    io.write(Image(ARRAY, geometry), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def text(found: object) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(show(found))  # type: ignore[arg-type]
    return console.export_text()


def test_what_it_says(scan: Path) -> None:
    found = image(scan)
    assert (found.format, found.shape, found.channels, found.dtype) == ("nifti", (5, 6, 7), 1, "float32")
    assert found.spacing == pytest.approx((3.0, 0.5, 0.7))
    assert (found.unit, found.orientation) == ("mm", "SAR")
    affine = nib.load(scan).affine  # type: ignore[attr-defined]
    np.testing.assert_allclose(np.array(found.affine)[:, [2, 1, 0, 3]], affine, atol=1e-5)
    assert found.values is not None
    values = (found.values.low, found.values.median, found.values.high, found.values.mean)
    assert values == pytest.approx((ARRAY.min(), np.median(ARRAY), ARRAY.max(), ARRAY.mean()), rel=1e-5)
    assert json.loads(json.dumps(found.to_json()))["schema"] == 1
    page = text(found)
    for said in ("NIfTI", "5×6×7 voxels of float32", "3×0.5×0.7 mm", "SAR", "R -10.00, A 20.00, S 30.00 mm"):
        assert said in page


@pytest.mark.parametrize("ending", [".nii", ".npz", ".nrrd", ".mha"])
def test_what_it_writes_is_the_same_image(scan: Path, ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{ending}"
    assert image(scan, to=out).written == str(out)
    again = io.read(out)
    np.testing.assert_array_equal(again.array, ARRAY)
    assert again.geometry.same_grid(io.read(scan).geometry)
    with pytest.raises(InputError, match=r"^OUTPUT_EXISTS"):
        image(scan, to=out)
    assert image(scan, to=out, overwrite=True).written == str(out)


def test_several_volumes_are_told_and_one_is_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 3), np.int16), np.eye(4)), tmp_path / "a.nii")  # type: ignore[no-untyped-call]
    found = image(tmp_path / "a.nii")
    assert (found.volumes, found.values, found.shape) == (3, None, (6, 5, 4))
    assert "--volume 0" in found.needs
    assert "3 volumes" in text(found)
    assert image(tmp_path / "a.nii", choices=Choices(volume=1)).values is not None
    with pytest.raises(InputError, match=r"^WRONG_DIMENSION"):
        image(tmp_path / "a.nii", to=tmp_path / "b.nii")
    assert not (tmp_path / "b.nii").exists()


def test_several_series_are_told_and_one_is_read(tmp_path: Path) -> None:
    for k, number in enumerate((2, 1)):
        tags = pydicom.dcmread(str(pydicom.data.get_testdata_file("CT_small.dcm")))
        tags.SeriesInstanceUID, tags.SeriesNumber, tags.SeriesDescription = f"1.{k}", number, f"scan {number}"
        tags.save_as(tmp_path / f"{k}.dcm")
    found = image(tmp_path)
    assert [(s.number, s.description, s.files) for s in found.series] == [("1", "scan 1", 1), ("2", "scan 2", 1)]
    assert (found.shape, found.values) == ((), None)
    assert "scan 2" in text(found)
    assert image(tmp_path, choices=Choices(series="scan 2")).shape == (128, 128)
    with pytest.raises(InputError, match=r"^SEVERAL_SERIES"):
        image(tmp_path, to=tmp_path / "b.nii")


def test_a_picture_has_no_place(tmp_path: Path) -> None:
    io.write(Image(np.zeros((3, 4, 5), np.uint8), Geometry.none((4, 5))), tmp_path / "a.png")
    found = image(tmp_path / "a.png")
    assert (found.space, found.orientation, found.channels) == ("none", "", 3)
    assert "distances are in pixels" in text(found)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"text that is no image" * 10)
    with pytest.raises(InputError, match=r"^WRONG_FORMAT"):
        image(tmp_path / "a.nii")


def test_series_of_several_studies_are_told_apart(tmp_path: Path) -> None:
    for k, study in enumerate(("1.7", "1.8", "1.7")):
        tags = pydicom.dcmread(str(pydicom.data.get_testdata_file("CT_small.dcm")))
        tags.SeriesInstanceUID, tags.SeriesNumber, tags.StudyInstanceUID = f"1.{k}", 9 - k, study
        tags.save_as(tmp_path / f"{k}.dcm")
    found = image(tmp_path)
    assert [(s.study, s.number) for s in found.series] == [(1, "7"), (1, "9"), (2, "8")]
    assert found.needs.startswith("3 series of 2 studies; choose one")
    page = text(found)
    assert "study" in page
    assert "1.7" not in page
    with pytest.raises(InputError, match=r"3 series of 2 studies: number 7"):
        io.read(tmp_path)
