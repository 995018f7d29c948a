"""Restored images by the features of a classifier, and by what runs of other tasks make of them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hounsfield.cli import main
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.phantoms import write_dataset
from hounsfield.metrics import bootstrap
from hounsfield.tasks.parts import box_metrics
from hounsfield.tasks.parts.fidelity import Riddle
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, read_tensors, write_tensors
from hounsfield.workflow.train import train
from hounsfield.workflow.usefulness import Downstream, Likeness, taught


def learned(data: Path, folder: Path, **changes: Any) -> Run:
    options = {"training.steps": 2, "model_options.width": 8}
    options |= {key.replace("__", "."): value for key, value in changes.items()}
    return train(data, folder, Options(task="restoration", test=0.25, device="cpu", changes=options))


@pytest.fixture(scope="module")
def of_masks(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Learned from images that have masks."""
    return learned(phantoms, tmp_path_factory.mktemp("runs") / "masks")


@pytest.fixture(scope="module")
def of_classes(classed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Learned to fill holes in images that have classes."""
    return learned(classed, tmp_path_factory.mktemp("runs") / "classes", task_options__repair="inpaint")


def test_another_run_is_measured_on_what_is_clean_given_and_restored(of_masks: Run, segmenter: Run) -> None:
    found = evaluate(of_masks, downstream=segmenter.root, device="cpu")
    assert (found.part, found.used_for, found.headline) == ("test", "report", "psnr")
    other = Predictor(segmenter, "cpu")
    held = segmenter.dataset().select(of_masks.split.test).samples
    straight = [float(other.solver.metrics().case(s, other(s))["dice"]) for s in held]
    figures = found.metrics
    assert figures["downstream_clean"].value == pytest.approx(np.mean(straight))
    assert [row["downstream_clean_dice"] for row in found.rows] == pytest.approx(straight)
    restored, given, clean = (figures[f"downstream{of}"].value for of in ("", "_given", "_clean"))
    assert figures["downstream_gain"].value == pytest.approx(restored - given)
    assert figures["downstream_gap"].value == pytest.approx(restored - clean)
    apart = [float(row["downstream_restored_dice"]) - float(row["downstream_given_dice"]) for row in found.rows]
    paired = bootstrap.mean(apart, [s.patient for s in held])
    assert (figures["downstream_gain"].low, figures["downstream_gain"].high) == pytest.approx(
        (paired.low, paired.high), nan_ok=True
    )
    seen = len(set(segmenter.split.train) & set(of_masks.split.test))
    assert seen > 0
    assert f"dice of unet of run segmenter, which learned from {seen} of these {len(held)} cases" in figures["downstream"].note


def test_what_is_restored_perfectly_is_as_good_as_the_clean_image(of_masks: Run, segmenter: Run) -> None:
    labelled = segmenter.dataset()
    more = Downstream(of_masks, segmenter, labelled.samples, (), "cpu")
    sample = of_masks.dataset().select(of_masks.split.test).samples[0]
    riddle = more.solver.riddle(sample)
    clean = sample.images[0]()
    for array, variant in ((riddle.truth, "clean"), (riddle.given, "given")):
        row = more.case(sample, Image(array, clean.geometry))
        own, its = (
            {key.removeprefix(f"downstream_{name}_"): value for key, value in row.items() if f"_{name}_" in key}
            for name in ("restored", variant)
        )
        assert own == its
        assert own
    assert "learned from" not in more.summary([{"id": sample.id, **row}], [None])["downstream"].note


def test_a_classifier_judges_what_is_in_the_holes(of_classes: Run, classifier: Run) -> None:
    found = evaluate(of_classes, features=classifier.root, downstream=classifier.root, device="cpu")
    assert {"feature_distance", "feature_distance_given", "downstream", "downstream_gain"} <= set(found.metrics)
    assert "features of resnet of run classifier (" in found.metrics["feature_distance"].note
    assert "auroc of resnet of run classifier" in found.metrics["downstream"].note
    assert all(0 < float(row["feature_distance"]) <= 4 for row in found.rows)
    assert all({"downstream_clean_truth", "downstream_restored_prediction"} <= set(row) for row in found.rows)
    more = Likeness(of_classes, classifier, "cpu")
    sample = of_classes.dataset().select(of_classes.split.test).samples[0]
    riddle, grid = more.solver.riddle(sample), sample.images[0]().geometry
    perfect, untouched = (more.case(sample, Image(array, grid)) for array in (riddle.truth, riddle.given))
    assert perfect["feature_distance"] == 0
    assert untouched["feature_distance"] == untouched["feature_distance_given"]
    again = Likeness(of_classes, classifier, "cpu").case(sample, Image(riddle.given, grid))
    assert again == untouched


def doubled(run: Run, folder: Path) -> tuple[Run, Run]:
    """A copy of the run with a second, other network; and one with that alone."""
    both, other = (shutil.copytree(run.root, folder / name) for name in ("both", "other"))
    weights = read_tensors(run.members[0] / "weights.safetensors")
    weights = {key: value.flip(0) if value.ndim else value for key, value in weights.items()}
    write_tensors(both / "members" / "0-1" / "weights.safetensors", weights)
    write_tensors(other / "members" / "0-0" / "weights.safetensors", weights)
    return Run(both), Run(other)


def test_of_several_networks_the_mean_counts(of_masks: Run, classifier: Run, tmp_path: Path) -> None:
    both, other = doubled(classifier, tmp_path)
    sample = of_masks.dataset().samples[0]
    image = Image(Likeness(of_masks, classifier, "cpu").solver.riddle(sample).given + 5, sample.images[0]().geometry)
    each = [Likeness(of_masks, run, "cpu") for run in (classifier, other, both)]
    one, two, mean = (more.case(sample, image) for more in each)
    assert one["feature_distance"] != two["feature_distance"]
    for name in ("feature_distance", "feature_distance_given"):
        assert mean[name] == pytest.approx((float(one[name]) + float(two[name])) / 2)
    assert each[2].about.startswith("mean of 2 networks, features of resnet of run both (")
    assert {each[k].networks[0].digest for k in (0, 1)} == {network.digest for network in each[2].networks}


def test_more_noise_is_farther_away(of_masks: Run, classifier: Run) -> None:
    more = Likeness(of_masks, classifier, "cpu")
    sample = of_masks.dataset().samples[0]
    riddle, grid = more.solver.riddle(sample), sample.images[0]().geometry
    noise = np.random.default_rng(0).normal(size=riddle.truth.shape).astype(np.float32)
    each = [more.case(sample, Image(riddle.truth + s * noise, grid))["feature_distance"] for s in (0, 5, 20, 60)]
    assert each == sorted(set(each))


def test_boxes_are_found_in_restored_images_too(of_masks: Run, detector: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "REPLICATES", 50)
    monkeypatch.setattr(box_metrics, "REPLICATES", 50)
    found = evaluate(of_masks, split="val", downstream=detector.root, device="cpu")
    assert "map50 of fcos of run detector" in found.metrics["downstream"].note
    assert all("downstream_given_found" in row for row in found.rows)


def test_of_another_dataset_nothing_was_learned(of_masks: Run, segmenter: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "others", "segmentation", n=6, seed=31)
    found = evaluate(of_masks, tmp_path / "others", downstream=segmenter.root, device="cpu")
    assert (found.part, len(found.rows)) == ("others", 6)
    assert "learned from" not in found.metrics["downstream"].note
    assert set(taught(segmenter, Path(segmenter.record["data"]))) == set(segmenter.split.train)


def test_what_a_finer_grid_leaves_over_stays(of_masks: Run, segmenter: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a source of other axes, too: the other run is shown an image of the source's own grid."""
    more = Downstream(of_masks, segmenter, segmenter.dataset().samples, (), "cpu")
    sample = of_masks.dataset().samples[0]
    shown: list[Image] = []
    whole = sample.images[0]()
    turned = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])  # rows to the left, columns to the front
    source = Image(whole.array.astype(np.float32), Geometry(whole.geometry.shape, turned), whole.meta)
    part = np.full((1, *(n - 1 for n in source.canonical().array.shape[1:])), 7, np.float32)
    monkeypatch.setattr("hounsfield.workflow.usefulness.read_case", lambda *given: source)
    monkeypatch.setattr(more, "predictor", lambda image: shown.append(image))
    monkeypatch.setattr(more, "metrics", SimpleNamespace(case=lambda *given: {"x": 1.0}))
    monkeypatch.setattr(more.solver, "riddle", lambda sample: Riddle(part, part, None))
    more.case(sample, Image(part, Geometry.none(part.shape[1:])))
    np.testing.assert_array_equal(shown[0].array, source.array)
    for image in shown[1:]:
        assert image.geometry == source.geometry
        upright, before = image.canonical().array, source.canonical().array
        assert (upright[:, :-1, :-1] == 7).all()
        np.testing.assert_array_equal(upright[:, -1], before[:, -1])
        np.testing.assert_array_equal(upright[:, :, -1], before[:, :, -1])


