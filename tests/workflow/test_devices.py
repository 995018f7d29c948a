"""The whole way from a folder to a report on two devices: what one learns and measures, said once; one does without Fabric."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hounsfield.workflow.console import SILENT
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.fit import Member, read_log
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train


@pytest.fixture(scope="module")
def two(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of four steps on two processes, whose weights are sharded."""
    if find_spec("lightning_fabric") is None:
        pytest.skip("the extra scale is not installed")
    options = Options(
        budget="4steps", test=0.2, device="cpu", devices=2, strategy="fsdp", changes={"training.batch": 4, "training.ema": 0.9}
    )
    return train(phantoms, tmp_path_factory.mktemp("devices") / "two", options, console=SILENT)


@pytest.fixture(scope="module")
def one(phantoms: Path, two: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same plan obeyed by one process."""
    options = Options(plan=two.root / "plan.json", test=0.2, device="cpu")
    return train(phantoms, tmp_path_factory.mktemp("devices") / "one", options)


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in read_log(Member(run.root / "members" / "0-0"))]


def test_the_plan_says_how_a_step_is_shared(two: Run) -> None:
    assert (two.plan.training.batch, two.plan.training.accumulate) == (2, 2)
    assert two.plan.reasons["training.accumulate"] == "2 devices share the 4 samples of a step in 2 parts"


def test_the_loss_curves_are_equal(one: Run, two: Run) -> None:
    assert len(losses(one)) == 4
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)


@pytest.mark.parametrize("part", ["val", "test"])
def test_every_case_is_measured_once(one: Run, two: Run, part: str) -> None:
    first, second = (json.loads((run.root / "evaluation" / f"{part}.json").read_text()) for run in (one, two))
    assert [row["id"] for row in second["cases"]] == [row["id"] for row in first["cases"]] == sorted(getattr(two.split, part))
    for name, figure in first["metrics"].items():
        assert second["metrics"][name] == pytest.approx(figure, abs=2e-3, nan_ok=True), name


def test_figures_of_two_processes_are_those_of_one(two: Run) -> None:
    """Of the same weights: to the last digit, as each case is computed by one process and all cases by one."""
    stored = json.loads((two.root / "evaluation" / "test.json").read_text())
    again = evaluate(two, split="test", device="cpu")
    assert again.to_json()["metrics"] == stored["metrics"]
    assert [dict(row) for row in again.rows] == stored["cases"]


def test_a_run_of_several_holds_what_any_run_holds(one: Run, two: Run) -> None:
    def names(run: Run) -> set[str]:
        files = {str(p.relative_to(run.root)) for p in run.root.rglob("*") if p.is_file()}
        return {name for name in files if "/last/" not in name}

    assert names(two) == names(one)
    last = two.root / "members/0-0/last"
    assert {str(p.relative_to(last)) for p in last.rglob("*") if p.is_file()} == {
        "checkpoint.json",
        "4-of-2/0.safetensors",
        "4-of-2/1.safetensors",
    }


def test_one_device_does_without_fabric(one: Run) -> None:
    assert one.members
    assert "lightning_fabric" not in sys.modules
