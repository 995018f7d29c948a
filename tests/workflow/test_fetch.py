"""The fetch verb: a folder that every other verb reads, whole and with its licence, or none."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from tests.web_server import Site, corrupts, drops, serving, status

from hounsfield.cli import main
from hounsfield.core.errors import InputError, ResourceError, RunInterruptedError
from hounsfield.data.catalogue import Published, find
from hounsfield.data.readers import open_dataset
from hounsfield.io import download, tar
from hounsfield.workflow import fetch as module
from hounsfield.workflow.console import SILENT, Bar
from hounsfield.workflow.fetch import fetch
from hounsfield.workflow.inspect import inspect


class Said:
    """A console that remembers, and may stop the work at a word."""

    def __init__(self, stop_at: str = "\0") -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def say(self, message: str) -> None:
        self.lines.append(message)
        if self.stop_at in message:
            raise KeyboardInterrupt

    def bar(self, label: str) -> AbstractContextManager[Bar]:
        return SILENT.bar(label)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.005)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def arrays() -> bytes:
    """A small set in MedMNIST's form."""
    draw = np.random.default_rng(0)
    held: dict[str, Any] = {}
    for part, count in (("train", 24), ("val", 6), ("test", 6)):
        held[f"{part}_images"] = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        held[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
    out = io.BytesIO()
    np.savez(out, **held)
    return out.getvalue()


def task(*more: tuple[str, bytes], folder: str = "Task04_Hippocampus") -> bytes:
    """A small archive in the Decathlon's form, with what some systems leave in one; more: further files."""
    draw = np.random.default_rng(0)
    files = {}
    for k in range(3):
        for kind, values in (("imagesTr", draw.random((8, 9, 10), np.float32)), ("labelsTr", draw.integers(0, 3, (8, 9, 10)))):
            typed = np.asarray(values, np.float32 if kind == "imagesTr" else np.uint8)
            image = nibabel.Nifti1Image(typed, np.eye(4))  # type: ignore[no-untyped-call]
            files[f"{kind}/h_{k}.nii.gz"] = gzip.compress(image.to_bytes(), mtime=0)
            files[f"{kind}/._h_{k}.nii.gz"] = b"litter"
    training = [{"image": f"./imagesTr/h_{k}.nii.gz", "label": f"./labelsTr/h_{k}.nii.gz"} for k in range(3)]
    about = {"name": "Hippocampus", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}
    files["dataset.json"] = json.dumps({**about, "training": training, "test": []}).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in {**{f"{folder}/{name}": content for name, content in files.items()}, **dict(more)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> Published:
    """The set of this name as if `content` were what its publisher has."""
    one = replace(find(name), md5=hashlib.md5(content).hexdigest())
    monkeypatch.setattr(module, "find", lambda asked: one if asked == name else find(asked))
    return one


@pytest.fixture
def breast(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    content = arrays()
    stand_in(monkeypatch, "breastmnist", content)
    with serving(content) as site:
        yield site


@pytest.fixture
def hippocampus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    content = task()
    stand_in(monkeypatch, "msd_hippocampus", content)
    with serving(content) as site:
        yield site


def there(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def test_arrays_become_a_folder_that_is_read(breast: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    console = Said()
    found = fetch("breastmnist", base=breast.base, console=console)
    assert (found.out, found.loaded, found.files, found.size) == ("breastmnist", True, 1, len(breast.content))
    assert there(tmp_path) == [
        f"breastmnist/{n}" for n in ("LICENCE.txt", "breastmnist.json", "breastmnist.npz", "fetched.json")
    ]
    assert (tmp_path / "breastmnist" / "breastmnist.npz").read_bytes() == breast.content
    data = open_dataset(Path("breastmnist"))
    assert (data.reader, len(data), [c.name for c in data.classes]) == ("medmnist", 36, ["malignant", "normal, benign"])
    assert inspect("breastmnist").reader == "medmnist"
    note = (tmp_path / "breastmnist" / "LICENCE.txt").read_text()
    for said in (
        "CC BY 4.0",
        "https://creativecommons.org/licenses/by/4.0/",
        "Scientific Data 10, 41 (2023)",
        "zenodo.org/records/",
    ):
        assert said in note
    assert [s["path"] for s in breast.seen] == ["/breastmnist.npz"]


def test_an_archive_becomes_a_folder_that_is_read(hippocampus: Site, tmp_path: Path) -> None:
    found = fetch("msd_hippocampus", tmp_path / "data" / "h", base=hippocampus.base)
    assert (found.files, found.licence) == (7, "CC BY-SA 4.0")
    names = [f"{kind}/h_{k}.nii.gz" for kind in ("imagesTr", "labelsTr") for k in range(3)]
    assert there(tmp_path) == sorted(f"data/h/{n}" for n in ("LICENCE.txt", "dataset.json", "fetched.json", *names))
    data = open_dataset(tmp_path / "data" / "h")
    assert (data.reader, len(data), [c.name for c in data.classes]) == ("msd", 3, ["Anterior", "Posterior"])
    assert data.notes == ()
    assert data.samples[0].images[0]().array.shape[0] == 1
    assert [s["path"] for s in hippocampus.seen] == ["/Task04_Hippocampus.tar"]


def test_licence_citation_and_size_are_said_before_the_data_come(breast: Site, tmp_path: Path) -> None:
    class Watching(Said):
        def say(self, message: str) -> None:
            super().say(f"{len(breast.seen)} {message}")

    console = Watching()
    fetch("breastmnist", tmp_path / "b", base=breast.base, console=console)
    assert console.lines[0] == "0 breastmnist: BreastMNIST 28×28, 780 cases of classification: breast ultrasound"
    assert console.lines[1] == "0 licence: CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    assert console.lines[2].startswith("0 cite: Yang J, Shi R, Wei D")
    assert console.lines[-1] == f"1 breastmnist.npz: {len(breast.content)} bytes from 127.0.0.1"


@pytest.mark.parametrize("name", ["breastmnist", "msd_hippocampus"])
def test_a_complete_copy_is_verified_and_not_loaded_again(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    site: Site = request.getfixturevalue("breast" if name == "breastmnist" else "hippocampus")
    first = fetch(name, tmp_path / "d", base=site.base)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    for overwrite in (False, True):
        console = Said()
        again = fetch(name, tmp_path / "d", base=site.base, overwrite=overwrite, console=console)
        assert console.lines == [f"{tmp_path / 'd'} is complete: every checksum fits, nothing is loaded"]
        assert again == first.model_copy(update={"loaded": False})
    assert len(site.seen) == 1
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("how", ["changed", "shorter", "gone"])
def test_a_damaged_copy_is_named_and_replaced_on_request(how: str, hippocampus: Site, tmp_path: Path) -> None:
    out = tmp_path / "h"
    fetch("msd_hippocampus", out, base=hippocampus.base)
    file = out / "imagesTr" / "h_1.nii.gz"
    whole = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-1] if how == "shorter" else whole[:-1] + b"x")
    said = "without imagesTr/h_1.nii.gz" if how == "gone" else "in which imagesTr/h_1.nii.gz has changed"
    with pytest.raises(InputError, match=f"OUTPUT_EXISTS .*found a copy {said}.*--overwrite"):
        fetch("msd_hippocampus", out, base=hippocampus.base)
    assert len(hippocampus.seen) == 1
    assert fetch("msd_hippocampus", out, base=hippocampus.base, overwrite=True).loaded
    assert file.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["h"]


def test_nothing_of_the_users_is_replaced(breast: Site, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    fetch("breastmnist", tmp_path / "b", base=breast.base)
    (tmp_path / "b" / "breastmnist.npz").write_bytes(b"damaged")
    (tmp_path / "b" / "notes").mkdir()
    (tmp_path / "b" / "notes" / "thesis.txt").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for out in ("mine", "file"):
        with pytest.raises(InputError, match=r"OUTPUT_EXISTS .*holds something else.*--out"):
            fetch("breastmnist", tmp_path / out, base=breast.base, overwrite=True)
    with pytest.raises(InputError, match=r"OUTPUT_EXISTS .*1 files that were not fetched, such as thesis.txt"):
        fetch("breastmnist", tmp_path / "b", base=breast.base, overwrite=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert len(breast.seen) == 1


def test_an_empty_folder_is_filled(breast: Site, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    assert fetch("breastmnist", tmp_path / "b", base=breast.base).loaded
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_another_set_is_replaced_on_request_alone(breast: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("breastmnist", tmp_path / "b", base=breast.base)
    stand_in(monkeypatch, "breastmnist_64", breast.content + b"0")
    breast.content += b"0"
    with pytest.raises(InputError, match=r"OUTPUT_EXISTS .*found breastmnist of MD5 [0-9a-f]{32},"):
        fetch("breastmnist_64", tmp_path / "b", base=breast.base)
    fetch("breastmnist_64", tmp_path / "b", base=breast.base, overwrite=True)
    names = ("LICENCE.txt", "breastmnist_64.json", "breastmnist_64.npz", "fetched.json")
    assert there(tmp_path) == [f"b/{name}" for name in names]


@pytest.mark.parametrize("behave", [status(404), corrupts])
def test_what_cannot_be_loaded_leaves_nothing(breast: Site, tmp_path: Path, behave: Any) -> None:
    breast.script = [behave]
    with pytest.raises(ResourceError, match="FETCH_FAILED") as caught:
        fetch("breastmnist", tmp_path / "b", base=breast.base)
    assert caught.value.where == f"{breast.base}/breastmnist.npz"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_is_continued(breast: Site, tmp_path: Path) -> None:
    breast.script = [drops(9_000)]
    with pytest.raises(RunInterruptedError, match=r"INTERRUPTED .*the same command again") as caught:
        fetch("breastmnist", tmp_path / "b", base=breast.base, console=Said(stop_at="trying again"))
    assert caught.value.exit_code == 130
    assert there(tmp_path) == [".b.part/breastmnist/breastmnist.npz.part", ".b.part/breastmnist/breastmnist.npz.part.json"]
    fetch("breastmnist", tmp_path / "b", base=breast.base)
    assert breast.ranges == [None, "bytes=9000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_was_begun_for_the_same_place_does_not_mix(breast: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breast.script = [drops(9_000)]
    with pytest.raises(RunInterruptedError):
        fetch("breastmnist", tmp_path / "b", base=breast.base, console=Said(stop_at="trying again"))
    stand_in(monkeypatch, "breastmnist_64", breast.content)
    fetch("breastmnist_64", tmp_path / "b", base=breast.base)
    names = ("LICENCE.txt", "breastmnist_64.json", "breastmnist_64.npz", "fetched.json")
    assert there(tmp_path) == [f"b/{name}" for name in names]


def test_what_is_interrupted_while_it_is_unpacked_is_not_loaded_again(
    hippocampus: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, folder: Path, progress: Any) -> Any:
        (folder / "Task04_Hippocampus").mkdir(parents=True)
        (folder / "Task04_Hippocampus" / "dataset.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tar, "unpack", half)
        with pytest.raises(RunInterruptedError):
            fetch("msd_hippocampus", tmp_path / "h", base=hippocampus.base)
    assert not (tmp_path / "h").exists()
    fetch("msd_hippocampus", tmp_path / "h", base=hippocampus.base)
    assert len(hippocampus.seen) == 1
    assert len(open_dataset(tmp_path / "h")) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["h"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (task(("../planted", b"x")), "UNSAFE_PATH"),
        (task(folder="elsewhere"), "UNKNOWN_LAYOUT"),
        (task(("stray.txt", b"x")), "UNKNOWN_LAYOUT"),
        (b"no archive" * 100, "CORRUPT_PIXELS"),
    ],
)
def test_an_archive_that_is_not_as_it_should_be_leaves_nothing(
    content: bytes, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "msd_hippocampus", content)
    with serving(content) as site, pytest.raises(InputError) as caught:
        fetch("msd_hippocampus", tmp_path / "in" / "h", base=site.base)
    assert caught.value.code == code
    assert there(tmp_path) == []


def test_an_archive_needs_room_twice(hippocampus: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(hippocampus.content)
    free = type("Usage", (), {"free": 2 * size - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(ResourceError, match=rf"DISK_FULL .*expected {2 * size} bytes free"):
        fetch("msd_hippocampus", tmp_path / "h", base=hippocampus.base)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_made(breast: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"BAD_OPTION .*no folder can be made there"):
        fetch("breastmnist", tmp_path / "file" / "b", base=breast.base)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", "fetch", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command(breast: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here = replace(stand_in(monkeypatch, "breastmnist", breast.content), url=f"{breast.base}/breastmnist.npz")
    monkeypatch.setattr(module, "find", lambda name: here)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "breastmnist") == 0
    told = capsys.readouterr()
    assert told.out == "breastmnist\n"
    assert "licence: CC BY 4.0" in told.err
    assert run(monkeypatch, "breastmnist", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"schema", "name", "out", "loaded", "url", "licence", "cite", "files", "size"}
    assert (document["schema"], document["loaded"], document["size"]) == (1, False, len(breast.content))
    breast.stop()
    assert run(monkeypatch, "breastmnist", "--out", "elsewhere") == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith(
        f"FETCH_FAILED {breast.base}/breastmnist.npz: found no connection (Connection refused)"
    )
    assert there(tmp_path) == [
        f"breastmnist/{n}" for n in ("LICENCE.txt", "breastmnist.json", "breastmnist.npz", "fetched.json")
    ]


def test_the_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 71
    assert lines[0].split() == ["name", "task", "cases", "licence", "shows"]
    assert lines[1].split() == ["pathmnist", "classification", "107,180", "CC", "BY", "4.0", "colon", "tissue,", "stained"]
    assert run(monkeypatch, "--list", "MSD_h", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in document["datasets"]] == ["msd_heart", "msd_hippocampus", "msd_hepaticvessel"]
    assert document["datasets"][0]["url"] == "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task02_Heart.tar"
    for words in (["--list", "brestmnist"], ["brestmnist"]):
        assert run(monkeypatch, *words) == 2
        assert "did you mean 'breastmnist'?" in capsys.readouterr().err
    assert run(monkeypatch) == 2
    assert "see them with --list" in capsys.readouterr().err
