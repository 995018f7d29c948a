"""Tar archives: files come out as they went in, and what must not be unpacked leaves nothing."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.io import tar
from hounsfield.io.tar import unpack

KINDS = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE}
DEVICES = {"character": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def packed(path: Path, *members: tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


def with_member(path: Path, info: tarfile.TarInfo) -> Path:
    """An archive of a good file and this one."""
    with tarfile.open(path, "w") as out:
        good = tarfile.TarInfo("a/good")
        good.size = 1
        out.addfile(good, io.BytesIO(b"1"))
        out.addfile(info)
    return path


def refused(code: str, path: Path) -> str:
    """What the refusal says; no file has come out, and none has come anywhere else."""
    before = sorted(p for p in path.parent.rglob("*"))
    folder = path.parent / "out"
    with pytest.raises(InputError) as caught:
        unpack(path, folder, lambda *_: None)
    assert caught.value.code == code
    assert [p for p in folder.rglob("*") if not p.is_dir()] == []
    shutil.rmtree(folder)
    assert sorted(p for p in path.parent.rglob("*")) == before
    return str(caught.value)


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    big = bytes(range(256)) * 10_000
    path = packed(tmp_path / "a.tar", ("t/one", big), ("./t/b/two", b""), ("t/b/three.nii.gz", b"333"))
    steps: list[tuple[int, int]] = []
    found = unpack(path, tmp_path / "out", lambda done, total: steps.append((done, total)))
    expected = {"t/one": big, "t/b/two": b"", "t/b/three.nii.gz": b"333"}
    assert found == {name: (len(content), hashlib.md5(content).hexdigest()) for name, content in expected.items()}
    assert {
        str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()
    } == expected
    assert steps[-1] == (len(big) + 3, len(big) + 3)


def test_hidden_files_and_folders_stay_out(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", ("t/._one", b"x"), ("._t", b"x"), ("t/.git/config", b"x"), ("t/one", b"1"))
    assert list(unpack(path, tmp_path / "out", lambda *_: None)) == ["t/one"]
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["t", "one"]


@pytest.mark.parametrize(
    "name",
    ["../out-of-it", "a/../../out-of-it", "/tmp/out-of-it", "C:\\out-of-it", "..\\out-of-it", "a\\..\\..\\b", "._/../../x"],
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = packed(tmp_path / "in" / "a.tar", ("a/good", b"1"), (name, b"bad"))
    assert "leaves the archive" in refused("UNSAFE_PATH", path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar", "in"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["a/good", "../../elsewhere", "/etc/passwd"])
def test_links_are_refused(tmp_path: Path, kind: str, target: str) -> None:
    info = tarfile.TarInfo("a/link")
    info.type, info.linkname = KINDS[kind], target
    assert "a link" in refused("UNSAFE_PATH", with_member(tmp_path / "a.tar", info))


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_are_refused(tmp_path: Path, kind: str) -> None:
    info = tarfile.TarInfo("a/device")
    info.type, info.devmajor, info.devminor = DEVICES[kind], 1, 3
    assert "a device" in refused("UNSAFE_PATH", with_member(tmp_path / "a.tar", info))


def test_a_file_behind_a_link_is_refused_with_the_link(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as out:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        out.addfile(link)
        file = tarfile.TarInfo("a/planted")
        file.size = 3
        out.addfile(file, io.BytesIO(b"bad"))
    refused("UNSAFE_PATH", path)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "./a")])
def test_one_name_twice_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    path = packed(tmp_path / "a.tar", *((name, b"1") for name in names))
    with pytest.raises(InputError, match=r"UNSAFE_PATH .*one name twice"):
        unpack(path, tmp_path / "out", lambda *_: None)


def test_a_sparse_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    info = tarfile.TarInfo("zeros")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**12)}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as out:
        info.size = 1
        out.addfile(info, io.BytesIO(b"1"))
    assert str(10**12) in refused("EXPANDS_TOO_FAR", tmp_path / "a.tar")


def test_a_compressed_bomb_is_no_archive(tmp_path: Path) -> None:
    refused("CORRUPT_PIXELS", packed(tmp_path / "a.tar", ("zeros", bytes(5_000_000)), mode="w:gz"))


def test_a_claim_of_more_than_the_archive_holds(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a/zeros")
    info.size = 1 << 33
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(10_240))
    refused("CORRUPT_PIXELS", tmp_path / "a.tar")


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_FILES", 3)
    refused("EXPANDS_TOO_FAR", packed(tmp_path / "a.tar", *((str(k), b"1") for k in range(4))))


def test_damage(tmp_path: Path) -> None:
    """Three files of a header and a block each, then two blocks as the end mark."""
    path = packed(tmp_path / "a.tar", *((name, b"1" * 512) for name in "abc"))
    whole = path.read_bytes()
    for length in (0, 100, 700, 1024, 1200, 2048, 3072, 3080):
        path.write_bytes(whole[:length])
        refused("CORRUPT_PIXELS", path)
    spoilt = bytearray(whole)
    spoilt[1024 + 150] ^= 1  # the second header's own checksum
    path.write_bytes(bytes(spoilt))
    assert "it ends early" in refused("CORRUPT_PIXELS", path)
    path.write_bytes(b"no archive at all" * 100)
    refused("CORRUPT_PIXELS", path)


def test_the_disk_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.tar", ("a", b"1" * 1000), ("b", b"1" * 500))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 1499))
    with pytest.raises(ResourceError, match=r"DISK_FULL .*1500 bytes free"):
        unpack(path, tmp_path / "out", lambda *_: None)
    assert list((tmp_path / "out").iterdir()) == []
