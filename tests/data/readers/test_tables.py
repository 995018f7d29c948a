"""Tables of challenges: which row names which image, what columns say, and what stays unknown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hounsfield.core.errors import InputError
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import open_dataset, tables
from hounsfield.io.formats import DEFAULT
from hounsfield.workflow.convert import convert, differences

Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """folder(names, **tables): pictures of these names, and for `labels="a,b\\n..."` the table labels.csv."""

    def make(names: str, **texts: str) -> Path:
        for k, name in enumerate(names.split()):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(k).integers(0, 256, (6, 5), dtype=np.uint8)).save(path)
        for name, text in texts.items():
            (tmp_path / "set" / f"{name}.csv").write_text(text)
        return tmp_path / "set"

    return make


def targets(data: Dataset) -> dict[str, object]:
    return {s.id: s.target for s in data.samples}


def names(data: Dataset) -> list[str]:
    return [c.name for c in data.classes]


def refused(code: str, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_column_of_words(folder: Folder) -> None:
    """As HAM10000 has it: parts of the download are no classes, the lesion stands for the patient that nobody tells."""
    path = folder(
        "part_1/i1.png part_1/i2.png part_2/i3.png part_2/i4.png",
        metadata="lesion_id,image_id,dx,dx_type,age,sex\n"
        "L1,i1,mel,histo,80,male\nL1,i2,mel,histo,,male\nL2,i3,nv,,40,\nL3,i4,nv,,41,",
    )
    data = open_dataset(path)
    assert (data.reader, data.kind, data.multilabel, names(data)) == ("tables", "classification", False, ["mel", "nv"])
    assert targets(data) == {"part_1/i1": 0, "part_1/i2": 0, "part_2/i3": 1, "part_2/i4": 1}
    assert [s.patient for s in data.samples] == ["L1", "L1", "L2", "L3"]
    assert data.samples[0].attributes == {"dx_type": "histo", "age": "80", "sex": "male"}
    assert data.samples[2].attributes == {"age": "40"}
    assert data.found == "4 images with 2 classes in metadata.csv (2 mel, 2 nv)"
    assert data.notes == ()


def test_the_patient_goes_before_the_lesion(folder: Folder) -> None:
    data = open_dataset(folder("a.png b.png", t="image,lesion_id,Patient ID,label\na,L1,P1,x\nb,L2,,y"))
    assert [s.patient for s in data.samples] == ["P1", "L2"]
    assert data.samples[0].attributes == {"lesionid": "L1"}
    rows = "patientId,Target\na,1\nb,0"  # the id is the patient
    assert [s.patient for s in open_dataset(folder("a.png b.png", t=rows)).samples] == ["a", "b"]


def test_numbers_are_class_values_and_measures_are_none(folder: Folder) -> None:
    path = folder(
        "a.png b.png c.png", train="id_code,diagnosis\na,4\nb,0\nc,4.0\n", sample_submission="id_code,diagnosis\na,0\n"
    )
    data = open_dataset(path)
    assert [(c.value, c.name) for c in data.classes] == [(0, "0"), (4, "4")]
    assert targets(data) == {"a": 1, "b": 0, "c": 1}
    assert data.notes == ("sample_submission.csv is left out: a form for submissions",)
    assert "0.25" in refused("BAD_LABEL", folder("", train="id_code,diagnosis\na,0.25\nb,3\nc,1\n"))


ONE_HOT = "image,MEL,NV,BCC\n"


def test_columns_with_a_single_one_in_every_row_exclude_each_other(folder: Folder) -> None:
    path = folder(
        "in/i1.jpg in/i2.jpg in/i3.jpg in/i4.jpg", labels=f"{ONE_HOT}i1,0.0,1.0,0.0\ni2,1.0,0.0,0.0\ni3,0.0,1.0,0.0\n"
    )
    data = open_dataset(path)
    assert (data.multilabel, names(data), targets(data)) == (False, ["MEL", "NV"], {"in/i1": 1, "in/i2": 0, "in/i3": 1})
    assert all(s.known_classes is None for s in data.samples)
    assert data.notes == ("1 images without a row are left out", "BCC: left out, nowhere 1")


@pytest.mark.parametrize(("last", "target"), [("1,1,0", (0, 1)), ("0,0,0", ())])
def test_columns_with_several_or_none_may_hold_together(folder: Folder, last: str, target: tuple[int, ...]) -> None:
    data = open_dataset(folder("i1.png i2.png i3.png", t=f"{ONE_HOT}i1,0,1,0\ni2,0,0,1\ni3,{last}\n"))
    assert data.multilabel
    index = {name: k for k, name in enumerate(names(data))}
    assert targets(data)["i3"] == target
    assert targets(data)["i2"] == (index["BCC"],)


def test_blank_and_minus_one_are_unknown_and_never_negative(folder: Folder) -> None:
    """As CheXpert has it, with paths that begin above the folder, and a column that is nowhere 0."""
    table = "Path,Sex,Age,No Finding,Edema,Mass\n"
    path = folder(
        "train/p1/view1.jpg train/p2/view1.jpg train/p3/view1.jpg train/p4/view1.jpg valid/p5/view1.jpg",
        train=f"{table}CheX/train/p1/view1.jpg,F,68,1.0,,0.0\nCheX/train/p2/view1.jpg,M,70,,-1.0,1.0\n"
        "CheX/train/p3/view1.jpg,M,7,,1.0,0.0\nCheX/train/p4/view1.jpg,M,7,,,-1\n",
        valid=f"{table}CheX/valid/p5/view1.jpg,F,50,,0.0,1.0\n",
    )
    data = open_dataset(path)
    assert data.multilabel
    assert names(data) == ["Edema", "Mass"]
    assert [(s.id, s.target, s.known_classes, s.split) for s in data.samples] == [
        ("train/p1/view1", (), (1,), "train"),
        ("train/p2/view1", (1,), (1,), "train"),
        ("train/p3/view1", (0,), None, "train"),
        ("valid/p5/view1", (1,), None, "val"),
    ]
    assert data.notes == (
        "1 images whose row has no label are left out",
        "No Finding: left out, 1 or unknown but nowhere 0",
        "blank or -1 (uncertain), so unknown there, neither learned nor counted: Edema in 3, Mass in 1 of 5 images",
    )
    ones = folder("a.png b.png", train=f"{table}a,F,1,1,,1\nb,F,1,,1,\n", valid="")
    assert "write 0 for what is absent" in refused("BAD_LABEL", ones)


def test_several_findings_in_one_cell(folder: Folder) -> None:
    """As NIH's chest X-rays have them."""
    head = "Image Index,Finding Labels,Follow-up #,Patient ID\n"
    table = f"{head}1_0.png,Mass|Edema,0,1\n1_1.png,No Finding,1,1\n2_0.png,Edema,0,2\n"
    data = open_dataset(
        folder("images_001/images/1_0.png images_001/images/1_1.png images_002/images/2_0.png", Data_Entry=table)
    )
    assert (data.multilabel, names(data)) == (True, ["Edema", "Mass"])
    assert list(targets(data).values()) == [(0, 1), (), (0,)]
    assert [s.patient for s in data.samples] == ["1", "1", "2"]
    assert data.samples[1].attributes == {"follow_up": "1"}
    assert data.notes == ("'No Finding' means none of the classes",)
    assert "row 3, column 'Finding Labels'" in refused(
        "BAD_MANIFEST", folder("", Data_Entry=table.replace("No F", "Mass|No F"))
    )


