"""ZIP archives as folders: what must not be unpacked is refused, what is unpacked is gone afterwards."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from hounsfield.core.errors import InputError
from hounsfield.io import archive
from hounsfield.io.archive import holds_dicom, unpacked


def packed(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in members:
            out.writestr(name, content)
    return path


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught, unpacked(path):
        pass
    assert caught.value.code == code
    return str(caught.value)


def test_files_come_out_as_they_went_in_and_are_gone_afterwards(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("one.dcm", b"1" * 3_000_000), ("b/two", b""), ("b/c/three", b"33"))
    before = path.read_bytes()
    with unpacked(path) as folder:
        found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == {"one.dcm": b"1" * 3_000_000, "b/two": b"", "b/c/three": b"33"}
    assert not folder.exists()
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "C:\\out", "..\\out", "a\\..\\..\\out"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    assert "leaves the archive" in refused("UNSAFE_PATH", packed(inner / "a.zip", ("good", b"1"), (name, b"bad")))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.zip", "inner"]


def test_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr(link, "/etc/passwd")
    assert "a link" in refused("UNSAFE_PATH", tmp_path / "a.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", ("zeros", bytes(50_000_000)))
    monkeypatch.setenv("HOUNSFIELD_MAX_GIB", "0.01")
    monkeypatch.setattr(archive, "_extract", lambda *_: pytest.fail("unpacked"))
    assert "50000000 bytes" in refused("EXPANDS_TOO_FAR", path)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    refused("EXPANDS_TOO_FAR", packed(tmp_path / "a.zip", *((str(k), b"1") for k in range(4))))


def test_a_directory_that_lies_of_sizes(tmp_path: Path) -> None:
    """More bytes than the directory claims are not written; a file that ends early is no file."""
    path = packed(tmp_path / "a.zip", ("a", b"x" * 1000), method=zipfile.ZIP_STORED)
    whole = path.read_bytes()
    for claimed in (10, 2000):
        path.write_bytes(whole.replace((1000).to_bytes(4, "little"), claimed.to_bytes(4, "little")))
        with pytest.raises(InputError), unpacked(path):
            pytest.fail("unpacked")


def test_encrypted(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", b"x"))
    spoilt = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        spoilt[spoilt.index(mark) + flags] |= 1
    path.write_bytes(bytes(spoilt))
    assert "encrypted" in refused("UNSUPPORTED_SYNTAX", path)


def test_damage(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("a", bytes(range(256)) * 50))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("CORRUPT_PIXELS", path)
    path.write_bytes(whole[:40] + b"\xff" * 20 + whole[60:])
    refused("CORRUPT_PIXELS", path)


def test_an_error_within_names_the_archive(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", ("b/one", b"1"))
    with pytest.raises(InputError) as caught, unpacked(path) as folder:
        raise InputError("TRUNCATED", folder / "b" / "one", found="1", expected="2", fix="none")
    assert caught.value.where == f"{path}: b/one"
    with pytest.raises(InputError) as caught, unpacked(path) as folder:
        raise InputError("EMPTY_FOLDER", folder, found="1", expected="2", fix="none")
    assert caught.value.where == str(path)


def test_an_archive_of_dicom_is_known_by_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", ("note", b"text"), ("b/scan", bytes(128) + b"DICM"))
    assert holds_dicom(path)
    assert not holds_dicom(packed(tmp_path / "c.zip", ("note", b"text"), ("b/scan", b"DICM")))
    monkeypatch.setattr(archive, "_LOOKS", 1)
    assert not holds_dicom(path)
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 nothing more")
    with pytest.raises(InputError, match=r"^CORRUPT_PIXELS .*a damaged archive"):
        holds_dicom(tmp_path / "b.zip")
    assert not holds_dicom(packed(tmp_path / "d.zip"))
