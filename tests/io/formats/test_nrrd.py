"""NRRD: SimpleITK is the oracle of voxels and places; what it does not check is refused with its numbers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.formats.itk_files import RNG, VOLUME, Array, check_same, refused

from hounsfield import io
from hounsfield.io.formats import Choices

PLACE: dict[str, Any] = {
    "space": "left-posterior-superior",
    "space directions": "(0.5,0.1,0) (0,0.7,0) (0,0.2,2)",
    "space origin": "(10,-20,30.5)",
}


def nrrd(path: Path, array: Array = VOLUME, data: bytes | None = None, **fields: str | None) -> Path:
    """A file of exactly this header and data. array: slowest axis first. fields: set last, "_" for " "; None leaves one out."""
    header: dict[str, str | None] = {
        "type": {"i": "short", "u": "unsigned char"}.get(array.dtype.kind, "float"),
        "dimension": str(array.ndim),
        "sizes": " ".join(str(n) for n in array.shape[::-1]),
        "encoding": "raw",
        "endian": "little",
    }
    header.update({name.replace("_", " "): value for name, value in fields.items()})
    lines = ["NRRD0005", "# a comment", *(f"{name}: {value}" for name, value in header.items() if value is not None)]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + (array.tobytes() if data is None else data))
    return path


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "left-posterior-superior", "RAS"])
def test_the_space_is_honoured(tmp_path: Path, space: str) -> None:
    path = nrrd(tmp_path / "a.nrrd", **{**PLACE, "space": space})
    image = io.read(path)
    check_same(path, image)
    sign = np.array({"R": (1, 1, 1), "r": (1, 1, 1), "l": (-1, -1 if "post" in space else 1, 1)}[space[0]])
    np.testing.assert_allclose(image.geometry.index_to_world((0, 0, 0))[0], sign * (10, -20, 30.5))
    np.testing.assert_allclose(image.geometry.index_to_world((0, 0, 2))[0], sign * (11, -19.8, 30.5))
    assert image.meta.notes == ()


def test_a_space_without_anatomy_is_said(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", **{**PLACE, "space": "scanner-xyz"})
    check_same(path, io.read(path))
    assert "scanner-xyz: taken as L, P, S" in io.read(path).meta.notes[0]
    path = nrrd(tmp_path / "b.nrrd", **{**PLACE, "space": None, "space dimension": "3", "space origin": None})
    assert [note.split(":")[0] for note in io.read(path).meta.notes] == ["the space has no name", "no space origin"]
    assert "scanner-xyz" in refused("BAD_HEADER", nrrd(path, **{**PLACE, "space": "scanner-xyz-time"}))


def test_units_become_millimetres(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", **PLACE, space_units='"cm" "mm" "um"')
    right, back, up = io.read(path).geometry.index_to_world((1, 1, 1))[0]
    np.testing.assert_allclose((right, back, up), (-105, -(-20 + 0.1 + 0.7 + 0.2), (30.5 + 2) / 1000))
    assert "pixel" in refused("BAD_HEADER", nrrd(path, **PLACE, space_units='"mm" "pixel" "mm"'))


def test_spacings_alone_say_no_place(tmp_path: Path) -> None:
    image = io.read(nrrd(tmp_path / "a.nrrd", spacings="0.5 0.7 2"))
    assert image.geometry.spacing == (2.0, 0.7, 0.5)
    assert "no space directions: orientation and place assumed" in image.meta.notes[0]
    check_same(tmp_path / "a.nrrd", image)
    image = io.read(nrrd(tmp_path / "b.nrrd"))
    assert (image.geometry.space, image.meta.notes) == ("none", ())
    assert "spacings = 0.5 0 2" in refused("BAD_SPACING", nrrd(tmp_path / "c.nrrd", spacings="0.5 0 2"))
    refused("BAD_SPACING", nrrd(tmp_path / "c.nrrd", spacings="0.5 nan 2"))
    refused("BAD_SPACING", nrrd(tmp_path / "c.nrrd", spacings="0.5 -1 2"))


@pytest.mark.parametrize("kind", ["vector", "3-color", "RGB-color", "covariant-vector"])
@pytest.mark.parametrize("last", [False, True])
def test_components_are_channels_wherever_their_axis_is(tmp_path: Path, kind: str, last: bool) -> None:
    array = RNG.integers(0, 255, (3, 5, 6, 7) if last else (5, 6, 7, 3)).astype(np.uint8)
    kinds = ["space", "space", "space"]
    directions = PLACE["space directions"].split()
    kinds.insert(3 if last else 0, kind)
    directions.insert(3 if last else 0, "none")
    path = nrrd(tmp_path / "a.nrrd", array, **{**PLACE, "space directions": " ".join(directions)}, kinds=" ".join(kinds))
    image = io.read(path)
    np.testing.assert_array_equal(image.array, array if last else np.moveaxis(array, -1, 0))
    check_same(path, image)
    assert (io.peek(path).channels, io.peek(path).volumes) == (3, 1)


@pytest.mark.parametrize("kind", ["list", "time", "???"])
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_a_series_has_a_volume_to_choose(tmp_path: Path, kind: str, axis: int) -> None:
    """axis: slowest first, where the series' axis stands."""
    series = RNG.integers(0, 30000, (6, 5, 6, 7)).astype("<i2")
    array = np.moveaxis(series, 0, axis)
    kinds, directions = ["domain"] * 3, PLACE["space directions"].split()
    kinds.insert(3 - axis, kind)
    directions.insert(3 - axis, "none")
    for name, data in (("a.nrrd", None), ("b.nrrd", gzip.compress(array.tobytes(), mtime=0))):
        header = {**PLACE, "space directions": " ".join(directions), "encoding": "gzip" if data else "raw"}
        path = nrrd(tmp_path / name, array, data, **header, kinds=" ".join(kinds))
        assert io.peek(path).volumes == 6
        assert "6 volumes" in refused("WRONG_DIMENSION", path)
        assert "--volume 0 to --volume 5" in refused("WRONG_DIMENSION", path, volume=6)
        for volume in (0, 4):
            image = io.read(path, Choices(volume=volume))
            np.testing.assert_array_equal(image.array[0], series[volume])
            np.testing.assert_allclose(image.geometry.affine, io.read(nrrd(tmp_path / "c.nrrd", **PLACE)).geometry.affine)