def test_runs_that_cannot_judge_are_refused(of_masks: Run, of_classes: Run, segmenter: Run, classifier: Run) -> None:
    for run, given, line in (
        (
            of_masks,
            {"features": segmenter.root},
            r"UNSUPPORTED_PAIR .*found a run of segmentation of 2D .*one of classification",
        ),
        (of_masks, {"downstream": of_classes.root}, r"UNSUPPORTED_PAIR .*found a run of restoration .*--downstream"),
        (classifier, {"downstream": segmenter.root}, r"BAD_OPTION --downstream: found a run of classification.*restoration"),
        (segmenter, {"features": classifier.root}, r"BAD_OPTION --features: found a run of segmentation.*generation or restor"),
        (of_classes, {"downstream": segmenter.root}, r"BAD_LABEL"),
        (of_masks, {"downstream": "nowhere"}, r"NOT_A_RUN nowhere"),
    ):
        with pytest.raises(InputError, match=line):
            evaluate(run, **given, device="cpu")


@pytest.mark.parametrize(("ndim", "channels"), [(3, 1), (2, 3)])
def test_runs_of_images_of_another_kind_are_refused(ndim: int, channels: int, of_masks: Run, classifier: Run) -> None:
    changes = {"ndim": ndim, "channels": tuple("abc"[:channels])}
    other: Any = SimpleNamespace(plan=classifier.plan.model_copy(update=changes), root=Path("other"))
    said = rf"found a run of classification of {ndim}D images of {channels} channels, expected .*2D images of 1;"
    with pytest.raises(InputError, match=rf"UNSUPPORTED_PAIR other: {said}.*--features"):
        Likeness(of_masks, other, "cpu")
    with pytest.raises(InputError, match=rf"UNSUPPORTED_PAIR other: {said}.*--downstream"):
        Downstream(of_masks, other, (), (), "cpu")


def test_the_command_prints_both(
    of_classes: Run, classifier: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["hounsfield", "evaluate", of_classes.root, "--features", classifier.root, "--downstream", classifier.root]
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--json", "--device", "cpu"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert figures["psnr"]["n"] == figures["feature_distance"]["n"] == figures["downstream_gap"]["n"]
