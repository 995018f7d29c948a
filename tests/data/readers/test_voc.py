"""Pascal VOC: boxes at the pixels that the annotation means, parts by their lists, and what is no box named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import open_dataset, voc
from hounsfield.io.formats import DEFAULT, Choices

Object = tuple[str, int, int, int, int]


def write(folder: Path, name: str, objects: Sequence[Object], size: tuple[int, int] = (20, 30), image: bool = True) -> None:
    """size: (H, W)."""
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / "JPEGImages").mkdir(exist_ok=True)
    boxes = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for n, a, b, c, d in objects
    )
    shape = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>1</depth></size>"
    text = f"<annotation><filename>{name}.png</filename>{shape}{boxes}</annotation>"
    (folder / "Annotations" / f"{name}.xml").write_text(text)
    if image:
        Image.fromarray(np.zeros(size, np.uint8)).save(folder / "JPEGImages" / f"{name}.png")


def boxes(dataset: Dataset, name: str) -> list[tuple[str, list[float]]]:
    (sample,) = dataset.select([name]).samples
    assert isinstance(sample.target, Boxes)
    pairs = zip(sample.target.labels, sample.target.corners, strict=True)
    return [(dataset.classes[int(label)].name, corners.tolist()) for label, corners in pairs]


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        voc.read(path, DEFAULT)
    assert caught.value.code == code
    return str(caught.value)


def test_corners_count_from_one_and_the_last_pixel_belongs_to_the_box(tmp_path: Path) -> None:
    write(tmp_path, "a", [("cell", 1, 1, 30, 20), ("plate", 3, 5, 4, 9)])
    write(tmp_path, "b", [])
    data = open_dataset(tmp_path)
    assert (data.reader, data.kind, data.channels) == ("voc", "detection", ("intensity",))
    assert [(c.value, c.name) for c in data.classes] == [(1, "cell"), (2, "plate")]
    assert boxes(data, "a") == [("cell", [0, 0, 20, 30]), ("plate", [4, 2, 9, 4])]
    assert boxes(data, "b") == []
    assert data.notes == ()


def test_a_zero_says_that_the_set_counts_from_zero(tmp_path: Path) -> None:
    write(tmp_path, "a", [("cell", 0, 4, 30, 20)])
    write(tmp_path, "b", [("cell", 3, 5, 6, 9)])
    data = open_dataset(tmp_path)
    assert boxes(data, "a") == [("cell", [4, 0, 20, 30])]
    assert boxes(data, "b") == [("cell", [5, 3, 9, 6])]


def test_what_is_no_box_is_refused_or_left_out_and_what_passes_the_border_cut(tmp_path: Path) -> None:
    write(tmp_path, "a", [("cell", 5, 5, 4, 9), ("cell", 40, 5, 50, 9), ("cell", 25, 15, 35, 25), ("cell", 2, 2, 3, 3)])
    told = refused("BAD_LABEL", tmp_path)
    assert "found 1 boxes without extent (a) and 1 boxes beyond their image (a)" in told
    assert "--drop-invalid" in told
    data = open_dataset(tmp_path, choices=Choices(drop_invalid=True))
    assert boxes(data, "a") == [("cell", [14, 24, 20, 30]), ("cell", [1, 1, 3, 3])]
    assert data.notes == (
        "1 boxes without extent were left out (a)",
        "1 boxes beyond their image were left out (a)",
        "1 boxes were cut at the border of their image (a)",
    )


def test_parts_by_their_lists(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name, [("cell", 2, 2, 5, 5)])
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb 1\n")
    (lists / "val.txt").write_text("c\n")
    (lists / "trainval.txt").write_text("a\nb\nc\n")
    assert [s.split for s in open_dataset(tmp_path).samples] == ["train", "train", "val"]
    (lists / "val.txt").write_text("b\nc\n")
    assert [s.split for s in open_dataset(tmp_path).samples] == [None, None, None], "b stands in two lists"


def test_a_listed_image_without_its_annotation(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name, [("cell", 2, 2, 5, 5)])
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("c\n")
    (tmp_path / "Annotations" / "c.xml").unlink()
    assert open_dataset(tmp_path).notes == ("1 images without an annotation were left out",), "truths of a test are kept back"
    (lists / "val.txt").write_text("b\n")
    (tmp_path / "Annotations" / "b.xml").unlink()
    assert "1 images of the training and validation lists without an annotation, the first b" in refused("UNPAIRED", tmp_path)


def test_an_image_of_another_size_than_its_annotation(tmp_path: Path) -> None:
    write(tmp_path, "a", [("cell", 2, 2, 5, 5)])
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / "JPEGImages" / "a.png")
    assert "the first of 30x20 pixels for a.png of 20x30" in refused("BAD_LABEL", tmp_path)


def test_annotations_beside_their_images(tmp_path: Path) -> None:
    write(tmp_path, "a", [("cell", 2, 2, 5, 5)])
    for file in [*(tmp_path / "Annotations").iterdir(), *(tmp_path / "JPEGImages").iterdir()]:
        file.rename(tmp_path / file.name)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "more.png")
    data = open_dataset(tmp_path)
    assert len(data) == 1
    assert data.notes == ("1 images without an annotation were left out",)


def test_faults(tmp_path: Path) -> None:
    write(tmp_path, "a", [("cell", 2, 2, 5, 5)])
    write(tmp_path, "b", [("cell", 2, 2, 5, 5)], image=False)
    assert "the first b.xml" in refused("UNPAIRED", tmp_path)
    file = tmp_path / "Annotations" / "b.xml"
    for text, code in (
        ("<annotation><object><name>x</name></object></annotation>", "BAD_LABEL"),
        ("<annotation><object>", "BAD_LABEL"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", "UNSAFE_FILE"),
    ):
        file.write_text(text)
        assert "b.xml" in refused(code, tmp_path)
    file.unlink()
    write(tmp_path, "a", [])
    refused("BAD_LABEL", tmp_path)


def test_real_blood_cells(shared_data: Path) -> None:
    with pytest.raises(InputError, match=r"BAD_LABEL .*found 2 boxes without extent"):
        open_dataset(shared_data / "bccd")
    data = open_dataset(shared_data / "bccd", choices=Choices(drop_invalid=True))
    assert [c.name for c in data.classes] == ["Platelets", "RBC", "WBC"]
    assert len(data) == 292
    assert data.notes[0] == "2 boxes without extent were left out (BloodImage_00338, BloodImage_00343)"
    assert {s.split for s in data.samples} == {"train", "val"}
    for sample in data.samples:
        assert isinstance(sample.target, Boxes)
        assert (sample.target.corners >= 0).all()
        assert (sample.target.corners <= (480, 640, 480, 640)).all()