def test_no_finding_is_a_class_where_classes_exclude_each_other(folder: Folder) -> None:
    data = open_dataset(folder("a.png b.png", t="image,finding\na,No Finding\nb,Mass"))
    assert (names(data), targets(data)) == (["Mass", "No Finding"], {"a": 1, "b": 0})


def test_parts_by_tables_by_column_by_folder_or_not_at_all(folder: Folder) -> None:
    rows = "image,label\n"
    path = folder("a.png b.png c.png", train=f"{rows}a,x\nb,y\n", valid=f"{rows}c,x\n")
    assert [s.split for s in open_dataset(path).samples] == ["train", "train", "val"]
    path = folder("", train="image,label,split\na,x,training\nb,y,test\n", valid="image,label,split\nc,x,dev\n")
    assert [s.split for s in open_dataset(path).samples] == ["train", "test", "val"]
    (path / "valid.csv").unlink()
    data = open_dataset(folder("", train="image,label,split\na,x,train\nb,y,test\nc,x,\n"))
    assert [s.split for s in data.samples] == ["train", "test", "train"]  # the table's own name
    (path / "train.csv").rename(path / "all.csv")
    data = open_dataset(path)
    assert {s.split for s in data.samples} == {None}
    assert data.notes == ("1 images are in no part, so that the parts of the others are not taken",)
    (path / "all.csv").unlink()
    assert "'fold 3' in row 2" in refused("BAD_MANIFEST", folder("", all="image,label,split\na,x,fold 3\nb,y,test\nc,x,\n"))
    path = folder("train/d.png test/e.png", all=f"{rows}d,x\ne,y\n")
    assert [(s.id, s.split) for s in open_dataset(path).samples] == [("test/e", "test"), ("train/d", "train")]


