"""One DICOM file: values, place in the patient, and every fault by its tag and numbers."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.formats import Choices

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 3000, (6, 8), dtype=np.uint16)
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def packaged(name: str) -> Path:
    """A file that ships inside pydicom."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def refused(code: str, path: Path, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path, Choices(**choices))
    assert caught.value.code == code
    line = str(caught.value)
    assert "\n" not in line
    assert "SECRET" not in line.upper().replace(str(path).upper(), "")
    return line


def test_a_slice_lies_in_its_plane_in_the_patient() -> None:
    path = packaged("CT_small.dcm")
    image, tags = io.read(path), pydicom.dcmread(path)
    assert image.array.shape == (1, 128, 128)
    assert image.array.dtype == np.int16
    np.testing.assert_array_equal(image.array[0], tags.pixel_array.astype(int) + int(tags.RescaleIntercept))
    assert (image.meta.modality, image.meta.lossy, image.meta.notes) == ("CT", False, ())
    # PS3.3 C.7.6.2.1.1: IOP[:3] runs along a row, so with the column index; PixelSpacing[1] is between columns.
    row, column = np.reshape(np.array(tags.ImageOrientationPatient, float), (2, 3))
    for h, w in ((0, 0), (3, 0), (0, 5), (127, 127)):
        lps = np.array(tags.ImagePositionPatient, float) + w * tags.PixelSpacing[1] * row + h * tags.PixelSpacing[0] * column
        np.testing.assert_allclose(image.geometry.index_to_world((h, w))[0], lps * [-1, -1, 1], atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_implicit.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)
@pytest.mark.filterwarnings("ignore:The pixel data is")
def test_every_lossless_syntax_gives_the_same_image(name: str) -> None:
    plain, other = io.read(packaged("MR_small.dcm")), io.read(packaged(name))
    assert other.array.dtype == np.int16
    np.testing.assert_array_equal(other.array, plain.array)
    assert other.geometry == plain.geometry
    assert not other.meta.lossy
    told = io.peek(packaged(name))
    assert (told.geometry, told.channels, told.dtype, told.modality) == (plain.geometry, 1, plain.array.dtype, "MR")


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEGLSNearLossless_16.dcm"])
def test_lossy_compression_is_known(name: str) -> None:
    assert io.read(packaged(name)).meta.lossy


def test_colours_are_channels() -> None:
    plain = io.read(packaged("SC_rgb_rle.dcm"))
    assert plain.array.shape == (3, 100, 100)
    np.testing.assert_array_equal(plain.array, pydicom.dcmread(packaged("SC_rgb_rle.dcm")).pixel_array.transpose(2, 0, 1))
    assert plain.geometry.space == "none"
    palette = io.read(packaged("examples_palette.dcm"))
    assert (palette.array.shape, palette.array.dtype) == ((3, 350, 800), np.dtype(np.uint8))
    assert "palette colours were turned into 8-bit RGB" in palette.meta.notes


def test_a_deflated_file_is_inflated() -> None:
    image = io.read(packaged("image_dfl.dcm"))
    np.testing.assert_array_equal(image.array[0], pydicom.dcmread(packaged("image_dfl.dcm")).pixel_array)


def test_a_cine_frame_is_chosen() -> None:
    path = packaged("examples_ybr_color.dcm")
    assert (io.peek(path).volumes, io.peek(path).channels) == (30, 3)
    assert "30 frames" in refused("WRONG_DIMENSION", path)
    assert "--frame 0 to --frame 29" in refused("WRONG_DIMENSION", path, frame=30)
    image = io.read(path, Choices(frame=29))
    np.testing.assert_array_equal(image.array, pixel_array(path, index=29).transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["rtplan.dcm", "rtdose.dcm", "test-SR.dcm", "rtstruct.dcm"])
def test_what_holds_no_image_is_named(name: str) -> None:
    kind = pydicom.dcmread(packaged(name), stop_before_pixels=True, force=True).SOPClassUID.name
    assert kind in refused("WRONG_FORMAT", packaged(name))


def test_text_named_dcm_is_not_dicom(tmp_path: Path) -> None:
    for content, told in (("hello, world", "text"), ("<html><body>404</body></html>", "HTML"), ('{"a": 1}', "JSON")):
        (tmp_path / "a.dcm").write_text(content)
        line = refused("WRONG_FORMAT", tmp_path / "a.dcm")
        assert told in line
        assert "not DICOM" in line