def test_long_rows_of_a_series_are_read_one_by_one(tmp_path: Path) -> None:
    series = RNG.integers(0, 30000, (2, 3, 800, 1000)).astype("<i2")  # time between rows of 1.6 MB
    path = nrrd(tmp_path / "a.nrrd", series, kinds="space space time space", space_directions="(1,0,0) (0,1,0) none (0,0,1)")
    np.testing.assert_array_equal(io.read(path, Choices(volume=1)).array[0], series[:, 1])


def test_a_fourth_axis_without_kind_or_place_is_a_series(tmp_path: Path) -> None:
    array = RNG.integers(0, 99, (2, 4, 5, 6)).astype("<i2")
    np.testing.assert_array_equal(io.read(nrrd(tmp_path / "a.nrrd", array), Choices(volume=1)).array[0], array[1])
    refused("WRONG_DIMENSION", nrrd(tmp_path / "b.nrrd", array[np.newaxis]))
    refused("WRONG_DIMENSION", nrrd(tmp_path / "c.nrrd", array, kinds="list time domain domain"))
    refused("WRONG_DIMENSION", nrrd(tmp_path / "d.nrrd", array[0, 0], kinds="domain list"))


def test_a_slice_keeps_its_plane(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", VOLUME[:1], **PLACE)
    image = io.read(path)
    assert image.array.shape == (1, 6, 7)
    check_same(path, image)
    flat = nrrd(tmp_path / "b.nrrd", VOLUME[0], **{**PLACE, "space directions": "(0.5,0.1,0) (0,0.7,0)"})
    assert io.read(flat).geometry == image.geometry


def test_data_beside_may_skip_bytes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.raw").write_bytes(b"header" + VOLUME.tobytes())
    for skip in ("6", "-1"):
        path = nrrd(tmp_path / "a.nhdr", data=b"", data_file="deep/a.raw", byte_skip=skip)
        np.testing.assert_array_equal(io.read(path).array[0], VOLUME)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"header" + VOLUME.tobytes()))
    path = nrrd(tmp_path / "b.nhdr", data=b"", data_file="a.gz", byte_skip="6", encoding="gz")
    np.testing.assert_array_equal(io.read(path).array[0], VOLUME)
    refused("BAD_HEADER", nrrd(path, data=b"", data_file="a.gz", byte_skip="-1", encoding="gz"))


