"""Datasets as tasks want them: a box around each component, in the mask's own voxels; images of one class or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hounsfield.core.boxes import Boxes
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.mask_boxes import boxes_of, for_task

CLASSES = (Class(value=3, name="a"), Class(value=7, name="b"))


class Lazy:
    def __init__(self, array: np.ndarray) -> None:
        self.path, self.key, self.image = Path("m.png"), "m", Image(array, Geometry.none(array.shape[1:]))

    def __call__(self) -> Image:
        return self.image


def test_every_part_of_every_class_has_its_box() -> None:
    mask = np.zeros((1, 8, 9), dtype=np.uint8)
    mask[0, 1:3, 1:4], mask[0, 5:8, 6:9], mask[0, 0, 8] = 3, 3, 7
    found = boxes_of(Image(mask, Geometry.none((8, 9))), CLASSES)
    rows = sorted([*corner, label] for corner, label in zip(found.corners.tolist(), found.labels.tolist(), strict=True))
    assert rows == [[0, 8, 1, 9, 1], [1, 1, 3, 4, 0], [5, 6, 8, 9, 0]]


def test_regions_may_overlap() -> None:
    mask = np.zeros((2, 6, 6), dtype=np.uint8)
    mask[0, :4], mask[1, 1:3, 1:3] = 1, 1
    found = boxes_of(Image(mask, Geometry.none((6, 6))), CLASSES)
    assert found.corners.tolist() == [[0, 0, 4, 6], [1, 1, 3, 3]]
    assert found.labels.tolist() == [0, 1]


def test_a_dataset_changes_for_detection_alone() -> None:
    mask = np.full((1, 4, 4), 7, dtype=np.uint8)
    samples = (Sample("a", (), target=Lazy(mask), valid_mask=Lazy(mask)), Sample("b", (), target=Lazy(0 * mask)))
    data = Dataset(samples, CLASSES, ("x",), "segmentation", "test", "", Path("data"), ignore_value=9)
    assert for_task(data, "segmentation") is data
    made = for_task(data, "detection")
    assert (made.kind, made.ignore_value, len(made.notes)) == ("detection", None, 2)
    one, other = (s.target for s in made.samples)
    assert isinstance(one, Boxes)
    assert isinstance(other, Boxes)
    assert (one.corners.tolist(), one.labels.tolist(), len(other)) == ([[0, 0, 4, 4]], [1], 0)


def test_generation_wants_one_of_several_classes_or_images_alone() -> None:
    images = (Lazy(np.zeros((1, 4, 4), dtype=np.uint8)),)
    classed = Dataset(
        (Sample("a", images, target=0), Sample("b", images, target=1)), CLASSES, ("x",), "classification", "r", "f", Path()
    )
    assert for_task(classed, "generation") is classed
    one = Dataset((Sample("a", images, target=0),), CLASSES[:1], ("x",), "classification", "r", "f", Path())
    both = (Sample("a", images, target=(0, 1)),)
    several = Dataset(both, CLASSES, ("x",), "classification", "r", "f", Path(), multilabel=True)
    masked = Dataset(
        (Sample("a", images, target=images[0], valid_mask=images[0], known_classes=(0,)),),
        CLASSES,
        ("x",),
        "segmentation",
        "r",
        "f",
        Path(),
        ignore_value=9,
    )
    for dataset in (one, several, masked):
        found = for_task(dataset, "generation")
        (sample,) = found.samples
        assert (sample.id, sample.images) == ("a", images)
        assert (sample.target, sample.valid_mask, sample.known_classes) == (None, None, None)
        assert (found.kind, found.classes, found.multilabel, found.ignore_value) == (None, (), False, None)
        assert "labels are not used" in found.notes[-1]
    bare = Dataset((Sample("a", images),), (), ("x",), None, "images", "f", Path())
    assert for_task(bare, "generation").notes == ()
