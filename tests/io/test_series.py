"""What a DICOM file says of patient and series, and which series a user means by a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian

from hounsfield.io.headers import read_headers
from hounsfield.io.series import Header, Series, called, opened, read_header, series_of

SERIES = {"1.2.840.1001": ("3", "T2 axial"), "1.2.840.2001": ("4", "T2 AXIAL"), "1.2.840.1003": ("1001", "localizer")}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("3", ["1.2.840.1001"]),
        ("1.2.840.1003", ["1.2.840.1003"]),
        ("1003", ["1.2.840.1003"]),
        ("1001", ["1.2.840.1001", "1.2.840.1003"]),
        ("001", []),
        ("t2 Axial", ["1.2.840.1001", "1.2.840.2001"]),
        ("T2", []),
    ],
)
def test_a_name_is_a_number_a_description_or_the_end_of_a_uid(wanted: str, found: list[str]) -> None:
    assert called(wanted, SERIES) == found


def test_a_whole_uid_means_itself_alone() -> None:
    assert called("0.1001", {"0.1001": ("1", ""), "1.0.1001": ("2", "")}) == ["0.1001"]


def ct(path: Path, **tags: Any) -> Path:
    file = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for name, value in tags.items():
        setattr(file, name, value)
    file.save_as(path)
    return path


def test_a_header(tmp_path: Path) -> None:
    path = ct(
        tmp_path / "a.dcm",
        SeriesDescription="thin",
        SeriesNumber=0,
        PatientID="P1",
        SeriesInstanceUID="1.2",
        StudyInstanceUID="1",
    )
    found = read_header(path)
    assert found == Header("P1", "1.2", "0", "thin", image=True, localizer=False, modality="CT")
    assert found.study == "1"
    path = ct(path, PatientID="", SeriesInstanceUID="", SeriesNumber=None, StudyInstanceUID="", ImageType=["", "LOCALIZER"])
    assert read_header(path) == Header("", str(path), "", "", image=True, localizer=True, modality="CT")
    known = read_header(ct(path, Modality="SEG"))
    assert known is not None
    assert not known.image


def test_a_number_that_cannot_be_read_leaves_the_rest(tmp_path: Path) -> None:
    path = ct(tmp_path / "a.dcm", SeriesNumber=12345678, SeriesInstanceUID="1.2")
    path.write_bytes(path.read_bytes().replace(b"12345678", b"inf     "))
    found = read_header(path)
    assert found is not None
    assert (found.series, found.number) == ("1.2", "")


def test_a_deflated_file_tells_the_same(tmp_path: Path) -> None:
    plain = ct(tmp_path / "plain.dcm")
    file = pydicom.dcmread(plain)
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file.save_as(tmp_path / "deflated.dcm")
    assert (tmp_path / "deflated.dcm").stat().st_size < plain.stat().st_size
    assert read_header(tmp_path / "deflated.dcm") == read_header(plain)
    with opened(tmp_path / "deflated.dcm") as inflated:
        assert (pydicom.dcmread(inflated).pixel_array == pydicom.dcmread(plain).pixel_array).all()


def test_what_is_not_dicom_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("not DICOM")
    assert read_header(tmp_path / "a.dcm") is None


def test_series_are_listed_by_number(tmp_path: Path) -> None:
    files = [
        ct(tmp_path / "a", SeriesNumber=10, SeriesInstanceUID="1.10", SeriesDescription="late"),
        ct(tmp_path / "b", SeriesNumber=9, SeriesInstanceUID="1.9", SeriesDescription="thin"),
        ct(tmp_path / "c", SeriesNumber=9, SeriesInstanceUID="1.9", SeriesDescription="thin"),
        ct(tmp_path / "d", SeriesNumber=None, SeriesInstanceUID="1.1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        ct(tmp_path / "e", SeriesNumber=1, SeriesInstanceUID="1.2", Modality="SEG"),
    ]
    (tmp_path / "f").write_text("text")
    assert series_of(read_headers([*files, tmp_path / "f"])) == [
        Series("1.9", "9", "thin", "CT", 2, localizer=False),
        Series("1.10", "10", "late", "CT", 1, localizer=False),
        Series("1.1", "", "", "CT", 1, localizer=True),
    ]


def test_series_are_grouped_by_study(tmp_path: Path) -> None:
    files = [
        ct(tmp_path / f"{k}", SeriesNumber=number, SeriesInstanceUID=f"1.{k}", StudyInstanceUID=study, SeriesDescription="")
        for k, (number, study) in enumerate([(3, "2.9"), (1, "2.4"), (2, "2.9"), (7, "2.4")])
    ]
    listed = series_of(read_headers(files))
    assert [(s.study, s.number) for s in listed] == [(1, "2"), (1, "3"), (2, "1"), (2, "7")]


def test_an_element_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "a.dcm").write_bytes(b"text" * 100)
    tracemalloc.start()
    try:
        with opened(tmp_path / "a.dcm") as file:
            assert file.read(2**32 - 2) == b"text" * 100
            assert file.read(2**32 - 2) == b""
            file.seek(0)
            assert len(file.read()) == 400
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
