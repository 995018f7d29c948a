"""Blackened rectangles in every frame, other pixels as they were, in every transfer syntax that is decoded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit
from tests.io.deidentify.planted import VOXELS, cleaned, picture, save
from tests.io.deidentify.test_codestream import PIXELS, jpeg

import hounsfield as hu
from hounsfield.core.errors import InputError

BOX = {"x": 1, "y": 2, "width": 3, "height": 2}
WITHIN = (slice(2, 4), slice(1, 4))
FILES = (
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_implicit.dcm",
    "image_dfl.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "examples_palette.dcm",
)


@pytest.mark.parametrize("name", FILES)
def test_only_the_rectangle_changes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in.dcm"
    path.write_bytes(Path(str(pydicom.data.get_testdata_file(name))).read_bytes())
    out, _ = cleaned(path, clean_pixels=(BOX,), allow_burned_in=True)
    before, after = hu.read(path).array, hu.read(tmp_path / "out").array
    assert before.shape == after.shape
    assert before.dtype == after.dtype
    changed = np.zeros(before.shape[1:], dtype=bool)
    changed[WITHIN] = True
    np.testing.assert_array_equal(before[:, ~changed], after[:, ~changed])
    assert len({tuple(pixel) for pixel in after[:, changed].T}) == 1, "one value within"
    assert after[:, changed].sum() <= before[:, changed].sum()
    assert not out.file_meta.TransferSyntaxUID.is_compressed
    assert out.BurnedInAnnotation == "NO"


@pytest.mark.parametrize(("photometric", "black"), [("MONOCHROME1", VOXELS.max()), ("MONOCHROME2", VOXELS.min())])
def test_black_is_the_darkest_value_of_the_frame(tmp_path: Path, photometric: str, black: int) -> None:
    source = save(picture(PhotometricInterpretation=photometric), tmp_path / "in.dcm")
    out, _ = cleaned(source, clean_pixels=(BOX,))
    expected = VOXELS.copy()
    expected[WITHIN] = black
    np.testing.assert_array_equal(out.pixel_array, expected)


def test_every_frame_is_blackened_and_bits_are_packed_again(tmp_path: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 2, (3, 6, 7), dtype=np.uint8)
    bits = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    data = picture(frames, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=bits)
    out, _ = cleaned(save(data, tmp_path / "in.dcm"), clean_pixels=(BOX, {"x": 6, "y": 0, "width": 9, "height": 9}))
    expected = frames.copy()
    expected[:, 2:4, 1:4] = 0
    expected[:, :, 6] = 0
    np.testing.assert_array_equal(out.pixel_array, expected)
    assert out.NumberOfFrames == 3


def test_a_rectangle_beyond_the_image_is_refused(tmp_path: Path) -> None:
    source = save(picture(), tmp_path / "in.dcm")
    with pytest.raises(InputError, match=r"^BAD_OPTION .* 7,0,1,1 beyond 7 columns and 6 rows"):
        cleaned(source, clean_pixels=({"x": 7, "y": 0, "width": 1, "height": 1},))


def test_pixels_that_nothing_decodes_are_refused(tmp_path: Path) -> None:
    data = picture()
    data.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.57")
    data.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    with pytest.raises(InputError, match=r"^(CORRUPT_PIXELS|UNSUPPORTED_SYNTAX)"):
        cleaned(save(data, tmp_path / "in.dcm"), clean_pixels=(BOX,))


def colour(frames: list[bytes], **tags: Any) -> Any:
    data = picture(PIXELS[..., 0], SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=0, **tags)
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.PixelData = encapsulate(frames)
    data["PixelData"].is_undefined_length = True
    return data


def test_remarks_in_compressed_frames_go_and_pixels_stay(tmp_path: Path) -> None:
    frames = [jpeg(comment=b"Zwicker in a frame"), jpeg(quality=60)]
    source = save(colour(frames, NumberOfFrames=2), tmp_path / "in.dcm")
    before = pydicom.dcmread(source)
    out, _ = cleaned(source)
    assert b"in a frame" in source.read_bytes()
    assert b"in a frame" not in (tmp_path / "out").read_bytes()
    assert out.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    np.testing.assert_array_equal(out.pixel_array, before.pixel_array)


def test_frames_without_remarks_keep_every_byte(tmp_path: Path) -> None:
    from hounsfield.io.deidentify._codestream import clean_jpeg

    data = colour([clean_jpeg(jpeg())])
    source = save(data, tmp_path / "in.dcm")
    assert cleaned(source)[0].PixelData == pydicom.dcmread(source).PixelData


def test_a_damaged_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^CORRUPT_PIXELS"):
        cleaned(save(colour([jpeg()[:100]]), tmp_path / "in.dcm"))
