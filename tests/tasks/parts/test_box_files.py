"""Boxes as files: which voxels have which number, and a list that COCO's own tools load."""

from __future__ import annotations

import contextlib
import io as text
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.geometry import Geometry
from hounsfield.core.plan import Class
from hounsfield.tasks.parts.box_files import labelled, write_coco, write_labels

CLASSES = (Class(value=3, name="mass"), Class(value=7, name="nodule"))


def test_the_first_of_two_that_overlap_is_seen() -> None:
    grid = Geometry.from_spacing((6, 8), (0.5, 0.5))
    found = Boxes(np.array([[2, 2, 4.4, 5], [1, 0.6, 6, 3.4]]), np.array([0, 1]), np.array([0.9, 0.6]))
    image = labelled(found, grid)
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[1:6, 1:3] = 2
    expected[2:4, 2:5] = 1
    np.testing.assert_array_equal(image.array, expected[None])
    assert image.geometry == grid


def test_many_boxes_have_numbers_of_their_own() -> None:
    low = np.arange(300)[:, None] * np.array([[1.0, 0, 0]])
    found = Boxes(np.concatenate([low, low + 1], axis=1), np.zeros(300, dtype=int), np.linspace(1, 0.5, 300))
    image = labelled(found, Geometry.none((300, 2, 2)))
    assert image.array[0, :, 0, 0].tolist() == list(range(1, 301))


def test_the_table_says_what_each_number_is(tmp_path: Path) -> None:
    grid = Geometry((4, 6, 8), np.diag([3.0, 2, 1, 1])[[2, 1, 0, 3]])
    found = Boxes(np.array([[1, 2, 3, 3, 5, 7.25]]), np.array([1]), np.array([0.8125]))
    picture, table = write_labels(found, grid, CLASSES, 0.5, tmp_path / "site" / "a.b")
    assert (picture.name, table.name) == ("a.b.nii.gz", "a.b.boxes.json")
    image = io.read(picture)
    assert image.geometry.same_grid(grid)
    assert np.argwhere(image.array[0] == 1).min(axis=0).tolist() == [1, 2, 3]
    assert np.argwhere(image.array[0] == 1).max(axis=0).tolist() == [2, 4, 6]
    assert json.loads(table.read_text()) == {
        "schema": 1,
        "least_score": 0.5,
        "boxes": [{"number": 1, "class": "nodule", "score": 0.8125, "box": [3, 2, 1, 7.25, 5, 3]}],
    }


def test_what_is_written_for_coco_is_loaded_and_measured_by_its_tools(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed (the extra dev)")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    draw = np.random.default_rng(0)
    found = []
    for number in (12, 5, 40):
        low = draw.integers(0, 50, (4, 2))
        corners = np.concatenate([low, low + draw.integers(8, 30, (4, 2))], axis=1).astype(float)
        found.append((number, f"{number}.png", (100, 120), Boxes(corners, draw.integers(0, 2, 4), draw.random(4))))
    found.append((9, "empty.png", (10, 20), Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))))
    results, images = write_coco(found, CLASSES, tmp_path)
    with contextlib.redirect_stdout(text.StringIO()):
        known = COCO(str(images))
        loaded = known.loadRes(str(results))
        assert sorted(known.getImgIds()) == [5, 9, 12, 40]
        assert {c["id"]: c["name"] for c in known.dataset["categories"]} == {3: "mass", 7: "nodule"}
        assert known.loadImgs([9])[0] == {"id": 9, "file_name": "empty.png", "height": 10, "width": 20}
        rows: list[dict[str, Any]] = []
        for number, _, _, boxes in found:
            for (top, left, bottom, right), label in zip(boxes.corners.tolist(), boxes.labels.tolist(), strict=True):
                bbox, value = [left, top, right - left, bottom - top], CLASSES[label].value
                rows.append({"image_id": number, "category_id": value, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0})
        truth = COCO()
        truth.dataset = {**known.dataset, "annotations": [{**row, "id": k} for k, row in enumerate(rows, start=1)]}
        truth.createIndex()
        measured = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    assert measured.stats[0] == pytest.approx(1)
    assert len(loaded.anns) == 12
