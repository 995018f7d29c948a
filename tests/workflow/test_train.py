"""Training from a folder to a run: what it leaves behind, that it repeats, resumes, and refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hounsfield.core.errors import DivergedError, HounsfieldError, InputError, ResourceError
from hounsfield.workflow.console import Silent
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, read_plan
from hounsfield.workflow.train import train

STEPS = Options(budget="4steps", device="cpu")


def weights(run: Run) -> bytes:
    return next(run.root.glob("members/*/weights.safetensors")).read_bytes()


def test_a_run_holds_everything_that_it_is(segmenter: Run) -> None:
    names = {str(p.relative_to(segmenter.root)) for p in segmenter.root.rglob("*") if p.is_file()}
    assert names == {
        "plan.json",
        "split.json",
        "fingerprint.json",
        "run.json",
        "environment.json",
        "timeline.json",
        "members/0-0/weights.safetensors",
        "members/0-0/last/checkpoint.safetensors",
        "members/0-0/metrics.jsonl",
        "evaluation/val.json",
        "evaluation/test.json",
        "report.html",
    }
    for path in segmenter.root.rglob("*.json"):
        assert json.loads(path.read_text())["schema"] == 1, path.name
    steps = [json.loads(line)["step"] for line in (segmenter.root / "members/0-0/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13))


def test_the_test_part_is_apart(segmenter: Run) -> None:
    split = segmenter.split
    assert len(split.test) > 0
    assert not set(split.test) & {*split.train, *split.val}
    cases = json.loads((segmenter.root / "evaluation" / "test.json").read_text())["cases"]
    assert [c["id"] for c in cases] == sorted(split.test)


def test_every_plan_value_that_the_rules_chose_has_a_reason(segmenter: Run) -> None:
    reasons = segmenter.plan.reasons
    for key in ("patch", "normalise", "training.batch", "training.steps", "training.amp", "augment.mirror", "model"):
        assert reasons[key]


def test_the_same_plan_and_seed_give_the_same_bits(phantoms: Path, segmenter: Run, tmp_path: Path) -> None:
    again = train(phantoms, tmp_path / "again", Options(plan=segmenter.root / "plan.json", test=0.2, device="cpu"))
    assert weights(again) == weights(segmenter)
    other = train(phantoms, tmp_path / "other", Options(plan=segmenter.root / "plan.json", test=0.2, seed=1, device="cpu"))
    assert weights(other) != weights(segmenter)


def test_single_changes_are_recorded_as_the_users(phantoms: Path, tmp_path: Path) -> None:
    changes = {"model_options.width": 16, "training.lr": 0.01}
    run = train(phantoms, tmp_path / "run", Options(budget="2steps", changes=changes, device="cpu"))
    assert run.plan.training.lr == 0.01
    assert run.plan.model_dump()["model_options"]["width"] == 16
    assert run.plan.reasons["training.lr"] == "set by --set"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"trainng.lr": 1}, "BAD_PLAN", ["'trainng.lr'", "'training.lr'"]),
        ({"model_options.widht": 8}, "BAD_PLAN", ["'model_options.widht'", "'model_options.width'"]),
        ({"training.lr": "fast"}, "BAD_PLAN", ["training.lr", "'fast'", "number"]),
    ],
)
def test_a_typo_in_set_names_the_nearest_key(
    phantoms: Path, tmp_path: Path, changes: dict[str, object], code: str, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        train(phantoms, tmp_path / "run", Options(budget="2steps", changes=changes, device="cpu"))
    assert caught.value.code == code
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_typo_in_a_plan_file_names_the_nearest_key(phantoms: Path, segmenter: Run, tmp_path: Path) -> None:
    values = json.loads((segmenter.root / "plan.json").read_text())
    values["training"]["stpes"] = values["training"].pop("steps")
    (tmp_path / "plan.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"BAD_PLAN .*unknown key 'training.stpes'.*did you mean 'steps'"):
        train(phantoms, tmp_path / "run", Options(plan=tmp_path / "plan.json", device="cpu"))


def test_yaml_is_refused_and_nothing_runs(phantoms: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "plan.yaml").write_text(f"task: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(InputError, match="UNSAFE_FILE"):
        train(phantoms, tmp_path / "run", Options(plan=tmp_path / "plan.yaml", device="cpu"))
    assert not mark.exists()


def test_an_existing_run_is_refused_and_left_alone(phantoms: Path, segmenter: Run) -> None:
    before = {p: p.stat().st_mtime_ns for p in segmenter.root.rglob("*")}
    with pytest.raises(InputError, match=r"RUN_EXISTS .*--resume"):
        train(phantoms, segmenter.root, STEPS)
    assert {p: p.stat().st_mtime_ns for p in segmenter.root.rglob("*")} == before


def test_overwrite_never_removes_a_folder_that_is_no_run(phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(InputError, match="RUN_EXISTS"):
        train(phantoms, tmp_path, STEPS, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_an_unlabelled_folder_cannot_be_trained_on(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"UNKNOWN_LAYOUT .*imagesTr: found bids: no .*; class_folders: no .*; image_masks: no .*; nnunet: no "
    ):
        train(phantoms / "imagesTr", tmp_path / "run", STEPS)
    assert not (tmp_path / "run").exists()


def test_a_model_of_the_wrong_kind_is_named(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR .*--model unet"):
        train(phantoms, tmp_path / "run", Options(budget="2steps", model="resnet", device="cpu"))
    with pytest.raises(InputError, match=r"UNKNOWN_MEMBER .*did you mean 'unet'"):
        train(phantoms, tmp_path / "run", Options(budget="2steps", model="unett", device="cpu"))


def test_a_budget_without_time_for_a_step(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="BUDGET_TOO_SMALL"):
        train(phantoms, tmp_path / "run", Options(budget="0.05s", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_stops_before_anything_is_written(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"total": 10**12, "used": 10**12, "free": 10})
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match="DISK_FULL"):
        train(phantoms, tmp_path / "run", STEPS)
    assert not (tmp_path / "run").exists()


def test_too_little_memory_names_the_smaller_setting(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("hounsfield.workflow.train.fit", fail)
    with pytest.raises(ResourceError, match=r"OUT_OF_MEMORY .*20.00 GiB.*--set training.batch=\d+ --set training.accumulate=2"):
        train(phantoms, tmp_path / "run", STEPS)


def test_a_rate_that_is_too_high_stops_with_the_cases(phantoms: Path, tmp_path: Path) -> None:
    changes = {"training.lr": 1e30, "training.clip": 0}
    with pytest.raises(DivergedError, match=r"NAN_LOSS .*step") as caught:
        train(phantoms, tmp_path / "run", Options(budget="30steps", changes=changes, device="cpu"))
    assert caught.value.exit_code == 4
    told = json.loads((tmp_path / "run/members/0-0/diverged.json").read_text())
    assert told["cases"]
    assert set(told["cases"]) <= set(Run(tmp_path / "run").split.train)


def test_a_damaged_cache_entry_is_rebuilt_and_said(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "cache"))
    first = train(phantoms, tmp_path / "first", STEPS)
    victim = next((tmp_path / "cache").rglob("image.b2nd"))
    victim.write_bytes(victim.read_bytes()[:-20])
    said: list[str] = []
    console = type("Told", (Silent,), {"say": lambda self, message: said.append(message)})()
    second = train(phantoms, tmp_path / "second", Options(plan=first.root / "plan.json", device="cpu"), console=console)
    assert any("1 damaged entries rebuilt" in line for line in said)
    assert weights(second) == weights(first)


def test_killed_at_any_moment_it_resumes_to_the_same_bits(phantoms: Path, tmp_path: Path) -> None:
    """The long form, with ten kills, is benchmarks/kill_resume.py."""
    environment = {**os.environ, "HOUNSFIELD_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def command(out: str, *more: str) -> list[str]:
        base = [sys.executable, "-m", "hounsfield", "train", str(phantoms), "--out", str(tmp_path / out), "--device", "cpu"]
        return [*base, *more]

    subprocess.run(command("whole", "--budget", "60steps"), env=environment, check=True, capture_output=True)
    again = command("killed", "--plan", str(tmp_path / "whole/plan.json"), "--resume")
    log, checkpoint = (tmp_path / "killed/members/0-0" / name for name in ("metrics.jsonl", "last/checkpoint.safetensors"))
    for awaited in (log, checkpoint):
        process = subprocess.Popen(again, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not awaited.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(again, env=environment, check=True, capture_output=True)
    assert weights(Run(tmp_path / "killed")) == weights(Run(tmp_path / "whole"))
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(1, 61))


def test_resuming_a_finished_run_changes_no_weight(phantoms: Path, tmp_path: Path) -> None:
    run = train(phantoms, tmp_path / "run", STEPS)
    before = weights(run)
    assert weights(train(phantoms, run.root, STEPS, resume=True)) == before


def test_a_second_sitting_has_a_budget_of_its_own(phantoms: Path, tmp_path: Path) -> None:
    """Ten minutes after the first began; the schedule goes on where it was, and all of it fits."""
    run = train(phantoms, tmp_path / "run", STEPS, started=time.monotonic() - 600)
    for name in ("weights.safetensors", "last/checkpoint.safetensors"):
        (run.root / "members/0-0" / name).unlink()
    again = train(phantoms, run.root, Options(budget="60s", device="cpu"), resume=True)
    told = json.loads((again.root / "timeline.json").read_text())
    second = [row for row in told["stages"] if row["name"] == "read"][1]
    assert told["budget"] == pytest.approx(second["start"] + 60, abs=1)
    assert len((again.members[0] / "metrics.jsonl").read_text().splitlines()) == 4
    assert all(one["end"] <= other["end"] for one, other in pairwise(told["stages"]))


def test_weights_of_another_model_are_refused(segmenter: Run, classifier: Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(segmenter.root, copy)
    target = copy / "members/0-0/weights.safetensors"
    shutil.copy(classifier.members[0] / "weights.safetensors", target)
    with pytest.raises(InputError, match=r"BAD_WEIGHTS .*missing \d+ of \d+ such as \S+, \S+, \S+; unknown \d+ of \d+ such"):
        Run(copy).models(torch.device("cpu"))
    whole = (segmenter.members[0] / "weights.safetensors").read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"BAD_WEIGHTS .*{len(whole) // 2} bytes that do not parse"):
        Run(copy).models(torch.device("cpu"))


def test_a_pickle_as_weights_is_refused_and_nothing_runs(segmenter: Run, tmp_path: Path) -> None:
    import shutil

    copy, mark = tmp_path / "run", tmp_path / "ran"
    shutil.copytree(segmenter.root, copy)

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {mark}",)

    torch.save({"weights": Payload()}, copy / "members/0-0/weights.safetensors")
    with pytest.raises(InputError, match=r"UNSAFE_FILE .*pickle"):
        Run(copy).models(torch.device("cpu"))
    assert not mark.exists()


@pytest.mark.parametrize("text", ["", "soon", "10", "-5m", "0s", "5 lightyears"])
def test_a_budget_that_cannot_be_read(text: str) -> None:
    from hounsfield.plan.budget import Budget

    with pytest.raises(HounsfieldError, match="BAD_OPTION --budget"):
        Budget.parse(text)


def test_final_weights_are_the_last_ones(segmenter: Run) -> None:
    checkpoint = load_file(segmenter.root / "members/0-0/last/checkpoint.safetensors")
    final = load_file(segmenter.members[0] / "weights.safetensors")
    assert {f"model/{k}" for k in final} == {k for k in checkpoint if k.startswith("model/")}
    assert all(torch.equal(final[k], checkpoint[f"model/{k}"]) for k in final)
    assert not any(k.startswith("average/") for k in checkpoint)


def test_the_written_plan_reads_back(segmenter: Run) -> None:
    assert read_plan(segmenter.root / "plan.json") == segmenter.plan
