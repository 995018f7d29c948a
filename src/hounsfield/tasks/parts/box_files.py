"""Boxes as files of other tools: a label image with its table for viewers, and COCO's results for who measures with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Class
from hounsfield.io.limits import atomic


def xyz(boxes: Boxes) -> list[list[float]]:
    """Corners as x1, y1, x2, y2 or x1, y1, z1, x2, y2, z2, in hundredths of a source pixel."""
    n = boxes.ndim
    corners = np.concatenate([boxes.corners[:, :n][:, ::-1], boxes.corners[:, n:][:, ::-1]], axis=1)
    rows: list[list[float]] = corners.round(2).tolist()
    return rows


def labelled(boxes: Boxes, grid: Geometry) -> Image:
    """(1, *grid): the voxels whose middles lie in box k have the value k + 1; where boxes overlap, the first is seen."""
    array = np.zeros(grid.shape, dtype=np.uint8 if len(boxes) < 256 else np.uint16)
    n = boxes.ndim
    for k, corners in reversed(list(enumerate(boxes.voxels.tolist()))):
        array[tuple(slice(max(0, a), b) for a, b in zip(corners[:n], corners[n:], strict=True))] = k + 1
    return Image(array[np.newaxis], grid, Meta("prediction"))


def write_labels(boxes: Boxes, grid: Geometry, classes: Sequence[Class], least: float, stem: Path) -> list[Path]:
    """`STEM.nii.gz`, as `labelled` has it, and `STEM.boxes.json`, what each number is. least: the score below which boxes
    were left out, which the table says. Raises ResourceError DISK_FULL."""
    assert boxes.scores is not None
    picture, table = (stem.with_name(f"{stem.name}{ending}") for ending in (".nii.gz", ".boxes.json"))
    picture.parent.mkdir(parents=True, exist_ok=True)
    io.write(labelled(boxes, grid), picture, overwrite=True)
    rows = zip(xyz(boxes), boxes.scores.round(5).tolist(), boxes.labels.tolist(), strict=True)
    listed = [
        {"number": k, "class": classes[label].name, "score": score, "box": box}
        for k, (box, score, label) in enumerate(rows, start=1)
    ]
    _write_json(table, {"schema": 1, "least_score": least, "boxes": listed})
    return [picture, table]


def write_coco(found: Sequence[tuple[int, str, tuple[int, ...], Boxes]], classes: Sequence[Class], folder: Path) -> list[Path]:
    """`coco.json`, COCO's list of results, and `coco.images.json`, a COCO file of the images that its ids mean, without
    annotations. found: the id, file name, (H, W) and boxes of each image. Category ids are the classes' values.

    Raises ResourceError DISK_FULL.
    """
    results: list[dict[str, Any]] = []
    for number, _, _, boxes in found:
        assert boxes.scores is not None
        for (x1, y1, x2, y2), score, label in zip(xyz(boxes), boxes.scores.tolist(), boxes.labels.tolist(), strict=True):
            bbox = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            results.append({"image_id": number, "category_id": classes[label].value, "bbox": bbox, "score": round(score, 5)})
    images = [{"id": i, "file_name": name, "height": shape[0], "width": shape[1]} for i, name, shape, _ in found]
    categories = [{"id": c.value, "name": c.name} for c in classes]
    paths = folder / "coco.json", folder / "coco.images.json"
    _write_json(paths[0], results)
    _write_json(paths[1], {"images": images, "annotations": [], "categories": categories})
    return list(paths)


def _write_json(path: Path, values: Mapping[str, Any] | list[Any]) -> None:
    with atomic(path) as beside:
        beside.write_text(json.dumps(values, allow_nan=False) + "\n", encoding="utf-8")
