"""The audit: leaks, copies, labels and grids; faults 33 to 37 of the battery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.finding import Finding
from hounsfield.core.sample import Sample
from hounsfield.data.audit import Audit, audit
from hounsfield.data.dataset import Dataset, name_classes
from hounsfield.data.facts import FactStore
from hounsfield.data.readers import open_dataset
from hounsfield.data.split import Split, make_split


def dataset(samples: Sequence[Sample], kind: str | None = "classification", **more: Any) -> Dataset:
    classes = name_classes([(1, "lesion"), (2, "organ")] if kind == "segmentation" else [(0, "benign"), (1, "malignant")])
    return Dataset(tuple(samples), classes, more.pop("channels", ("intensity",)), kind, "test", "", Path("root"), **more)


def divide(*ids: str) -> Split:
    """Parts by the ids' beginnings."""
    own: dict[str, tuple[str, ...]] = {p: tuple(i for i in ids if i.startswith(p)) for p in ("train", "val", "test")}
    return Split(**own, drawn=())


@pytest.fixture
def pictures(lazy: Any, noise: Any) -> Any:
    """pictures("train/a", "val/b", ..., same={"train/b": "val/b"}): samples of classes 0, 1, 0, ..., with different noise."""

    def build(*ids: str, same: dict[str, str] | None = None) -> list[Sample]:
        seeds = {name: (k if name not in (same or {}) else ids.index((same or {})[name])) for k, name in enumerate(ids)}
        return [Sample(i, (lazy(f"{i}.png", noise(seeds[i], 16, 16)[None]),), k % 2) for k, i in enumerate(ids)]

    return build


def said(found: Audit, *codes: str) -> list[str]:
    """The lines of the findings of these codes."""
    return [f.line for f in found.findings if f.code in codes]


COPIES = ("DUPLICATE_IMAGE", "NEAR_DUPLICATE", "LABEL_CONFLICT", "DUPLICATE_WITHIN", "NEAR_WITHIN")


IDS = ("train/a", "train/b", "train/c", "val/d", "val/e", "test/f")


def test_a_sound_dataset_stays_as_it_is(pictures: Any) -> None:
    data, split = dataset(pictures(*IDS)), divide(*IDS)
    seen: list[tuple[int, int]] = []
    same, kept, found = audit(data, split, progress=lambda done, all_: seen.append((done, all_)))
    assert (same, kept) == (data, split)
    assert set(found.facts) == set(IDS)
    assert (found.dropped, found.copies, found.near, found.inside) == ((), (), (), ())
    # Of three training cases nobody learns, and the patients are unknown.
    assert [(f.severity, f.code) for f in found.findings] == [("warning", "RARE_CLASS"), ("note", "PATIENTS_UNKNOWN")]
    assert found.classes == {
        "train": {"benign": 2, "malignant": 1},
        "val": {"benign": 1, "malignant": 1},
        "test": {"benign": 0, "malignant": 1},
    }
    assert seen == [(k, 6) for k in range(1, 7)]


def test_samples_outside_the_split_are_left_out(pictures: Any) -> None:
    data, kept, found = audit(dataset(pictures(*IDS)), divide(*IDS[:5]))
    assert [s.id for s in data.samples] == sorted(IDS[:5])
    assert kept.test == ()
    assert "test/f" not in found.facts


def test_a_patient_in_two_parts_is_named_with_files(pictures: Any) -> None:
    samples = [replace(s, patient=p) for s, p in zip(pictures(*IDS), ("p1", "p2", "p1", "p1", "p3", "p2"), strict=True)]
    with pytest.raises(InputError) as caught:
        audit(dataset(samples), divide(*IDS))
    assert caught.value.code == "PATIENT_LEAK"
    assert caught.value.found == (
        "2 of 3 patients in two parts: patient p1 in train (train/a.png) and val (val/d.png); "
        "patient p2 in test (test/f.png) and train (train/b.png)"
    )


MORE = (*IDS, "train/g", "train/h")