def test_one_name_in_two_folders_is_told_by_the_part_or_the_ending(folder: Folder) -> None:
    path = folder("train/1.png test/1.png", train="id,label\n1,x\n", test="id,label\n1,y\n")
    assert targets(open_dataset(path)) == {"train/1": 0, "test/1": 1}
    (path / "test.csv").unlink()
    (path / "train.csv").rename(path / "all.csv")
    assert "'1', which names 2 images in row 2, column 'id'" in refused("BAD_MANIFEST", path)
    assert targets(open_dataset(folder("", all="id,label\ntest/1,x\ntrain\\1.png,y\n"))) == {"test/1": 0, "train/1": 1}
    path = folder("b/a.png b/a.bmp", all="id,label\na.bmp,x\ntest/1,y\n")
    (sample,) = (s for s in open_dataset(path).samples if s.id == "b/a")
    assert sample.images[0].path.suffix == ".bmp"


def test_the_id_is_the_column_that_names_most_images(folder: Folder) -> None:
    """The labels 0 and 1, and the row's number, are names of images as well."""
    rows = "".join(f"{(k + 1) % 4},{k % 2},{k}\n" for k in range(4))
    data = open_dataset(folder("0.png 1.png 2.png 3.png", t=f",label,image\n{rows}"))
    assert targets(data) == {"0": 0, "1": 1, "2": 0, "3": 1}
    assert all(s.attributes == {} for s in data.samples)


def test_tables_without_labels_give_attributes_and_patients_and_parts(folder: Folder) -> None:
    path = folder(
        "a.png b.png c.png",
        truth="image,label\na,x\nb,y\n",
        about="image,patient_id,Image Width,id\na.png,P1,5,7\nb.png,P1,,8\nc.png,P2,5,9\n",
        split="image,split\na,train\nb,val\n",
        boxes="image,x,y\na,1,2\na,3,4\n",
    )
    data = open_dataset(path)
    assert [(s.patient, s.split, s.attributes) for s in data.samples] == [
        ("P1", "train", {"table_image_width": "5", "table_id": "7"}),
        ("P1", "val", {"table_id": "8"}),
    ]
    assert data.notes == ("boxes.csv is left out: it has several rows for one image", "1 images without a row are left out")


def test_rows_that_repeat_an_image_must_say_the_same(folder: Folder) -> None:
    path = folder("a.png b.png", t="patientId,x,Target\na,3,1\na,9,1\nb,,0\n")
    data = open_dataset(path)
    assert targets(data) == {"a": 1, "b": 0}
    assert data.notes == ("1 rows repeat an image with its label",)
    (path / "train.csv").write_text("patientId,Target\na,1\n")
    (path / "val.csv").write_text("patientId,Target\nb,0\n")
    assert [s.split for s in open_dataset(path).samples] == ["train", "val"]
    message = refused("BAD_MANIFEST", folder("", t="patientId,x,Target\na,3,1\nb,9,1\na,,0\n"))
    assert "'a', of another label or part in row 2 of t.csv in row 4, column 'patientId'" in message


