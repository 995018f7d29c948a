"""Merging: every target in the merged classes, what a source never annotated unknown, nobody in two places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample, Target
from hounsfield.data.dataset import Dataset
from hounsfield.data.merge import Source, merge

CLASSES = (Class(value=1, name="liver"), Class(value=2, name="tumour"), Class(value=3, name="spleen"))
ROOT = Path("out")


class Lazy:
    def __init__(self, *values: int) -> None:
        array = np.array([[values]])
        self.path, self.key, self.image = Path("m.png"), str(values), Image(array, Geometry.none(array.shape[1:]))

    def __call__(self) -> Image:
        return self.image


def source(name: str, to: dict[int, int | None], targets: list[Target], known: tuple[int, ...] = (), **more: Any) -> Source:
    kinds = {int: "classification", tuple: "classification", Boxes: "detection", Lazy: "segmentation"}
    values = more.pop("values", range(len(to)))
    named = tuple(Class(value=v, name=f"{name}{v}") for v in values)
    fields = more.pop("sample", {})
    samples = tuple(Sample(f"case {k}", (Lazy(k),), t, **fields) for k, t in enumerate(targets))
    kind = more.pop("kind", kinds[type(targets[0])])
    data = Dataset(samples, named, more.pop("channels", ("x",)), kind, "test", "", Path(name), **more)
    known = known or tuple(sorted({k for k in to.values() if k is not None}))
    return Source(name, data, to, known)


def labels(dataset: Dataset) -> dict[str, list[int]]:
    return {s.id: s.target().array.ravel().tolist() for s in dataset.samples if callable(s.target)}


def test_masks_speak_of_the_merged_classes_and_know_what_they_were_searched_for() -> None:
    north = source(
        "north", {0: 0, 1: 1, 2: None}, [Lazy(0, 5, 6, 7)], values=(5, 6, 7), voxels={"case 0": {0: 1, 5: 1, 6: 1, 7: 1}}
    )
    south = source("south", {0: 2}, [Lazy(0, 1, 1, 0)], values=(1,))
    made = merge([north, south], CLASSES, ROOT)
    assert labels(made) == {"north/case 0": [0, 1, 2, 0], "south/case 0": [0, 3, 3, 0]}
    assert [s.known_classes for s in made.samples] == [(0, 1), (2,)]
    assert made.voxels == {"north/case 0": {0: 2, 1: 1, 2: 1}}
    assert (made.kind, made.multilabel, made.channels, made.classes) == ("segmentation", False, ("x",), CLASSES)
    assert made.found == "2 cases: 1 of north, 1 of south"


def test_masks_that_say_it_already_stay_what_they_are() -> None:
    same = source("a", {0: 0, 1: 1, 2: 2}, [target := Lazy(0, 1, 2, 3)], values=(1, 2, 3))
    (sample,) = merge([same], CLASSES, ROOT).samples
    assert sample.target is target
    assert sample.known_classes is None


def test_an_ignored_value_teaches_nothing_in_the_merged_set_either() -> None:
    valid = Lazy(1, 1, 0, 1)
    one = source("a", {0: 0}, [Lazy(0, 1, 1, 9)], values=(1,), ignore_value=9, sample={"valid_mask": valid})
    (sample,) = merge([one], CLASSES, ROOT).samples
    assert sample.valid_mask is not None
    assert sample.valid_mask().array.ravel().tolist() == [1, 1, 0, 0]
    assert labels(merge([one], CLASSES, ROOT)) == {"a/case 0": [0, 1, 1, 0]}


def test_whole_images_stay_exclusive_only_where_every_source_knows_every_class() -> None:
    all_of_them: dict[int, int | None] = {0: 2, 1: 1, 2: 0}
    made = merge([source("a", all_of_them, [0, 2]), source("b", all_of_them, [1])], CLASSES, ROOT)
    assert not made.multilabel
    assert [s.target for s in made.samples] == [2, 0, 1]
    assert all(s.known_classes is None for s in made.samples)
    made = merge([source("a", all_of_them, [0, 2]), source("b", {0: None, 1: 1}, [0, 1])], CLASSES, ROOT)
    assert made.multilabel
    assert [(s.target, s.known_classes) for s in made.samples] == [((2,), None), ((0,), None), ((), (1,)), ((1,), (1,))]


def test_boxes_of_no_class_are_left_out() -> None:
    boxes = Boxes(np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 2, 4, 4]], dtype=float), np.array([0, 1, 0]))
    (sample,) = merge([source("a", {0: 1, 1: None}, [boxes])], CLASSES, ROOT).samples
    assert isinstance(sample.target, Boxes)
    assert sample.target.labels.tolist() == [1, 1]
    assert sample.target.corners.tolist() == [[0, 0, 2, 2], [2, 2, 4, 4]]
    assert sample.known_classes == (1,)


def test_patients_and_sites_are_their_source_s() -> None:
    fields = {"patient": "007", "split": "train", "attributes": {"site": "ward 3", "age": "50"}}
    one, other = (merge([source(n, {0: 0}, [(0,)], sample=fields, multilabel=True)], CLASSES, ROOT).samples[0] for n in "ab")
    assert (one.patient, other.patient) == ("a:007", "b:007")
    assert one.split == "train"
    assert one.attributes == {"site": "a", "source_site": "ward 3", "age": "50"}


@given(st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=1, max_size=4), st.data())
def test_no_negative_is_invented(known: list[set[int]], data: st.DataObject) -> None:
    """A class that is not in a sample's target is negative there only where its source was searched for it."""
    sources = []
    for k, some in enumerate(known):
        to: dict[int, int | None] = dict(enumerate(sorted(some)))
        sources.append(source(f"s{k}", to, [data.draw(st.sampled_from(range(len(some)))) for _ in range(2)]))
    made = merge(sources, CLASSES, ROOT)
    for sample in made.samples:
        some = known[int(sample.id[1])]
        target = sample.target if isinstance(sample.target, tuple) else (sample.target,)
        searched = set(range(3)) if sample.known_classes is None else set(sample.known_classes)
        assert set(target) <= searched == some


def test_what_does_not_go_together_is_refused() -> None:
    whole, masked = source("a", {0: 0}, [0]), source("b", {0: 0}, [Lazy(1)])
    with pytest.raises(InputError, match=r"BAD_OPTION .*a: classification, b: segmentation"):
        merge([whole, masked], CLASSES, ROOT)
    with pytest.raises(InputError, match=r"CHANNELS .*a: t1, t2; b: t2, t1"):
        merge([source(n, {0: 0}, [0], channels=c) for n, c in (("a", ("t1", "t2")), ("b", ("t2", "t1")))], CLASSES, ROOT)
    assert merge([source(n, {0: 0}, [0], channels=(c,)) for n, c in (("a", "MR"), ("b", "x"))], CLASSES, ROOT).channels == (
        "MR",
    )
    with pytest.raises(InputError, match=r"BAD_OPTION .*overlapping regions in r"):
        merge([source("r", {0: 0}, [Lazy(1)], multilabel=True)], CLASSES, ROOT)
