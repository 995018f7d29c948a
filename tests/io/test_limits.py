"""Limits: claims are refused before memory is touched; a failed write leaves the old file and nothing else."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hounsfield import io
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io import limits


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(17))
    return path


def test_a_claim_is_counted_in_bits(file: Path) -> None:
    assert limits.claimed(file, (3, 5), 1) == 2
    assert limits.claimed(file, (3, 5), 8) == 15
    assert limits.claimed(file, (2, 3, 5), 16) == 60


def test_the_limit_is_16_gib_unless_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOUNSFIELD_MAX_GIB", raising=False)
    assert limits.max_bytes() == 16 << 30
    assert limits.claimed(file, (1024, 4096, 4096), 8) == 16 << 30
    with pytest.raises(InputError, match="TOO_LARGE") as caught:
        limits.claimed(file, (1025, 4096, 4096), 8)
    assert caught.value.exit_code == 2
    assert "1025x4096x4096" in caught.value.found
    assert "a file of 17 bytes" in caught.value.found
    monkeypatch.setenv("HOUNSFIELD_MAX_GIB", "17")
    assert limits.claimed(file, (1025, 4096, 4096), 8) == 1025 << 24


@pytest.mark.parametrize("text", ["many", "0", "-1", "inf", "nan", ""])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_MAX_GIB", text)
    with pytest.raises(InputError, match="BAD_OPTION HOUNSFIELD_MAX_GIB") as caught:
        limits.max_bytes()
    assert repr(text) in caught.value.found


def test_a_plane_has_a_limit_of_pixels(file: Path) -> None:
    limits.claimed(file, (31622, 31622), 8)
    with pytest.raises(InputError, match="TOO_LARGE") as caught:
        limits.claimed(file, (31623, 31623), 8)
    assert caught.value.expected == "at most 1000000000 pixels a plane"


def test_a_full_disk_is_found_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "a.nii"
    old.write_bytes(b"old")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000, 9_000, 1_000))
    image = Image(np.zeros((1, 10, 10, 10), np.int16), Geometry.from_spacing((10, 10, 10), (1, 1, 1)))
    with pytest.raises(ResourceError, match="DISK_FULL") as caught:
        io.write(image, old, overwrite=True)
    assert caught.value.exit_code == 3
    assert caught.value.found == "1000 bytes free"
    assert caught.value.expected == "2540 bytes free"
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_while_writing_leaves_the_old_file(tmp_path: Path, code: int) -> None:
    old = tmp_path / "a.nii.gz"
    old.write_bytes(b"old")
    with pytest.raises(ResourceError, match="DISK_FULL") as caught:
        fail_half_way(old, OSError(code, "full"))
    assert "123 bytes" in caught.value.expected
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


def fail_half_way(path: Path, error: BaseException) -> None:
    with limits.atomic(path, 123) as beside:
        assert beside.name.endswith(path.name)  # writers that choose by ending choose the same
        beside.write_bytes(b"half")
        raise error


def test_any_other_failure_leaves_the_old_file_too(tmp_path: Path) -> None:
    old = tmp_path / "a.txt"
    old.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_half_way(old, KeyboardInterrupt())
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_the_new_file_appears_at_the_end_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    with limits.atomic(path) as beside:
        beside.write_text("new")
        assert not path.exists()
        assert beside.parent == path.parent
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
