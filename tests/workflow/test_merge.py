"""The merge as a user runs it: phantoms of several sources become one dataset that trains, or the reason why not."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.data.phantoms import ORGANS, grey, phantom, write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.io import write
from hounsfield.workflow.merge import merge
from hounsfield.workflow.ready import Options
from hounsfield.workflow.train import train

MAPPING = """
classes:
  lesion: {code: [SCT, "52988006", Lesion]}
  liver:
sources:
  north: {labels: {liver: liver, lesion: lesion, spleen: null, kidney: null, bone: null, vessel: null}}
  south: {labels: {lesion: lesion}}
"""


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """Masks of everything, and masks of lesions alone."""
    write_dataset(tmp_path / "north", "segmentation", n=4, seed=3)
    write_dataset(tmp_path / "south", "detection", n=4, seed=50)
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return [tmp_path / "north", tmp_path / "south"]


def test_two_sets_become_one_that_trains(sources: list[Path], tmp_path: Path) -> None:
    made = merge(sources, tmp_path / "mapping.yaml", tmp_path / "merged")
    assert (made.cases, made.classes, made.splits, made.shared) == (8, {"lesion": 1, "liver": 2}, "none", ())
    assert made.sources["south"].known == ("lesion",)
    assert made.sources["north"].labels["spleen"] is None
    assert json.loads((tmp_path / "merged" / "merge.json").read_text()) == made.to_json()
    data = open_dataset(tmp_path / "merged")
    assert [(c.value, c.name, c.code) for c in data.classes] == [
        (1, "lesion", ("SCT", "52988006", "Lesion")),
        (2, "liver", None),
    ]
    known = {s.id: (s.known_classes, s.attributes["site"]) for s in data.samples}
    assert set(known.values()) == {(None, "north"), ((0,), "south")}
    # Every voxel of the new masks is that of the old ones, in the new values.
    for sample in data.samples:
        site, case = sample.id.split("/", 1)
        (own,) = (s for s in open_dataset(tmp_path / site).samples if s.id == case)
        assert callable(sample.target)
        assert callable(own.target)
        names = {c.value: c.name for c in open_dataset(tmp_path / site).classes}
        expected = np.vectorize(lambda v, names=names: {"lesion": 1, "liver": 2}.get(names.get(v, ""), 0))(own.target().array)
        np.testing.assert_array_equal(sample.target().array, expected)
    run = train(tmp_path / "merged", tmp_path / "run", Options(budget="2steps", device="cpu"))
    options = json.loads((run.root / "plan.json").read_text())["task_options"]
    assert options["unknown"] == [[1]]
    rows = json.loads((run.root / "evaluation" / "val.json").read_text())["cases"]
    assert all((row["dice_liver"] is None) == row["id"].startswith("south/") for row in rows)


def test_one_image_in_two_sources_is_found(sources: list[Path], tmp_path: Path) -> None:
    image = sorted((sources[0] / "imagesTr").iterdir())[0]
    theirs = sorted((sources[1] / "imagesTr").iterdir())[0]
    shutil.copy(image, theirs)
    made = merge(sources, tmp_path / "mapping.yaml", tmp_path / "merged", copy=True)
    (shared,) = made.shared
    assert shared.correlation == 1
    assert [case.split("/")[0] for case in shared.cases] == ["north", "south"]
    with (tmp_path / "merged" / "manifest.csv").open() as file:
        assert all(row["image"].startswith("images/") for row in csv.DictReader(file))
    with pytest.raises(InputError, match="DUPLICATE_IMAGE"):
        merge(sources, tmp_path / "mapping.yaml", tmp_path / "again", strict=True)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("south:", "sout:", "BAD_MAPPING", "did you mean 'sout'"),
        ("spleen: null, ", "", "BAD_MAPPING", r"no entry for spleen \(2\)"),
        ("{lesion: lesion}", "{lesions: lesion}", "BAD_MAPPING", "no entry for lesion"),
        ("liver:\n", "liver: !!python/name:os.getcwd\n", "UNSAFE_FILE", "os.getcwd"),
    ],
)
def test_a_mapping_that_cannot_be_meant_leaves_nothing(
    old: str, new: str, code: str, message: str, sources: list[Path], tmp_path: Path
) -> None:
    assert old in MAPPING
    (tmp_path / "mapping.yaml").write_text(MAPPING.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        merge(sources, tmp_path / "mapping.yaml", tmp_path / "merged")
    assert caught.value.code == code
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mapping.yaml", "north", "south"]


def test_what_cannot_be_merged_is_said_before_anything_is_written(sources: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        merge(sources, tmp_path / "mapping.yaml", sources[0])
    twice = tmp_path / "more" / "north"
    shutil.copytree(sources[0], twice)
    with pytest.raises(InputError, match="a second dataset called north"):
        merge([*sources, twice], tmp_path / "mapping.yaml", tmp_path / "merged")
    shutil.rmtree(sources[1])
    write_dataset(sources[1], "segmentation", ndim=3, n=4)
    whole = MAPPING.replace(
        "{lesion: lesion}", "{liver: liver, lesion: lesion, spleen: null, kidney: null, bone: null, vessel: null}"
    )
    (tmp_path / "mapping.yaml").write_text(whole)
    with pytest.raises(InputError, match="north: 2D, south: 3D") as caught:
        merge(sources, tmp_path / "mapping.yaml", tmp_path / "merged")
    assert caught.value.code == "WRONG_DIMENSION"
    assert not (tmp_path / "merged").exists()


DRAWN = """
classes: [lesion, liver]
sources:
  north: {labels: {lesion: lesion, liver: liver}}
  south: {labels: {lesion: lesion}}