def test_a_file_without_preamble_is_read(tmp_path: Path, make_slice: Any) -> None:
    content = make_slice(tmp_path / "a.dcm", PIXELS).read_bytes()
    (tmp_path / "b.dcm").write_bytes(content[132:])
    np.testing.assert_array_equal(io.read(tmp_path / "b.dcm").array[0], PIXELS)


def test_truncated_pixels_say_the_bytes_found_and_needed(tmp_path: Path, make_slice: Any) -> None:
    assert "found 8130 bytes of pixels, expected 8192 bytes" in refused("TRUNCATED", packaged("MR_truncated.dcm"))
    path = make_slice(tmp_path / "a.dcm", PIXELS)
    content = path.read_bytes()
    path.write_bytes(content[:-50])
    assert "found 46 bytes of pixels, expected 96 bytes" in refused("TRUNCATED", path)
    path.write_bytes(content[: content.index(b"\xe0\x7f\x10\x00OW")])
    assert "found 0 bytes of pixels" in refused("TRUNCATED", path)


def test_a_claim_of_65535_squared_with_two_bytes_is_refused_before_allocating(tmp_path: Path, make_slice: Any) -> None:
    path = make_slice(tmp_path / "a.dcm", PIXELS, Rows=65535, Columns=65535, PixelData=bytes(2))
    line = refused("TOO_LARGE", path)
    assert "65535x65535" in line
    assert f"{65535**2 * 2} bytes" in line
    assert f"a file of {path.stat().st_size} bytes" in line


def test_a_claim_of_two_billion_frames_is_refused_before_allocating(tmp_path: Path, make_slice: Any) -> None:
    path = make_slice(tmp_path / "a.dcm", PIXELS, NumberOfFrames=2**31 - 1)
    assert f"{2**31 - 1}x1x6x8" in refused("TOO_LARGE", path)
    # Few enough for the limit of bytes, but compressed: each needs an item at least.
    tiny = {"Rows": 1, "Columns": 1, "NumberOfFrames": 2**31 - 1, "syntax": JPEG_2000, "frames": [bytes(8)]}
    path = make_slice(tmp_path / "b.dcm", PIXELS, **tiny)
    assert f"expected {8 * (2**31 - 1)} bytes" in refused("TRUNCATED", path)


