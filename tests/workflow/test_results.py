"""`--to`: from a DICOM folder to DICOM results of it; what cannot be is refused before any work."""

from __future__ import annotations

import csv
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests import dicom_files
from tests.io.results.sources import numbers as measured
from tests.workflow.test_predict import picture, plan, untrained

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.prediction import ClassScores
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import Choices, dicom
from hounsfield.io.regions import paint
from hounsfield.metrics.size import size_of
from hounsfield.workflow import results
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.run import Run

pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
GRID = dicom_files.oblique((17, 18, 20), (1.5, 0.8, 0.8))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    dicom_files.series(tmp_path / "study" / "ct", rng.integers(-500, 500, GRID.shape).astype(np.int16), GRID, backwards=True)
    return tmp_path / "study"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    how = plan("segmentation", 3, values=(10, 20))
    classes = (Class(value=10, name="liver", code=("SCT", "10200004", "Liver")), Class(value=20, name="lesion"))
    return untrained(tmp_path / "run", how.model_copy(update={"classes": classes}))


def test_every_kind_lies_on_the_source_s_grid(tmp_path: Path, study: Path, run: Run) -> None:
    out = tmp_path / "out"
    written = predict(run, [study], out, to="nifti,seg,sr,pm,sc", device="cpu")
    assert sorted(written) == [out / f"ct{ending}" for ending in (".nii.gz", ".pm.dcm", ".sc.dcm", ".seg.dcm", ".sr.dcm")]
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in written), "nothing half-written is left"
    image, mask = io.read(study / "ct"), io.read(out / "ct.nii.gz")
    assert mask.geometry.same_grid(image.geometry)
    assert set(np.unique(mask.array)) == {0, 10, 20}
    laid = np.zeros(image.geometry.shape, np.uint8)
    paint(dicom.segments(out / "ct.seg.dcm"), image.geometry, {1: 10, 2: 20}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])

    sizes = [size_of(mask.array[0] == value, image.geometry.affine[:3, :3]) for value in (10, 20)]
    report = pydicom.dcmread(out / "ct.sr.dcm")
    assert [v for v, unit in measured(report, "118565006") if unit == "mm3"] == pytest.approx(
        [s.content for s in sizes], rel=1e-6
    )
    assert [v for v, _ in measured(report, "81827009")] == pytest.approx([s.diameter for s in sizes], rel=1e-6)
    assert report.PatientID == dicom_files.SECRETS[0]
    assert str(pydicom.dcmread(out / "ct.seg.dcm").SOPInstanceUID) in str(report), "the report names the segmentation"

    maps = pydicom.dcmread(out / "ct.pm.dcm")
    assert maps.NumberOfFrames == 2 * image.geometry.shape[0]
    picture = io.read(out / "ct.sc.dcm").array
    drawn = Predictor(run, "cpu").solver.draw(image, None, mask)
    np.testing.assert_array_equal(picture, drawn.transpose(2, 0, 1))


def test_probabilities_agree_with_the_labels(study: Path, run: Run) -> None:
    predictor = Predictor(run, "cpu")
    (sample,) = open_dataset(study).samples
    maps, labels = predictor.maps(sample), predictor(sample)
    assert isinstance(labels, Image)
    assert maps.array.shape == (2, *GRID.shape)
    assert maps.array.dtype == np.uint8
    assert maps.geometry == labels.geometry
    clear = np.abs(maps.array[0].astype(int) - maps.array[1]) > 1
    likelier = np.where(maps.array[0] > maps.array[1], 10, 20)
    shown = clear & (labels.array[0] != 0)
    assert shown.any()
    np.testing.assert_array_equal(labels.array[0][shown], likelier[shown])


def test_what_was_written_is_a_dataset_to_learn_from(tmp_path: Path, study: Path, run: Run) -> None:
    predict(run, [study], study / "predicted", to="seg", device="cpu")
    data = open_dataset(study)
    assert (data.reader, [c.name for c in data.classes]) == ("dicom_studies", ["liver", "lesion"])
    assert data.classes[0].code == ("SCT", "10200004", "Liver")
    target: Any = data.samples[0].target
    mask = Predictor(run, "cpu")(study / "ct")
    assert isinstance(mask, Image)
    np.testing.assert_array_equal(target().array * 10, mask.array)


def test_a_label_of_another_series_does_not_matter(tmp_path: Path, study: Path, run: Run) -> None:
    dicom_files.series(study / "other", np.zeros(GRID.shape, np.int16), GRID, 2)
    dicom_files.rtstruct(study / "rs.dcm", {"liver": [dicom_files.rectangle(GRID, 1, (2, 5), (3, 7))]}, 2)
    written = predict(run, [study], tmp_path / "out", device="cpu")
    assert [p.name for p in written] == ["ct.nii.gz", "other.nii.gz"]


