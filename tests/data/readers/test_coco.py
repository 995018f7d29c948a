"""COCO: boxes in the image's own pixels, categories by their number, parts by the names of the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.data.readers import coco, open_dataset
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.workflow.inspect import inspect

CATEGORIES = [{"id": 7, "name": "nodule"}, {"id": 3, "name": "mass"}]


def write(folder: Path, file: str, names: list[str], boxes: list[dict[str, Any]], images: str = "images", **more: Any) -> Path:
    """An annotation file of `names`, numbered from 1, whose images of 20 x 30 lie in `images`."""
    (folder / images).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / images / name)
    listed = [{"id": k, "file_name": name, "height": 20, "width": 30} for k, name in enumerate(names, start=1)]
    annotations = [{"id": k, **box} for k, box in enumerate(boxes)]
    content = {"images": listed, "annotations": annotations, "categories": CATEGORIES, **more}
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(content))
    return folder


def box(image: int, category: int, *bbox: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(bbox), **more}


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        coco.read(path, DEFAULT)
    assert caught.value.code == code
    return str(caught.value)


def test_boxes_and_classes(tmp_path: Path) -> None:
    boxes = [box(1, 7, 2.5, 4, 10, 6), box(1, 3, 0, 0, 30, 20), box(2, 3, 1, 1, 2, 2, iscrowd=1)]
    write(tmp_path, "annotations/all.json", ["a.png", "b.png", "c.png"], boxes)
    data = open_dataset(tmp_path)
    assert (data.reader, data.kind) == ("coco", "detection")
    assert [(c.value, c.name) for c in data.classes] == [(3, "mass"), (7, "nodule")]
    assert [s.id for s in data.samples] == ["images/a", "images/b", "images/c"]
    first, second, third = (s.target for s in data.samples)
    assert isinstance(first, Boxes)
    assert isinstance(second, Boxes)
    assert isinstance(third, Boxes)
    assert first.corners.tolist() == [[4, 2.5, 10, 12.5], [0, 0, 20, 30]]
    assert first.labels.tolist() == [1, 0]
    assert (len(second), len(third)) == (0, 0)
    assert data.notes == ("1 crowd regions were left out",)


def test_parts_by_the_names_of_files_and_folders(tmp_path: Path) -> None:
    one = tmp_path / "one"
    write(one, "annotations/instances_train2017.json", ["a.png"], [box(1, 7, 1, 1, 2, 2)], images="train2017")
    write(one, "annotations/instances_val2017.json", ["b.png"], [box(1, 7, 1, 1, 2, 2)], images="val2017")
    assert {s.id: s.split for s in open_dataset(one).samples} == {"train2017/a": "train", "val2017/b": "val"}
    other = tmp_path / "other"
    for part in ("train", "valid", "test"):
        write(other, f"{part}/_annotations.coco.json", ["a.png"], [box(1, 7, 1, 1, 2, 2)], images=part)
    assert {s.id: s.split for s in open_dataset(other).samples} == {"train/a": "train", "valid/a": "val", "test/a": "test"}


def test_what_is_no_box_is_refused_and_left_out_when_asked(tmp_path: Path) -> None:
    write(
        tmp_path,
        "all.json",
        ["a.png"],
        [box(1, 7, 1, 1, 0, 5), box(1, 7, 25, 15, 10, 10), box(1, 7, 50, 0, 3, 3), box(1, 7, 9, 9, -2, 4)],
    )
    told = refused("BAD_LABEL", tmp_path)
    assert "found 2 boxes without extent (images/a) and 1 boxes beyond their image (images/a), expected boxes with an" in told
    assert "--drop-invalid" in told
    data = coco.read(tmp_path, Choices(drop_invalid=True))
    target = data.samples[0].target
    assert isinstance(target, Boxes)
    assert target.corners.tolist() == [[15, 25, 20, 30]]
    assert data.notes == (
        "2 boxes without extent were left out (images/a)",
        "1 boxes beyond their image were left out (images/a)",
        "1 boxes were cut at the border of their image (images/a)",
    )


def test_what_passes_the_border_is_cut_unasked(tmp_path: Path) -> None:
    write(tmp_path, "all.json", ["a.png"], [box(1, 7, 25, 15, 10, 10)])
    assert coco.read(tmp_path, DEFAULT).notes == ("1 boxes were cut at the border of their image (images/a)",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"annotations": [box(1, 99, 1, 1, 2, 2)]}, "boxes of category 99"),
        ({"annotations": [box(5, 7, 1, 1, 2, 2)]}, "boxes of image 5"),
        ({"annotations": [box(1, 7, 1, 1, 2)]}, "bbox [1, 1, 2] of annotation None"),
        ({"annotations": [{"image_id": 1}]}, "without 'category_id'"),
        ({"annotations": [3]}, "entries that are no objects"),
        ({"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}, "1 ids of categories that repeat, the first 7"),
        (
            {"annotations": [box(1, 7, 1, 1, 2, 2, id=4), box(1, 7, 3, 3, 2, 2, id=4)]},
            "ids of annotations that repeat, the first 4",
        ),
        ({"annotations": []}, "no box"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    assert told in refused("BAD_LABEL", write(tmp_path, "all.json", ["a.png"], [], **change))


def test_an_image_of_another_size_than_its_annotation(tmp_path: Path) -> None:
    write(tmp_path, "all.json", ["a.png", "b.png"], [box(1, 7, 1, 1, 2, 2)])
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(tmp_path / "images" / "b.png")
    told = refused("BAD_LABEL", tmp_path)
    assert "1 annotations of images of another size, the first of 30x20 pixels for b.png of 20x30" in told
    file = tmp_path / "all.json"
    file.write_text(file.read_text().replace('"height": 20', '"height": 0'))
    assert len(coco.read(tmp_path, DEFAULT)) == 2, "what an annotation does not say cannot contradict"


def test_an_image_that_cannot_be_read_is_left_to_the_audit(tmp_path: Path) -> None:
    write(tmp_path, "all.json", ["a.png", "b.png"], [box(1, 7, 1, 1, 2, 2)])
    (tmp_path / "images" / "b.png").write_bytes(b"")
    assert len(coco.read(tmp_path, DEFAULT)) == 2
    assert "EMPTY_FILE" in [f.code for f in inspect(tmp_path).findings]


def test_images_that_no_file_lists_are_said(tmp_path: Path) -> None:
    write(tmp_path, "all.json", ["a.png"], [box(1, 7, 1, 1, 2, 2)])
    for name in ("b.png", "c.png"):
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "images" / name)
    assert coco.read(tmp_path, DEFAULT).notes == ("2 images without an annotation were left out",)


def test_the_ids_of_images(tmp_path: Path) -> None:
    write(tmp_path, "train.json", ["a.png", "b.png"], [box(1, 7, 1, 1, 2, 2)])
    assert coco.image_ids(tmp_path) == {"images/a": 1, "images/b": 2}
    assert coco.image_ids(tmp_path / "train.json") == {"images/a": 1, "images/b": 2}


def test_an_id_for_two_images(tmp_path: Path) -> None:
    file = write(tmp_path, "all.json", ["a.png", "b.png"], [box(1, 7, 1, 1, 2, 2)]) / "all.json"
    file.write_text(file.read_text().replace('"id": 2, "file_name"', '"id": 1, "file_name"'))
    assert "1 ids of images that repeat, the first 1" in refused("BAD_LABEL", tmp_path)


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, "all.json", ["a.png", "b.png"], [box(1, 7, 1, 1, 2, 2)])
    (tmp_path / "images" / "b.png").unlink()
    assert "1 listed images that are not there, the first b.png" in refused("UNPAIRED", tmp_path)


def test_an_image_outside_of_the_folder_is_not_taken(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "secret.png")
    write(tmp_path / "set", "all.json", ["a.png"], [box(1, 7, 1, 1, 2, 2)])
    file = tmp_path / "set" / "all.json"
    file.write_text(file.read_text().replace('"a.png"', '"../secret.png"'))
    refused("UNPAIRED", tmp_path / "set")


def test_files_that_disagree_on_a_category(tmp_path: Path) -> None:
    write(tmp_path, "train.json", ["a.png"], [box(1, 7, 1, 1, 2, 2)])
    write(tmp_path, "val.json", ["b.png"], [box(1, 7, 1, 1, 2, 2)], categories=[{"id": 7, "name": "cyst"}])
    assert "category 7 named" in refused("BAD_LABEL", tmp_path)
