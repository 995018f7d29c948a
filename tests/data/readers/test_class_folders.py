"""Class folders: with and without splits, of files and of series, and folders that are no classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from hounsfield.core.errors import InputError
from hounsfield.data.readers import class_folders, open_dataset
from hounsfield.io.formats import DEFAULT

Picture = Callable[..., Path]


def test_folders_are_classes_in_order_of_name(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for k, name in enumerate(("normal/2.png", "normal/1.jpg", "benign/1.png", "malignant/deep/1.png")):
        picture(tmp_path / name, noise(k))
    (tmp_path / "readme.txt").write_text("text")
    data = open_dataset(tmp_path)
    assert (data.reader, data.kind) == ("class_folders", "classification")
    assert [(c.value, c.name) for c in data.classes] == [(0, "benign"), (1, "malignant"), (2, "normal")]
    assert {s.id: s.target for s in data.samples} == {
        "benign/1": 0,
        "malignant/deep/1": 1,
        "normal/1": 2,
        "normal/2": 2,
    }
    assert {s.split for s in data.samples} == {None}
    assert data.found == "4 images in 3 class folders (1 benign, 1 malignant, 2 normal)"


def test_splits_above_classes(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for k, name in enumerate(("train/a/1", "train/a/2", "train/b/1", "val/a/1", "test/b/1")):
        picture(tmp_path / f"{name}.png", noise(k))
    data = open_dataset(tmp_path)
    assert {s.id: (s.split, s.target) for s in data.samples} == {
        "train/a/1": ("train", 0),
        "train/a/2": ("train", 0),
        "train/b/1": ("train", 1),
        "val/a/1": ("val", 0),
        "test/b/1": ("test", 1),
    }


def test_a_lone_split_folder_is_none(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for k, name in enumerate(("training/a/1", "training/a/2", "training/b/1")):
        picture(tmp_path / f"{name}.png", noise(k))
    data = open_dataset(tmp_path)
    assert [(s.split, s.target) for s in data.samples] == [(None, 0), (None, 0), (None, 1)]


def test_volumes_and_series_are_cases(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> None:
    for k in range(2):
        volume(tmp_path / "ill" / f"{k}.nii.gz", noise(k, 4, 5, 6))
        slices(tmp_path / "well" / f"series{k}", 3, f"1.9.{k}", f"who{k}")
    data = open_dataset(tmp_path)
    assert data.reader == "class_folders"
    assert {s.id: (s.target, s.patient) for s in data.samples} == {
        "ill/0": (0, None),
        "ill/1": (0, None),
        "well/series0": (1, "patient-0001"),
        "well/series1": (1, "patient-0002"),
    }
    assert next(s for s in data.samples if s.id == "well/series1").images[0]().array.shape == (1, 3, 128, 128)


def test_x_rays_of_their_own_series_are_cases(tmp_path: Path) -> None:
    for k in range(4):
        slices(tmp_path / "ab"[k % 2], 1, f"1.9.{k}", f"who{k}", start=k)
    data = open_dataset(tmp_path)
    assert data.reader == "class_folders"
    assert [s.target for s in data.samples] == [0, 0, 1, 1]


def slices(folder: Path, count: int, series: str, patient: str, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(start, start + count):
        file = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
        file.ImagePositionPatient = [0, 0, 5 * k]
        file.SeriesInstanceUID = pydicom.uid.UID(series)
        file.SOPInstanceUID = pydicom.uid.UID(f"{series}.{k}")
        file.PatientID = patient
        file.save_as(folder / f"{k}.dcm")


@pytest.mark.parametrize("kind", ["series", "patients", "subjects", "singles", "one", "loose"])
def test_folders_that_are_no_classes(tmp_path: Path, picture: Picture, noise: Any, kind: str) -> None:
    if kind == "series":  # each folder one series
        for k in range(3):
            slices(tmp_path / f"s{k}", 3, f"1.9.{k}", "who")
    elif kind == "patients":  # each folder the series of one patient
        for k in range(6):
            slices(tmp_path / f"study{k // 2}" / f"s{k}", 3, f"1.9.{k}", f"who{k // 2}")
    elif kind == "subjects":
        for k in range(4):
            picture(tmp_path / f"sub-{k // 2}" / f"{k}.png", noise(k))
    elif kind == "singles":
        for k in range(3):
            picture(tmp_path / f"p{k}" / "scan.png", noise(k))
    elif kind == "one":
        for k in range(3):
            picture(tmp_path / "only" / f"{k}.png", noise(k))
    else:
        for k in range(4):
            picture(tmp_path / "ab"[k % 2] / f"{k}.png", noise(k))
        picture(tmp_path / "loose.png", noise(9))
    match = class_folders.match(tmp_path)
    assert match.found is None
    assert match.missed
    assert open_dataset(tmp_path).reader == "images"


def test_an_anonymisers_single_identifier_tells_nothing(tmp_path: Path) -> None:
    for k in range(4):
        slices(tmp_path / "ab"[k % 2] / f"s{k}", 3, f"1.9.{k}", "ANON")
    assert open_dataset(tmp_path).reader == "class_folders"


def test_folders_of_dicom_objects_without_images(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for k in range(2):
        picture(tmp_path / "a" / f"{k}.png", noise(k))
        slices(tmp_path / "b", 1, f"1.9.{k}", f"who{k}", start=k)
    for file in (tmp_path / "b").iterdir():
        tags = pydicom.dcmread(file)
        tags.Modality = "SEG"
        tags.save_as(file)
    with pytest.raises(InputError, match=r"ONE_CLASS .*images in 1 folders"):
        class_folders.read(tmp_path, DEFAULT)


def test_ids_keep_folders_apart(tmp_path: Path, picture: Picture) -> None:
    same = np.zeros((4, 4))
    for name in ("a/1", "b/1", "a/2"):
        picture(tmp_path / f"{name}.png", same)
    assert [s.id for s in open_dataset(tmp_path).samples] == ["a/1", "a/2", "b/1"]
    picture(tmp_path / "a" / "1.bmp", same)
    with pytest.raises(InputError, match=r"OUTPUT_COLLISION .*1\.(bmp|png) and 1\.(bmp|png), both named 'a/1'"):
        open_dataset(tmp_path)
