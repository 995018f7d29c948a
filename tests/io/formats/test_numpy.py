"""Arrays: exact, never unpickled, and no header or archive believed beyond its bytes."""

from __future__ import annotations

import io as python_io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image

RNG = np.random.default_rng(4)
Array = npt.NDArray[Any]


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path)
    assert caught.value.code == code
    with pytest.raises(InputError):
        io.write(Image(np.zeros((1, 2, 2)), Geometry.none((2, 2))), path)  # an existing path stays as it is
    return str(caught.value)


def npy(shape: tuple[int, ...], content: bytes, dtype: str = "<i2") -> bytes:
    """A .npy whose header says whatever it is told."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (RNG.integers(0, 9, (4, 5), dtype=np.int16), (1, 4, 5)),
        (RNG.normal(size=(3, 4, 5)), (1, 3, 4, 5)),
        (RNG.normal(size=(4, 5, 3)).astype(np.float16), (1, 4, 5, 3)),  # not uint8, so a volume
        (RNG.integers(0, 9, (3, 4, 5)).astype(">i4"), (1, 3, 4, 5)),
        (np.asfortranarray(RNG.integers(0, 9, (3, 4, 5), dtype=np.uint8)), (1, 3, 4, 5)),
    ],
)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_planes_and_volumes(tmp_path: Path, array: Array, shape: tuple[int, ...], ending: str) -> None:
    path = tmp_path / f"a{ending}"
    np.save(path, array) if ending == ".npy" else np.savez(path, array)
    image = io.read(path)
    assert image.array.shape == shape
    assert image.array.dtype == array.dtype.newbyteorder("=")
    assert image.array.flags.c_contiguous
    assert image.geometry == Geometry.none(shape[1:])
    np.testing.assert_array_equal(image.array[0], array)
    told = io.peek(path)
    assert (told.geometry, told.channels, told.dtype) == (image.geometry, 1, image.array.dtype)


def test_three_bytes_last_are_colours(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    image = io.read(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.array, array.transpose(2, 0, 1))
    assert (io.peek(tmp_path / "a.npy").channels, image.ndim) == (3, 2)


def test_booleans_become_zero_and_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4, dtype=bool))
    image = io.read(tmp_path / "a.npy")
    assert image.array.dtype == np.uint8
    np.testing.assert_array_equal(image.array[0], np.eye(4))


def test_spacing_and_affine_give_a_place(tmp_path: Path) -> None:
    array = RNG.normal(size=(3, 4, 5))
    np.savez(tmp_path / "a.npz", image=array, spacing=[5.0, 0.5, 0.7], other=np.zeros(3))
    assert io.read(tmp_path / "a.npz").geometry == Geometry.from_spacing((3, 4, 5), (5.0, 0.5, 0.7))
    affine = Geometry.from_spacing((3, 4, 5), (1, 2, 3), (7, 8, 9)).affine
    np.savez(tmp_path / "b.npz", array, affine=affine)
    assert io.read(tmp_path / "b.npz").geometry == Geometry((3, 4, 5), affine)


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_pickled_objects_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "b.npz", image=np.zeros((2, 2)), more=trap)
    for name in ("a.npy", "b.npz"):
        assert "pickled objects" in refused("UNSAFE_FILE", tmp_path / name)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert "a Python pickle, not NPY" in refused("WRONG_FORMAT", tmp_path / "c.npy")
    assert not (tmp_path / "sprung").exists()


def test_truncation_says_the_bytes_found_and_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy((10, 10), bytes(150)))
    assert "found 150 bytes of the array, expected 200 bytes" in refused("TRUNCATED", path)
    path.write_bytes(npy((10, 10), b"")[:30])
    refused("TRUNCATED", path)


@pytest.mark.parametrize("shape", [(32767, 32767, 32767), (1 << 62, 1 << 62), (65535, 65535)])
def test_claims_past_the_limits_are_refused_before_allocating(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(npy(shape, bytes(8)))
    assert "x".join(map(str, shape)) in refused("TOO_LARGE", tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("image.npy", npy(shape, bytes(8)))
    refused("TOO_LARGE", tmp_path / "b.npz")


def test_an_archive_that_holds_more_than_its_header_says_is_not_expanded(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", npy((2, 2), bytes(1 << 24)))
    assert f"{1 << 24} bytes in image.npy, expected the 8 bytes" in refused("EXPANDS_TOO_FAR", tmp_path / "a.npz")


def test_a_claim_beyond_the_entry_is_truncation(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", npy((1000, 1000), bytes(100)))
    assert "found 100 bytes of image.npy, expected 2000000 bytes" in refused("TRUNCATED", tmp_path / "a.npz")


def test_damage_in_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, image=RNG.integers(0, 255, (50, 50), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[1500] ^= 1
    path.write_bytes(content)
    assert "damaged image.npy" in refused("CORRUPT_PIXELS", path)
    path.write_bytes(content[:1000])
    assert "1000 bytes, no ZIP directory" in refused("TRUNCATED", path)


def test_a_directory_that_points_before_the_file_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, image=np.zeros((3, 3)))
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x05\x06") + 16  # offset of the directory: one more moves every entry one byte back
    content[at : at + 4] = (int.from_bytes(content[at : at + 4], "little") + 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert "damaged image.npy" in refused("CORRUPT_PIXELS", path)


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("image.npy", npy((2, 2), bytes(8)))
    refused("UNSUPPORTED_SYNTAX", tmp_path / "a.npz")


def test_an_archive_of_a_dataset_is_no_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.zeros((9, 4, 4)), train_labels=np.zeros(9))
    assert "train_images, train_labels" in refused("UNKNOWN_LAYOUT", tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (), (0, 4)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    assert str(shape) in refused("WRONG_DIMENSION", tmp_path / "a.npy")


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]", "i2,f4"])
def test_other_types_are_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 2), dtype))
    refused("BAD_HEADER", tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("place", "code", "told"),
    [
        ({"spacing": [1.0, 0.0, 1.0]}, "BAD_SPACING", "[1.0, 0.0, 1.0]"),
        ({"spacing": [1.0, np.nan, 1.0]}, "BAD_SPACING", "nan"),
        ({"spacing": [1.0]}, "WRONG_DIMENSION", "a place of 1 axes"),
        ({"affine": np.zeros((4, 4))}, "BAD_AFFINE", "0.0"),
        ({"affine": np.eye(4)[:, :3]}, "WRONG_DIMENSION", "a place of 2 axes"),
        ({"affine": np.eye(4), "space": "moon"}, "BAD_HEADER", "'moon'"),
        ({"affine": np.eye(4), "space": 5}, "BAD_HEADER", "space"),
    ],
)
def test_bad_places_are_named(tmp_path: Path, place: dict[str, Any], code: str, told: str) -> None:
    shape = (2, 3, 4, 5) if "a place of 2" in told else (3, 4, 5)
    np.savez(tmp_path / "a.npz", image=np.zeros(shape), **place)
    assert told in refused(code, tmp_path / "a.npz")


def test_nan_is_found(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 1], [np.nan, np.inf]]))
    assert "2 of 4 voxels NaN or infinite, the first at (1, 0)" in refused("NOT_FINITE", tmp_path / "a.npy")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    channels=st.integers(1, 3),
    dtype=st.sampled_from(["u1", "i2", "f2", "f4", "f8", "i8"]),
    space=st.sampled_from(["patient", "detector", "none"]),
    ending=st.sampled_from([".npy", ".npz"]),
)
def test_what_is_written_is_read_again_or_refused(
    tmp_path: Path, shape: list[int], channels: int, dtype: str, space: Any, ending: str
) -> None:
    array = RNG.integers(0, 99, (channels, *shape)).astype(dtype)
    geometry = Geometry.from_spacing(shape, [1.5] * len(shape), (1, 2, 3), space=space)
    path = tmp_path / f"a{ending}"
    rgb = channels == 3 and len(shape) == 2 and dtype == "u1"
    ambiguous = (channels > 1 and not rgb) or (channels == 1 and len(shape) == 3 and shape[-1] == 3 and dtype == "u1")
    if ending == ".npy" and ambiguous:
        with pytest.raises(InputError, match="BAD_OPTION"):
            io.write(Image(array, geometry), path, overwrite=True)
        return
    io.write(Image(array, geometry), path, overwrite=True)
    again = io.read(path)
    assert again.array.dtype == array.dtype
    np.testing.assert_array_equal(again.array, array)
    assert again.geometry == (geometry if ending == ".npz" else Geometry.none(shape))


def test_numpy_itself_reads_what_is_written(tmp_path: Path) -> None:
    array = RNG.normal(size=(1, 3, 4))
    io.write(Image(array, Geometry.none((3, 4))), tmp_path / "a.npz")
    with np.load(python_io.BytesIO((tmp_path / "a.npz").read_bytes()), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["image"], array)
        assert str(archive["space"]) == "none"