def deflated(path: Path, head: bytes, body: bytes, more: int) -> Path:
    """A deflated file whose body is followed by a private element of `more` MiB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = struct.pack("<HH2sHL", 0x7FE1, 0x1010, b"OB", 0, more << 20)
    packed = packer.compress(body + element)
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(more)) + packer.flush()
    path.write_bytes(head + packed)
    return path


def test_a_deflate_bomb_is_not_expanded(tmp_path: Path) -> None:
    content = packaged("image_dfl.dcm").read_bytes()
    start = 132 + 12 + int.from_bytes(content[140:144], "little")
    body = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    assert io.read(deflated(tmp_path / "a.dcm", content[:start], body, 1)).array.shape == (1, 512, 512)
    bomb = deflated(tmp_path / "b.dcm", content[:start], body, 100)
    assert bomb.stat().st_size < 200_000
    assert f"inflate to more than {64 << 20} bytes" in refused("EXPANDS_TOO_FAR", bomb)
    cut = tmp_path / "c.dcm"
    cut.write_bytes(content[:-100])
    refused("TRUNCATED", cut)


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_nested_300_deep_end_in_a_message_or_are_skipped(tmp_path: Path, undefined: bool) -> None:
    content = packaged("CT_small.dcm").read_bytes()
    at = content.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    nested = b""
    for _ in range(300):
        open_end = 0xFFFFFFFF
        item = struct.pack("<HHL", 0xFFFE, 0xE000, open_end if undefined else len(nested)) + nested
        item += struct.pack("<HHL", 0xFFFE, 0xE00D, 0) if undefined else b""
        nested = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, open_end if undefined else len(item)) + item
        nested += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if undefined else b""
    (tmp_path / "a.dcm").write_bytes(content[:at] + nested + content[at:])
    if undefined:
        refused("NESTED_TOO_DEEP", tmp_path / "a.dcm")
    else:
        assert io.read(tmp_path / "a.dcm").array.shape == (1, 128, 128)


@pytest.mark.filterwarnings("ignore:The pixel data is")
def test_a_corrupt_fragment_names_decoder_and_frame(tmp_path: Path, make_slice: Any) -> None:
    good = pydicom.dcmread(packaged("MR_small_jp2klossless.dcm"))
    fragment = next(generate_frames(good.PixelData, number_of_frames=1))
    for frames, bad in (([b"\xff\x4f\xff\x51" + bytes(60)], 0), ([fragment, fragment[:200] + bytes(500)], 1)):
        shape = {"Rows": 64, "Columns": 64, "PixelRepresentation": 1}
        tags = {**shape, "NumberOfFrames": len(frames), "syntax": JPEG_2000, "frames": frames}
        path = make_slice(tmp_path / "a.dcm", PIXELS, None, **tags, ImageOrientationPatient=None, Modality="OT")
        line = refused("CORRUPT_PIXELS", path, frame=bad)
        assert f"frame {bad} of {len(frames)}" in line
        assert "pylibjpeg" in line
        assert "JPEG 2000" in line


def test_an_unsupported_syntax_names_uid_and_name(tmp_path: Path, make_slice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_slice(tmp_path / "a.dcm", PIXELS, syntax="1.2.840.10008.1.2.4.102", frames=[b"0000"])
    line = refused("UNSUPPORTED_SYNTAX", path)
    assert "1.2.840.10008.1.2.4.102 (MPEG-4 AVC/H.264 High Profile / Level 4.1)" in line
    line = refused("UNSUPPORTED_SYNTAX", make_slice(tmp_path / "b.dcm", PIXELS, syntax="1.2.3.4"))
    assert "1.2.3.4 (private)" in line
    # As on a machine without the extra.
    monkeypatch.setattr(get_decoder(UID(JPEG_2000)), "_available", {})
    line = refused("UNSUPPORTED_SYNTAX", packaged("MR_small_jp2klossless.dcm"))
    assert f"{JPEG_2000} (JPEG 2000 Image Compression (Lossless Only))" in line
    assert "pip install 'hounsfield[dicom]'" in line


@pytest.mark.parametrize(
    ("spacing", "told"), [([0, 0.5], "0\\0.5"), ([0.5, -1], "0.5\\-1"), (["nan", 0.5], "nan\\0.5"), ([0.5], "0.5")]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_spacing_must_be_positive(tmp_path: Path, make_slice: Any, spacing: list[Any], told: str) -> None:
    path = make_slice(tmp_path / "a.dcm", PIXELS, PixelSpacing=spacing)
    assert f"(0028,0030) PixelSpacing = {told}" in refused("BAD_SPACING", path)


@pytest.mark.parametrize(
    "keyword",
    ["Rows", "PhotometricInterpretation", "BitsStored", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"],
)
def test_a_missing_tag_is_named(tmp_path: Path, make_slice: Any, keyword: str) -> None:
    path = make_slice(tmp_path / "a.dcm", PIXELS, **{keyword: None})
    line = refused("WRONG_FORMAT" if keyword == "Rows" else "MISSING_TAG", path)
    assert keyword == "Rows" or re.search(rf"no \([0-9A-F]{{4}},[0-9A-F]{{4}}\) {keyword},", line)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_ct_needs_its_rescale(tmp_path: Path, make_slice: Any, keyword: str) -> None:
    tags: dict[str, Any] = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}
    image = io.read(make_slice(tmp_path / "a.dcm", PIXELS, **tags))
    np.testing.assert_array_equal(image.array[0], PIXELS.astype(np.int16) - 1024)
    del tags[keyword]
    assert keyword in refused("MISSING_TAG", make_slice(tmp_path / "b.dcm", PIXELS, **tags))


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope = 0"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient = 1\\0\\0\\1\\0\\0"),
        ({"ImagePositionPatient": [1, 2]}, "ImagePositionPatient = 1\\2"),
        ({"SamplesPerPixel": 4}, "4 samples"),
        ({"Columns": 0}, "0 columns"),
        ({"NumberOfFrames": [1, 2]}, "(0028,0008) NumberOfFrames = [1, 2]"),
    ],
)
def test_values_outside_their_domain_are_named(tmp_path: Path, make_slice: Any, tags: dict[str, Any], told: str) -> None:
    assert told in refused("BAD_HEADER", make_slice(tmp_path / "a.dcm", PIXELS, **tags))


def test_rescale_keeps_integers_where_it_can(tmp_path: Path, make_slice: Any) -> None:
    for slope, inter, dtype in ((1, -1024, np.int16), (2, 0, np.int16), (0.5, 0, np.float32), (1, 0, np.uint16)):
        image = io.read(make_slice(tmp_path / "a.dcm", PIXELS, RescaleSlope=slope, RescaleIntercept=inter))
        assert image.array.dtype == dtype
        np.testing.assert_array_equal(image.array[0], PIXELS * float(slope) + inter)


def test_monochrome1_is_inverted_but_not_values_with_a_unit(tmp_path: Path, make_slice: Any) -> None:
    image = io.read(make_slice(tmp_path / "a.dcm", PIXELS, PhotometricInterpretation="MONOCHROME1", BitsStored=12))
    np.testing.assert_array_equal(image.array[0], 4095 - PIXELS)
    assert image.meta.notes == ("MONOCHROME1: inverted, bright is high",)
    signed = PIXELS.astype(np.int16) - 1000
    image = io.read(make_slice(tmp_path / "b.dcm", signed, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(image.array[0], -1 - signed)
    tags = {"Modality": "PT", "RescaleSlope": 1, "RescaleIntercept": 0}
    image = io.read(make_slice(tmp_path / "c.dcm", PIXELS, PhotometricInterpretation="MONOCHROME1", **tags))
    np.testing.assert_array_equal(image.array[0], PIXELS)
    assert "values kept" in image.meta.notes[0]


def test_an_xray_lies_on_its_detector_or_nowhere(tmp_path: Path, make_slice: Any) -> None:
    nowhere = {"ImageOrientationPatient": None, "PixelSpacing": None, "Modality": "DX"}
    path = make_slice(tmp_path / "a.dcm", PIXELS, None, **nowhere, ImagerPixelSpacing=[0.2, 0.1])
    image = io.read(path)
    assert image.geometry == Geometry.from_spacing((6, 8), (0.2, 0.1), space="detector")
    assert "ImagerPixelSpacing" in image.meta.notes[0]
    image = io.read(make_slice(tmp_path / "b.dcm", PIXELS, None, **nowhere))
    assert image.geometry == Geometry.none((6, 8))
    path = make_slice(tmp_path / "c.dcm", PIXELS, None, **nowhere, ImagerPixelSpacing=[0, 0.1])
    assert "(0018,1164) ImagerPixelSpacing = 0\\0.1" in refused("BAD_SPACING", path)


def test_nothing_about_the_patient_is_kept(tmp_path: Path, make_slice: Any) -> None:
    image = io.read(make_slice(tmp_path / "a.dcm", PIXELS, SeriesDescription="SECRET study"))
    assert "SECRET" not in f"{image.meta}{image!r}{io.peek(tmp_path / 'a.dcm')}".upper()


def test_a_mosaic_is_refused(tmp_path: Path, make_slice: Any) -> None:
    path = make_slice(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16), ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"])
    assert "slices side by side" in refused("WRONG_DIMENSION", path)


@pytest.mark.parametrize("vr", [b"\x55\xe2", b"Ua"])
def test_a_damaged_meta_header_is_named(tmp_path: Path, vr: bytes) -> None:
    content = bytearray(packaged("rtdose.dcm").read_bytes())
    at = content.index(b"\x02\x00\x02\x00UI") + 4
    content[at : at + 2] = vr
    (tmp_path / "a.dcm").write_bytes(content)
    refused("BAD_HEADER", tmp_path / "a.dcm")


@pytest.mark.parametrize(("bits", "signed"), [(12, 0), (12, 1), (16, 1), (16, 0)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.filterwarnings("ignore")
def test_plain_pixels_are_pydicoms(tmp_path: Path, make_slice: Any, bits: int, signed: int, photometric: str) -> None:
    """Also where the bits that are not used hold something else."""
    pixels = RNG.integers(0, 65536, (6, 8), dtype=np.uint16)
    tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed, "PhotometricInterpretation": photometric}
    path = make_slice(tmp_path / "a.dcm", pixels, **tags)
    expected = pydicom.dcmread(path).pixel_array
    if photometric == "MONOCHROME1":
        expected = (-1 if signed else 2**bits - 1) - expected.astype(np.int64)
    np.testing.assert_array_equal(io.read(path).array[0], expected)
