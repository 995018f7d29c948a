"""COCO that is written: boxes as they were, and of masks a box and an exact outline for each connected part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.masks import MaskFile
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.data.writers import coco

CLASSES = (Class(value=2, name="mass"), Class(value=5, name="cyst"))


def write(data: Dataset, out: Path) -> dict[str, Any]:
    made = coco.write(data, out, False, lambda done, of: None)
    (file,) = (out / "annotations").iterdir()
    return {**json.loads(file.read_text()), "notes": made.notes}


def dataset(root: Path, samples: list[Sample], kind: str) -> Dataset:
    return Dataset(tuple(samples), CLASSES, ("grey",), kind, "test", "found", root)


def unrolled(segmentation: dict[str, Any]) -> Any:
    """The mask of run lengths, as the format defines them: outside first, down the columns."""
    height, width = segmentation["size"]
    values = np.repeat(np.arange(len(segmentation["counts"])) % 2, segmentation["counts"])
    assert values.size == height * width
    return values.reshape(width, height).T


@given(arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.sampled_from([0, 0, 2, 5])))
def test_outlines_are_the_mask(tmp_path_factory: pytest.TempPathFactory, labels: Any) -> None:
    from PIL import Image

    folder = tmp_path_factory.mktemp("coco")
    Image.fromarray(labels).save(folder / "m.png")
    data = dataset(folder, [Sample("a", (ImageFile(folder / "m.png"),), MaskFile((folder / "m.png",)))], "segmentation")
    if not labels.any():
        with pytest.raises(InputError, match="no box and no mask"):
            write(data, folder / "out")
        return
    found = write(data, folder / "out")["annotations"]
    again = np.zeros(labels.shape, int)
    for one in found:
        mask = unrolled(one["segmentation"])
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert one["bbox"] == [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
        assert one["area"] == mask.sum()
        assert not (again[mask > 0]).any(), "two objects share a pixel"
        again += one["category_id"] * mask
    np.testing.assert_array_equal(again, labels)
    around = Boxes.around(labels, (2, 5))
    assert len(found) == len(around)
    target = open_dataset(folder / "out", "coco").samples[0].target
    assert isinstance(target, Boxes)
    np.testing.assert_array_equal(target.corners, around.corners)


def test_boxes_and_categories(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    path = picture(tmp_path / "in" / "x.jpg", noise(0))
    boxes = Boxes(np.array([[1, 2, 5, 9.5]]), np.array([1]))
    sample = Sample("deep/a", (ImageFile(path),), boxes, patient="P", attributes={"site": "A"})
    found = write(dataset(tmp_path, [sample], "detection"), tmp_path / "out")
    assert found["images"] == [{"id": 1, "file_name": "deep/a.jpg", "height": 12, "width": 12}]
    assert found["categories"] == [{"id": 2, "name": "mass"}, {"id": 5, "name": "cyst"}]
    (one,) = found["annotations"]
    assert one == {"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 1, 7.5, 4], "area": 30, "iscrowd": 0}
    assert found["notes"] == ("patients, attributes: COCO has no place for them, and they are left out",)
    assert (tmp_path / "out" / "deep" / "a.jpg").samefile(path), "it was copied"


def test_parts_have_files_of_their_own(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    boxes = Boxes(np.array([[1, 2, 5, 9]]), np.array([0]))
    parts: tuple[Split, ...] = ("train", "val", "test")
    samples = [
        Sample(part, (ImageFile(picture(tmp_path / f"{part}.png", noise(k))),), boxes, split=part)
        for k, part in enumerate(parts)
    ]
    coco.write(dataset(tmp_path, samples, "detection"), tmp_path / "out", False, lambda done, of: None)
    names = {f"instances_{part}.json" for part in parts}
    assert {p.name for p in (tmp_path / "out" / "annotations").iterdir()} == names
    assert {s.id: s.split for s in open_dataset(tmp_path / "out").samples} == {part: part for part in parts}


def test_what_coco_has_no_place_for_is_refused_first(tmp_path: Path) -> None:
    write_dataset(tmp_path / "classes", "classification", n=4)
    write_dataset(tmp_path / "volumes", "segmentation", ndim=3, n=2)
    write_dataset(tmp_path / "bare", "generation", n=2)
    told = {"classes": "classification labels", "volumes": "2 volumes, the first 'patient-0000'", "bare": "no labels"}
    for name, said in told.items():
        with pytest.raises(InputError, match="BAD_OPTION --to coco") as caught:
            write(open_dataset(tmp_path / name), tmp_path / "out")
        assert caught.value.found == said
        assert not (tmp_path / "out").exists()
