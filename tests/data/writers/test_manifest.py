"""A manifest that is written refers to the files that are there, and says everything that a dataset says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.masks import MaskFile
from hounsfield.data.readers import open_dataset
from hounsfield.data.writers import manifest
from hounsfield.io.formats import Choices

CLASSES = (Class(value=7, name="mass", colour=(1, 2, 3)), Class(value=9, name="cyst, benign"))


@pytest.fixture
def pictures(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> list[Path]:
    return [picture(tmp_path / "in" / f"{name} x.png", noise(k)) for k, name in enumerate("ab")]


def dataset(root: Path, samples: list[Sample], kind: str | None, **more: Any) -> Dataset:
    return Dataset(tuple(samples), CLASSES if kind else (), ("Grey",), kind, "test", "found", root, **more)


def write(data: Dataset, out: Path, copy: bool = False) -> Dataset:
    manifest.write(data, out, copy, lambda done, of: None)
    return open_dataset(out)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_referred_to_and_what_is_said(tmp_path: Path, pictures: list[Path]) -> None:
    a, b = pictures
    samples = [
        Sample("s/a", (ImageFile(a),), 1, patient="P 1", split="train", attributes={"site": "Ÿ", "age": ""}),
        Sample("s/b", (ImageFile(b),), 0, split="test"),
    ]
    again = write(dataset(tmp_path, samples, "classification"), tmp_path / "out" / "set")
    assert table(tmp_path / "out" / "set") == [
        {"id": "s/a", "image": "../../in/a x.png", "target": "cyst, benign", "patient": "P 1", "split": "train", "site": "Ÿ"},
        {"id": "s/b", "image": "../../in/b x.png", "target": "mass", "patient": "", "split": "test", "site": ""},
    ]
    assert sorted(p.name for p in (tmp_path / "out" / "set").iterdir()) == ["manifest.classes.json", "manifest.csv"]
    assert (again.classes, again.channels, again.kind) == (CLASSES, ("Grey",), "classification")
    assert [(s.target, s.patient, s.split, dict(s.attributes)) for s in again.samples] == [
        (1, "P 1", "train", {"site": "Ÿ"}),
        (0, None, "test", {}),
    ]


def test_classes_without_a_case_and_several_at_once(tmp_path: Path, pictures: list[Path]) -> None:
    samples = [Sample("a", (ImageFile(pictures[0]),), (1,)), Sample("b", (ImageFile(pictures[1]),), ())]
    again = write(dataset(tmp_path, samples, "classification", multilabel=True), tmp_path / "out")
    assert again.multilabel
    assert again.classes == CLASSES
    assert [s.target for s in again.samples] == [(1,), ()]


def test_boxes_to_the_last_bit(tmp_path: Path, pictures: list[Path]) -> None:
    boxes = Boxes(np.array([[0.1, 1 / 3, 7, 12], [0, 0, 12, 12]]), np.array([1, 0]))
    none = Boxes(np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
    samples = [Sample("a", (ImageFile(pictures[0]),), boxes), Sample("b", (ImageFile(pictures[1]),), none)]
    again = write(dataset(tmp_path, samples, "detection"), tmp_path / "out")
    assert (again.kind, again.classes) == ("detection", CLASSES)
    assert again.notes == ()
    first, second = (s.target for s in again.samples)
    assert isinstance(first, Boxes)
    assert isinstance(second, Boxes)
    np.testing.assert_array_equal(first.corners, boxes.corners)
    assert first.labels.tolist() == [1, 0]
    assert len(second) == 0


def test_masks_that_are_no_file_of_their_own_are_written(
    tmp_path: Path, pictures: list[Path], picture: Callable[..., Path]
) -> None:
    parts = [np.zeros((12, 12)), np.zeros((12, 12))]
    parts[0][2:5], parts[1][7:9] = 7, 9
    files = tuple(picture(tmp_path / "in" / f"m{k}.png", part) for k, part in enumerate(parts))
    samples = [
        Sample("a", (ImageFile(pictures[0]),), MaskFile(files), valid_mask=MaskFile(files[:1])),
        Sample("b", (ImageFile(pictures[1]),), MaskFile(files[1:])),
    ]
    again = write(dataset(tmp_path, samples, "segmentation", ignore_value=255), tmp_path / "out")
    assert [row["mask"] for row in table(tmp_path / "out")] == ["masks/a.png", "../in/m1.png"]
    assert again.ignore_value == 255
    first, second = again.samples
    assert callable(first.target)
    np.testing.assert_array_equal(first.target().array[0], parts[0] + parts[1])
    assert first.valid_mask is not None
    np.testing.assert_array_equal(first.valid_mask().array[0], parts[0])
    assert second.valid_mask is None


def test_a_volume_of_several_is_written_as_one_of_its_own(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> None:
    values = noise(0, 2, 3, 4, 5)
    path = volume(tmp_path / "in" / "four.nii.gz", values, np.diag([2.0, 3, 4, 1]))
    images = tuple(ImageFile(path, Choices(volume=k)) for k in range(2))
    data = replace(dataset(tmp_path, [Sample("a", images)], None), channels=("T1", "T2"))
    again = write(data, tmp_path / "out")
    assert again.channels == ("T1", "T2")
    assert [row["image_t2"] for row in table(tmp_path / "out")] == ["images/a_0001.nii.gz"]
    for k, lazy in enumerate(again.samples[0].images):
        np.testing.assert_array_equal(lazy().array[0], values[k])
        assert lazy().geometry.same_grid(images[k]().geometry)


def test_copies_depend_on_nothing(tmp_path: Path, pictures: list[Path]) -> None:
    before = [ImageFile(p)().array for p in pictures]
    samples = [Sample(f"deep/{p.stem}", (ImageFile(p),), 0) for p in pictures]
    write(dataset(tmp_path, samples, "classification"), tmp_path / "out", copy=True)
    for path in pictures:
        path.unlink()
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    again = open_dataset(tmp_path / "elsewhere")
    for sample, array in zip(again.samples, before, strict=True):
        np.testing.assert_array_equal(sample.images[0]().array, array)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"attributes": {"Site": "A"}}, "the attribute 'Site'"),
        ({"attributes": {"target": "A"}}, "the attribute 'target'"),
        ({"attributes": {"image_b": "A"}}, "the attribute 'image_b'"),
        ({"attributes": {"site": " A"}}, "spaces around a text of case 'a'"),
        ({"patient": ""}, "spaces around a text of case 'a'"),
        ({"target": None}, "an unknown target in case 'a'"),
        ({"known_classes": ()}, "an unknown target in case 'a'"),
    ],
)
def test_what_a_table_cannot_hold_is_refused_first(
    tmp_path: Path, pictures: list[Path], change: dict[str, Any], told: str
) -> None:
    sample = replace(Sample("a", (ImageFile(pictures[0]),), 0), **change)
    with pytest.raises(InputError, match="BAD_OPTION --to manifest") as caught:
        write(dataset(tmp_path, [sample], "classification"), tmp_path / "out")
    assert told in caught.value.found
    assert not (tmp_path / "out").exists()
