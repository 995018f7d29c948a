"""JPEG of 12-bit samples: values as another reader has them, and damage that ends the decoder's process, not ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.io.formats import Choices

FOUND = get_testdata_file("JPEG-lossy.dcm")
assert FOUND is not None
SOURCE = Path(FOUND)


def test_values_of_twelve_bits() -> None:
    image = io.read(SOURCE)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(SOURCE)))
    assert image.array.dtype == np.uint16
    assert image.array.max() == 264
    np.testing.assert_array_equal(image.array.reshape(expected.shape), expected)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
def test_a_scan_that_is_cut_is_refused(tmp_path: Path, kept: float) -> None:
    image = pydicom.dcmread(SOURCE)
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData = encapsulate([frame[: int(kept * len(frame))]])
    image.save_as(tmp_path / "cut.dcm")
    with pytest.raises(InputError) as error:
        io.read(tmp_path / "cut.dcm")
    assert error.value.code == "CORRUPT_PIXELS"
    assert "frame 0 of 1" in str(error.value)


def test_one_frame_of_many_is_read_within_the_limit_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pydicom.dcmread(SOURCE)
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    image.NumberOfFrames, image.PixelData = 2, encapsulate([frame, frame])
    image.save_as(tmp_path / "two.dcm")
    second = io.read(tmp_path / "two.dcm", Choices(frame=1))
    np.testing.assert_array_equal(second.array, io.read(SOURCE).array)
    monkeypatch.setenv("HOUNSFIELD_MAX_GIB", str(1.5 * second.array.nbytes / 2**30))
    with pytest.raises(InputError) as error:
        io.read(tmp_path / "two.dcm", Choices(frame=1))
    assert error.value.code == "TOO_LARGE"


def test_frames_of_another_size_are_named(tmp_path: Path) -> None:
    image = pydicom.dcmread(SOURCE)
    image.Rows = 512
    image.save_as(tmp_path / "half.dcm")
    with pytest.raises(InputError, match="1024 rows, 256 columns"):
        io.read(tmp_path / "half.dcm")


def test_without_its_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hounsfield.io.formats._dicom_pixels.find_spec", lambda name: None)
    assert importlib.util.find_spec("gdcm") is not None
    with pytest.raises(InputError, match="pip install 'hounsfield") as error:
        io.read(SOURCE)
    assert error.value.code == "UNSUPPORTED_SYNTAX"
