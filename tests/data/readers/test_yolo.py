"""YOLO: shares of the image become pixels, classes are named by YAML or text, and nothing in a file runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.data.readers import open_dataset, yolo
from hounsfield.io.formats import DEFAULT, Choices

YAML = "train: images/train\nval: images/val\nnames: [mass, nodule]\n"


def write(folder: Path, texts: dict[str, str | None], yaml: str | None = YAML, name: str = "data.yaml") -> Path:
    """Pictures of 20 x 40 (height, width) by the paths of their text files below images/; None: without a text file."""
    for place, text in texts.items():
        picture = folder / "images" / f"{place}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 40), np.uint8)).save(picture)
        if text is not None:
            file = folder / "labels" / f"{place}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    if yaml is not None:
        (folder / name).write_text(yaml)
    return folder


def boxes(folder: Path) -> dict[str, list[tuple[int, list[float]]]]:
    found = {}
    for sample in open_dataset(folder).samples:
        assert isinstance(sample.target, Boxes)
        found[sample.id] = list(zip(sample.target.labels.tolist(), sample.target.corners.tolist(), strict=True))
    return found


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        yolo.read(path, DEFAULT)
    assert caught.value.code == code
    return str(caught.value)


def test_shares_become_rows_and_columns(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "1 0.5 0.5 0.25 0.5\n0 0.125 0.1 0.25 0.2\n", "train/b": "", "val/c": None})
    data = open_dataset(tmp_path)
    assert (data.reader, data.kind, data.found) == ("yolo", "detection", "3 images with 2 boxes of 2 classes")
    assert [(c.value, c.name) for c in data.classes] == [(0, "mass"), (1, "nodule")]
    assert {s.id: s.split for s in data.samples} == {
        "images/train/a": "train",
        "images/train/b": "train",
        "images/val/c": "val",
    }
    assert data.notes == ("1 images without a text file count as images without boxes",)
    assert boxes(tmp_path) == {
        "images/train/a": [(1, [5, 15, 15, 25]), (0, [0, 0, 4, 10])],
        "images/train/b": [],
        "images/val/c": [],
    }
    assert [s.id for s in open_dataset(tmp_path / "data.yaml").samples] == [s.id for s in data.samples]


@given(
    x=st.integers(0, 39), y=st.integers(0, 19), w=st.integers(1, 40), h=st.integers(1, 20), digits=st.sampled_from([5, 6, 17])
)
def test_written_with_few_digits_a_box_is_read_within_a_hundredth(
    tmp_path_factory: pytest.TempPathFactory, x: int, y: int, w: int, h: int, digits: int
) -> None:
    w, h = min(w, 40 - x), min(h, 20 - y)
    shares = ((x + w / 2) / 40, (y + h / 2) / 20, w / 40, h / 20)
    row = "0 " + " ".join(f"{share:.{digits}f}" for share in shares)
    ((_, corners),) = boxes(write(tmp_path_factory.mktemp("yolo"), {"train/a": row, "val/b": ""}))["images/train/a"]
    np.testing.assert_allclose(corners, [y, x, y + h, x + w], atol=0.01)


def test_decimals_that_were_cut_off_are_no_cut_box(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "0 0.333333 0.5 0.666668 1.0\n", "val/b": ""})
    assert open_dataset(tmp_path).notes == ()
    write(tmp_path, {"train/a": "0 0.9 0.5 0.4 1.0\n"})
    assert open_dataset(tmp_path).notes == ("1 boxes were cut at the border of their image (images/train/a)",)


def test_what_is_no_box_is_refused_or_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "0 0.5 0.5 0 0.5\n0 0.5 0.5 0.5 0.5\n", "val/b": ""})
    assert "found 1 boxes without extent (images/train/a)" in refused("BAD_LABEL", tmp_path)
    data = open_dataset(tmp_path, choices=Choices(drop_invalid=True))
    assert data.notes == ("1 boxes without extent were left out (images/train/a)",)


def test_names_by_number_may_have_gaps(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"train/a": "7 0.5 0.5 0.1 0.1", "val/b": "2 0.5 0.5 0.1 0.1"},
        YAML.replace("[mass, nodule]", "{7: cyst, 2: stone}"),
    )
    data = open_dataset(tmp_path)
    assert [(c.value, c.name) for c in data.classes] == [(2, "stone"), (7, "cyst")]
    assert {k: [label for label, _ in v] for k, v in boxes(tmp_path).items()} == {"images/train/a": [1], "images/val/b": [0]}


def test_an_outline_counts_as_the_box_round_it(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "0 0.1 0.2 0.5 0.1 0.3 0.9\n", "val/b": ""})
    ((_, corners),) = boxes(tmp_path)["images/train/a"]
    np.testing.assert_allclose(corners, [2, 4, 18, 20])
    assert open_dataset(tmp_path).notes == ("1 outlines count as the boxes round them",)


def test_without_yaml_the_names_stand_in_a_text_file(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "1 0.5 0.5 0.25 0.5", "val/b": ""}, yaml=None)
    (tmp_path / "classes.txt").write_text("mass\nnodule\n")
    data = open_dataset(tmp_path)
    assert [c.name for c in data.classes] == ["mass", "nodule"]
    assert [s.split for s in data.samples] == ["train", "val"]


def test_boxes_beside_their_images(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 40), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.25 0.5")
    (tmp_path / "classes.txt").write_text("mass\n")
    assert boxes(tmp_path) == {"a": [(0, [5, 15, 15, 25])]}


@pytest.mark.parametrize(
    "text",
    [
        "path: {root}\ntrain: images/train\nval: images/val\nnames: [mass]\n",
        "path: elsewhere/set\ntrain: images/train\nval: [images/val]\nnames: [mass]\n",
        "train: ../images/train\nval: ../images/val\ntest:\nnc: 1\nnames: [mass]\n",
        "train: train.txt\nval: images/val\nnames: {0: mass}\n",
    ],
)
def test_parts_as_exports_name_them(tmp_path: Path, text: str) -> None:
    folder = write(
        tmp_path / "set", {"train/a": "0 0.5 0.5 0.1 0.1", "val/b": ""}, text.replace("{root}", str(tmp_path / "set"))
    )
    (folder / "train.txt").write_text("./images/train/a.png\n")
    assert {s.id: s.split for s in open_dataset(folder).samples} == {"images/train/a": "train", "images/val/b": "val"}


def test_images_in_two_parts_are_no_split(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "0 0.5 0.5 0.1 0.1"}, "train: images/train\nval: images/train\nnames: [mass]\n")
    data = open_dataset(tmp_path)
    assert [s.split for s in data.samples] == [None]
    assert data.notes == ("1 images stand in several parts: those are not taken as a split",)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2 in line 1, expected one of the 2 classes that have a name"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 in line 1"),
        ("nan 0.5 0.5 0.1 0.1", "class nan in line 1"),
        ("0 0.5 0.5 0.1", "4 numbers in line 1"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 numbers in line 1"),
        ("0 12 5 10 5", "0 12 5 10 5 in line 1, expected shares of the image"),
        ("0 0.5 nan 0.1 0.1", "expected shares of the image"),
        ("0 0.5 1.01 0.1 0.1", "expected shares of the image"),
        ("0 -0.1 0.5 0.1 0.1", "expected shares of the image"),
        ("\nmass 0.5 0.5 0.1 0.1", "in line 2, expected class, x, y, width and height as numbers"),
    ],
)
def test_rows_that_are_no_box(tmp_path: Path, row: str, told: str) -> None:
    assert told in refused("BAD_LABEL", write(tmp_path, {"train/a": row, "val/b": "0 0.5 0.5 0.1 0.1"}))


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("train: images/train\nnames: mass\n", "names = 'mass'"),
        ("train: images/train\nnames: [[mass]]\n", "names = a dict of other things"),
        ("train: images/train\nnames: {a: mass}\n", "expected a list of names"),
        ("train: images/train\nnc: 3\nnames: [mass]\n", "nc = 3 and 1 names"),
        ("train: images/held\nnames: [mass]\n", "train: 'images/held', which is not there"),
        ("train: {a: b}\nnames: [mass]\n", "train = a dict of other things"),
        ("train: images/train\nnames: [mass\n", "no YAML"),
        ("train: images/train\nnames: [\x07]\n", "no YAML"),
    ],
)
def test_descriptions_that_are_faulty(tmp_path: Path, yaml: str, told: str) -> None:
    assert told in refused("BAD_MANIFEST", write(tmp_path, {"train/a": "0 0.5 0.5 0.1 0.1"}, yaml))


def test_yaml_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    write(tmp_path, {"train/a": ""}, YAML + f'x: !!python/object/apply:os.system ["touch {proof}"]\n')
    for path in (tmp_path, tmp_path / "data.yaml"):
        assert "os.system" in refused("UNSAFE_FILE", path)
        with pytest.raises(InputError, match="UNSAFE_FILE"):
            open_dataset(path)
    assert not proof.exists()


def test_yaml_that_stands_for_more_than_the_memory_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]
    for key in ("names: *a11\ntrain: x", "names: [mass]\nnc: *a11\ntrain: x", "names: [mass]\ntrain: *a11"):
        write(tmp_path, {"train/a": ""}, "\n".join([*lines, key, ""]))
        refused("BAD_MANIFEST", tmp_path)


def test_what_has_no_partner(tmp_path: Path) -> None:
    write(tmp_path, {"train/a": "0 0.5 0.5 0.1 0.1", "train/b": "0 0.5 0.5 0.1 0.1", "val/c": ""})
    (tmp_path / "images" / "train" / "b.png").unlink()
    assert "1 text files of boxes without an image, the first labels/train/b.txt" in refused("UNPAIRED", tmp_path)


def test_no_box_at_all(tmp_path: Path) -> None:
    assert "no box" in refused("BAD_LABEL", write(tmp_path, {"train/a": "", "val/b": None}))


def test_what_lies_outside_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "other", {"train/a": "0 0.5 0.5 0.1 0.1"}, None)
    write(tmp_path / "set", {"train/a": ""}, f"train: {tmp_path / 'other' / 'images'}\nnames: [mass]\n")
    assert "which is not there" in refused("BAD_MANIFEST", tmp_path / "set")
