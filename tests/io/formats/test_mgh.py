"""MGH and MGZ: nibabel is the oracle for every voxel and its place."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from tests.io.formats.nifti_files import OBLIQUE, Array, nib, refused

from hounsfield import io
from hounsfield.io.formats import Choices

RNG = np.random.default_rng(5)
VOLUME = RNG.integers(0, 100, (7, 6, 5))


def save(path: Path, array: Array, affine: Array = OBLIQUE) -> Path:
    """array: in the file's own order (w, h, d, frames)."""
    nib.save(nib.MGHImage(array, affine), path)
    return path


def patch(path: Path, at: int, *values: float, kind: str) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(f">{len(values)}{kind}", content, at, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", [".mgz", ".mgh"])
@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "f4"])
def test_voxels_and_places_are_nibabels(tmp_path: Path, ending: str, code: str) -> None:
    path = save(tmp_path / f"a{ending}", VOLUME.astype(code))
    image, stored = io.read(path), nib.load(path)
    assert image.array.dtype == np.dtype(code)
    assert image.array.dtype.isnative
    np.testing.assert_array_equal(image.array[0], np.asarray(stored.dataobj).transpose())
    for w, h, d in ((0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (6, 5, 4)):
        world = nib.affines.apply_affine(stored.affine, (w, h, d))
        np.testing.assert_allclose(image.geometry.index_to_world((d, h, w))[0], world, atol=1e-4, rtol=0)
    assert image.meta.format == "mgh"
    assert image.meta.notes == ()


def test_nibabels_own_file(tmp_path: Path) -> None:
    path = Path(nib.__file__).parent / "tests" / "data" / "test.mgz"
    stored = nib.load(path)
    for volume in range(io.peek(path).volumes):
        image = io.read(path, Choices(volume=volume))
        np.testing.assert_array_equal(image.array[0], np.asarray(stored.dataobj)[..., volume].transpose())
        np.testing.assert_allclose(image.geometry.affine, stored.affine[:, [2, 1, 0, 3]], atol=1e-4)
    assert io.peek(path).volumes == stored.shape[3] > 1


def test_frames_are_a_series(tmp_path: Path) -> None:
    array = RNG.integers(0, 100, (7, 6, 5, 3)).astype(np.int16)
    path = save(tmp_path / "a.mgz", array)
    assert "3 volumes, shape (7, 6, 5, 3)" in refused("WRONG_DIMENSION", path)
    np.testing.assert_array_equal(io.read(path, Choices(volume=2)).array[0], array[..., 2].transpose())


def test_without_a_place_freesurfers_default_is_taken(tmp_path: Path) -> None:
    path = patch(save(tmp_path / "a.mgh", VOLUME.astype(np.uint8)), 28, 0, kind="h")
    image = io.read(path)
    assert image.geometry.orientation == "AIL"  # d, h, w: coronal slices, as mri_convert takes them
    np.testing.assert_allclose(image.geometry.index_to_world((2.5, 3, 3.5))[0], 0, atol=1e-9)
    assert "coronal slices of 1 mm around 0 assumed" in image.meta.notes[0]


def test_damage_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mgh", VOLUME.astype(np.int16))
    whole = path.read_bytes()
    path.write_bytes(whole[:600])
    assert f"found {600 - 284} bytes of voxels, expected 420 bytes" in refused("TRUNCATED", path)
    path.write_bytes(whole)
    assert "delta = 0 1.1" in refused("BAD_SPACING", patch(path, 30, 0.0, 1.1, kind="f"))
    path.write_bytes(whole)
    refused("BAD_AFFINE", patch(path, 42, *[0.0] * 9, kind="f"))
    refused("BAD_AFFINE", patch(path, 42, *[np.inf] * 9, kind="f"))
    path.write_bytes(whole)
    refused("TOO_LARGE", patch(path, 4, 30000, 30000, 30000, kind="i"))
    refused("WRONG_FORMAT", patch(path, 4, -1, kind="i"))
    path.write_bytes(whole)
    refused("WRONG_FORMAT", patch(path, 20, 7, kind="i"))


def test_compressed_damage_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mgz", VOLUME.astype(np.int16))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    refused("TRUNCATED", path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:80]))
    refused("WRONG_FORMAT", path)
    path.write_bytes(gzip.compress(gzip.decompress(whole) + bytes(64 << 20)))
    refused("EXPANDS_TOO_FAR", path)