def test_without_the_option_all_is_as_ever(tmp_path: Path, study: Path, run: Run) -> None:
    assert predict(run, [study], tmp_path / "out", device="cpu") == [tmp_path / "out" / "ct.nii.gz"]
    predict(run, [study], tmp_path / "seg", to="seg", device="cpu")
    assert [p.name for p in (tmp_path / "seg").iterdir()] == ["ct.seg.dcm"]


def test_an_archive_has_results_too(tmp_path: Path, study: Path, run: Run) -> None:
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for file in sorted((study / "ct").iterdir()):
            archive.write(file, file.name)
    (path,) = predict(run, [tmp_path / "scan.zip"], tmp_path / "out", to="seg", device="cpu")
    assert io.read(path).geometry.ndim == 3


def test_scores_of_an_xray_become_a_report(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", plan("classification", values=(0, 1, 2)))
    source = dicom_files.xray(tmp_path / "x.dcm", np.random.default_rng(0).integers(0, 999, (20, 24), dtype=np.uint16))
    written = predict(run, [source], tmp_path / "out", to="table,sr", device="cpu")
    assert written == [tmp_path / "out" / "x.sr.dcm", tmp_path / "out" / "predictions.csv"]
    scores = Predictor(run, "cpu")(source)
    assert isinstance(scores, ClassScores)
    found = [v for v, _ in measured(pydicom.dcmread(written[0]), "probability")]
    assert found == pytest.approx(scores.probabilities.tolist(), abs=1e-6)
    with written[1].open() as file:
        assert [float(v) for v in list(csv.reader(file))[1][1:]] == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize(
    ("to", "task", "told"),
    [
        ("sge", "segmentation", "BAD_OPTION --to: found 'sge', expected some of nifti, seg, sr, pm, sc, .*did you mean 'seg'"),
        ("seg,,sr", "segmentation", "BAD_OPTION --to: found ''"),
        ("seg", "classification", "BAD_OPTION --to: found 'seg', expected some of table, sr, which classification can write"),
        ("seg", "restoration", "BAD_OPTION --to: found 'seg', expected some of files"),
    ],
)
def test_a_kind_that_there_is_not(to: str, task: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        results.kinds_of(to, task)
    assert results.kinds_of(" seg, seg,nifti", "segmentation") == ("seg", "nifti")


def test_images_that_are_not_dicom_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained(tmp_path / "run", plan("segmentation"))
    path = picture(tmp_path / "a.png")
    monkeypatch.setattr(Predictor, "__call__", lambda *_: pytest.fail("it was predicted"))
    with pytest.raises(InputError, match=r"^BAD_OPTION --to seg,sr: found .*a\.png, picture, expected DICOM"):
        predict(run, [path], tmp_path / "out", to="nifti,seg,sr", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_map_needs_a_place(tmp_path: Path) -> None:
    source = dicom_files.xray(tmp_path / "x.dcm", np.zeros((20, 24), np.uint16))
    with pytest.raises(InputError, match=r"^BAD_OPTION --to pm: found .*x\.dcm, which has no position"):
        predict(untrained(tmp_path / "run", plan("segmentation")), [source], tmp_path / "out", to="pm", device="cpu")


def test_a_missing_package_is_named(tmp_path: Path, study: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^MISSING_EXTRA --to seg: found no package highdicom, .*pip install 'hounsfield\[dicom\]'"
    ):
        predict(run, [study], tmp_path / "out", to="seg", device="cpu")


def test_existing_results_are_refused_and_others_do_not_matter(tmp_path: Path, study: Path, run: Run) -> None:
    out = tmp_path / "out"
    predict(run, [study], out, device="cpu")
    predict(run, [study], out, to="seg", device="cpu")
    with pytest.raises(InputError, match=r"^OUTPUT_EXISTS .*ct\.seg\.dcm"):
        predict(run, [study], out, to="seg", device="cpu")
    predict(run, [study], out, to="seg", overwrite=True, device="cpu")


def test_one_series_of_a_study_is_chosen(tmp_path: Path, study: Path, run: Run) -> None:
    array = np.zeros(GRID.shape, np.int16)
    dicom_files.series(study / "other", array, GRID, 2)
    written = predict(run, [study], tmp_path / "out", to="seg", choices=Choices(series="1"), device="cpu")
    assert [p.name for p in written] == ["ct.seg.dcm"]


def test_the_command(
    tmp_path: Path, study: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hounsfield.cli import main

    words = ["hounsfield", "predict", str(run.root), str(study), "--out", str(tmp_path / "out"), "--to", "seg,sr"]
    monkeypatch.setattr(sys, "argv", [*words, "--device", "cpu"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(tmp_path / "out" / "ct.seg.dcm"), str(tmp_path / "out" / "ct.sr.dcm")]
    assert not any(secret in printed.out + printed.err for secret in dicom_files.SECRETS)


def test_the_model_is_told_from_another(tmp_path: Path, run: Run) -> None:
    one = results.author_of(run)
    assert (one.name, len(one.weights)) == ("segmentation with unet", 16)
    assert results.author_of(run) == one
    other = untrained(tmp_path / "other", run.plan, members=2)
    assert results.author_of(other).weights != one.weights
