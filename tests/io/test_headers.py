"""The headers of many files: the same, in the same order, however many processes read them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from hounsfield.io import headers
from hounsfield.io.headers import read_headers
from hounsfield.io.series import Header, read_header

UID = b"1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322"  # the series' of CT_small.dcm


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Headers of twenty series, and some files that are none."""
    folder = tmp_path_factory.mktemp("many")
    whole = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()[:6000]  # Rows lies before
    assert UID in whole
    files = [folder / f"{k:04d} ä" for k in range(240)]
    for k, file in enumerate(files):
        file.write_bytes(b"text" if k % 50 == 7 else whole.replace(UID, UID[:-2] + b"%02d" % (k % 20)))
    return files


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process from a hundred files on, and small pieces."""
    monkeypatch.setattr(headers, "_MANY", 100)
    monkeypatch.setattr(headers, "_PIECE", 10)


def test_two_processes_read_what_one_reads(many: list[Path], soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [read_header(file) for file in many]
    assert expected.count(None) == 5
    here = []

    def slowly(file: Path) -> Header | None:
        here.append(file)
        time.sleep(0.02)
        return read_header(file)

    monkeypatch.setattr(headers, "read_header", slowly)
    assert read_headers(many) == expected
    assert 0 < len(here) < len(many)


def test_without_a_second_process_the_first_reads_all(
    many: list[Path], soon: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = [read_header(file) for file in many]
    broken = tmp_path / "python"
    for executable in ("", str(broken), "/bin/false", "/bin/cat"):
        monkeypatch.setattr(sys, "executable", executable)
        assert read_headers(many) == expected


def test_few_files_start_no_process(many: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert read_headers(many[:30]) == [read_header(file) for file in many[:30]]
    assert read_headers([]) == []
