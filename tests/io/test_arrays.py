"""Arrays in .npy and .npz files: what the headers say, and the values, against NumPy's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.io.arrays import stored

ARRAYS = {
    "train/images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(5, dtype=">i4"),
    "scalar": np.array(7, dtype=np.int16),
    "none": np.empty((0, 3), dtype=np.float32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_array_of_an_archive(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(tmp_path / "a.npz", **ARRAYS)
    found = stored(tmp_path / "a.npz")
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        loaded = found[name].load()
        assert loaded.dtype.isnative
        np.testing.assert_array_equal(loaded, array)


def test_the_only_array_of_an_npy_is_called_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAYS["big"])
    (only,) = stored(tmp_path / "a.npy").items()
    assert only[0] == "image"
    np.testing.assert_array_equal(only[1].load(), ARRAYS["big"])


def test_pickled_objects_are_refused_by_the_header(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", fine=np.zeros(3), odd=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"UNSAFE_FILE .*odd\.npy holds pickled objects"):
        stored(tmp_path / "a.npz")


def test_an_array_shorter_than_its_header_says(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(100))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"TRUNCATED .*799 .*800"):
        stored(tmp_path / "a.npy")


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    """NumPy would ask for what version 2 says of its header's length."""
    import tracemalloc

    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b"{'descr'")
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="TRUNCATED"):
            stored(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