def test_ambiguous_and_lacking_columns_are_named(folder: Folder) -> None:
    path = folder("a.png b.png", t="image,diagnosis,target\na,nevus,0\nb,melanoma,1\n")
    assert "2 columns that could be the label: diagnosis of t.csv, target of t.csv" in refused("UNKNOWN_LAYOUT", path)
    (path / "t.csv").unlink()
    path = folder("c.png", train=f"{ONE_HOT}a,1,0,0\nb,0,1,0\n", test="image,MEL,NV\nc,1,0\n")
    assert "no such column in row 1, column 'BCC'" in refused("BAD_MANIFEST", path)


def test_rows_without_an_image_and_slips_are_refused(folder: Folder) -> None:
    path = folder("a.png b.png", t="image,label\na,x\nb,y\ngone,y\n")
    assert "1 rows without an image (gone)" in refused("UNPAIRED", path)
    rows = "".join(f"{'ab'[k % 2]},{k % 2},{1 - k % 2}\n" for k in range(200))
    assert "'0.5' in row 203, column 'NV'" in refused("BAD_MANIFEST", folder("c.png", t=f"image,MEL,NV\n{rows}\nc,1,0.5\n"))
    early = "".join(f"{k},{k % 2},{'x' if k == 1 else 1 - k % 2}\n" for k in range(20))
    path = folder(" ".join(f"{k}.png" for k in range(20)), t=f"image,MEL,NV\n{early}")
    assert "'x' in row 3, column 'NV'" in refused("BAD_MANIFEST", path)
    assert tables.match(folder("", t="image,label\na,\nb,\n")).found is None


def test_unlabelled_rows_are_left_out_and_said(folder: Folder) -> None:
    data = open_dataset(folder("a.png b.png c.png", t="image;label\na;x\nb;y\nc;NaN\n"))
    assert targets(data) == {"a": 0, "b": 1}
    assert data.notes == ("1 images whose row has no label are left out",)


def test_what_is_no_table_of_labels(folder: Folder) -> None:
    path = folder("ill/a.png ill/b.png well/c.png well/d.png", about="image,sex,age,smoker\na,1,0,1\nb,0,1,1\n")
    assert open_dataset(path).reader == "class_folders"
    assert tables.match(path).found is None
    for text in (
        "folder,label\nill,1\nwell,0\n",
        "x\n",
        "",
        "image,label\nq,1\nr,0\n",
        "image,label\na,1\nb,0,3\n",
        "a,a\n1,2\n",
    ):
        (path / "about.csv").write_text(text)
        assert tables.match(path).found is None
    (path / "about.csv").write_bytes(b"image,label\n\xff\xfe,1\n")
    assert tables.match(path).found is None
    assert tables.match(path / "about.csv").missed


def test_who_reads_what_others_know(folder: Folder) -> None:
    """A manifest and masks go before a table, and a table before folders."""
    path = folder(
        "images/a.png images/b.png", manifest="image,target\nimages/a.png,x\nimages/b.png,y\n", t="image,label\na,1\nb,2\n"
    )
    assert open_dataset(path).reader == "manifest"
    (path / "manifest.csv").unlink()
    assert open_dataset(path).reader == "tables"
    folder("masks/a.png masks/b.png")
    for mask in (path / "masks").iterdir():
        Image.fromarray(np.eye(6, 5, dtype=np.uint8)).save(mask)
    assert open_dataset(path).reader == "image_masks"


@pytest.mark.parametrize(
    "table",
    [
        "image_id,patient,dx,split,Age\na,P1,mel,train,3\nb,P2,nv,test,\nc,P1,nv,train,9\n",
        "image,Finding Labels\na,Mass|Edema\nb,No Finding\nc,Edema\n",
        "image,MEL,NV\na,1,0\nb,,1\nc,0,-1\n",
    ],
)
def test_a_manifest_holds_all_of_it(folder: Folder, tmp_path: Path, table: str) -> None:
    path = folder("in/a.png in/b.png in/c.png", t=table)
    convert(path, "manifest", tmp_path / "again")
    first = tables.read(path, DEFAULT)
    assert list(differences(first, open_dataset(tmp_path / "again"))) == []
    assert len(first) == 3