"""


def drawn(folder: Path, classes: tuple[str, ...], seeds: Iterable[int]) -> None:
    """Phantoms with lesions as Pascal VOC holds them, with a box around every part of these classes."""
    folder.mkdir()
    for seed in seeds:
        case = phantom(seed, lesion=True)
        write(grey(case.image), folder / f"{seed}.png")
        items = ""
        for name in classes:
            (value,) = (c.value for c in ORGANS if c.name == name)
            for y, x, bottom, right in Boxes.around(case.organs.array[0], (value,)).corners.astype(int).tolist():
                if min(bottom - y, right - x) < 2:  # equal corners are taken for a slip
                    continue
                corners = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
                items += f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"
        size = "<size><width>96</width><height>96</height></size>"
        (folder / f"{seed}.xml").write_text(f"<annotation><filename>{seed}.png</filename>{size}{items}</annotation>")


def test_boxes_of_a_source_that_never_drew_a_class_teach_nothing_of_it(tmp_path: Path) -> None:
    drawn(tmp_path / "north", ("lesion", "liver"), range(5))
    drawn(tmp_path / "south", ("lesion",), range(4, 9))  # phantom 4 stands in both
    (tmp_path / "mapping.yaml").write_text(DRAWN)
    made = merge([tmp_path / "north", tmp_path / "south"], tmp_path / "mapping.yaml", tmp_path / "merged")
    assert (made.kind, made.cases, made.classes) == ("detection", 10, {"lesion": 1, "liver": 2})
    assert made.sources["south"].known == ("lesion",)
    assert [(s.cases, s.correlation, s.same_label) for s in made.shared] == [(("north/4", "south/4"), 1.0, True)]
    data = open_dataset(tmp_path / "merged")
    sources = {site: open_dataset(tmp_path / site) for site in ("north", "south")}
    assert [c.name for c in data.classes] == ["lesion", "liver"]
    for sample in data.samples:
        site, case = sample.id.split("/")
        (own,) = (s for s in sources[site].samples if s.id == case)
        assert isinstance(sample.target, Boxes)
        assert isinstance(own.target, Boxes)
        assert len(own.target)
        np.testing.assert_array_equal(sample.target.corners, own.target.corners)
        names = [sources[site].classes[k].name for k in own.target.labels]
        assert [data.classes[k].name for k in sample.target.labels] == names
        assert sample.known_classes == (None if site == "north" else (0,))
    small = {"model_options.width": 16, "inference.mirror": False}
    run = train(tmp_path / "merged", tmp_path / "run", Options(budget="2steps", device="cpu", changes=small))
    figures = json.loads((run.root / "evaluation" / "val.json").read_text())
    rows = {row["id"]: row["known_liver"] for row in figures["cases"]}
    assert rows
    assert all(known == float(name.startswith("north/")) for name, known in rows.items())
