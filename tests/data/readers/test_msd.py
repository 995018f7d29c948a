"""The Decathlon's dataset.json: what it lists, what lies there, and what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import Choices

Volume = Callable[..., Path]
Task = Callable[..., Path]


@pytest.fixture
def task(tmp_path: Path, volume: Volume, noise: Any) -> Task:
    """task(cases=3, modalities=1, **changes): a Decathlon folder of small volumes."""

    def build(cases: int = 3, modalities: int = 1, **changes: Any) -> Path:
        names = [f"case_{k}" for k in range(cases)]
        shape = (4, 5, 6) if modalities == 1 else (modalities, 4, 5, 6)
        for k, name in enumerate(names):
            volume(tmp_path / "imagesTr" / f"{name}.nii.gz", noise(k, *shape))
            volume(tmp_path / "labelsTr" / f"{name}.nii.gz", noise(k, 4, 5, 6) % 3)
        values = {
            "name": "Spleen",
            "modality": {str(k): f"M{k}" for k in range(modalities)},
            "labels": {"0": "background", "1": "one", "2": "two"},
            "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
            "test": [],
            **changes,
        }
        (tmp_path / "dataset.json").write_text(json.dumps(values))
        return tmp_path

    return build


def test_cases_classes_and_channels(task: Task, noise: Any) -> None:
    data = open_dataset(task())
    assert (data.reader, data.kind, data.channels) == ("msd", "segmentation", ("M0",))
    assert data.found == "3 cases of Spleen, 2 classes"
    assert [(c.value, c.name) for c in data.classes] == [(1, "one"), (2, "two")]
    assert [s.id for s in data.samples] == ["case_0", "case_1", "case_2"]
    np.testing.assert_array_equal(data.samples[1].images[0]().array[0], noise(1, 4, 5, 6))
    assert open_dataset(data.root / "dataset.json").samples == data.samples


def test_modalities_are_the_volumes_of_one_file(task: Task, noise: Any) -> None:
    sample = open_dataset(task(modalities=2)).samples[0]
    assert len(sample.images) == 2
    for k, image in enumerate(sample.images):
        np.testing.assert_array_equal(image().array[0], noise(0, 2, 4, 5, 6)[k])
    assert sample.images[0].key != sample.images[1].key


def test_the_volume_of_a_channel_goes_before_the_users(task: Task, noise: Any) -> None:
    sample = open_dataset(task(modalities=2), choices=Choices(volume=1, affine="sform")).samples[0]
    for k, image in enumerate(sample.images):
        np.testing.assert_array_equal(image().array[0], noise(0, 2, 4, 5, 6)[k])
        assert Choices(volume=k, affine="sform").model_dump_json(exclude_defaults=True) in image.key


def test_what_is_left_out_is_said(task: Task, volume: Volume, noise: Any) -> None:
    root = task(test=["./imagesTs/t.nii.gz"])
    for folder in ("imagesTr", "labelsTr"):
        volume(root / folder / "unlisted.nii.gz", noise(9, 4, 5, 6) % 2)
        (root / folder / "._case_0.nii.gz").write_bytes(b"\0\5\x16\7 a Mac's resource fork")
    data = open_dataset(root)
    assert len(data) == 3
    assert data.notes == (
        "1 cases that dataset.json does not list are left out",
        "1 test images have no labels and are left out",
    )


def test_images_and_labels_without_partners_are_listed(task: Task, volume: Volume, noise: Any) -> None:
    root = task(cases=4)
    (root / "labelsTr" / "case_1.nii.gz").unlink()
    (root / "imagesTr" / "case_2.nii.gz").unlink()
    volume(root / "labelsTr" / "stray.nii.gz", noise(0, 4, 5, 6))
    expected = r"1 images without a label \(case_1\) and 2 labels without an image \(case_2, stray\)"
    with pytest.raises(InputError, match=f"UNPAIRED .*{expected}"):
        open_dataset(root)


def test_listed_cases_of_which_nothing_is_there(task: Task) -> None:
    root = task()
    shutil.rmtree(root / "imagesTr")
    shutil.rmtree(root / "labelsTr")
    (root / "x.txt").write_text("")
    with pytest.raises(InputError, match=r"BAD_MANIFEST .*3 listed cases that are not there \(case_0, case_1, case_2\)"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": []}, r"'training' = \[\], expected 'training': a list"),
        ({"training": "x"}, "'training' = .*a list"),
        ({"training": [{"image": "a"}]}, r"training\[0\] = .*'image': 'a'"),
        ({"training": [{"image": "../../a.nii", "label": "b"}]}, r"the path '../../a\.nii', expected a path below"),
        ({"training": [{"image": "imagesTr/a.nii", "label": "b"}] * 2}, "a listed twice"),
        ({"labels": {"one": 1}}, "a key that is no number"),
        ({"labels": [1]}, r"'labels' = \[1\], expected 'labels': an object"),
        ({"modality": None}, "'modality' = null"),
    ],
)
def test_faulty_descriptions_name_the_key(task: Task, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"BAD_MANIFEST .*dataset\.json: found .*{message}"):
        open_dataset(task(**changes))


@pytest.mark.parametrize("text", ["{", "[]", "\x00", "[" * 100000])
def test_broken_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"BAD_MANIFEST .*dataset\.json: found broken JSON"):
        open_dataset(tmp_path)


def test_real_labels_are_what_the_description_says(shared_data: Path) -> None:
    data = open_dataset(shared_data / "hippocampus")
    target = data.samples[0].target
    assert callable(target)
    assert set(np.unique(target().array)) == {0, 1, 2}
    assert data.patients is None