def test_the_training_copy_is_dropped_named_and_counted(pictures: Any) -> None:
    samples = pictures(*MORE, same={"train/b": "test/f", "train/c": "val/d"})
    data, split, found = audit(dataset(samples), divide(*MORE))
    assert found.dropped == ("train/b", "train/c")
    assert split.train == ("train/a", "train/g", "train/h")
    assert (split.val, split.test) == (("val/d", "val/e"), ("test/f",))
    assert {s.id for s in data.samples} == set(found.facts) == set(MORE) - set(found.dropped)
    (note,) = said(found, "DUPLICATE_IMAGE")
    assert note.startswith("dropped 2 exact copies across parts: test test/f.png = train train/b.png; ")
    assert "val val/d.png = train train/c.png, labels differ" in note


def test_the_test_copy_stays_even_of_three(pictures: Any) -> None:
    samples = pictures(*MORE, same={"train/b": "test/f", "val/d": "test/f"})
    _, split, found = audit(dataset(samples), divide(*MORE))
    assert found.dropped == ("train/b", "val/d")
    assert split.test == ("test/f",)


def test_copies_within_one_part_are_only_listed(pictures: Any) -> None:
    _, split, found = audit(dataset(pictures(*IDS, same={"train/b": "train/a"})), divide(*IDS))
    assert found.dropped == ()
    assert split == divide(*IDS)
    pair = "train train/a.png = train train/b.png, labels differ"
    assert said(found, *COPIES) == [f"1 image with two different labels: {pair}", f"kept 1 exact copy within one part: {pair}"]


