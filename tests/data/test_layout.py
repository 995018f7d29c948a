"""Names, stems, and which files make one case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from hounsfield.core.errors import InputError
from hounsfield.data.dataset import ImageFile
from hounsfield.data.layout import RGB, cases, channel_names, dicom_headers, given_splits, split_of, stem
from hounsfield.io.formats import DEFAULT, Choices

Picture = Callable[..., Path]


def dicom(path: Path, number: int = 1, **tags: Any) -> Path:
    """A CT slice at height `number`, from pydicom's own."""
    file = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    file.ImagePositionPatient = [0, 0, 5.0 * number]
    file.SOPInstanceUID = UID(f"1.2.3.{abs(hash((str(path), number))) % 10**9}")
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    for name, value in tags.items():
        setattr(file, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scan.nii.gz", "scan"),
        ("scan.NII.GZ", "scan"),
        ("a.b.png", "a.b"),
        ("IM0001", "IM0001"),
        ("1.2.840.113619", "1.2.840.113619"),
        (".png", ".png"),
    ],
)
def test_stems(name: str, expected: str) -> None:
    assert stem(Path("folder") / name) == expected


def test_split_names() -> None:
    assert [split_of(n) for n in ("Training", "val", "validation", "TEST", "holdout", "images")] == [
        "train",
        "val",
        "val",
        "test",
        None,
        None,
    ]
    assert given_splits(["train", "test", "train"]) == ["train", "test", "train"]
    assert given_splits(["train", "train"]) == [None, None]
    assert given_splits(["train", "test", None]) == [None, None, None]


def test_channel_names(tmp_path: Path, picture: Picture, noise: Any, volume: Callable[..., Path]) -> None:
    assert channel_names(ImageFile(picture(tmp_path / "grey.png", noise(0)))) == ("intensity",)
    assert channel_names(ImageFile(picture(tmp_path / "rgb.png", noise(0, 8, 8, 3)))) == RGB
    coloured = picture(tmp_path / "palette.png", noise(0) % 2, palette=[0, 0, 0, 255, 0, 0])
    assert channel_names(ImageFile(coloured)) == RGB
    grey = picture(tmp_path / "p.gif", noise(0) % 2, palette=[0, 0, 0, 255, 255, 255])
    assert channel_names(ImageFile(grey)) == ("intensity",)
    assert channel_names(ImageFile(volume(tmp_path / "v.nii.gz", np.ones((3, 4, 5))))) == ("intensity",)
    assert channel_names(ImageFile(dicom(tmp_path / "a.dcm"))) == ("CT",)


def test_channels_are_those_of_the_first_file_that_can_be_read(tmp_path: Path, picture: Any, noise: Any) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    broken = [ImageFile(tmp_path / name) for name in ("a.png", "b.png")]
    assert channel_names(*broken, ImageFile(picture(tmp_path / "c.png", noise(0, 8, 8, 3)))) == RGB
    with pytest.raises(InputError, match=r"EMPTY_FILE .*a\.png"):
        channel_names(*broken)


