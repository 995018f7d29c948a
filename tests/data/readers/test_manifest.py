"""Manifests in CSV, TSV and JSONL: targets, attributes, and errors that name row and column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.readers import open_dataset

Table = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path], noise: Any) -> Path:
    """a.png to d.png, and masks m0.png to m3.png of two values."""
    for k, name in enumerate("abcd"):
        picture(tmp_path / "in" / f"{name}.png", noise(k))
        picture(tmp_path / "in" / f"m{k}.png", np.where(noise(k) > 128, 10 * (1 + k % 2), 0))
    return tmp_path


@pytest.fixture(params=["csv", "tsv", "jsonl"])
def table(request: pytest.FixtureRequest, folder: Path) -> Table:
    """table(columns, rows): the same manifest in each format."""

    def write(columns: str, *rows: str) -> Path:
        cells = [[c.strip() for c in line.split(",")] for line in (columns, *rows)]
        kind = request.param
        path = folder / f"manifest.{kind}"
        if kind == "jsonl":
            path.write_text("".join(json.dumps(dict(zip(cells[0], row, strict=True))) + "\n" for row in cells[1:]))
        else:
            path.write_text("".join(("\t" if kind == "tsv" else ",").join(row) + "\n" for row in cells))
        return path

    return write


def test_names_patients_splits_and_attributes(table: Table, folder: Path) -> None:
    path = table(
        "image,target,patient,split,site,age",
        "in/a.png,ill,p1,train,A,30",
        "in/b.png,well,p1,train,A,",
        "in/c.png,ill,p2,validation,B,50",
        "in/d.png,well,,test,B,60",
    )
    for data in (open_dataset(folder), open_dataset(path)):
        assert (data.reader, data.kind, data.multilabel, data.channels) == ("manifest", "classification", False, ("intensity",))
        assert [(c.value, c.name) for c in data.classes] == [(0, "ill"), (1, "well")]
        assert [(s.id, s.target, s.patient, s.split) for s in data.samples] == [
            ("in/a", 0, "p1", "train"),
            ("in/b", 1, "p1", "train"),
            ("in/c", 0, "p2", "val"),
            ("in/d", 1, None, "test"),
        ]
        assert data.samples[0].attributes == {"site": "A", "age": "30"}
        assert data.samples[1].attributes == {"site": "A"}
        assert data.found == f"4 cases in {path.name}"


def test_numbers_are_class_values(table: Table, folder: Path) -> None:
    table("image,target", "in/a.png,7", "in/b.png,3.0", "in/c.png,3", "in/d.png,7")
    data = open_dataset(folder)
    assert [(c.value, c.name) for c in data.classes] == [(3, "3"), (7, "7")]
    assert [s.target for s in data.samples] == [1, 0, 0, 1]


def test_several_classes_at_once(table: Table, folder: Path) -> None:
    table("image,target", "in/a.png,mass|edema", "in/b.png,", "in/c.png,edema", "in/d.png,edema | edema")
    data = open_dataset(folder)
    assert data.multilabel
    assert [c.name for c in data.classes] == ["edema", "mass"]
    assert [s.target for s in data.samples] == [(0, 1), (), (0,), (0,)]


def test_masks_and_valid_parts(table: Table, folder: Path) -> None:
    table("image,mask,valid_mask", "in/a.png,in/m0.png,in/m1.png", "in/b.png,in/m1.png,")
    data = open_dataset(folder)
    assert data.kind == "segmentation"
    assert [c.value for c in data.classes] == [10, 20]
    assert set(data.voxels) == {"in/a", "in/b"}
    first, second = data.samples
    assert first.valid_mask is not None
    assert set(np.unique(first.valid_mask().array)) == {0, 20}
    assert second.valid_mask is None


def test_channels_by_column(table: Table, folder: Path) -> None:
    table("image_t1,image_t2,id", "in/a.png,in/b.png,one", "in/c.png,in/d.png,two")
    data = open_dataset(folder)
    assert (data.channels, data.kind) == (("t1", "t2"), None)
    assert [(s.id, [i.path.name for i in s.images]) for s in data.samples] == [
        ("one", ["a.png", "b.png"]),
        ("two", ["c.png", "d.png"]),
    ]


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ("image,target", ["in/a.png,x", "none.png,y"], "'none.png', which does not exist in row {2}, column 'image'"),
        ("image,target", ["in/a.png,x", "in/b.png,"], "an empty cell in row {2}, column 'target'"),
        ("image,target", ["in/a.png,x", ",y"], "an empty cell in row {2}, column 'image'"),
        ("image,mask", ["in/a.png,in/m0.png", "in/b.png,"], "an empty cell in row {2}, column 'mask'"),
        ("image,split", ["in/a.png,train", "in/b.png,held"], "'held' in row {2}, column 'split'"),
        ("image,split", ["in/a.png,train", "in/b.png,"], "an empty cell in row {2}, column 'split'"),
        ("image,target", ["in/a.png,x", "in/a.png,y"], "'in/a', which row {1} has too in row {2}, column 'image'"),
        ("image,id", ["in/a.png,x", "in/b.png,x"], "'x', which row {1} has too in row {2}, column 'id'"),
        ("image,mask,target", ["in/a.png,in/m0.png,x"], "both target and mask"),
        ("file,target", ["in/a.png,x"], "the columns file, target in row 1, column 'image'"),
        ("image,image_t2", ["in/a.png,in/b.png"], "the columns image, image_t2"),
        ("image_a,image_b", ["in/a.png,in/b.png", "in/c.png,"], "no channel 'b' in row {2}"),
    ],
)
def test_faults_name_row_and_column(table: Table, folder: Path, columns: str, rows: list[str], message: str) -> None:
    path = table(columns, *rows)
    first = 1 if path.suffix == ".jsonl" else 2
    with pytest.raises(InputError) as caught:
        open_dataset(folder)
    assert caught.value.code == ("CHANNELS" if "channel" in message else "BAD_MANIFEST")
    assert caught.value.where == str(path)
    assert message.replace("{1}", str(first)).replace("{2}", str(first + 1)) in caught.value.found


def test_no_row(folder: Path) -> None:
    (folder / "manifest.csv").write_text("image,target\n")
    with pytest.raises(InputError, match=r"TOO_FEW .*manifest\.csv: found no row"):
        open_dataset(folder)


def test_spreadsheets_marks_quotes_and_blank_lines_are_read(folder: Path) -> None:
    (folder / "manifest.csv").write_text(
        '\ufeffImage , Target\r\n"in/a.png","one, two"\r\n\r\nin/b.png,three\r\n', encoding="utf-8"
    )
    assert [c.name for c in open_dataset(folder).classes] == ["one, two", "three"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "image,target\nin/a.png,x,y\n", r"3 cells in row 2, column 'target', expected 2"),
        ("m.csv", "image,target\nin/a.png\n", r"1 cells in row 2, column 'target'"),
        ("m.csv", "image,image\nin/a.png,x\n", "the column twice in row 1, column 'image'"),
        ("m.csv", 'image,target\n"in/a.png,x\n', "unexpected end of data in row"),
        ("m.jsonl", '{"image": "in/a.png"}\n{"image": \n', r"no JSON \(.*\) in row 2"),
        ("m.jsonl", '{"image": "in/a.png"}\n\n[1]\n', r"list \[1\] in row 3"),
        ("m.jsonl", '{"image": {"path": "x"}}\n', r"in row 1, column 'image'"),
    ],
)
def test_broken_tables(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=rf"BAD_MANIFEST .*{name}: found .*{message}"):
        open_dataset(folder / name)


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "m.csv").write_bytes(b"image,target\nin/a.png,\xff\xfe\n")
    with pytest.raises(InputError, match=r"BAD_MANIFEST .*bytes that are not UTF-8"):
        open_dataset(folder / "m.csv")


def test_jsonl_takes_numbers_lists_and_null(folder: Path) -> None:
    lines = [{"image": "in/a.png", "target": ["x", "y"], "age": 3}, {"image": "in/b.png", "target": [], "age": None}]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = open_dataset(folder / "m.jsonl")
    assert [(s.target, s.attributes) for s in data.samples] == [((0, 1), {"age": "3"}), ((), {})]


@pytest.mark.parametrize("name", ["manifest.yaml", "other.yml"])
def test_yaml_is_refused_and_nothing_runs(folder: Path, name: str) -> None:
    proof = folder / "proof"
    (folder / name).write_text(f'!!python/object/apply:os.system ["touch {proof}"]\n')
    for path in [folder / name, *([folder] if name.startswith("manifest") else [])]:
        with pytest.raises(InputError, match=rf"UNSAFE_FILE .*{name}"):
            open_dataset(path)
    assert not proof.exists()


def test_absolute_paths_and_paths_outside_are_named_by_the_file(folder: Path) -> None:
    sub = folder / "sub"
    sub.mkdir()
    (sub / "m.csv").write_text(f"image,target\n../in/a.png,x\n{folder / 'in' / 'b.png'},y\n")
    assert [s.id for s in open_dataset(sub / "m.csv").samples] == ["a", "b"]
