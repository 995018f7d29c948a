"""MedMNIST arrays: shapes, labels, splits, and damaged files."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.readers import medmnist
from hounsfield.io.arrays import Stored
from hounsfield.io.formats import DEFAULT

Array = npt.NDArray[Any]


def save(path: Path, images: tuple[int, ...], labels: dict[str, Array], **extra: Array) -> dict[str, Array]:
    draw = np.random.default_rng(0)
    arrays = {}
    for part, own in labels.items():
        arrays[f"{part}_images"] = draw.integers(0, 256, (len(own), *images), dtype=np.uint8)
        arrays[f"{part}_labels"] = own
    np.savez_compressed(path, **arrays, **extra)  # type: ignore[arg-type]
    return arrays


LABELS = {"train": np.array([0, 1, 2, 1]), "val": np.array([2]), "test": np.array([0, 1])}


@pytest.mark.parametrize("column", [False, True])
def test_parts_ids_and_labels_of_both_shapes(tmp_path: Path, column: bool) -> None:
    labels = {p: v[:, None] if column else v for p, v in LABELS.items()}
    arrays = save(tmp_path / "x.npz", (8, 8), labels)
    for path in (tmp_path, tmp_path / "x.npz"):
        data = medmnist.read(path, DEFAULT)
        assert [s.id for s in data.samples] == [
            "test/0000",
            "test/0001",
            "train/0000",
            "train/0001",
            "train/0002",
            "train/0003",
            "val/0000",
        ]
        assert [s.split for s in data.samples] == ["test"] * 2 + ["train"] * 4 + ["val"]
        assert [s.target for s in data.samples] == [0, 1, 0, 1, 2, 1, 2]
        assert [(c.value, c.name) for c in data.classes] == [(0, "0"), (1, "1"), (2, "2")]
        assert (data.kind, data.multilabel, data.channels, data.root) == ("classification", False, ("intensity",), path)
        np.testing.assert_array_equal(data.samples[4].images[0]().array, arrays["train_images"][2][None])


@pytest.mark.parametrize(
    ("shape", "expected", "channels"),
    [
        ((8, 9), (1, 8, 9), 1),
        ((8, 9, 1), (1, 8, 9), 1),
        ((8, 9, 3), (3, 8, 9), 3),
        ((5, 8, 9), (1, 5, 8, 9), 1),
        ((5, 8, 9, 3), (3, 5, 8, 9), 3),
    ],
)
def test_every_shape_becomes_channels_first(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...], channels: int
) -> None:
    arrays = save(tmp_path / "x.npz", shape, LABELS)
    data = medmnist.read(tmp_path, DEFAULT)
    image = next(s for s in data.samples if s.id == "train/0003").images[0]()
    assert image.array.shape == expected
    assert image.geometry.space == "none"
    stored = arrays["train_images"][3].reshape(*expected[1:], channels)
    for k in range(channels):
        np.testing.assert_array_equal(image.array[k], stored[..., k])
    assert len(data.channels) == channels


def test_several_columns_are_labels_that_may_hold_together(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", (8, 8), {"train": np.array([[1, 0, 1], [0, 0, 0]]), "test": np.array([[0, 1, 0]])})
    data = medmnist.read(tmp_path, DEFAULT)
    assert data.multilabel
    assert {s.id: s.target for s in data.samples} == {"train/0000": (0, 2), "train/0001": (), "test/0000": (1,)}
    assert [c.name for c in data.classes] == ["0", "1", "2"]


def test_names_from_the_file_beside(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", (8, 8), LABELS)
    sidecar = tmp_path / "x.json"
    sidecar.write_text(json.dumps({"label": {"0": "normal", "2": "benign"}}))
    assert [c.name for c in medmnist.read(tmp_path, DEFAULT).classes] == ["normal", "1", "benign"]
    for faulty in ("{", "[]", '{"label": 3}'):
        sidecar.write_text(faulty)
        with pytest.raises(InputError, match=r"BAD_MANIFEST .*x\.json"):
            medmnist.read(tmp_path, DEFAULT)


def test_an_array_is_decompressed_once_and_anew_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x.npz", (8, 8), LABELS)
    loads: list[str] = []
    load = Stored.load

    def counted(self: Stored) -> Array:
        loads.append(self.member.filename if self.member else "")
        return load(self)

    monkeypatch.setattr(Stored, "load", counted)
    data = medmnist.read(tmp_path, DEFAULT)
    for sample in data.samples:
        assert sample.images[0]().array.shape == (1, 8, 8)
    assert loads.count("train_images.npy") == 1
    key = data.samples[0].images[0].key
    save(tmp_path / "x.npz", (9, 9), LABELS)
    again = medmnist.read(tmp_path, DEFAULT)
    assert again.samples[0].images[0]().array.shape == (1, 9, 9)
    assert again.samples[0].images[0].key != key
    assert len({s.images[0].key for s in again.samples}) == len(again)


def test_writing_into_an_image_changes_no_other_reading(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", (8, 8, 3), LABELS)
    image = medmnist.read(tmp_path, DEFAULT).samples[0].images[0]()
    before = image.array.copy()
    with suppress(ValueError):  # read-only is as good
        image.array[:] = 0
    np.testing.assert_array_equal(medmnist.read(tmp_path, DEFAULT).samples[0].images[0]().array, before)


def test_what_does_not_match(tmp_path: Path) -> None:
    assert medmnist.match(tmp_path).missed == "single .npz file"
    save(tmp_path / "x.npz", (8, 8), {"val": LABELS["val"]})
    assert medmnist.match(tmp_path).missed == "train_images and train_labels in x.npz"
    save(tmp_path / "y.npz", (8, 8), LABELS)
    assert medmnist.match(tmp_path).found is None
    assert medmnist.match(tmp_path / "y.npz").priority == 30


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((8, 8), np.array([0.5, 1, 0, 0]), r"BAD_LABEL .*train_labels of shape \(4,\) with the values \[0\.0, 0\.5, 1\.0\]"),
        ((8, 8), np.array([[0, 2]] * 4), r"BAD_LABEL .*train_labels of shape \(4, 2\) with the values \[0, 2\]"),
        ((8,), np.array([0, 1, 0, 1]), r"WRONG_DIMENSION .*train_images of shape \(4, 8\)"),
    ],
)
def test_labels_and_shapes_that_cannot_be(tmp_path: Path, images: tuple[int, ...], labels: Array, message: str) -> None:
    save(tmp_path / "x.npz", images, {"train": labels})
    with pytest.raises(InputError, match=message):
        medmnist.read(tmp_path, DEFAULT)


def test_counts_that_differ_and_missing_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=np.zeros((4, 8, 8), np.uint8), train_labels=np.zeros(3, np.uint8))
    with pytest.raises(InputError, match=r"UNPAIRED .*4 images and 3 labels in train"):
        medmnist.read(tmp_path, DEFAULT)
    save(tmp_path / "x.npz", (8, 8), {"train": LABELS["train"]}, val_images=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(InputError, match=r"UNPAIRED .*2 images and 0 labels in val"):
        medmnist.read(tmp_path, DEFAULT)


def test_damaged_files(tmp_path: Path) -> None:
    save(tmp_path / "x.npz", (64, 64), LABELS)
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"TRUNCATED .*x\.npz"):
        medmnist.read(tmp_path, DEFAULT)
    np.savez(tmp_path / "x.npz", train_images=np.array([object()]), train_labels=np.array([0]))
    with pytest.raises(InputError, match=r"UNSAFE_FILE .*x\.npz.*pickled objects"):
        medmnist.read(tmp_path, DEFAULT)
