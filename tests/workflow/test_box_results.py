"""`--to` for a detector: pictures and DICOM in, boxes in every form out, each read back where it must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests import dicom_files
from tests.io.results.sources import numbers as measured
from tests.tasks.test_detection import Sees, plan, things
from tests.workflow.test_predict import untrained

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import Choices
from hounsfield.workflow import box_results, results
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.run import Run

pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
GRID = dicom_files.oblique((9, 18, 20), (1.5, 0.8, 0.8))
AT, VALUES = [(2, 5, 6), (5, 14, 3), (8, 0, 19)], [1, 2, 1]


def seeing(folder: Path, ndim: int, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that sees a box of three voxels a side, cut at the border, round every voxel of 1 (dim) and 2 (bright)."""
    monkeypatch.setattr(Run, "models", lambda self, device, fold=None: [Sees().eval()])
    return untrained(folder, plan(ndim, 16))


def around(at: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    return [*(max(0, k - 1) for k in at), *(min(s, k + 2) for k, s in zip(at, shape, strict=True))]


def picture(path: Path, at: list[tuple[int, ...]], values: list[int], shape: tuple[int, int] = (24, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    io.write(Image(things(shape, at, values).astype(np.uint8), Geometry.none(shape)), path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    array = things(GRID.shape, AT, VALUES)[0].astype(np.int16)  # type: ignore[arg-type]
    dicom_files.series(tmp_path / "study" / "ct", array, GRID, backwards=True)
    return tmp_path / "study"


def test_pictures_become_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 2, monkeypatch)
    at: list[tuple[int, ...]] = [(4, 6), (15, 30)]
    picture(tmp_path / "in" / "a.png", at, [1, 2])
    picture(tmp_path / "in" / "site" / "b.png", [], [])
    out = tmp_path / "out"
    written = predict(run, [tmp_path / "in"], out, to="json,nifti,png,coco", device="cpu")
    names = ["a.nii.gz", "a.boxes.json", "a.png", "site/b.nii.gz", "site/b.boxes.json", "site/b.png", "predictions.json"]
    assert written == [out / name for name in [*names, "coco.json", "coco.images.json"]]
    assert {p for p in out.rglob("*") if p.is_file()} == set(written), "nothing half-written is left"
    alone = predict(run, [tmp_path / "in"], tmp_path / "alone", device="cpu")
    assert alone == [tmp_path / "alone" / "predictions.json"]
    assert alone[0].read_bytes() == (out / "predictions.json").read_bytes()

    labels = io.read(out / "a.nii.gz").array[0]
    table = json.loads((out / "a.boxes.json").read_text())
    assert table["least_score"] == 0.5
    found = {row["class"]: row for row in table["boxes"]}
    for index, name in zip(at, ("dim", "bright"), strict=True):
        top, left, bottom, right = around(index, (24, 40))
        assert found[name]["box"] == [left, top, right, bottom]
        inside = np.zeros((24, 40), dtype=bool)
        inside[top:bottom, left:right] = True
        np.testing.assert_array_equal(labels == found[name]["number"], inside)
    assert not io.read(out / "site" / "b.nii.gz").array.any()
    assert json.loads((out / "site" / "b.boxes.json").read_text())["boxes"] == []

    image = io.read(tmp_path / "in" / "a.png")
    drawn = Predictor(run, "cpu").solver.draw(image, None, Predictor(run, "cpu")(image))
    np.testing.assert_array_equal(io.read(out / "a.png").array, drawn.transpose(2, 0, 1))

    rows = json.loads((out / "coco.json").read_text())
    assert sorted((r["image_id"], r["category_id"]) for r in rows if r["score"] >= 0.5) == [(1, 1), (1, 2)]
    listed = json.loads((out / "coco.images.json").read_text())
    assert listed["images"] == [
        {"id": 1, "file_name": "a.png", "height": 24, "width": 40},
        {"id": 2, "file_name": "b.png", "height": 24, "width": 40},
    ]


def test_a_study_gets_a_report_that_is_a_dataset_to_learn_from(
    tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = seeing(tmp_path / "run", 3, monkeypatch)
    written = predict(run, [study], study / "found", to="sr,sc,nifti", device="cpu")
    assert sorted(p.name for p in written) == ["ct.boxes.json", "ct.nii.gz", "ct.sc.dcm", "ct.sr.dcm"]
    report = pydicom.dcmread(study / "found" / "ct.sr.dcm")
    assert measured(report, "boxes") == [(2, "{boxes}"), (1, "{boxes}")]
    assert [v for v, _ in measured(report, "score")] == pytest.approx([0.98201] * 3, abs=1e-4)
    assert (report.PatientID, report.ManufacturerModelName) == (dicom_files.SECRETS[0], "detection with fcos")

    data = open_dataset(study)
    assert (data.reader, data.kind, [c.name for c in data.classes]) == ("dicom_studies", "detection", ["bright", "dim"])
    (sample,) = data.samples
    assert isinstance(sample.target, Boxes)
    names = {1: "dim", 2: "bright"}
    expected = sorted((names[v], around(at, GRID.shape)) for at, v in zip(AT, VALUES, strict=True))
    pairs = zip(sample.target.labels.tolist(), sample.target.corners.tolist(), strict=True)
    assert sorted((data.classes[label].name, corners) for label, corners in pairs) == expected

    labels = io.read(study / "found" / "ct.nii.gz")
    assert labels.geometry.same_grid(io.read(study / "ct").geometry)
    assert set(np.unique(labels.array)) == {0, 1, 2, 3}
    assert all(labels.array[(0, *at)] for at in AT)
    picture = io.read(study / "found" / "ct.sc.dcm").array
    predictor = Predictor(run, "cpu")
    image = io.read(study / "ct")
    np.testing.assert_array_equal(picture, predictor.solver.draw(image, None, predictor(image)).transpose(2, 0, 1))
    figures = evaluate(run, study, device="cpu").metrics
    assert figures["map50"].value == figures["map"].value == pytest.approx(1)


def test_an_xray_has_a_flat_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 2, monkeypatch)
    source = dicom_files.xray(tmp_path / "in" / "x.dcm", things((20, 24), [(7, 9)], [2])[0].astype(np.uint16))
    predict(run, [source], tmp_path / "in", to="sr", device="cpu")
    data = open_dataset(tmp_path / "in")
    (sample,) = data.samples
    assert isinstance(sample.target, Boxes)
    assert [c.name for c in data.classes] == ["bright"]
    assert sample.target.corners.tolist() == [[6, 8, 9, 11]]


@pytest.mark.parametrize("kinds", ["json", "json,nifti,png"])
def test_an_image_is_read_once_whatever_becomes_of_it(kinds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 2, monkeypatch)
    for name in "ab":
        picture(tmp_path / "in" / f"{name}.png", [(4, 6)], [1])
    read: list[str] = []
    whole = io.read

    def told(path: Path, *more: Any) -> Image:
        read.append(path.name)
        return whole(path, *more)

    monkeypatch.setattr(io, "read", told)
    predict(run, [tmp_path / "in"], tmp_path / "out", to=kinds, device="cpu")
    assert read.count("b.png") == 1  # of the first one the channels are looked up beforehand


def test_boxes_below_the_plan_s_score_are_in_lists_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeing(tmp_path / "run", 2, monkeypatch)
    run = untrained(tmp_path / "strict", plan(2, 16).override({"task_options.sure": 0.99}, "a test"))
    picture(tmp_path / "a.png", [(4, 6)], [1])
    predict(run, [tmp_path / "a.png"], tmp_path / "out", to="json,nifti,coco", device="cpu")
    assert json.loads((tmp_path / "out" / "a.boxes.json").read_text()) == {"schema": 1, "least_score": 0.99, "boxes": []}
    assert not io.read(tmp_path / "out" / "a.nii.gz").array.any()
    assert max(json.loads((tmp_path / "out" / "predictions.json").read_text())[0]["scores"]) > 0.9
    assert json.loads((tmp_path / "out" / "coco.json").read_text())


def annotated(folder: Path, file: str, ids: dict[str, int], **more: Any) -> Path:
    """A COCO file of pictures with one dim thing each."""
    for name in ids:
        picture(folder / "images" / name, [(4, 6)], [1])
    images = [{"id": i, "file_name": name, "height": 24, "width": 40} for name, i in ids.items()]
    boxes = [{"id": k, "image_id": i, "category_id": 1, "bbox": [5, 3, 3, 3]} for k, i in enumerate(ids.values())]
    categories = [{"id": 1, "name": "dim"}, {"id": 2, "name": "bright"}]
    (folder / file).write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories, **more}))
    return folder


