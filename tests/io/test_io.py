"""Reading and writing by content: which format reads, what a wrong file looks like, and what stays when writing fails."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

import hounsfield
from hounsfield import io
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io.formats import FORMATS, raster

IMAGE = Image(np.arange(12, dtype=np.uint8).reshape(1, 3, 4), Geometry.none((3, 4)))


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path)
    with pytest.raises(InputError) as peeked:
        io.peek(path)
    assert caught.value.code == peeked.value.code == code
    line = str(caught.value)
    assert line.startswith(f"{code} {path}: found ")
    return line


def test_the_public_read_is_this_one() -> None:
    assert hounsfield.read is io.read


@pytest.mark.parametrize("name", ["a.dcm", "a.nii", "a.nii.gz", "a.png", "a.npz", "a", "a.tif"])
def test_an_empty_file_is_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "0 bytes" in refused("EMPTY_FILE", tmp_path / name)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    assert "no such file" in refused("NOT_FOUND", tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    refused("NOT_FOUND", tmp_path / "link.png")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"patient,age\n1,2\n", "text"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "HTML"),
        (b'<?xml version="1.0"?><a/>', "XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (gzip.compress(b"something else", mtime=0), "gzip of something else"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (bytes(600), "nothing but zero bytes"),
        (b"\x00\x01\xfe\xff" * 9, "unknown bytes 00 01 fe ff"),
    ],
)
@pytest.mark.parametrize(("name", "title"), [("a.dcm", "DICOM"), ("a.nii.gz", "NIfTI"), ("a.png", "PNG"), ("a.npy", "NPY")])
def test_another_content_than_the_name_says(tmp_path: Path, content: bytes, told: str, name: str, title: str) -> None:
    (tmp_path / name).write_bytes(content)
    line = refused("WRONG_FORMAT", tmp_path / name)
    assert f"found {told}" in line
    assert f"not {title}" in line
    (tmp_path / "a.xyz").write_bytes(content)
    line = refused("UNKNOWN_FORMAT", tmp_path / "a.xyz")
    assert f"found {told}" in line
    assert all(name in line for name in ("DICOM", "NIfTI", "raster", "numpy"))


def test_a_zip_without_arrays_is_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("weights.pkl", b"x")
    assert "a ZIP archive, not NPZ" in refused("WRONG_FORMAT", tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.tif", "a.npy", "a.npz"])
def test_content_decides_whatever_the_name(tmp_path: Path, name: str) -> None:
    io.write(IMAGE, tmp_path / name)
    expected = io.read(tmp_path / name)
    for other in ("b", "b.dcm"):
        (tmp_path / other).write_bytes((tmp_path / name).read_bytes())
        image = io.read(tmp_path / other)
        np.testing.assert_array_equal(image.array, expected.array)
        assert (len(image.meta.notes) - len(expected.meta.notes)) == (other == "b.dcm")


def test_the_name_that_misleads_is_noted(tmp_path: Path) -> None:
    io.write(IMAGE, tmp_path / "a.nii")
    (tmp_path / "a.nii").rename(tmp_path / "a.dcm")
    assert io.read(tmp_path / "a.dcm").meta.notes[-1] == "the name says DICOM, the content is NIfTI"


def test_memory_that_does_not_suffice_is_a_resource_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io.write(IMAGE, tmp_path / "a.png")

    def starved(*_: object) -> Image:
        raise MemoryError

    monkeypatch.setattr(raster, "read", starved)
    with pytest.raises(ResourceError, match="OUT_OF_MEMORY") as caught:
        io.read(tmp_path / "a.png")
    assert caught.value.exit_code == 3


def test_an_existing_output_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    io.write(IMAGE, path)
    before = path.read_bytes()
    other = Image(IMAGE.array + 1, IMAGE.geometry)
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        io.write(other, path)
    assert path.read_bytes() == before
    io.write(other, path, overwrite=True)
    np.testing.assert_array_equal(io.read(path).array, other.array)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        io.write(other, tmp_path / "folder.png", overwrite=True)


@pytest.mark.parametrize("name", ["a.jpg", "a.dcm", "a", "a.gz"])
def test_only_endings_that_keep_values_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="BAD_OPTION") as caught:
        io.write(IMAGE, tmp_path / name)
    assert ".nii.gz" in caught.value.expected
    assert list(tmp_path.iterdir()) == []


def test_every_format_says_what_it_writes_within_what_it_reads() -> None:
    for name, member in FORMATS.all().items():
        writes = getattr(member, "WRITES", ())
        assert set(writes) <= set(member.SUFFIXES), name
        assert bool(writes) is hasattr(member, "write"), name
        assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in member.SUFFIXES)
