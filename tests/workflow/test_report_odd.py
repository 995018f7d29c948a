"""Reports of runs out of the ordinary: stopped, slowed, of several folds, of two hundred classes, without time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import cast

import pytest
from tests.workflow.test_report import Page, copy_of, moved
from torch import nn

from hounsfield.core.plan import Plan
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run, read_json, write_json


def folded(run: Run, folder: Path) -> Run:
    """A copy of the run as of two folds: two members, and what they say about the cases they did not learn from."""
    run = copy_of(run, folder)
    shutil.move(run.root / "members" / "0-0", run.root / "members" / "kept")
    for name in ("0-0", "1-0"):
        shutil.copytree(run.root / "members" / "kept", run.root / "members" / name)
    shutil.rmtree(run.root / "members" / "kept")
    whole = read_json(run.root / "evaluation" / "val.json")
    write_json(run.root / "evaluation" / "folds.json", {**whole, "part": "folds", "used_for": "development"})
    written = read_json(run.root / "split.json")
    ids = sorted(written["train"] + written["val"])
    halves = [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
    write_json(run.root / "split.json", {**written, "folds": halves})
    return Run(folder)


def test_an_unfinished_run_has_a_report(segmenter: Run, tmp_path: Path) -> None:
    run = copy_of(segmenter, tmp_path / "run")
    shutil.rmtree(run.root / "evaluation")
    for weights in run.root.glob("members/*/weights.safetensors"):
        weights.unlink()
    page = Page(report(run, device="cpu"))
    assert "No pictures: nothing was evaluated yet" in page.text
    assert page.tags["img"] == 0
    assert len(re.findall("<svg viewBox", page.html)) >= 2  # loss and learning rate
    assert '<div class="card">' not in page.html
    assert "stopped before the 12 that were planned" in page.text
    assert "has not been measured yet" in page.text
    shutil.rmtree(run.root / "members")
    assert "No step was taken." in Page(report(run, device="cpu")).text


def test_fewer_steps_than_planned_are_told(segmenter: Run, tmp_path: Path) -> None:
    run = moved(segmenter, tmp_path / "run")
    log = next(run.root.glob("members/*/metrics.jsonl"))
    log.write_text("".join(f"{line}\n" for line in log.read_text().splitlines()[:7]))
    page = Page(report(run, device="cpu"))
    assert "7 steps" in page.text
    assert "12 steps were planned, and the rate annealed early" in page.text
    assert "12 steps were planned" not in Page(segmenter.root / "report.html").text


def test_the_time_of_the_run_stands_in_it(segmenter: Run, tmp_path: Path) -> None:
    run = moved(segmenter, tmp_path / "run")
    stages = [{"name": "read", "start": 0.0, "end": 3.0}, {"name": "train 0-0", "start": 4.0, "end": 44.0}]
    write_json(run.root / "timeline.json", {"budget": 60.0, "stages": stages})
    log = next(run.root.glob("members/*/metrics.jsonl"))
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for k, row in enumerate(rows):
        row.update(seconds=1.0 * (k + 1), wait=0.003, augment=0.1)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(report(run, device="cpu"))
    assert "73% of the budget of 60 s" in page.text
    assert "The step waited 0.3% of the time for data; 10% went into augmentation" in page.text
    assert "#time" in page.all("href", "a")
    bars = [style for style in page.all("style", "i") if "left" in style]
    assert "left: 6.67%; width: 66.67%" in bars
    for old in ("timeline.json", *(str(p.relative_to(run.root)) for p in [log])):
        (run.root / old).unlink()
    page = Page(report(run, device="cpu"))
    assert "Where the time went" not in page.text
    assert "#time" not in page.all("href", "a")


def test_members_of_folds_are_told_apart_from_the_whole(segmenter: Run, tmp_path: Path) -> None:
    run = folded(segmenter, tmp_path / "run")
    page = Page(report(run, device="cpu"))
    assert "The development estimate" in page.text
    assert "each case predicted only by those that did not train on it" in page.text
    assert "Figures on the out-of-fold part" in page.text
    assert "2 networks, each a unet" in page.text
    assert "2 members" in page.text
    sizes = ", ".join(str(len(fold)) for fold in run.split.folds)
    assert f"in folds of {sizes} cases" in page.text
    order = [page.text.index(f"Figures on the {part} part") for part in ("test", "out-of-fold", "validation")]
    assert order == sorted(order)
    assert page.text.count("member 1-0") >= 2  # each curve names it, that of the looks where there were some


def test_cases_out_of_fold_are_predicted_by_the_members_of_their_fold(
    segmenter: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folded(segmenter, tmp_path / "run")
    (run.root / "evaluation" / "test.json").unlink()
    used: list[int] = []
    made = Predictor.of.__func__  # type: ignore[attr-defined]

    def of(cls: type[Predictor], plan: Plan, models: list[nn.Module]) -> Predictor:
        used.append(len(models))
        return cast(Predictor, made(cls, plan, models))

    monkeypatch.setattr(Predictor, "of", classmethod(of))
    page = Page(report(run, device="cpu"))
    assert used
    assert set(used) == {1}  # of the two members
    assert "predicted anew by the members that did not train on them" in page.text


def test_pictures_wait_for_time(classifier: Run, tmp_path: Path) -> None:
    run = copy_of(classifier, tmp_path / "run")
    page = Page(report(run, device="cpu", seconds=-1.0))
    assert page.tags["img"] == 0
    assert "No pictures: the budget left no time for them" in page.text


def test_two_hundred_classes_stay_a_page(classifier: Run, tmp_path: Path) -> None:
    run = moved(classifier, tmp_path / "run")
    names = [f"class-{k:03d}" for k in range(200)]
    plan = read_json(run.root / "plan.json")
    plan["classes"] = [{"value": k, "name": name} for k, name in enumerate(names)]
    write_json(run.root / "plan.json", plan)
    counts = {part: dict.fromkeys(names, 3) for part in ("train", "val", "test")}
    write_json(run.root / "run.json", {**run.record, "classes": counts})
    found = read_json(run.root / "evaluation" / "test.json")
    (run.root / "evaluation" / "val.json").unlink()
    others = {f"p_{name}": 0.001 for name in names}
    found["cases"] = [
        {
            "id": f"case-{k}-{j}",
            "truth": name,
            "unknown": "",
            "prediction": "class-007" if k == 5 else name,
            **others,
            f"p_{name}": 0.8,
        }
        for k, name in enumerate(names)
        for j in range(3)
    ]
    write_json(run.root / "evaluation" / "test.json", found)
    page = Page(report(run, device="cpu"))
    assert "These are the 10 classes that were recognised least" in page.text
    assert "All 200 classes" in page.text
    matrix = page.html.split('<table class="matrix')[1].split("</table>")[0]
    assert matrix.count("<tr>") == 11
    assert "class-005" in matrix
    assert "class-007" in matrix
    folded_away = re.sub(r"<details>.*?</details>", "", page.html, flags=re.DOTALL)
    assert folded_away.count("class-1") < 20
    assert len(page.html) < 400_000
