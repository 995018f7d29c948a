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
from hounsfield.data.layout import RGB, cases, channel_names, given_splits, split_of, stem

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


def test_files_are_cases_and_litter_is_none(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for name in ("b/2.png", "a.jpg", "b/.hidden.png", "._a.jpg", "__MACOSX/a.png"):
        picture(tmp_path / name, noise(0))
    (tmp_path / "notes.txt").write_text("no image")
    assert [(c.name, c.image.path.name, c.patient) for c in cases(tmp_path)] == [("a", "a.jpg", None), ("b/2", "2.png", None)]


def test_series_are_cases_named_after_their_folder(tmp_path: Path) -> None:
    for k in range(3):
        dicom(tmp_path / "one" / f"{k}.dcm", k, SeriesInstanceUID="1.1", PatientID="secret")
        dicom(tmp_path / "two" / f"a{k}", k, SeriesInstanceUID="1.2", PatientID="other")
        dicom(tmp_path / "two" / f"b{k}", k, SeriesInstanceUID="1.3", PatientID="secret")
    dicom(tmp_path / "x.dcm", SeriesInstanceUID="1.4", PatientID="")
    found = {c.name: c for c in cases(tmp_path)}
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
    assert {c.name: c.image().array.shape[1] for c in cases(tmp_path)} == {"top/0": 3, "top/below": 3}


def test_localizers_and_reports_are_no_cases(tmp_path: Path) -> None:
    for k in range(2):
        dicom(tmp_path / "s" / f"{k}.dcm", k, SeriesInstanceUID="1.1")
    dicom(tmp_path / "s" / "scout.dcm", SeriesInstanceUID="1.2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    dicom(tmp_path / "s" / "seg.dcm", SeriesInstanceUID="1.3", Modality="SEG")
    assert [c.name for c in cases(tmp_path)] == ["s"]
    (tmp_path / "only").mkdir()
    dicom(tmp_path / "only" / "seg.dcm", Modality="RTDOSE")
    with pytest.raises(InputError, match=r"EMPTY_FOLDER .*DICOM files without an image"):
        cases(tmp_path / "only")


def test_what_only_says_that_it_is_dicom_stays_a_case_whose_reading_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("not DICOM")
    (only,) = cases(tmp_path)
    with pytest.raises(InputError, match=r"WRONG_FORMAT .*a\.dcm"):
        only.image()


def test_real_studies_are_told_apart(shared_data: Path) -> None:
    found = cases(shared_data / "dicom_hippocampus_studies")
    assert len(found) == 8
    assert len({c.patient for c in found}) == 3
    assert all(c.patient for c in found)
