"""The plan as a command: what it says, what contradicts itself, what fits neither time nor memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Rich

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.plan.budget import Budget
from hounsfield.workflow.plan import settled_options
from hounsfield.workflow.propose import Proposal, propose, save, show
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, read_plan
from hounsfield.workflow.train import train


def text(proposal: Proposal) -> str:
    console = Rich(width=160)
    with console.capture() as caught:
        console.print(show(proposal))
    return caught.get()


def test_every_line_of_the_table_has_a_reason_and_the_head_says_what_it_takes(phantoms: Path) -> None:
    found = propose(phantoms, Options(budget="7steps", device="cpu"))
    said = text(found)
    assert "segmentation with unet: one network of" in said
    assert "7 steps of" in said
    assert "GiB predicted on cpu" in said
    assert "FLOP a step" in said
    assert "activations" in said
    assert "training.batch" in said
    for key, reason in found.plan.reasons.items():
        assert reason, key
    assert found.step is not None
    assert found.seconds["train"] == pytest.approx(7 * found.step, abs=0.06)
    assert found.seconds["evaluate and report"] is None
    document = found.to_json()
    assert document["plan"]["training"]["steps"] == 7
    assert document["memory_bytes"] == sum(document["memory"].values()) > 10**6
    assert document["memory"]["weights"] == 4 * found.parameters
    assert document["flops_per_step"] > 10**6
    assert 0 < document["seconds_per_step"] < 10
    json.dumps(document, allow_nan=False)


def test_a_time_is_divided_before_it_is_spent(phantoms: Path) -> None:
    found = propose(phantoms, Options(budget="60s", device="cpu"))
    parts = [value for value in found.seconds.values() if value is not None]
    assert list(found.seconds) == ["read", "prepare", "measure", "train", "evaluate and report"]
    assert 40 <= sum(parts) <= 60


def test_a_saved_plan_is_obeyed(phantoms: Path, tmp_path: Path) -> None:
    found = propose(phantoms, Options(budget="3steps", device="cpu", seed=4))
    save(found, tmp_path / "plan.json")
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        save(found, tmp_path / "plan.json")
    save(found, tmp_path / "plan.json", overwrite=True)
    run = train(phantoms, tmp_path / "run", Options(plan=tmp_path / "plan.json", seed=4, device="cpu"))
    assert run.plan == read_plan(tmp_path / "plan.json") == found.plan


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": "5m", "changes": {"training.steps": 9}}, ["--set training.steps=9", "--budget 5m"]),
        ({"size": "base", "changes": {"model_options.width": 8}}, ["--size base", "width=8"]),
        ({"plan": Path("p.json"), "model": "unet"}, ["--model unet", "--plan p.json"]),
        ({"model": "timm:resnet18", "changes": {"model_options.name": "resnet34"}}, ["--model timm:resnet18", "name=resnet34"]),
        ({"changes": {"members.folds": 3}}, ["--folds"]),
        ({"changes": {"seed": 3}}, ["--seed"]),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        settled_options(Options(**options))
    assert caught.value.code == "BAD_OPTION"
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_steps_of_the_user_are_a_budget() -> None:
    assert settled_options(Options(changes={"training.steps": 9}))[1] == Budget(steps=9)
    assert settled_options(Options())[1] == Budget(seconds=600)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch": [50, 64]}, "patch: found \\[50, 64\\] beside the strides"),
        ({"grid.size": [64, 64]}, "patch = .* of whole images of grid.size"),
        ({"training.batch": 0}, "training.batch"),
        ({"members.sede": 1}, "did you mean 'members.seeds'"),
    ],
)
def test_values_that_exclude_each_other(phantoms: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"BAD_PLAN .*{words}"):
        propose(phantoms, Options(budget="3steps", changes=changes, device="cpu"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": 2}, "schema"),
        ({"task": "classification", "model": "resnet", "task_options": {}, "model_options": {}}, "a plan for classification"),
        ({"classes": [{"value": 1, "name": "moon"}]}, "classes moon"),
    ],
)
def test_a_plan_of_another_schema_task_or_dataset(
    phantoms: Path, segmenter: Run, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    values = json.loads((segmenter.root / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**values, **changes}))
    with pytest.raises(InputError, match=f"BAD_PLAN .*{words}"):
        train(phantoms, tmp_path / "run", Options(plan=tmp_path / "plan.json", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_what_no_memory_holds_is_refused_and_says_what_would_fit(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model_options.width": 64, "training.batch": 16, "patch": [64, 64], "training.recompute": False}
    fits = propose(phantoms, Options(budget="3steps", changes={**changes, "training.batch": 2}, device="cpu")).memory.total
    monkeypatch.setattr("hounsfield.plan.memory.available", lambda device: int(1.05 * fits))
    with pytest.raises(ResourceError, match=r"OUT_OF_MEMORY .*GiB.*--set "):
        propose(phantoms, Options(budget="3steps", changes=changes, device="cpu"))


def test_a_budget_too_small_names_the_least_that_would_do(phantoms: Path) -> None:
    with pytest.raises(ResourceError, match=r"BUDGET_TOO_SMALL .*at least \d+ s: .*one epoch.*--budget \d+s"):
        propose(phantoms, Options(budget="2s", device="cpu"))


def test_a_word_for_the_size(phantoms: Path) -> None:
    found = propose(phantoms, Options(budget="3steps", size="tiny", device="cpu"))
    assert 0.5e6 < found.parameters < 2e6
    assert "--size tiny" in " ".join(found.plan.reasons.values())
