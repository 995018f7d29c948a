"""Two processes on one CPU beside one: what they learn and measure, and the memory of each with all weights or rows of them.

`python benchmarks/devices.py` prints one JSON document. equality: of a training by one process and by two of the same plan, the
largest difference of the losses, and whether evaluation by one process gives what two had stored. memory: of each process of a
training of `--size large`, bytes that it held before and at its peak, over steps on noise and a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from memory import CASES, Noise, make, resident

from hounsfield.core.plan import Plan
from hounsfield.data.cache import Entry
from hounsfield.data.loader import Loader
from hounsfield.data.phantoms import write_dataset
from hounsfield.plan.budget import keep_freed_memory
from hounsfield.plan.devices import divided
from hounsfield.plan.sizes import parameters, sized
from hounsfield.tasks import TASKS
from hounsfield.workflow import fit as training
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.place import Place
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, build
from hounsfield.workflow.several import together
from hounsfield.workflow.train import train

STRATEGIES = ("ddp", "fsdp")
LARGE: dict[str, Any] = {"ndim": 3, "patch": [32, 32, 32], "batch": 2}


def equality(folder: Path, steps: int) -> dict[str, Any]:
    """By task and strategy."""
    found: dict[str, Any] = {}
    for task in ("segmentation", "classification"):
        data = folder / task
        write_dataset(data, task, ndim=2, n=24, seed=0)
        plan, alone = None, None
        for strategy in STRATEGIES:
            # Four samples a step, so that each process has some of every step.
            changes = {"training.batch": 4} if plan is None else None
            options = Options(
                plan=plan, changes=changes, budget=None if plan else f"{steps}steps", device="cpu", devices=2, strategy=strategy
            )
            run = train(data, folder / f"{task}-{strategy}", options)
            plan = run.root / "plan.json"
            alone = alone or train(data, folder / f"{task}-one", Options(plan=plan, device="cpu"))
            stored = json.loads((run.root / "evaluation" / "val.json").read_text())
            found[f"{task} {strategy}"] = {
                "steps": steps,
                "loss_difference": max(abs(a - b) for a, b in zip(losses(run), losses(alone), strict=True)),
                "figures_equal": evaluate(run, split="val", device="cpu").to_json()["metrics"] == stored["metrics"],
            }
    return found


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in training.read_log(training.Member(run.root / "members" / "0-0"))]


def memory(folder: Path) -> dict[str, Any]:
    """Of the processes of each strategy, by rank, and what each takes with FSDP as a part of that with DDP: beyond what it
    held before, and in all."""
    found: dict[str, Any] = {"parameters": parameters(large()), **LARGE}
    for strategy in STRATEGIES:
        store = import_module("torch.distributed").TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        about = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
        command = [sys.executable, __file__, "--rank", strategy, "--folder", str(folder / strategy)]
        ranks = [{**about, "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(2)]
        running = [subprocess.Popen(command, env={**os.environ, **rank}, stdout=subprocess.PIPE, text=True) for rank in ranks]
        found[strategy] = [json.loads(process.communicate()[0]) for process in running]
    for name, floor in (("rise", "before"), ("peak", "")):
        ddp, fsdp = ([one["peak"] - one.get(floor, 0) for one in found[strategy]] for strategy in STRATEGIES)
        found[f"{name}_fsdp_over_ddp"] = [round(b / a, 3) for a, b in zip(ddp, fsdp, strict=True)]
    return found


def large() -> Plan:
    """`--size large`, in two parts a step."""
    made = divided(sized(make(**LARGE), "large"), 2)
    return made.override({"training.steps": 2}, "enough for the peak")


def rank(strategy: str, folder: Path) -> None:
    """What one process does for `memory`."""
    if strategy == "ddp":  # as `train` does
        keep_freed_memory()
    training.SAVE_EVERY = 1e9  # one checkpoint, at the end
    plan = large()
    with together(Place.of(), Options(device="cpu", strategy=strategy)) as (team, _, device):
        before = resident("VmRSS")
        torch.manual_seed(0)
        entries = {str(k): cast(Entry, Noise(plan, k)) for k in range(CASES)}
        loader = Loader(entries, plan, (1.0,) * plan.ndim, team.rank, team.size)
        member, solver = training.Member(folder), TASKS.load(plan.task).Solver(plan)
        training.fit(build(plan).to(device), solver, loader, plan, member, training.Clock(), None, lambda *_: None, team)
        sys.stdout.write(json.dumps({"before": before, "peak": resident("VmHWM")}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", choices=STRATEGIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("equality", "memory"))
    given = parser.parse_args()
    if given.rank:
        rank(given.rank, given.folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HOUNSFIELD_CACHE"] = str(Path(scratch) / "cache")
        found = {}
        if given.only != "memory":
            found["equality"] = equality(Path(scratch), given.steps)
        if given.only != "equality":
            found["memory"] = memory(Path(scratch))
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