def test_images_of_coco_keep_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 2, monkeypatch)
    data = annotated(tmp_path / "data", "all.json", {"b.png": 7, "a.png": 40})
    predict(run, [data], tmp_path / "out", to="coco", device="cpu")
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["coco.images.json", "coco.json"]
    rows = [r for r in json.loads((tmp_path / "out" / "coco.json").read_text()) if r["score"] > 0.9]
    assert [(r["image_id"], r["bbox"]) for r in rows] == [(40, [5, 3, 3, 3]), (7, [5, 3, 3, 3])]
    with pytest.raises(InputError, match=r"^OUTPUT_EXISTS .*coco\.json"):
        predict(run, [data], tmp_path / "out", to="coco", device="cpu")
    predict(run, [data], tmp_path / "out", to="png", device="cpu")


def test_one_id_for_two_images_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 2, monkeypatch)
    data = annotated(tmp_path / "data", "train.json", {"a.png": 1})
    annotated(data, "val.json", {"b.png": 1})
    with pytest.raises(
        InputError, match=r"^BAD_OPTION --to coco: found the image id 1 for 'images/a' and for 'images/b'.*--split"
    ):
        predict(run, [data], tmp_path / "out", to="coco", device="cpu")
    assert not (tmp_path / "out").exists()
    predict(run, [data], tmp_path / "out", to="coco", split="val", device="cpu")
    assert json.loads((tmp_path / "out" / "coco.images.json").read_text())["images"][0]["file_name"] == "b.png"