def test_files_are_cases_and_litter_is_none(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for name in ("b/2.png", "a.jpg", "b/.hidden.png", "._a.jpg", "__MACOSX/a.png"):
        picture(tmp_path / name, noise(0))
    (tmp_path / "notes.txt").write_text("no image")
    assert [(c.name, c.image.path.name, c.patient) for c in cases(tmp_path, DEFAULT)[0]] == [
        ("a", "a.jpg", None),
        ("b/2", "2.png", None),
    ]


def test_series_are_cases_named_after_their_folder(tmp_path: Path) -> None:
    for k in range(3):
        dicom(tmp_path / "one" / f"{k}.dcm", k, SeriesInstanceUID="1.1", PatientID="secret")
        dicom(tmp_path / "two" / f"a{k}", k, SeriesInstanceUID="1.2", PatientID="other")
        dicom(tmp_path / "two" / f"b{k}", k, SeriesInstanceUID="1.3", PatientID="secret")
    dicom(tmp_path / "x.dcm", SeriesInstanceUID="1.4", PatientID="")
    found = {c.name: c for c in cases(tmp_path, DEFAULT)[0]}
    assert {name: c.patient for name, c in found.items()} == {
        "one": "patient-0001",
        "two/a0": "patient-0002",
        "two/b0": "patient-0001",
        "x": None,
    }
    assert {name: c.image().array.shape[1] for name, c in found.items() if name != "x"} == {"one": 3, "two/a0": 3, "two/b0": 3}
    assert found["two/b0"].image.choices.series == "1.3"


def test_a_series_above_another_is_read_alone(tmp_path: Path) -> None:
    for k in range(3):
        dicom(tmp_path / "top" / f"{k}.dcm", k, SeriesInstanceUID="1.1")
        dicom(tmp_path / "top" / "below" / f"{k}.dcm", k, SeriesInstanceUID="1.2")
    assert {c.name: c.image().array.shape[1] for c in cases(tmp_path, DEFAULT)[0]} == {"top/0": 3, "top/below": 3}


def test_localizers_and_reports_are_no_cases(tmp_path: Path) -> None:
    for k in range(2):
        dicom(tmp_path / "s" / f"{k}.dcm", k, SeriesInstanceUID="1.1")
    dicom(tmp_path / "s" / "scout.dcm", SeriesInstanceUID="1.2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    dicom(tmp_path / "s" / "seg.dcm", SeriesInstanceUID="1.3", Modality="SEG")
    assert [c.name for c in cases(tmp_path, DEFAULT)[0]] == ["s"]
    (tmp_path / "only").mkdir()
    dicom(tmp_path / "only" / "seg.dcm", Modality="RTDOSE")
    with pytest.raises(InputError, match=r"EMPTY_FOLDER .*DICOM files without an image"):
        cases(tmp_path / "only", DEFAULT)


def test_what_only_says_that_it_is_dicom_stays_a_case_whose_reading_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("not DICOM")
    (only,) = cases(tmp_path, DEFAULT)[0]
    with pytest.raises(InputError, match=r"WRONG_FORMAT .*a\.dcm"):
        only.image()


def test_real_studies_are_told_apart(shared_data: Path) -> None:
    found = cases(shared_data / "dicom_hippocampus_studies", DEFAULT)[0]
    assert len(found) == 8
    assert len({c.patient for c in found}) == 3
    assert all(c.patient for c in found)


def test_choices_go_to_every_case(tmp_path: Path, volume: Callable[..., Path]) -> None:
    volume(tmp_path / "v.nii.gz", np.ones((3, 4, 5)))
    for k in range(3):
        dicom(tmp_path / "one" / f"{k}.dcm", k, SeriesInstanceUID="1.1")
        dicom(tmp_path / "two" / f"a{k}", k, SeriesInstanceUID="1.2")
        dicom(tmp_path / "two" / f"b{k}", k, SeriesInstanceUID="1.3")
    found, notes = cases(tmp_path, Choices(allow_gaps=True))
    assert notes == ()
    assert {c.name: c.image.choices for c in found} == {
        "one": Choices(allow_gaps=True),
        "two/a0": Choices(allow_gaps=True, series="1.2"),
        "two/b0": Choices(allow_gaps=True, series="1.3"),
        "v": Choices(allow_gaps=True),
    }


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Study p has the series 1 and 2 in one folder, study q series 1 in a folder above series 2, r series 1 alone."""
    for k in range(3):
        dicom(tmp_path / "p" / f"a{k}", k, SeriesInstanceUID="1.11.1", SeriesNumber=1, SeriesDescription="Thick")
        dicom(tmp_path / "p" / f"b{k}", k, SeriesInstanceUID="1.11.2", SeriesNumber=2, SeriesDescription="thin")
        dicom(tmp_path / "q" / f"a{k}", k, SeriesInstanceUID="1.12.1", SeriesNumber=1, SeriesDescription="Thick")
        dicom(tmp_path / "q" / "sub" / f"b{k}", k, SeriesInstanceUID="1.12.2", SeriesNumber=2, SeriesDescription="thin")
        dicom(tmp_path / "r" / f"a{k}", k, SeriesInstanceUID="1.13.1", SeriesNumber=1, SeriesDescription="Thick")
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "uids"),
    [
        ("1", {"p": "1.11.1", "q": "1.12.1", "r": "1.13.1"}),
        ("thick", {"p": "1.11.1", "q": "1.12.1", "r": "1.13.1"}),
        ("2", {"p": "1.11.2", "q/sub": "1.12.2"}),
        ("1.12.1", {"q": "1.12.1"}),
        ("11.2", {"p": "1.11.2"}),
    ],
)
def test_a_chosen_series_is_taken_in_every_study_and_the_others_are_counted(
    studies: Path, wanted: str, uids: dict[str, str]
) -> None:
    found, notes = cases(studies, Choices(series=wanted))
    assert {c.name for c in found} == set(uids)
    for case in found:
        below = {f: h.series for f, h in dicom_headers(f for f in case.image.path.rglob("*") if f.is_file()).items()}
        assert case.image().array.shape[1] == 3
        assert case.image.choices.series in (uids[case.name], wanted)
        assert len(set(below.values())) == 1 or case.image.choices.series == uids[case.name]
    assert notes == (f"{5 - len(uids)} of 5 DICOM series are left out: --series {wanted} chose the others",)


def test_a_series_that_no_study_has(studies: Path) -> None:
    with pytest.raises(
        InputError, match=r"BAD_OPTION .*no series '7' among 5: number 1 \(UID \.\.\..*choose another with --series"
    ):
        cases(studies, Choices(series="7"))


def test_pictures_have_no_series_to_choose(tmp_path: Path, picture: Picture, noise: Any) -> None:
    picture(tmp_path / "a.png", noise(0))
    found, notes = cases(tmp_path, Choices(series="7"))
    assert [c.name for c in found] == ["a"]
    assert notes == ()


def test_a_localizer_that_is_asked_for(tmp_path: Path) -> None:
    for k in range(2):
        dicom(tmp_path / "s" / f"{k}.dcm", k, SeriesInstanceUID="1.1", SeriesNumber=2)
    scout = dicom(
        tmp_path / "s" / "scout.dcm", SeriesInstanceUID="1.2", SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    assert [c.image.path for c in cases(tmp_path, Choices(series="1"))[0]] == [scout]
    assert [c.image().array.shape[1] for c in cases(tmp_path, Choices(series="2"))[0]] == [2]
