"""Images with masks: every published way to lay them out, and the faults of pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.data.readers import image_masks, open_dataset

Array = npt.NDArray[Any]
Build = Callable[..., None]


def labels_of(sample: Sample) -> Array:
    assert callable(sample.target)
    image: Image = sample.target()
    return image.array


def spot(k: int, value: int = 255) -> Array:
    """A mask whose single row `k` is marked, so that every pair can be told."""
    array = np.zeros((12, 12), np.uint8)
    array[k % 12] = value
    return array


def field() -> Array:
    array = np.zeros((12, 12), np.uint8)
    array[:, 1:] = 255
    return array


@pytest.fixture
def build(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> Build:
    """build(images=[...], masks=[...]): pictures, the k-th mask marking row k."""

    def make(images: list[str], masks: list[str]) -> None:
        for k, name in enumerate(images):
            picture(tmp_path / name, noise(k))
        for k, name in enumerate(masks):
            picture(tmp_path / name, spot(k))

    return make


@pytest.mark.parametrize(
    ("images", "masks", "ids"),
    [
        (["images/a.png", "images/b.png"], ["masks/a.png", "masks/b.png"], ["a", "b"]),
        (["imgs/a.jpg", "imgs/b.jpg"], ["labels/a_mask.png", "labels/b_mask.png"], ["a", "b"]),
        (["img/a.tif", "img/b.tif"], ["ground_truth/a_seg.png", "ground_truth/b_seg.png"], ["a", "b"]),
        (["image/image_1.png", "image/image_2.png"], ["mask/mask_1.png", "mask/mask_2.png"], ["image_1", "image_2"]),
        (["scans/Image01.png", "scans/Image02.png"], ["GT/label01.png", "GT/label02.png"], ["Image01", "Image02"]),
        (["Images/A1.png", "Images/A2.png"], ["segmentations/a1_GT.png", "segmentations/a2_GT.png"], ["A1", "A2"]),
        (["images/x1.png", "images/x2.png"], ["annotations/x1.ah.png", "annotations/x2.ah.png"], ["x1", "x2"]),
        (
            ["images/21_training.tif", "images/22_training.tif"],
            ["1st_manual/21_manual1.gif", "1st_manual/22_manual1.gif"],
            None,
        ),
        (["a.png", "b.png"], ["a_mask.png", "b_mask.png"], ["a", "b"]),
        (["a.jpg", "b.jpg"], ["a-seg.png", "b-seg.png"], ["a", "b"]),
        (["x/a.png", "y/a.png"], ["x/a_label.png", "y/a_label.png"], ["x/a", "y/a"]),
        (["p1/images/a.png", "p2/images/a.png"], ["p1/masks/a.png", "p2/masks/a.png"], ["p1/a", "p2/a"]),
    ],
)
def test_pairs_by_folder_stem_and_suffix(
    tmp_path: Path, build: Build, images: list[str], masks: list[str], ids: list[str] | None
) -> None:
    build(images, masks)
    data = open_dataset(tmp_path)
    assert (data.reader, data.kind, data.found) == ("image_masks", "segmentation", "2 images with masks of 1 class")
    assert [s.id for s in data.samples] == (ids or ["21_training", "22_training"])
    for k, sample in enumerate(data.samples):
        assert sample.images[0].path == tmp_path / images[k]
        np.testing.assert_array_equal(labels_of(sample)[0], spot(k))
    assert [(c.value, c.name) for c in data.classes] == [(255, "foreground")]
    assert data.voxels == {s.id: {0: 132, 255: 12} for s in data.samples}


def test_three_dimensional_pairs(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> None:
    for k in range(2):
        volume(tmp_path / "imagesTr" / f"c{k}.nii.gz", noise(k, 4, 5, 6))
        volume(tmp_path / "labelsTr" / f"c{k}.nii.gz", (noise(k, 4, 5, 6) % 3).astype(np.uint8))
    data = open_dataset(tmp_path)
    assert (data.reader, [c.value for c in data.classes]) == ("image_masks", [1, 2])
    assert labels_of(data.samples[0]).shape == (1, 4, 5, 6)


def test_busi_masks_merge_and_classes_become_attributes(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    names = ("benign/benign (1)", "benign/benign (10)", "malignant/malignant (1)", "normal/normal (1)")
    for k, name in enumerate(names):
        picture(tmp_path / f"{name}.png", noise(k, 12, 12, 3))
        picture(tmp_path / f"{name}_mask.png", spot(k) if not name.startswith("normal") else spot(k, 0))
    picture(tmp_path / "benign" / "benign (1)_mask_1.png", spot(7))
    picture(tmp_path / "benign" / "benign (1)_mask_2.png", spot(8))
    data = open_dataset(tmp_path)
    assert [s.id for s in data.samples] == sorted(names)
    assert [s.attributes for s in data.samples] == [{"class": c} for c in ("benign", "benign", "malignant", "normal")]
    np.testing.assert_array_equal(labels_of(data.samples[0])[0], spot(0) | spot(7) | spot(8))
    np.testing.assert_array_equal(labels_of(data.samples[1])[0], spot(1))
    assert data.voxels["normal/normal (1)"] == {0: 144}


def drive(tmp_path: Path, picture: Callable[..., Path], noise: Any, parts: dict[str, range], observers: int = 1) -> None:
    for part, numbers in parts.items():
        for k in numbers:
            picture(tmp_path / part / "images" / f"{k:02d}_{part}.tif", noise(k, 12, 12, 3))
            picture(tmp_path / part / "mask" / f"{k:02d}_{part}_mask.gif", field())
            for who in range(1, observers + 1):
                ordinal = {1: "1st", 2: "2nd"}[who]
                picture(tmp_path / part / f"{ordinal}_manual" / f"{k:02d}_manual{who}.gif", spot(k + who - 1) & field())


def test_drive_has_a_truth_a_valid_part_and_splits(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    drive(tmp_path, picture, noise, {"training": range(21, 24), "test": range(1, 3)}, observers=2)
    data = open_dataset(tmp_path)
    assert {s.id: s.split for s in data.samples} == {
        "test/01_test": "test",
        "test/02_test": "test",
        "training/21_training": "train",
        "training/22_training": "train",
        "training/23_training": "train",
    }
    assert data.notes == (
        "2nd_manual/ is left out: 1st_manual/ is the truth",
        "mask/ marks the valid part of each image, 1st_manual/ is the truth",
    )
    assert data.found == "5 images with masks of 1 class, with the valid part of each"
    for sample in data.samples:
        number = int(sample.id[-11:].split("/")[-1][:2])
        np.testing.assert_array_equal(labels_of(sample)[0], spot(number) & field())
        assert sample.valid_mask is not None
        np.testing.assert_array_equal(sample.valid_mask().array[0], field())


def test_a_lone_training_folder_is_no_split(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    drive(tmp_path, picture, noise, {"training": range(21, 24)})
    assert {s.split for s in open_dataset(tmp_path).samples} == {None}
    assert [s.id for s in open_dataset(tmp_path / "training").samples] == ["21_training", "22_training", "23_training"]


def test_two_folders_of_labels_are_not_guessed_between(tmp_path: Path, build: Build, picture: Callable[..., Path]) -> None:
    build(["images/a.png"], ["masks/a.png"])
    picture(tmp_path / "labels" / "a.png", np.full((12, 12), 255))
    with pytest.raises(InputError, match=r"UNKNOWN_LAYOUT .*several folders of labels: labels, masks.*manifest\.csv"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("outer", [True, False])
def test_splits_above_or_below_the_folders(tmp_path: Path, build: Build, outer: bool) -> None:
    parts = ("train", "train", "val", "test")

    def names(role: str) -> list[str]:
        return [f"{p}/{role}/{k}.png" if outer else f"{role}/{p}/{k}.png" for k, p in enumerate(parts)]

    build(names("images"), names("masks"))
    data = open_dataset(tmp_path)
    assert {s.id: s.split for s in data.samples} == {f"{p}/{k}": p for k, p in enumerate(parts)}


def test_splits_above_a_suffix_layout(tmp_path: Path, build: Build) -> None:
    build(["train/a.png", "test/b.png"], ["train/a_mask.png", "test/b_mask.png"])
    data = open_dataset(tmp_path)
    assert {s.id: (s.split, s.attributes) for s in data.samples} == {"train/a": ("train", {}), "test/b": ("test", {})}


def test_a_test_part_without_masks_is_left_out_and_said(tmp_path: Path, build: Build) -> None:
    build(["train/images/a.png", "train/images/b.png", "test/images/c.png"], ["train/masks/a.png", "train/masks/b.png"])
    data = open_dataset(tmp_path)
    assert [(s.id, s.split) for s in data.samples] == [("train/a", None), ("train/b", None)]
    assert data.notes == ("1 images of a part without masks are left out",)


def test_cases_outside_the_splits_undo_them_and_that_is_said(tmp_path: Path, build: Build) -> None:
    names = ["train/images/a.png", "test/images/b.png", "more/images/c.png"]
    build(names, [n.replace("images", "masks") for n in names])
    data = open_dataset(tmp_path)
    assert {s.split for s in data.samples} == {None}
    assert data.notes == ("1 cases lie outside train/, val/ and test/: those are not taken as a split",)


def test_images_and_masks_without_partners_are_listed(tmp_path: Path, build: Build) -> None:
    names = [f"images/i{k:02d}.png" for k in range(14)]
    build(names, ["masks/i00.png", "masks/i01.png", "masks/other.png", "masks/._i02.png"])
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "UNPAIRED"
    listed = ", ".join(f"images/i{k:02d}" for k in range(2, 12))
    assert caught.value.found == f"12 images without a label ({listed}, ...) and 1 labels without an image (masks/other)"


def test_a_suffix_layout_lists_its_faults_too(tmp_path: Path, build: Build) -> None:
    build(["a.png", "b.png", "c.png"], ["a_mask.png", "b_mask.png", "d_mask.png"])
    with pytest.raises(InputError, match=r"UNPAIRED .*1 images without a label \(c\) and 1 labels without an image \(d_mask\)"):
        open_dataset(tmp_path)


def test_ambiguous_names_stay_unpaired(tmp_path: Path, build: Build) -> None:
    build(["images/img_1.png", "images/image_1.png"], ["masks/mask_1.png"])
    with pytest.raises(InputError, match=r"UNPAIRED .*2 images without a label"):
        open_dataset(tmp_path)


def test_lossy_masks_are_refused(tmp_path: Path, build: Build) -> None:
    build(["images/a.jpg"], ["masks/a.jpg"])
    with pytest.raises(InputError, match=r"LOSSY_MASK .*masks/a\.jpg"):
        open_dataset(tmp_path)


def test_what_does_not_match(tmp_path: Path, build: Build) -> None:
    assert image_masks.match(tmp_path).found is None
    build(["images/a.png", "images/b.png"], [])
    assert image_masks.match(tmp_path).found is None
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert image_masks.match(tmp_path).found is None
    build(["u/x.png", "u/y.png", "u/z.png", "u/w.png"], ["u/x_mask.png"])
    assert image_masks.match(tmp_path / "u").found is None


def test_many_pairs_are_found_quickly(tmp_path: Path) -> None:
    from hounsfield.data.dataset import ImageFile
    from hounsfield.data.layout import Case

    images = [Case(("images", f"c{k}"), ImageFile(tmp_path / f"{k}")) for k in range(5000)]
    masks = [Case(("masks", f"c{k}_x"), ImageFile(tmp_path / f"{k}")) for k in range(5000)]
    pairs, left = image_masks._pair(images, masks)
    assert left == []
    assert all(pairs["images", f"c{k}"][0].parts == ("masks", f"c{k}_x") for k in range(0, 5000, 99))
