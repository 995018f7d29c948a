"""nnU-Net's raw format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.readers import open_dataset

Volume = Callable[..., Path]
Raw = Callable[..., Path]


@pytest.fixture
def raw(tmp_path: Path, volume: Volume, noise: Any) -> Raw:
    """raw(cases=3, channels=1, **changes): a raw nnU-Net folder of small volumes."""

    def build(cases: int = 3, channels: int = 1, **changes: Any) -> Path:
        for k in range(cases):
            for c in range(channels):
                volume(tmp_path / "imagesTr" / f"case_{k}_{c:04d}.nii.gz", noise(10 * k + c, 4, 5, 6))
            volume(tmp_path / "labelsTr" / f"case_{k}.nii.gz", noise(k, 4, 5, 6) % 3)
        values = {
            "channel_names": {str(c): f"M{c}" for c in range(channels)},
            "labels": {"background": 0, "one": 1, "two": 2},
            "numTraining": cases,
            "file_ending": ".nii.gz",
            **changes,
        }
        (tmp_path / "dataset.json").write_text(json.dumps(values))
        return tmp_path

    return build


def test_channels_are_files_in_order(raw: Raw, noise: Any) -> None:
    data = open_dataset(raw(channels=2, name="Prostate"))
    assert (data.reader, data.kind, data.channels) == ("nnunet", "segmentation", ("M0", "M1"))
    assert data.found == "3 cases of Prostate, 2 classes, 2 channels"
    assert [(c.value, c.name) for c in data.classes] == [(1, "one"), (2, "two")]
    sample = data.samples[2]
    assert sample.id == "case_2"
    for c, image in enumerate(sample.images):
        np.testing.assert_array_equal(image().array[0], noise(20 + c, 4, 5, 6))
    assert {s.split for s in data.samples} == {None}


def test_the_ignored_label_is_no_class(raw: Raw) -> None:
    data = open_dataset(raw(labels={"background": 0, "one": 1, "ignore": 2}))
    assert [c.name for c in data.classes] == ["one"]
    assert data.ignore_value == 2


def test_labelled_test_images_are_the_test_part(raw: Raw, volume: Volume, noise: Any) -> None:
    root = raw()
    volume(root / "imagesTs" / "t_0000.nii.gz", noise(50, 4, 5, 6))
    assert open_dataset(root).notes == ("1 test images have no labels and are left out",)
    volume(root / "labelsTs" / "t.nii.gz", noise(50, 4, 5, 6) % 3)
    data = open_dataset(root)
    assert data.notes == ()
    assert {s.id: s.split for s in data.samples} == {"case_0": "train", "case_1": "train", "case_2": "train", "t": "test"}
    volume(root / "imagesTs" / "case_0_0000.nii.gz", noise(51, 4, 5, 6))
    volume(root / "labelsTs" / "case_0.nii.gz", noise(51, 4, 5, 6) % 3)
    with pytest.raises(InputError, match=r"BAD_MANIFEST .*case_0 in imagesTr and imagesTs"):
        open_dataset(root)


def test_colours_in_one_file(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> None:
    picture(tmp_path / "imagesTr" / "a_0000.png", noise(0, 8, 8, 3))
    picture(tmp_path / "labelsTr" / "a.png", noise(0, 8, 8) % 2)
    values = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(values))
    data = open_dataset(tmp_path)
    assert data.channels == ("R", "G", "B")
    assert data.samples[0].images[0]().array.shape == (3, 8, 8)


def test_an_explicit_list_of_files(raw: Raw, noise: Any) -> None:
    entry = {"images": ["imagesTr/case_1_0000.nii.gz"], "label": "labelsTr/case_1.nii.gz"}
    root = raw(dataset={"only": entry})
    (only,) = open_dataset(root).samples
    assert only.id == "only"
    np.testing.assert_array_equal(only.images[0]().array[0], noise(10, 4, 5, 6))
    raw(dataset={"a": entry, "b": {**entry, "label": "labelsTr/none.nii.gz"}, "c": {**entry, "images": ["none.nii.gz"]}})
    with pytest.raises(InputError, match=r"UNPAIRED .*images without a label \(b\) and 1 labels without an image \(c\)"):
        open_dataset(root)


def test_files_without_partner_or_channel(raw: Raw) -> None:
    root = raw(channels=2)
    (root / "imagesTr" / "case_1_0001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"CHANNELS .*1 cases .*case_1 has 1, expected 2 files \(M0, M1\) for each case"):
        open_dataset(root)
    (root / "imagesTr" / "case_1_0000.nii.gz").unlink()
    (root / "labelsTr" / "case_2.nii.gz").unlink()
    (root / "imagesTr" / "._case_0_0000.nii.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"UNPAIRED .*without a label \(case_2\) and 1 labels without an image \(case_1\)"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "BAD_LABEL .*regions of several values: whole"),
        ({"labels": {"background": 0, "one": "1"}}, "BAD_MANIFEST .*label 'one' = '1'"),
        ({"labels": {}}, r"BAD_MANIFEST .*'labels' = \{\}"),
        ({"file_ending": 3}, "BAD_MANIFEST .*'file_ending' = 3.*a text"),
        ({"channel_names": {"T2": 0}}, "BAD_MANIFEST .*no number"),
        ({"dataset": {"a": {"images": "x"}}}, r"BAD_MANIFEST .*dataset\['a'\]"),
        ({"dataset": {"a": {"images": ["../x.nii.gz"], "label": "y"}}}, r"BAD_MANIFEST .*the path '\.\./x\.nii\.gz'"),
        ({"file_ending": ".mha"}, r"EMPTY_FOLDER .*no \*_0000\.mha"),
    ],
)
def test_faulty_descriptions(raw: Raw, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_dataset(raw(**changes))


def test_single_values_in_lists_are_plain_labels(raw: Raw) -> None:
    data = open_dataset(raw(labels={"background": [0], "one": [1], "two": 2}))
    assert [(c.value, c.name) for c in data.classes] == [(1, "one"), (2, "two")]
