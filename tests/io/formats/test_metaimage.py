"""MetaImage: SimpleITK is the oracle of voxels and places; what it does not check is refused with its numbers."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.formats.itk_files import RNG, VOLUME, Array, check_same, refused, save, sitk

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.io.formats import Choices

PLACE: dict[str, Any] = {
    "TransformMatrix": "0 1 0 0.6 0 0.8 0.8 0 -0.6",
    "Offset": "10 -20 30.5",
    "ElementSpacing": "0.5 0.7 2",
}


def mha(path: Path, array: Array = VOLUME, data: bytes | None = None, **fields: str | None) -> Path:
    """A file of exactly this header and data. array: slowest axis first. fields: set last; None leaves one out."""
    header: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": str(array.ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "DimSize": " ".join(str(n) for n in array.shape[::-1]),
        "ElementType": {"i": "MET_SHORT", "u": "MET_UCHAR"}[array.dtype.kind],
        **fields,
    }
    last = header.pop("ElementDataFile", "LOCAL")
    lines = [f"{name} = {value}" for name, value in header.items() if value is not None]
    lines += [f"ElementDataFile = {last}"] if last else []
    path.write_bytes("\n".join(lines).encode() + b"\n" + (array.tobytes() if data is None else data))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_components_are_channels(tmp_path: Path, packed: bool) -> None:
    path = save(tmp_path / "a.mha", RNG.normal(size=(4, 5, 6, 3)).astype(np.float32), packed=packed, channels=True)
    image = io.read(path)
    assert image.channels == io.peek(path).channels == 3
    check_same(path, image)


def test_a_fourth_axis_is_a_series(tmp_path: Path) -> None:
    series = RNG.integers(0, 3000, (3, 4, 5, 6)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(series, isVector=False), str(tmp_path / "a.mha"))
    assert io.peek(tmp_path / "a.mha").volumes == 3
    assert "3 volumes, shape (6, 5, 4, 3)" in refused("WRONG_DIMENSION", tmp_path / "a.mha")
    np.testing.assert_array_equal(io.read(tmp_path / "a.mha", Choices(volume=2)).array[0], series[2])
    refused("WRONG_DIMENSION", tmp_path / "a.mha", volume=3)
    refused("WRONG_DIMENSION", mha(tmp_path / "b.mha", series[np.newaxis]))


def test_rows_of_the_matrix_are_the_axes_directions(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", **PLACE)
    image = io.read(path)
    check_same(path, image)
    # x runs to P, from L 10, P -20, S 30.5
    np.testing.assert_allclose(image.geometry.index_to_world((0, 0, 1))[0], (-10, 19.5, 30.5))


def test_what_the_header_lacks_is_said(tmp_path: Path) -> None:
    assert io.read(mha(tmp_path / "a.mha")).geometry.space == "none"
    image = io.read(mha(tmp_path / "a.mha", ElementSpacing="0.5 0.7 2", AnatomicalOrientation="RAI"))
    assert image.geometry.spacing == (2.0, 0.7, 0.5)
    assert "no TransformMatrix: orientation and place assumed" in image.meta.notes[0]
    check_same(tmp_path / "a.mha", image)
    image = io.read(mha(tmp_path / "a.mha", ElementSize="0.5 0.7 2"))
    check_same(tmp_path / "a.mha", image)
    image = io.read(mha(tmp_path / "a.mha", **{**PLACE, "ElementSpacing": None, "Offset": None}))
    assert [note.split(":")[0] for note in image.meta.notes] == ["no ElementSpacing", "no Offset"]
    check_same(tmp_path / "a.mha", image)
    assert "DistanceUnits um" in refused("BAD_HEADER", mha(tmp_path / "a.mha", **PLACE, DistanceUnits="um"))


def test_older_names_of_the_place(tmp_path: Path) -> None:
    named = io.read(mha(tmp_path / "a.mha", **PLACE)).geometry
    older = {"Orientation": PLACE["TransformMatrix"], "Position": PLACE["Offset"], "ElementSpacing": PLACE["ElementSpacing"]}
    assert io.read(mha(tmp_path / "b.mha", **older)).geometry == named


def test_either_byte_order(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", data=VOLUME.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True", **PLACE)
    check_same(path, io.read(path))
    np.testing.assert_array_equal(io.read(path).array[0], VOLUME)
    older: dict[str, Any] = {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"}
    path = mha(tmp_path / "b.mha", data=VOLUME.astype(">i2").tobytes(), **older)
    np.testing.assert_array_equal(io.read(path).array[0], VOLUME)


def test_a_long_has_four_bytes(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", VOLUME.astype("<i4"), ElementType="MET_LONG", **PLACE)
    np.testing.assert_array_equal(io.read(path).array[0], VOLUME)


def test_a_scale_is_applied(tmp_path: Path) -> None:
    scale: dict[str, Any] = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "-1024"}
    np.testing.assert_array_equal(io.read(mha(tmp_path / "a.mha", **scale)).array[0], VOLUME - 1024)
    scale["ElementToIntensityFunctionSlope"] = "0"
    refused("BAD_HEADER", mha(tmp_path / "a.mha", **scale))


def test_the_modality_is_kept(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", Modality="MET_MOD_CT")
    assert io.read(path).meta.modality == io.peek(path).modality == "CT"
    io.write(Image(np.zeros((1, 3, 4), np.uint8), Geometry.none((3, 4)), Meta(modality="MR")), tmp_path / "b.mha")
    assert io.read(tmp_path / "b.mha").meta.modality == "MR"
    assert io.read(mha(tmp_path / "c.mha", Modality="MET_MOD_OTHER")).meta.modality is None


def test_one_slice_is_a_flat_image(tmp_path: Path) -> None:
    path = mha(tmp_path / "b.mha", VOLUME[:1], **PLACE)
    assert io.read(path).ndim == 2
    check_same(path, io.read(path))


def test_data_beside_may_follow_a_header_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"header" + VOLUME.tobytes())
    for size in ("6", "-1"):
        path = mha(tmp_path / "a.mhd", data=b"", ElementDataFile="a.raw", HeaderSize=size)
        np.testing.assert_array_equal(io.read(path).array[0], VOLUME)
    refused("BAD_HEADER", mha(tmp_path / "a.mhd", data=b"", ElementDataFile="a.raw", HeaderSize="6", CompressedData="True"))


def test_only_files_below_the_header_are_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(VOLUME.tobytes())
    (tmp_path / "in").mkdir()
    for name in ("../secret", str(tmp_path / "secret"), "..\\secret"):
        assert "outside" in refused("UNSAFE_PATH", mha(tmp_path / "in" / "a.mhd", data=b"", ElementDataFile=name))
    assert "gone.raw" in refused("NOT_FOUND", mha(tmp_path / "in" / "a.mhd", data=b"", ElementDataFile="gone.raw"))


def test_a_header_that_is_a_link_finds_its_data(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.raw").write_bytes(VOLUME.tobytes())
    path = mha(tmp_path / "store" / "a.mhd", data=b"", ElementDataFile="a.raw")
    (tmp_path / "in").mkdir()
    for name in ("a.mhd", "a.raw"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "store" / name)
    np.testing.assert_array_equal(io.read(tmp_path / "in" / "a.mhd").array, io.read(path).array)


def test_truncation_says_the_bytes_found_and_needed(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", data=VOLUME.tobytes()[:-100])
    assert "found 320 bytes of voxels, expected 420 bytes" in refused("TRUNCATED", path)
    packed = zlib.compress(VOLUME.tobytes())
    assert "expected 420 bytes" in refused("TRUNCATED", mha(path, data=packed[:-60], CompressedData="True"))
    refused("TRUNCATED", mha(path, data=packed[:-2], CompressedData="True"))
    refused("CORRUPT_PIXELS", mha(path, data=packed[:-4] + bytes(4), CompressedData="True"))
    refused("CORRUPT_PIXELS", mha(path, CompressedData="True"))
    assert "no ElementDataFile" in refused("MISSING_TAG", mha(path, ElementDataFile=None))


def test_claims_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    assert "16.00 GiB" in refused("TOO_LARGE", mha(tmp_path / "a.mha", DimSize="30000 30000 30000"))
    refused("TOO_LARGE", mha(tmp_path / "a.mha", ElementNumberOfChannels=str(2**40)))
    bomb = zlib.compress(bytes(64 << 20))
    path = mha(tmp_path / "a.mha", data=bomb, CompressedData="True")
    assert "after the voxels" in refused("EXPANDS_TOO_FAR", path)
    path = mha(path, data=bomb[:100], CompressedData="True", DimSize="1000 1000 1000")
    assert "all that these can hold" in refused("TOO_LARGE", path)


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"ObjectType": "Tube"}, "WRONG_FORMAT", "type Tube"),
        ({"BinaryData": "False"}, "UNSUPPORTED_SYNTAX", "text"),
        ({"DimSize": None}, "MISSING_TAG", "no dimsize"),
        ({"DimSize": "7 6"}, "BAD_HEADER", "DimSize = 7 6"),
        ({"DimSize": "7 6 -5"}, "BAD_HEADER", "-5"),
        ({"ElementType": None}, "MISSING_TAG", "no elementtype"),
        ({"ElementType": "MET_STRING"}, "BAD_HEADER", "MET_STRING"),
        ({"ElementNumberOfChannels": "0"}, "BAD_HEADER", "ElementNumberOfChannels = 0"),
        ({"ElementDataFile": "LIST"}, "UNSUPPORTED_SYNTAX", "several data files"),
        ({"ElementDataFile": "a%03d.raw 1 5 1"}, "UNSUPPORTED_SYNTAX", "several data files"),
        ({**PLACE, "ElementSpacing": "0.5 0 2"}, "BAD_SPACING", "ElementSpacing = 0.5 0 2"),
        ({**PLACE, "ElementSpacing": "0.5 -1 2"}, "BAD_SPACING", "-1"),
        ({**PLACE, "ElementSpacing": "0.5 nan 2"}, "BAD_SPACING", "nan"),
        ({**PLACE, "TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "BAD_AFFINE", "linearly independent"),
        ({**PLACE, "TransformMatrix": "1 0 0 0 inf 0 0 0 1"}, "BAD_AFFINE", "inf"),
        ({**PLACE, "TransformMatrix": "1 0 0 0 1 0 0 0"}, "BAD_HEADER", "9 numbers"),
        ({**PLACE, "Offset": "nan 0 0"}, "BAD_AFFINE", "nan"),
        ({**PLACE, "Origin": "0 0 0"}, "BAD_HEADER", "offset twice"),
    ],
)
def test_header_fields_outside_their_domain_are_named(tmp_path: Path, fields: dict[str, Any], code: str, told: str) -> None:
    assert told in refused(code, mha(tmp_path / "a.mha", **fields))


def test_the_content_decides(tmp_path: Path) -> None:
    assert io.read(mha(tmp_path / "a.xyz", **PLACE)).meta.format == "metaimage"
    (tmp_path / "b.mha").write_text("ObjectType = Image, they said\n")
    assert "no ElementDataFile" in refused("MISSING_TAG", tmp_path / "b.mha")