def test_a_header_may_end_with_its_file(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nhdr", data=b"", data_file="a.raw")
    path.write_bytes(path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n"))
    (tmp_path / "a.raw").write_bytes(VOLUME.tobytes())
    np.testing.assert_array_equal(io.read(path).array[0], VOLUME)


def test_only_files_below_the_header_are_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(VOLUME.tobytes())
    (tmp_path / "in").mkdir()
    for name in ("../secret", str(tmp_path / "secret"), "..\\secret", "deep/../../secret"):
        path = nrrd(tmp_path / "in" / "a.nhdr", data=b"", data_file=name)
        assert "outside of the folder" in refused("UNSAFE_PATH", path)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    refused("UNSAFE_PATH", nrrd(tmp_path / "in" / "a.nhdr", data=b"", data_file="link"))
    assert "gone.raw beside it" in refused("NOT_FOUND", nrrd(tmp_path / "in" / "a.nhdr", data=b"", data_file="gone.raw"))
    refused("NOT_FOUND", nrrd(tmp_path / "in" / "a.nhdr", data=b"", data_file="."))
    refused("NOT_FOUND", nrrd(tmp_path / "in" / "a.nhdr", data=b"", data_file="x" * 5000))


def test_truncation_says_the_bytes_found_and_needed(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", data=VOLUME.tobytes()[:-100])
    assert "found 320 bytes of voxels, expected 420 bytes" in refused("TRUNCATED", path)
    refused("TRUNCATED", nrrd(tmp_path / "a.nrrd", data=VOLUME.tobytes()[:-100], byte_skip="-1"))
    packed = gzip.compress(VOLUME.tobytes())
    assert "expected 420 bytes" in refused("TRUNCATED", nrrd(tmp_path / "a.nrrd", data=packed[:-60], encoding="gzip"))
    refused("TRUNCATED", nrrd(tmp_path / "a.nrrd", data=packed[:-4], encoding="gzip"))
    refused("CORRUPT_PIXELS", nrrd(tmp_path / "a.nrrd", data=packed[:-8] + bytes(8), encoding="gzip"))
    whole = nrrd(tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "b.nrrd").write_bytes(whole[:60])
    assert "within the header" in refused("TRUNCATED", tmp_path / "b.nrrd")


def test_claims_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    assert "16.00 GiB" in refused("TOO_LARGE", nrrd(tmp_path / "a.nrrd", sizes="30000 30000 30000"))
    refused("TOO_LARGE", nrrd(tmp_path / "a.nrrd", sizes=f"7 6 {2**62}"))
    assert "TRUNCATED" in refused("TRUNCATED", nrrd(tmp_path / "a.nrrd", sizes="1000 1000 1000"))
    packed = gzip.compress(bytes(100))
    path = nrrd(tmp_path / "a.nrrd", data=packed, encoding="gzip", sizes="1000 1000 1000")
    assert "all that these can hold" in refused("TOO_LARGE", path)
    bomb = gzip.compress(bytes(64 << 20))
    assert "after the voxels" in refused("EXPANDS_TOO_FAR", nrrd(tmp_path / "a.nrrd", data=bomb, encoding="gzip"))


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"type": "block"}, "BAD_HEADER", "type block"),
        ({"type": None}, "MISSING_TAG", "no type"),
        ({"sizes": None}, "MISSING_TAG", "no sizes"),
        ({"encoding": None}, "MISSING_TAG", "no encoding"),
        ({"endian": None}, "MISSING_TAG", "no endian"),
        ({"endian": "middle"}, "BAD_HEADER", "endian middle"),
        ({"dimension": "4"}, "BAD_HEADER", "sizes = 7 6 5"),
        ({"dimension": "400"}, "BAD_HEADER", "dimension 400"),
        ({"sizes": "7 6 0"}, "BAD_HEADER", "7 6 0"),
        ({"sizes": f"7 6 {'9' * 5000}"}, "BAD_HEADER", "99..."),
        ({"encoding": "txt"}, "UNSUPPORTED_SYNTAX", "txt"),
        ({"encoding": "bzip2"}, "UNSUPPORTED_SYNTAX", "bzip2"),
        ({"data file": "a%03d.raw 1 5 1"}, "UNSUPPORTED_SYNTAX", "several data files"),
        ({"data file": "LIST"}, "UNSUPPORTED_SYNTAX", "several data files"),
        ({"line skip": "1"}, "UNSUPPORTED_SYNTAX", "line skip"),
        ({"byte skip": "-2"}, "BAD_HEADER", "byte skip = -2"),
        ({"kinds": "domain domain"}, "BAD_HEADER", "2 kinds"),
        ({**PLACE, "space directions": "(1,0,0) (2,0,0) (0,0,1)"}, "BAD_AFFINE", "linearly independent"),
        ({**PLACE, "space directions": "(1,0,0) (0,nan,0) (0,0,1)"}, "BAD_AFFINE", "nan"),
        ({**PLACE, "space directions": "(1,0,0) (0,inf,0) (0,0,1)"}, "BAD_AFFINE", "inf"),
        ({**PLACE, "space directions": "(1,0,0) (0,0,0) (0,0,1)"}, "BAD_AFFINE", "linearly independent"),
        ({**PLACE, "space origin": "(nan,0,0)"}, "BAD_AFFINE", "nan"),
        ({**PLACE, "space origin": "(1,2)"}, "BAD_HEADER", "2 or 3 numbers"),
        ({**PLACE, "space directions": "(1,0,0) (0,1e300,0) (0,0,1)"}, "BAD_HEADER", "1e300"),
        ({**PLACE, "space directions": "(1,0,0) (0,1,0)"}, "BAD_HEADER", "3 vectors"),
        ({**PLACE, "space directions": "(1,0,0) (0,1,0) up"}, "BAD_HEADER", "3 vectors"),
        ({**PLACE, "space": "outer"}, "BAD_HEADER", "outer"),
        ({"spacings": "1 1"}, "BAD_HEADER", "3 numbers"),
    ],
)
def test_header_fields_outside_their_domain_are_named(tmp_path: Path, fields: dict[str, Any], code: str, told: str) -> None:
    assert told in refused(code, nrrd(tmp_path / "a.nrrd", **fields))


