"""nnU-Net's raw format that is written: labels from 1 on without a gap, volumes linked, one ending, parts kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.masks import MaskFile
from hounsfield.data.readers import open_dataset
from hounsfield.data.writers import Written, nnunet
from hounsfield.io.formats import Choices

CLASSES = (Class(value=10, name="cyst"), Class(value=200, name="mass"))
AFFINE = np.array([[-2.0, 0, 0, 5], [0, 0, 3, 6], [0, 4, 0, 7], [0, 0, 0, 1]])


def dataset(root: Path, samples: list[Sample], channels: tuple[str, ...] = ("CT",), **more: Any) -> Dataset:
    return Dataset(tuple(samples), CLASSES, channels, "segmentation", "test", "found", root, **more)


def write(data: Dataset, out: Path) -> Written:
    return nnunet.write(data, out, False, lambda done, of: None)


def labels(*values: int) -> Any:
    """(3, 4, 5) with some voxels of each value."""
    out = np.zeros(60, np.int16)
    for k, value in enumerate(values):
        out[5 * k : 5 * k + 4] = value
    return out.reshape(3, 4, 5)


@pytest.fixture
def scan(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> Callable[..., Sample]:
    """scan(id, split, *values): an image, and a mask of `values`."""

    def make(name: str, split: Split | None, *values: int, **more: Any) -> Sample:
        image = volume(tmp_path / "in" / f"{name}.nii.gz", noise(len(name), 3, 4, 5), AFFINE)
        mask = volume(tmp_path / "in" / f"{name}_m.nii.gz", labels(*values), AFFINE)
        return Sample(name, (ImageFile(image),), MaskFile((mask,)), split=split, **more)

    return make


def test_labels_are_numbered_from_one_and_said_so(tmp_path: Path, scan: Callable[..., Sample]) -> None:
    samples = [scan("d/a", "train", 200, 10), scan("b", "val", 200), scan("c", "test", 10, patient="P")]
    made = write(dataset(tmp_path, samples), tmp_path / "out")
    description = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert description == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "cyst": 1, "mass": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "source_values": {"cyst": 10, "mass": 200},
    }
    assert json.loads((tmp_path / "out" / "splits_final.json").read_text()) == [{"train": ["d_a"], "val": ["b"]}]
    there = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.nii.gz"))
    assert there == [
        "imagesTr/b_0000.nii.gz",
        "imagesTr/d_a_0000.nii.gz",
        "imagesTs/c_0000.nii.gz",
        "labelsTr/b.nii.gz",
        "labelsTr/d_a.nii.gz",
        "labelsTs/c.nii.gz",
    ]
    assert made.mapping == {"values": {"1": "10", "2": "200"}, "ids": {"d_a": "d/a"}}
    assert made.notes == (
        "patients: nnU-Net's layout has no place for them",
        "1 cases have their folders in their names, such as d_a for d/a",
        "label values: 10 became 1, 200 became 2",
    )
    again = open_dataset(tmp_path / "out")
    assert {s.id: s.split for s in again.samples} == {"b": "val", "c": "test", "d_a": "train"}
    # nibabel knows the axes: nothing was turned on the way.
    stored: Any = nib.load(tmp_path / "out" / "labelsTr" / "d_a.nii.gz")
    np.testing.assert_allclose(stored.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(stored.dataobj), labels(2, 1).transpose(2, 1, 0))
    assert (tmp_path / "out" / "imagesTr" / "d_a_0000.nii.gz").samefile(tmp_path / "in" / "d" / "a.nii.gz")


def test_what_is_unknown_becomes_the_label_ignore(tmp_path: Path, scan: Callable[..., Sample]) -> None:
    sample = scan("a", None, 10, 99)
    valid = scan("valid", None, 10, 99, 200).target
    assert isinstance(valid, MaskFile)
    data = dataset(tmp_path, [Sample("a", sample.images, sample.target, valid_mask=valid)], ignore_value=99)
    made = write(data, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "cyst": 1,
        "mass": 2,
        "ignore": 3,
    }
    assert "outside of the valid masks the label is 'ignore' (3)" in made.notes
    again = open_dataset(tmp_path / "out")
    assert again.ignore_value == 3
    expected = np.where(labels(10, 99, 200) == 0, 3, labels(1, 3))
    assert callable(again.samples[0].target)
    np.testing.assert_array_equal(again.samples[0].target().array[0], expected)


def test_volumes_of_one_file_become_channels(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> None:
    values = noise(3, 2, 3, 4, 5)
    image = volume(tmp_path / "in" / "a.nii.gz", values, AFFINE)
    mask = volume(tmp_path / "in" / "m.nii.gz", labels(10), AFFINE)
    images = tuple(ImageFile(image, Choices(volume=k)) for k in range(2))
    write(dataset(tmp_path, [Sample("a", images, MaskFile((mask,)))], ("T1", "T2")), tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert again.channels == ("T1", "T2")
    for k, lazy in enumerate(again.samples[0].images):
        np.testing.assert_array_equal(lazy().array[0], values[k])


def test_pictures_in_colours_stay_one_file(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    image = picture(tmp_path / "in" / "a.png", noise(0, 12, 12, 3))
    mask = picture(tmp_path / "in" / "m.png", np.where(noise(1) > 200, 200, 0))
    data = dataset(tmp_path, [Sample("a", (ImageFile(image),), MaskFile((mask,)))], ("red", "green", "blue"))
    write(data, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out" / "imagesTr").iterdir()] == ["a_0000.png"]
    np.testing.assert_array_equal(open_dataset(tmp_path / "out").samples[0].images[0]().array, ImageFile(image)().array)


def test_refusals_name_what_is_wrong_and_leave_nothing(tmp_path: Path, scan: Callable[..., Sample]) -> None:
    a = scan("a", None, 10)
    for data, code, told in (
        (dataset(tmp_path, [scan("x/y", None, 10), scan("x_y", None, 10)]), "OUTPUT_COLLISION", "both named x_y"),
        (
            Dataset((a,), (Class(value=10, name="ignore"),), ("CT",), "segmentation", "test", "found", tmp_path),
            "BAD_OPTION",
            "a class named 'ignore'",
        ),
        (Dataset((a,), CLASSES, ("CT",), "detection", "test", "found", tmp_path), "BAD_OPTION", "detection labels"),
    ):
        with pytest.raises(InputError) as caught:
            write(data, tmp_path / "out")
        assert caught.value.code == code
        assert told in caught.value.found
        assert not (tmp_path / "out").exists()


def test_a_value_that_is_no_class_stops(tmp_path: Path, scan: Callable[..., Sample]) -> None:
    with pytest.raises(InputError, match=r"BAD_LABEL .*the value 3, expected one of 0, 10, 200"):
        write(dataset(tmp_path, [scan("a", None, 10, 3)]), tmp_path / "out")
