"""A generator evaluated: beside real images, by named features, with copies found and pictures of what was compared."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from hounsfield.core.errors import InputError
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.tasks.parts import features
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.evaluate import evaluate, stored
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run
from hounsfield.workflow.sets import LEARNING_SHARE, Beside, learning, measure_sets, trained


def test_a_run_is_measured_on_its_test_part_alone(painter: Run) -> None:
    (found,) = stored(painter)
    assert (found.part, found.used_for, found.headline) == ("test", "report", "kid")
    assert [row["id"] for row in found.rows] == list(painter.split.test)
    assert all(math.isfinite(float(row["nearest"])) for row in found.rows)
    figure = found.metrics["kid"]
    assert figure.n == len(painter.split.test)
    assert "6 real and as many generated images, features of a network of random weights (" in figure.note
    assert "at least 33 wanted" in found.metrics["fid"].note
    assert "at least 20 wanted" in found.metrics["copies"].note
    names = {f.name for f in (painter.root / "evaluation").iterdir()}
    assert names == {"test.json", "test-real.png", "test-generated.png"}


def test_evaluated_again_it_has_the_same_figures(painter: Run) -> None:
    again, (before,) = evaluate(painter, device="cpu"), stored(painter)
    assert again.metrics["kid"].value == pytest.approx(before.metrics["kid"].value, rel=1e-6)
    assert again.used_for == evaluate(painter, split="val", device="cpu").used_for == "report"


def test_the_training_part_cannot_be_compared_with_itself(painter: Run) -> None:
    with pytest.raises(InputError, match="TOO_FEW training images: found none beside those compared"):
        evaluate(painter, split="train", device="cpu")


def test_images_of_other_channels_are_refused(painter: Run, tmp_path: Path) -> None:
    for k, name in enumerate(("healthy", "lesion")):
        (tmp_path / "data" / name).mkdir(parents=True)
        noise = np.random.default_rng(k).integers(0, 256, (20, 20, 3)).astype(np.uint8)
        Pillow.fromarray(noise).save(tmp_path / "data" / name / "a.png")
    with pytest.raises(InputError, match=r"CHANNELS .*found 3 channels, expected 1"):
        evaluate(painter, tmp_path / "data", device="cpu")


def test_another_dataset_is_compared_too(painter: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "others", "classification", n=8, seed=77)
    found = evaluate(painter, tmp_path / "others", device="cpu")
    assert (found.part, found.used_for, len(found.rows)) == ("others", "another dataset", 8)


def test_a_classifier_of_ones_own_judges(painter: Run, classifier: Run) -> None:
    judge = trained(classifier, painter, "cpu")
    assert judge.about.startswith("features of resnet of run classifier (")
    found = evaluate(painter, features=classifier.root, device="cpu")
    assert judge.about in found.metrics["kid"].note


def test_of_several_networks_the_first_judges_and_that_is_said(painter: Run, classifier: Run, tmp_path: Path) -> None:
    both = shutil.copytree(classifier.root, tmp_path / "both")
    shutil.copytree(both / "members" / "0-0", both / "members" / "0-1")
    judge = trained(Run(both), painter, "cpu")
    assert judge.about.startswith("features of resnet of run both, the first of its 2 networks (")
    assert judge.digest == trained(classifier, painter, "cpu").digest


def test_only_classifiers_judge_and_only_generators_are_judged(painter: Run, classifier: Run) -> None:
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR .*found a run of generation, expected one of classification"):
        evaluate(painter, features=painter.root, device="cpu")
    with pytest.raises(InputError, match="BAD_OPTION --features: found a run of classification"):
        evaluate(classifier, features=painter.root, device="cpu")


def test_features_are_learned_from_what_nothing_else_uses(painter: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "FEWEST", 3)
    monkeypatch.setattr(features.learn, "__kwdefaults__", {**(features.learn.__kwdefaults__ or {}), "steps": 2})
    found = evaluate(painter, device="cpu")
    assert f"a network that learned from {len(painter.split.val)} other images" in found.metrics["kid"].note
    on_val = evaluate(painter, split="val", device="cpu")
    assert "random weights" in on_val.metrics["kid"].note


def test_learning_is_part_of_a_budget_only_where_it_is_little_of_it(painter: Run) -> None:
    takes = learning(painter.plan, features.FEWEST, None)
    assert takes > 0
    assert learning(painter.plan, features.FEWEST - 1, None) == 0
    assert learning(painter.plan, features.FEWEST, takes / LEARNING_SHARE * 1.01) == takes
    assert learning(painter.plan, features.FEWEST, takes / LEARNING_SHARE * 0.99) == 0


def test_planted_copies_fail_and_are_drawn(painter: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "data", "classification", n=60, seed=5)
    samples = open_dataset(tmp_path / "data").samples
    held, known = samples[::3], [s for k, s in enumerate(samples) if k % 3]
    predictor = Predictor(painter, "cpu")
    fresh = open_dataset(tmp_path / "data").samples[::3]
    honest = torch.stack([predictor.prepare(predictor.read(s)).tensor for s in fresh])
    honest = (honest + 0.05 * torch.randn(honest.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    copied = honest.clone()
    copied[:5] = torch.stack([predictor.prepare(predictor.read(s)).tensor for s in known[:5]])
    for values, copies in ((honest, 0), (copied, 5)):
        monkeypatch.setattr(predictor.solver, "generate", lambda *given, values=values: values)
        found = measure_sets(predictor, held, Beside(known), SILENT)
        assert found.figures["copies"].value == pytest.approx(copies / len(held)), found.figures["copies"]
    assert "failed: 5 near copies" in found.figures["copies"].note
    assert found.pictures["closest"].shape[2] == 3


def test_the_report_shows_both_and_says_what_is_synthetic(painter: Run) -> None:
    page = report(painter, device="cpu").read_text()
    assert "it shows no patient" in page
    assert page.count('<img src="data:image') == 2
    assert "What the model looked at" not in page
    assert "to draw new images of healthy and lesion" in page
    assert "KID of real images" in page


def test_figures_are_json(painter: Run) -> None:
    written = json.loads((painter.root / "evaluation" / "test.json").read_text())
    assert written["task"] == "generation"
    assert {"kid", "kid_real", "coverage", "coverage_real", "diversity", "copies", "nearer_train"} <= set(written["metrics"])
