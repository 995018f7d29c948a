"""DICOMDIR and ZIP archives: the same image as the folder's, and nothing outside of it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.io.formats import Choices

VOLUME = np.random.default_rng(3).integers(0, 900, (5, 6, 7), dtype=np.int16)


@pytest.fixture
def folder(tmp_path: Path, make_slice: Any) -> Path:
    """A series of five slices and a second one of a single slice."""
    (tmp_path / "scans").mkdir()
    more = {"StudyInstanceUID": "1.2.3", "StudyDate": "20200101", "StudyTime": "101010", "StudyID": "1"}
    for k in range(5):
        make_slice(tmp_path / "scans" / f"{k}.dcm", VOLUME[k], (0.0, 0.0, 2.0 * k), InstanceNumber=k, **more)
    other = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 8, "InstanceNumber": 1}
    make_slice(tmp_path / "scans" / "other.dcm", VOLUME[0], (0.0, 0.0, 0.0), **more, **other)
    return tmp_path / "scans"


@pytest.fixture
def disc(folder: Path, tmp_path: Path) -> Path:
    """A DICOMDIR of the same files, as pydicom writes it."""
    files = FileSet()
    for path in sorted(folder.iterdir()):
        files.add(path)
    files.write(tmp_path / "disc")
    return tmp_path / "disc" / "DICOMDIR"


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            out.write(file, file.relative_to(folder.parent))
    return path


def refused(code: str, path: Path, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path, Choices(**choices))
    assert caught.value.code == code, caught.value
    assert "SECRET" not in str(caught.value).upper()
    return str(caught.value)


def test_directory_and_archive_hold_the_image_of_the_folder(folder: Path, disc: Path, tmp_path: Path) -> None:
    chosen = Choices(series="7")
    plain = io.read(folder, chosen)
    np.testing.assert_array_equal(plain.array[0], VOLUME)
    for path in (disc, zipped(folder, tmp_path / "scans.zip"), zipped(disc.parent, tmp_path / "disc.zip")):
        again = io.read(path, chosen)
        np.testing.assert_array_equal(again.array, plain.array)
        assert again.geometry == plain.geometry
        assert io.peek(path, chosen).geometry == plain.geometry
        assert io.list_series(path) == io.list_series(folder)


def test_their_series_are_listed(folder: Path, disc: Path, tmp_path: Path) -> None:
    for path in (folder, disc, zipped(folder, tmp_path / "scans.zip")):
        assert [(s.number, s.files, s.modality) for s in io.list_series(path)] == [("7", 5, "MR"), ("8", 1, "MR")]
        assert "2 series: number 7" in refused("SEVERAL_SERIES", path)


def test_one_file_is_one_series(folder: Path) -> None:
    assert [(s.number, s.files) for s in io.list_series(folder / "0.dcm")] == [("7", 1)]


def changed(disc: Path, *parts: str) -> Path:
    tags = pydicom.dcmread(disc)
    for record in tags.DirectoryRecordSequence:
        if record.DirectoryRecordType == "IMAGE":
            record.ReferencedFileID = list(parts)
        record.OffsetOfTheNextDirectoryRecord = record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    tags.save_as(disc)
    return disc


@pytest.mark.parametrize(
    "parts", [("..", "scans", "0.dcm"), ("..", "..", "etc", "passwd"), ("..\\scans\\0.dcm",), ("/etc/passwd",)]
)
def test_an_entry_outside_of_the_disc_is_refused(disc: Path, parts: tuple[str, ...]) -> None:
    with pydicom.config.disable_value_validation():
        line = refused("NOT_FOUND" if parts[0].startswith("/") else "UNSAFE_PATH", changed(disc, *parts))
    assert "passwd" not in line or "etc/passwd" in line


def test_a_linked_file_outside_of_the_disc_is_refused(disc: Path, folder: Path) -> None:
    (disc.parent / "LINK").symlink_to(folder / "0.dcm")
    refused("UNSAFE_PATH", changed(disc, "LINK"))


def test_files_that_are_not_there_are_counted(disc: Path) -> None:
    for file in [p for p in disc.parent.rglob("*") if p.is_file() and p != disc]:
        file.unlink()
    assert "6 of 6 listed files missing" in refused("NOT_FOUND", disc)


def test_a_directory_without_images(disc: Path) -> None:
    tags = pydicom.dcmread(disc)
    tags.DirectoryRecordSequence = [Dataset()]
    tags.save_as(disc)
    refused("EMPTY_FOLDER", disc, series="7")


def test_a_directory_cut_short_loses_no_slice_without_a_word(disc: Path) -> None:
    content = disc.read_bytes()
    refusals = 0
    for length in range(400, len(content), 97):
        disc.write_bytes(content[:length])
        try:
            image = io.read(disc, Choices(series="7"))
        except InputError:
            refusals += 1
        else:
            np.testing.assert_array_equal(image.array[0], VOLUME)
    assert refusals > 10


def test_an_archive_of_something_else_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("text")
    assert "a ZIP archive" in refused("UNKNOWN_FORMAT", zipped(tmp_path / "text", tmp_path / "text.zip"))


def test_a_fault_in_an_archive_names_the_file_in_it(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "0.dcm", folder / "again.dcm")
    line = refused("DUPLICATE_UID", zipped(folder, tmp_path / "scans.zip"), series="7")
    assert str(tmp_path / "scans.zip") in line
    assert "hounsfield-" not in line


def test_a_name_that_no_file_can_have(disc: Path) -> None:
    assert "zero byte" in refused("BAD_HEADER", changed(disc, "scans", "0\0.dcm"))
