"""The deidentify verb: what is written, what is refused, what the report says, and that nothing half-done is left."""

from __future__ import annotations

import json
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from rich.console import Console
from tests.io.deidentify.planted import ROOT, left, picture, save

import hounsfield as hu
from hounsfield.cli import main
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.io import limits
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.workflow import deidentify as workflow
from hounsfield.workflow.console import Silent
from hounsfield.workflow.deidentify import REPORT, deidentify, show

KEY = b"k" * 32


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path / "key"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slices of a series, a picture of a report, a text and a directory file."""
    root = tmp_path / "Zwicker study"
    root.mkdir()
    for k in range(3):
        name = root / f"Zwicker-{k}.dcm"
        save(picture(SOPInstanceUID=f"{ROOT}.3.{k}", ImagePositionPatient=[0, 0, 3 * k], InstanceNumber=k), name)
    save(picture(SOPInstanceUID=f"{ROOT}.3.9", BurnedInAnnotation="YES"), root / "Zwicker-burned.dcm")
    (root / "notes.txt").write_text("Ottilie Zwicker")
    return root


def below(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_folder(folder: Path, tmp_path: Path, key: Path) -> None:
    before = below(folder)
    heard = Heard()
    report = deidentify(folder, tmp_path / "out", key=key, console=heard)
    assert below(folder) == before, "the input is as it was"
    assert (report.written, report.refused, report.left) == (3, 2, 0)
    codes = {file.code: file for file in report.files if file.code}
    assert set(codes) == {"NOT_DEIDENTIFIED", "UNKNOWN_FORMAT"}
    written = below(tmp_path / "out")
    assert set(written) == {REPORT, *(file.output for file in report.files if file.output)}
    for name, raw in written.items():
        assert not any(word in name + raw.decode("latin-1") for word in ("Zwicker", "Ottilie", "QX-778812", ROOT))
    assert json.loads(written[REPORT]) == report.to_json()
    (series,) = hu.list_series(tmp_path / "out")
    volume = hu.read(tmp_path / "out")
    assert list(volume.array.shape) == [1, 3, 6, 7]
    assert volume.geometry.spacing == pytest.approx((3, 0.5, 0.25))
    assert series.files == 3
    assert any("Zwicker-burned.dcm: NOT_DEIDENTIFIED" in line for line in heard.lines), "the console names what was refused"


def test_one_key_gives_the_same_files_again_in_any_place(folder: Path, tmp_path: Path, key: Path) -> None:
    deidentify(folder, tmp_path / "a", key=key)
    shutil.move(str(folder), tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "Zwicker-0.dcm").rename(tmp_path / "elsewhere" / "renamed")
    deidentify(tmp_path / "elsewhere", tmp_path / "b", key=key)
    a, b = below(tmp_path / "a"), below(tmp_path / "b")
    a.pop(REPORT), b.pop(REPORT)
    assert a == b


def test_without_a_key_one_is_made_for_its_owner_alone(folder: Path, tmp_path: Path) -> None:
    heard = Heard()
    deidentify(folder, tmp_path / "out", console=heard)
    made = tmp_path / "out.key"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert any(str(made) in line for line in heard.lines)
    assert made.read_text().strip() not in "".join(heard.lines)
    deidentify(folder, tmp_path / "again", key=made)
    assert {*below(tmp_path / "again")} == {*below(tmp_path / "out")}
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(InputError, match=r"^OUTPUT_EXISTS .*out\.key"):
        deidentify(folder, tmp_path / "out")


def test_a_file_a_zip_and_a_disc(folder: Path, tmp_path: Path, key: Path) -> None:
    assert deidentify(folder / "Zwicker-0.dcm", tmp_path / "one", key=key).written == 1
    with zipfile.ZipFile(tmp_path / "Zwicker.zip", "w") as archive:
        for path in folder.glob("*.dcm"):
            archive.write(path, f"Zwicker/{path.name}")
    assert deidentify(tmp_path / "Zwicker.zip", tmp_path / "packed", key=key).written == 3
    base = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests"
    shutil.copytree(base / "77654033", tmp_path / "disc" / "77654033")
    shutil.copy(base / "DICOMDIR", tmp_path / "disc" / "DICOMDIR")
    report = deidentify(tmp_path / "disc" / "DICOMDIR", tmp_path / "of-disc", key=key)
    assert report.written == 7
    assert [file.code for file in report.files if file.code] == ["NOT_DEIDENTIFIED"], "the directory names files"


def test_a_single_file_that_is_refused_is_that_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED .*burned.dcm: found text about the patient"):
        deidentify(folder / "Zwicker-burned.dcm", tmp_path / "out")
    for path in folder.glob("Zwicker-?.dcm"):
        path.unlink()
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED .* 2 files, all refused; the first: "):
        deidentify(folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}


def test_the_output_is_new_and_apart_from_input_and_key(folder: Path, tmp_path: Path, key: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for out, fault in ((tmp_path / "full", "OUTPUT_EXISTS"), (folder / "out", "BAD_OPTION"), (folder, "OUTPUT_EXISTS")):
        with pytest.raises(InputError, match=rf"^{fault}"):
            deidentify(folder, out, key=key)
    with pytest.raises(InputError, match=r"^BAD_OPTION .* the key within the output"):
        deidentify(folder, tmp_path / "out", key=tmp_path / "out" / "key")
    with pytest.raises(InputError, match=r"^NOT_FOUND"):
        deidentify(tmp_path / "nowhere", tmp_path / "out", key=key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"^EMPTY_FOLDER"):
        deidentify(tmp_path / "empty", tmp_path / "out", key=key)
    assert deidentify(folder, tmp_path / "empty", key=key).written == 3, "an empty folder is as good as a new one"


def test_two_files_of_one_instance_are_not_both_written(folder: Path, tmp_path: Path, key: Path) -> None:
    shutil.copy(folder / "Zwicker-1.dcm", folder / "copy.dcm")
    report = deidentify(folder, tmp_path / "out", key=key)
    assert report.written == 3
    assert sorted(file.code for file in report.files if file.code) == ["DUPLICATE_UID", "NOT_DEIDENTIFIED", "UNKNOWN_FORMAT"]


def test_a_leftover_is_taken_away_and_is_an_error(
    folder: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hounsfield.io.deidentify import _dicom

    sign = _dicom._sign

    def leaky(data: Any, profile: Profile) -> None:
        if data.InstanceNumber == 1:
            data.LongCodeValue = "Ottilie was here"
        sign(data, profile)

    monkeypatch.setattr(_dicom, "_sign", leaky)
    with pytest.raises(InputError, match=r"^IDENTIFIER_LEFT .* in 1 of 3 new files") as caught:
        deidentify(folder, tmp_path / "out", key=key)
    assert caught.value.exit_code == 2
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert (report["written"], report["left"]) == (2, 1)
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2
    assert all(not left(path, ["Zwicker", "Ottilie", "QX-778812"]) for path in (tmp_path / "out").rglob("*.dcm"))


def test_what_one_file_tells_is_searched_in_the_others(folder: Path, tmp_path: Path, key: Path) -> None:
    other = picture(SOPInstanceUID=f"{ROOT}.3.7", PatientName="Other^Person", PatientID="ZZ", LongCodeValue="copy of QX-778812")
    save(other, folder / "other.dcm")
    with pytest.raises(InputError, match=r"^IDENTIFIER_LEFT .* in 1 of 4 new files"):
        deidentify(folder, tmp_path / "out", key=key)


@pytest.mark.parametrize("fails", ["_one", "_placed"])
def test_a_failure_half_way_leaves_nothing(folder: Path, tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(limits.NO_ROOM[0], "full")

    monkeypatch.setattr(workflow, fails, full)
    with pytest.raises(ResourceError, match=r"^DISK_FULL"):
        deidentify(folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}


def test_a_new_key_goes_with_an_output_that_cannot_be_placed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        if target == tmp_path / "out":
            raise PermissionError("no")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    with pytest.raises(PermissionError):
        deidentify(folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}


def test_the_table_says_what_was_not_searched(folder: Path, tmp_path: Path, key: Path) -> None:
    save(picture(SOPInstanceUID=f"{ROOT}.3.8", Modality="US"), folder / "us.dcm")
    report = deidentify(folder, tmp_path / "out", key=key, profile=Profile(shift_dates=True))
    console = Console(width=200, record=True, file=sys.stderr)
    console.print(show(report))
    page = console.export_text()
    for said in (
        "4 files, 4 DICOM",
        "1 file: ultrasound",
        "113107",
        "pixels: whether they show text",
        "1 file: UNKNOWN_FORMAT",
    ):
        assert said in page
    assert "Zwicker" not in page


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", "deidentify", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_options_reach_the_profile(
    folder: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--shift-dates", "--retain-uids", "--retain-device", "--retain-institution", "--retain-patient-characteristics"]
    words += ["--clean-descriptors", "--clean-pixels", "0,0,2,1", "--clean-pixels", "5,5,1,1", "--allow-burned-in"]
    assert run(monkeypatch, str(folder), str(tmp_path / "out"), "--key", str(key), *words, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["options"]) == 8
    assert document["written"] == 4
    out = dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert np.all(out.pixel_array[0, :2] == out.pixel_array[5, 5])
    assert out.SeriesInstanceUID == f"{ROOT}.2.1"


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,5,5", "0,0,5,5,5"])
def test_a_rectangle_is_four_numbers(
    folder: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, str(folder), str(tmp_path / "out"), f"--clean-pixels={text}") == 2
    assert capsys.readouterr().err.startswith("BAD_OPTION --clean-pixels")


@pytest.mark.parametrize("name", ["dicom_hippocampus_studies", "dicom_ct_gantry_tilt", "dicom_enhanced_multiframe"])
def test_real_studies_keep_voxels_and_geometry(name: str, shared_data: Path, tmp_path: Path, key: Path) -> None:
    source = shared_data / name
    report = deidentify(source, tmp_path / "out", key=key)
    assert report.left == 0
    inputs = sorted((p for p in source.rglob("*") if p.is_file()), key=lambda p: p.relative_to(source).parts)
    written = [file for file in report.files if file.output and file.kind == "dicom"]
    assert len(written) >= 5
    for file in written[:: max(1, len(written) // 5)]:
        choices = hu.Choices(frame=0) if name == "dicom_enhanced_multiframe" else hu.Choices()
        before = hu.read(inputs[file.number - 1], choices)
        after = hu.read(tmp_path / "out" / str(file.output), choices)
        np.testing.assert_array_equal(before.array, after.array)
        np.testing.assert_array_equal(before.geometry.affine, after.geometry.affine)


def test_identifiers_of_nobody_are_in_nothing() -> None:
    assert not Identifiers().are_in("anything at all")
    assert not Identifiers().are_in_bytes(b"anything at all")
