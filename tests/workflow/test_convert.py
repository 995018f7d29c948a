"""The convert verb: a folder that appears when it is complete and the same dataset, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.data.writers import manifest
from hounsfield.io.formats import Choices
from hounsfield.workflow.convert import convert, differences
from hounsfield.workflow.inspect import inspect


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convert") / "scans"
    write_dataset(folder, "segmentation", n=4)
    return folder


def test_a_chain_of_layouts_ends_where_it_began(scans: Path, tmp_path: Path) -> None:
    first = convert(scans, "manifest", tmp_path / "one")
    second = convert(tmp_path / "one", "nnunet", tmp_path / "two")
    assert (first.reader, second.reader, second.cases) == ("nnunet", "manifest", 4)
    assert second.mapping == {}
    before, after = open_dataset(scans), open_dataset(tmp_path / "two")
    assert list(differences(before, after)) == []
    for one, other in zip(before.samples, after.samples, strict=True):
        np.testing.assert_array_equal(one.images[0]().array, other.images[0]().array)
        assert callable(one.target)
        assert callable(other.target)
        np.testing.assert_array_equal(one.target().array, other.target().array)
    third = convert(tmp_path / "two", "coco", tmp_path / "three")
    assert third.classes == {str(c.value): c.name for c in before.classes}
    fourth = convert(tmp_path / "three", "manifest", tmp_path / "four", copy=True)
    assert inspect(fourth.out).kind == "detection"
    assert json.loads(json.dumps(fourth.to_json()))["schema"] == 1


def test_nothing_is_left_of_what_fails(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "classes", "classification", n=4)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="BAD_OPTION --to coco: found classification labels"):
        convert(tmp_path / "classes", "coco", tmp_path / "new" / "out")
    assert sorted(tmp_path.iterdir()) == before

    def forgetful(dataset: Any, folder: Path, copy: bool, progress: Any) -> Any:
        made = real(dataset.only(dataset.samples[1:]), folder, copy, progress)
        return replace(made, dataset=dataset)

    real = manifest.write
    monkeypatch.setattr(manifest, "write", forgetful)
    with pytest.raises(InputError, match="found 3 cases in the place of 4, the first that differs 'patient-0000'"):
        convert(scans, "manifest", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_there_is_not_replaced(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        convert(scans, "manifest", tmp_path / "out")
    with pytest.raises(InputError, match=r"UNKNOWN_MEMBER .*did you mean 'manifest'"):
        convert(scans, "manifset", tmp_path / "new")


def test_every_difference_is_seen(scans: Path) -> None:
    data = open_dataset(scans)
    assert list(differences(data, data)) == []
    one = Sample("a", data.samples[0].images, 1, patient="P", split="val", attributes={"site": "A"})

    def seen(**change: Any) -> list[str]:
        return list(differences(data.only([one]), data.only([replace(one, **change)])))

    assert seen(patient="Q") == ["patient of case 'a' differs"]
    assert seen(split=None) == ["split of case 'a' differs"]
    assert seen(attributes={}) == ["attributes of case 'a' differs"]
    assert seen(known_classes=(1,)) == ["known_classes of case 'a' differs"]
    assert seen(valid_mask=data.samples[0].images[0]) == ["valid_mask of case 'a' differs"]
    boxes = Boxes(np.array([[0, 0, 1, 1.0]]), np.array([0]))
    moved = Boxes(np.array([[0, 0, 1, 1.001]]), np.array([0]))
    for target in (2, (1,), None, boxes, data.samples[0].target):
        assert seen(target=target) == ["target of case 'a' differs"]
    boxed = data.only([replace(one, target=boxes)])
    assert list(differences(boxed, data.only([replace(one, target=moved)]))) == ["target of case 'a' differs"]
    assert seen(id="b") == ["1 cases in the place of 1, the first that differs 'a'"]
    for change in ({"classes": ()}, {"channels": ("x",)}, {"multilabel": True}, {"ignore_value": 3}, {"kind": None}):
        (found,) = differences(data, replace(data, **change))
        assert found.startswith(next(iter(change)))


def test_real_boxes_return(shared_data: Path, tmp_path: Path) -> None:
    choices = Choices(drop_invalid=True)
    source = open_dataset(shared_data / "bccd", choices=choices)
    for to in ("manifest", "coco"):
        convert(shared_data / "bccd", to, tmp_path / to, choices=choices)
        again = open_dataset(tmp_path / to)
        assert [len(s.target) for s in again.samples] == [len(s.target) for s in source.samples]  # type: ignore[arg-type]
    picture = next((tmp_path / "coco").rglob("BloodImage_00000.*"))
    assert picture.suffix == ".jpg", "pictures are linked as they are"


def test_real_fields_of_view_become_the_label_ignore(shared_data: Path, tmp_path: Path) -> None:
    convert(shared_data / "drive" / "training", "nnunet", tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert (len(again), again.ignore_value) == (20, 2)