def test_near_copies_are_listed_with_both_files(pictures: Any, lazy: Any) -> None:
    samples = pictures(*IDS)
    array = samples[0].images[0]().array
    samples[3] = replace(samples[3], images=(lazy("val/d.png", (array // 2).astype(np.uint8)),))
    data, split, found = audit(dataset(samples), divide(*IDS))
    assert (len(data), split) == (6, divide(*IDS))
    (note,) = said(found, "NEAR_DUPLICATE")
    assert note.startswith("kept 1 near copy across parts: val val/d.png ~ train train/a.png (0.99")


@pytest.mark.parametrize("exact", [True, False])
def test_strict_stops_on_both_kinds(pictures: Any, lazy: Any, exact: bool) -> None:
    samples = pictures(*IDS)
    array = samples[0].images[0]().array
    samples[3] = replace(samples[3], images=(lazy("val/d.png", array if exact else (array // 2).astype(np.uint8)),))
    expected = "1 exact copy and 0 near ones" if exact else "0 exact copies and 1 near ones"
    with pytest.raises(InputError, match=rf"DUPLICATE_IMAGE root: found {expected} across parts: val val/d\.png . train"):
        audit(dataset(samples), divide(*IDS), strict=True)
    assert audit(dataset(pictures(*IDS, same={"train/b": "train/a"})), divide(*IDS), strict=True)[2].dropped == ()


def test_a_part_of_nothing_but_copies_is_too_few(pictures: Any) -> None:
    ids = ("train/a", "val/b")
    with pytest.raises(InputError, match="TOO_FEW root: found 0 train and 1 val cases after 1 exact copy were dropped"):
        audit(dataset(pictures(*ids, same={"train/a": "val/b"})), divide(*ids))


def test_one_class_in_the_training_part_is_counted(pictures: Any) -> None:
    samples = [replace(s, target=0 if s.id.startswith("train") else s.target) for s in pictures(*IDS)]
    with pytest.raises(InputError, match="ONE_CLASS root: found training cases by class: 3 benign, 0 malignant"):
        audit(dataset(samples), divide(*IDS))
    several = [replace(s, target=(0,)) for s in samples]
    assert audit(dataset(several, multilabel=True), divide(*IDS))[2].classes["train"] == {"benign": 3, "malignant": 0}


@pytest.mark.parametrize("target", [5, (0, 5)])
def test_a_class_that_is_none_is_named_with_its_file(pictures: Any, target: int | tuple[int, ...]) -> None:
    samples = pictures(*IDS)
    samples[1] = replace(samples[1], target=target)
    with pytest.raises(InputError, match=r"BAD_LABEL root: found .* in 1 case: train/b\.png has 5, expected one of 0, 1"):
        audit(dataset(samples), divide(*IDS))


def test_messages_about_thousands_of_classes_stay_short(pictures: Any) -> None:
    classes = name_classes((k, f"class {k}") for k in range(10_000))
    samples = pictures(*IDS)
    odd = [*samples[:-1], replace(samples[-1], target=10_000)]
    with pytest.raises(InputError, match=r"expected one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 9990 more; fix") as caught:
        audit(replace(dataset(odd), classes=classes), divide(*IDS))
    assert len(str(caught.value)) < 300
    same = [replace(s, target=7000) for s in samples]
    with pytest.raises(InputError, match=r"ONE_CLASS .*: 3 class 7000, 0 class 0, .* and 9990 more, expected") as caught:
        audit(replace(dataset(same), classes=classes), divide(*IDS))
    assert len(str(caught.value)) < 400


@pytest.fixture
def masked(lazy: Any, noise: Any) -> Any:
    """masked(values={id: value of its square, or None}): samples with masks, 1 unless told."""

    def build(values: dict[str, int | None] | None = None) -> list[Sample]:
        samples = []
        for k, name in enumerate(IDS):
            mask = np.zeros((1, 16, 16), np.uint8)
            value = (values or {}).get(name, 1)
            mask[0, 3:6, 3:7] = 0 if value is None else value
            samples.append(Sample(name, (lazy(f"{name}.png", noise(k, 16, 16)[None]),), lazy(f"{name}_mask.png", mask)))
        return samples

    return build


def test_masks_are_counted_by_class_and_empty_ones_by_part(masked: Any) -> None:
    samples = masked({"train/a": 2, "train/b": None, "test/f": None})
    _, _, found = audit(dataset(samples, "segmentation"), divide(*IDS))
    assert found.classes == {
        "train": {"lesion": 1, "organ": 1},
        "val": {"lesion": 2, "organ": 0},
        "test": {"lesion": 0, "organ": 0},
    }
    assert found.empty == {"train": 1, "val": 0, "test": 1}
    assert said(found, "EMPTY_MASK") == ["1 of 3 train masks are empty", "1 of 1 test masks are empty"]
    assert found.facts["train/a"].voxels == {0: 244, 2: 12}


def test_all_masks_empty_is_counted_by_part(masked: Any) -> None:
    expected = "3 of 3 train masks empty, 2 of 2 val masks empty, 1 of 1 test masks empty"
    with pytest.raises(InputError, match=f"NO_FOREGROUND root: found {expected}"):
        audit(dataset(masked(dict.fromkeys(IDS)), "segmentation"), divide(*IDS))
    with pytest.raises(InputError, match="NO_FOREGROUND root: found 3 of 3 train masks empty, 0 of 2 val"):
        audit(dataset(masked(dict.fromkeys(IDS[:3])), "segmentation"), divide(*IDS))


def test_mask_values_outside_the_classes_are_named_with_files(masked: Any) -> None:
    samples = masked({"val/d": 9, "test/f": 7})
    expected = r"in 2 cases: test/f_mask\.png has 7; val/d_mask\.png has 9, expected one of 0, 1, 2"
    with pytest.raises(InputError, match=f"BAD_LABEL root: found labels outside the classes {expected}"):
        audit(dataset(samples, "segmentation"), divide(*IDS))
    samples = masked({"val/d": 9, "test/f": 9})
    found = audit(dataset(samples, "segmentation", ignore_value=9), divide(*IDS))[2]
    assert found.facts["val/d"].voxels == {0: 244, 9: 12}


def test_a_mask_on_another_grid_stops(masked: Any, lazy: Any) -> None:
    samples = masked()
    samples[0] = replace(samples[0], target=lazy("m.png", np.ones((1, 16, 15), np.uint8)))
    with pytest.raises(InputError, match=r"GRID_MISMATCH m\.png: found shape \(16, 15\), affine .* shape \(16, 16\), affine"):
        audit(dataset(samples, "segmentation"), divide(*IDS))


@pytest.mark.parametrize(
    ("corners", "label", "message"),
    [([0, 0, 4, 4], 7, r"train/a\.png has 7"), ([10, 10, 17, 12], 0, r"train/a\.png: found a box that reaches beyond")],
)
def test_boxes_outside_classes_or_image(pictures: Any, corners: list[int], label: int, message: str) -> None:
    boxes = Boxes(np.array([[0, 0, 16, 16]]), np.array([1]))
    samples = [replace(s, target=boxes) for s in pictures(*IDS)]
    found = audit(dataset(samples, "detection"), divide(*IDS))[2]
    assert found.classes["train"] == {"benign": 0, "malignant": 3}
    samples[0] = replace(samples[0], target=Boxes(np.array([corners]), np.array([label])))
    with pytest.raises(InputError, match=f"BAD_LABEL .*{message}"):
        audit(dataset(samples, "detection"), divide(*IDS))


def test_a_training_part_without_any_box_stops(pictures: Any) -> None:
    box, none = Boxes(np.array([[0, 0, 16, 16]]), np.array([1])), Boxes(np.zeros((0, 4)), np.zeros(0, dtype=int))
    samples = [replace(s, target=none if s.id.startswith("train") else box) for s in pictures(*IDS)]
    with pytest.raises(
        InputError, match=r"NO_FOREGROUND root: found no box in any of 3 training images, expected at least one"
    ):
        audit(dataset(samples, "detection"), divide(*IDS))


def test_flat_images_beside_volumes_are_named(pictures: Any, lazy: Any) -> None:
    samples = pictures(*IDS)
    samples[2] = replace(samples[2], images=(lazy("vol.nii", np.ones((1, 4, 4, 4), np.uint8)),))
    with pytest.raises(InputError, match=r"WRONG_DIMENSION root: found 5 flat images and 1 volumes; 3D: vol\.nii"):
        audit(dataset(samples), divide(*IDS))


RGB = ("red", "green", "blue")


def test_grey_saved_as_colour_beside_grey_becomes_grey(pictures: Any, lazy: Any) -> None:
    samples = pictures(*IDS)
    samples[0] = replace(samples[0], images=(lazy("c.png", np.repeat(samples[0].images[0]().array, 3, axis=0)),))
    for channels in (("intensity",), RGB):
        data, _, found = audit(dataset(samples, channels=channels), divide(*IDS))
        assert data.channels == ("intensity",)
        assert {(f.channels, len(f.whole)) for f in found.facts.values()} == {(1, 1)}
        expected = "1 of 6 images are colour pictures of nothing but grey: one channel is used"
        assert [line.partition(":")[0] for line in said(found, "MIXED_CHANNELS")] == [expected.partition(":")[0]]
        assert expected.partition(": ")[2] in said(found, "MIXED_CHANNELS")[0]


def test_grey_beside_true_colour_becomes_colour(pictures: Any, lazy: Any, noise: Any) -> None:
    samples = pictures(*IDS)
    for k in range(4):
        samples[k] = replace(samples[k], images=(lazy("c.png", noise(90 + k, 3, 16, 16)),))
    for channels in (("intensity",), RGB):
        data, _, found = audit(dataset(samples, channels=channels), divide(*IDS))
        assert data.channels == RGB
        assert {(f.channels, len(f.whole)) for f in found.facts.values()} == {(3, 3)}
        assert said(found, "MIXED_CHANNELS")[0].startswith("2 of 6 images are grey among colours: repeated: ")


def test_other_mixed_channels_are_counted(pictures: Any, lazy: Any, noise: Any) -> None:
    samples = pictures(*IDS)
    samples[1] = replace(samples[1], images=(lazy("two.npz", noise(9, 2, 16, 16)),))
    expected = r"5 images of 1 channel, 1 images of 2 channels: two\.npz, expected 1 \(intensity\) in every image"
    with pytest.raises(InputError, match=f"CHANNELS root: found {expected}"):
        audit(dataset(samples), divide(*IDS))


class Damaged:
    """A lazy file that cannot be read."""

    def __init__(self, name: str, code: str = "TRUNCATED") -> None:
        self.path, self.key, self.code = Path(name), name, code

    def __call__(self) -> Any:
        raise InputError(self.code, self.path, found="12 bytes", expected="90 bytes", fix="copy it again")

    def __str__(self) -> str:
        return str(self.path)


def test_every_file_that_cannot_be_read_is_named_in_one_error(pictures: Any) -> None:
    samples = pictures(*MORE)
    for k, code in ((1, "TRUNCATED"), (3, "EMPTY_FILE"), (6, "TRUNCATED")):
        samples[k] = replace(samples[k], images=(Damaged(f"{samples[k].id}.png", code),))
    with pytest.raises(
        InputError, match=r"TRUNCATED root: found 3 of 8 cases that cannot be used \(TRUNCATED, EMPTY_FILE\)"
    ) as caught:
        audit(dataset(samples), divide(*MORE))
    assert all(f"{name}.png: 12 bytes" in str(caught.value) for name in ("train/b", "val/d", "train/g"))
    told: list[Finding] = []
    data, split, found = audit(dataset(samples), divide(*MORE), told=told.extend)
    assert [(f.code, f.cases) for f in told if f.severity == "error"] == [
        ("TRUNCATED", ("train/b", "train/g")),
        ("EMPTY_FILE", ("val/d",)),
    ]
    assert (
        {s.id for s in data.samples} == set(found.facts) == set(split.part_of()) == set(MORE) - {"train/b", "val/d", "train/g"}
    )


def test_kept_facts_spare_the_second_reading(pictures: Any, tmp_path: Path) -> None:
    samples = pictures(*IDS)
    _, _, first = audit(dataset(samples), divide(*IDS), store=tmp_path)

    class Unreadable:
        def __init__(self, lazy: Any) -> None:
            self.path, self.key = lazy.path, lazy.key

        def __call__(self) -> Any:
            raise AssertionError("read again")

        def __str__(self) -> str:
            return str(self.path)

    kept = [replace(s, images=(Unreadable(s.images[0]),)) for s in samples]
    _, _, second = audit(dataset(kept), divide(*IDS), store=tmp_path)
    assert second.facts == first.facts
    assert set(FactStore(tmp_path, Path("root")).load()) == {f.key for f in first.facts.values()}
    with pytest.raises(AssertionError, match="read again"):
        audit(dataset(kept), divide(*IDS))


def test_breastmnist_shows_its_identical_pair(shared_data: Path) -> None:
    data = open_dataset(shared_data / "breastmnist")
    cleaned, split, found = audit(data, make_split(data, 0))
    assert found.dropped == ("train/0115",)
    (copy,) = found.copies
    assert (copy.first, copy.second, copy.same_target) == ("test/0076", "train/0115", False)
    assert (len(split.train), len(split.val), len(split.test), len(cleaned)) == (545, 78, 156, 779)
    assert len(found.near) > 50
    assert all(d.first_part != d.second_part for d in found.near)
    with pytest.raises(InputError, match=r"DUPLICATE_IMAGE .*test_images\[76\] = train breastmnist\.npz train_images\[115\]"):
        audit(data, make_split(data, 0), strict=True)


@pytest.mark.parametrize("name", ["drive", "cxr_lungs"])
def test_different_patients_are_no_copies(shared_data: Path, name: str) -> None:
    data = open_dataset(shared_data / name)
    data = data.only(data.samples[::3])
    _, _, found = audit(data, make_split(data, 0))
    assert (found.copies, found.near, said(found, *COPIES)) == ((), (), [])