def test_what_boxes_cannot_become_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 3, monkeypatch)
    monkeypatch.setattr(Predictor, "__call__", lambda *_: pytest.fail("it was predicted"))
    array = np.zeros(GRID.shape, np.int16)
    paths = dicom_files.series(tmp_path / "ct", array, GRID)
    with pytest.raises(InputError, match=r"^BAD_OPTION --to coco: found a detector of volumes"):
        predict(run, [tmp_path / "ct"], tmp_path / "out", to="coco", device="cpu")
    paths[4].unlink()
    with pytest.raises(InputError, match=r"^BAD_OPTION --to sr: found .*ct, whose slices are resampled or interpolated"):
        predict(run, [tmp_path / "ct"], tmp_path / "out", to="sr", choices=Choices(allow_gaps=True), device="cpu")
    with pytest.raises(InputError, match=r"^BAD_OPTION --to: found 'seg', expected some of json, nifti, png, coco, sr, sc,"):
        results.kinds_of("seg", "detection")
    assert not (tmp_path / "out").exists()
    assert box_results.numbers([], []) == {}


def test_boxes_of_the_input_that_are_none_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = seeing(tmp_path / "run", 2, monkeypatch)
    data = annotated(tmp_path / "data", "all.json", {"a.png": 1})
    values = json.loads((data / "all.json").read_text())
    values["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "bbox": [5, 3, 0, 3]})
    (data / "all.json").write_text(json.dumps(values))
    predict(run, [data], tmp_path / "out", device="cpu")
    with pytest.raises(InputError, match=r"^BAD_LABEL .*1 boxes without extent .*--drop-invalid"):
        evaluate(run, data, device="cpu")
    assert evaluate(run, data, choices=Choices(drop_invalid=True), device="cpu").metrics["map50"].value == pytest.approx(1)