def test_a_field_stands_once(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"encoding", b"sizes: 1 1 1\nencoding", 1))
    assert "sizes twice" in refused("BAD_HEADER", path)
    path.write_bytes(path.read_bytes().replace(b"sizes: 1 1 1", b"no field at all", 1))
    refused("BAD_HEADER", path)


def test_the_magic_decides(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.xyz", **PLACE)
    assert io.read(path).meta.format == "nrrd"
    path.write_bytes(b"NRRD0009" + path.read_bytes()[8:])
    assert "NRRD" in refused("UNKNOWN_FORMAT", path)


def segmentation(path: Path, array: Array, kinds: str, directions: str) -> Path:
    nrrd(path, array, **{**PLACE, "space directions": directions}, kinds=kinds)
    pairs = (
        b"Segment0_LabelValue:=1\nSegment0_Layer:=0\nSegment0_Name:=liver\nSegmentation_MasterRepresentation:=Binary labelmap\n"
    )
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n" + pairs + b"\n", 1))
    return path


def test_a_segmentation_is_a_label_map(tmp_path: Path) -> None:
    labels = RNG.integers(0, 3, (5, 6, 7)).astype(np.uint8)
    path = segmentation(tmp_path / "a.seg.nrrd", labels, "domain domain domain", PLACE["space directions"])
    image = io.read(path)
    np.testing.assert_array_equal(image.array[0], labels)
    check_same(path, image)


def test_layers_that_overlap_are_refused_by_name(tmp_path: Path) -> None:
    layers = RNG.integers(0, 3, (5, 6, 7, 2)).astype(np.uint8)
    kinds, directions = "list domain domain domain", f"none {PLACE['space directions']}"
    path = segmentation(tmp_path / "a.seg.nrrd", layers, kinds, directions)
    assert "2 layers of a segmentation whose segments overlap" in refused("WRONG_DIMENSION", path)
    np.testing.assert_array_equal(io.read(path, Choices(volume=1)).array[0], layers[..., 1])
