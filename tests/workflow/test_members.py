"""Several members in one run: folds and seeds, trained, resumed, predicting together, and measured out of their folds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hounsfield.core.prediction import ClassScores
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train

NAMES = ["0-0", "0-1000", "1-0", "1-1000"]


@pytest.fixture(scope="module")
def run(classed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two folds of two seeds, three steps each."""
    options = Options(budget="3steps", folds=2, seeds=2, test=0.25, device="cpu")
    return train(classed, tmp_path_factory.mktemp("members") / "run", options)


def probabilities(predictor: Predictor, run: Run, name: str) -> np.ndarray:
    sample = next(s for s in run.dataset().samples if s.id == name)
    found = predictor(sample)
    assert isinstance(found, ClassScores)
    return found.probabilities


def test_every_member_is_its_own_network(run: Run) -> None:
    assert [m.name for m in run.members] == NAMES
    assert (run.plan.members.folds, run.plan.members.seeds) == (2, 2)
    assert len({(m / "weights.safetensors").read_bytes() for m in run.members}) == 4
    for member in run.members:
        assert len((member / "metrics.jsonl").read_text().splitlines()) == 3
    stages = [row["name"] for row in json.loads((run.root / "timeline.json").read_text())["stages"]]
    assert stages[-6:] == [*(f"train {name}" for name in NAMES), "evaluate test", "evaluate folds"]


def test_the_run_predicts_with_the_mean_of_its_members(run: Run) -> None:
    name = run.split.test[0]
    single = [Predictor.of(run.plan, [model]) for model in run.models(torch.device("cpu"))]
    mean = np.mean([probabilities(p, run, name) for p in single], axis=0)
    np.testing.assert_allclose(probabilities(Predictor(run, "cpu"), run, name), mean, atol=1e-6)


def test_out_of_fold_figures_come_from_members_that_did_not_see_the_case(run: Run) -> None:
    stored = json.loads((run.root / "evaluation/folds.json").read_text())
    assert (stored["part"], stored["used_for"]) == ("folds", "development")
    assert sorted(row["id"] for row in stored["cases"]) == sorted(run.split.train)
    for fold, names in enumerate(run.split.folds):
        alone = Predictor.of(run.plan, run.models(torch.device("cpu"), fold))
        row = next(r for r in stored["cases"] if r["id"] == names[0])
        given = [row[f"p_{c.name}"] for c in run.plan.classes]
        np.testing.assert_allclose(given, probabilities(alone, run, names[0]), atol=1e-6)


def test_evaluate_gives_the_same_out_of_fold_figures(run: Run) -> None:
    stored = json.loads((run.root / "evaluation/folds.json").read_text())
    again = evaluate(run, split="folds", device="cpu")
    assert again.metrics["auroc"].value == pytest.approx(stored["metrics"]["auroc"]["value"])
    assert evaluate(run, device="cpu").part == "test"


def test_resuming_trains_only_what_is_missing_to_the_same_bits(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run.root, copy)
    for name in ("1-0", "1-1000"):
        shutil.rmtree(copy / "members" / name)
    kept = (copy / "members/0-0/weights.safetensors").stat().st_mtime_ns
    again = train("unused", copy, Options(device="cpu"), resume=True)
    assert (copy / "members/0-0/weights.safetensors").stat().st_mtime_ns == kept
    for one, other in zip(run.members, again.members, strict=True):
        assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()


def test_a_member_is_what_its_plan_alone_would_give(run: Run, classed: Path, tmp_path: Path) -> None:
    again = train(classed, tmp_path / "again", Options(plan=run.root / "plan.json", test=0.25, device="cpu"))
    assert [(m / "weights.safetensors").read_bytes() for m in again.members] == [
        (m / "weights.safetensors").read_bytes() for m in run.members
    ]


def test_members_beyond_nine_keep_their_order(tmp_path: Path, run: Run) -> None:
    (tmp_path / "plan.json").write_text("{}")
    for name in ("10-0", "2-0", "2-10", "2-9"):
        (tmp_path / "members" / name).mkdir(parents=True)
        (tmp_path / "members" / name / "weights.safetensors").touch()
    assert [m.name for m in Run(tmp_path).members] == ["2-0", "2-9", "2-10", "10-0"]
