"""Scanning: images below a folder, sorted, without litter; names without meaning are judged by content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.data import get_testdata_file

from hounsfield.core.errors import InputError
from hounsfield.io import scan


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def names(found: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found]


def test_images_are_sorted_and_litter_is_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.nii.gz", "b/1.PNG", "a.dcm", "c.txt", "labels.csv", "d.hdr", "d.img", "z.npz")
    touch(tmp_path, ".hidden.png", ".cache/e.png", "__MACOSX/a.dcm", "Thumbs.db", "b/desktop.ini", "b/.DS_Store")
    assert names(scan.images(tmp_path), tmp_path) == ["a.dcm", "b/1.PNG", "b/2.nii.gz", "d.hdr", "z.npz"]
    assert "c.txt" in names(scan.files(tmp_path), tmp_path)
    assert not any("MACOSX" in name or "/." in f"/{name}" for name in names(scan.files(tmp_path), tmp_path))


def test_names_without_a_telling_ending_are_judged_by_content(tmp_path: Path) -> None:
    dicom = Path(str(get_testdata_file("CT_small.dcm", download=False))).read_bytes()
    for name in ("IM0001", "1.2.840.113619.2", "a.png.7"):
        (tmp_path / name).write_bytes(dicom)
    Pillow.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "plain", format="PNG")
    touch(tmp_path, "README", "1.2.3", "empty.d/Makefile")
    assert names(scan.images(tmp_path), tmp_path) == ["1.2.840.113619.2", "IM0001", "a.png.7", "plain"]


def test_a_folder_without_images_is_empty(tmp_path: Path) -> None:
    touch(tmp_path, "readme.txt")
    with pytest.raises(InputError, match="EMPTY_FOLDER"):
        scan.images(tmp_path)


@pytest.mark.parametrize("name", ["gone", "file.png"])
def test_what_is_no_folder_is_not_scanned(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "file.png")
    for ask in (scan.images, scan.files):
        with pytest.raises(InputError, match="NOT_FOUND"):
            ask(tmp_path / name)


def test_linked_folders_are_followed_once_even_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    assert names(scan.images(tmp_path / "set"), tmp_path / "set") == ["linked/a.png"]
    assert names(scan.images(tmp_path / "real"), tmp_path / "real") == ["a.png"]


def test_order_is_by_folder_then_name_whatever_the_disk_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/2.png", "a/1.png", "a.png", "b/0.png")
    walk: Any = scan._walk
    monkeypatch.setattr(scan, "_walk", lambda folder, seen: reversed(list(walk(folder, seen))))
    assert names(scan.images(tmp_path), tmp_path) == ["a/1.png", "a/2.png", "a.png", "b/0.png"]
