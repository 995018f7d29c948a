"""Two processes on one CPU beside one: what they learn and measure, and the memory of each with all weights or rows of them.

`python benchmarks/devices.py` prints one JSON document. equality: of a training by one process and by two of the same plan, the
largest difference of the losses, and whether evaluation by one process gives what two had stored. memory: of each process of a
training of `--size large`, bytes that it held before and at its peak, over steps on noise, a look at validation cases and a
checkpoint, beside what `plan` predicts. giant: what each of 1 to 64 GPUs is predicted to take of networks of a billion
parameters, built without storage; no such GPU is asked.
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
from typing import Any

import torch
from forecast import Look, loader_of, make, resident

from hounsfield.data.phantoms import write_dataset
from hounsfield.plan.budget import give_back_freed_memory, keep_freed_memory
from hounsfield.plan.devices import Spread, divided, shardable
from hounsfield.plan.memory import GIB, fitted, gib, predict
from hounsfield.plan.sizes import parameters
from hounsfield.tasks import TASKS
from hounsfield.workflow import fit as training
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.processes.place import Place
from hounsfield.workflow.processes.several import together
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, build
from hounsfield.workflow.train import train

STRATEGIES = ("ddp", "fsdp")
NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"ndim": 3, "patch": [32, 32, 32], "batch": 2, "steps": 2},
    "vit": {"ndim": 2, "patch": [96, 96], "batch": 2, "steps": 2, "task": "classification"},
}
GIANTS: tuple[dict[str, Any], ...] = (
    {"model": "unet", "ndim": 3, "patch": [128, 128, 128], "batch": 8},
    {"model": "vit", "ndim": 2, "patch": [224, 224], "batch": 64, "task": "classification"},
    {"model": "vit", "ndim": 3, "patch": [128, 128, 128], "batch": 64, "task": "classification"},
)
COUNTS, CARD = (1, 2, 4, 8, 16, 32, 64), 80 * GIB


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


def memory(folder: Path, size: str) -> dict[str, Any]:
    """By network, of the processes of each strategy, by rank, and what each takes with FSDP as a part of that with DDP: beyond
    what it held before, and in all."""
    return {name: of_network(folder / name, {**values, "model": name, "size": size}) for name, values in NETWORKS.items()}


def of_network(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    plan = divided(make(**values), 2)
    found: dict[str, Any] = {"parameters": parameters(plan), **values}
    for strategy in STRATEGIES:
        store = import_module("torch.distributed").TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        about = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
        command = [sys.executable, __file__, "--rank", strategy, "--folder", str(folder / strategy), "--of", json.dumps(values)]
        ranks = [{**about, "TORCHELASTIC_USE_AGENT_STORE": "True", "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(2)]
        running = [subprocess.Popen(command, env={**os.environ, **rank}, stdout=subprocess.PIPE, text=True) for rank in ranks]
        found[strategy] = [json.loads(process.communicate()[0]) for process in running]
        each = Spread(2, strategy == "fsdp").each(predict(plan, "cpu"))
        found[f"{strategy}_predicted_rise"] = each.total - each.cases - each.base
    for name, floor in (("rise", "before"), ("peak", "")):
        ddp, fsdp = ([one["peak"] - one.get(floor, 0) for one in found[strategy]] for strategy in STRATEGIES)
        found[f"{name}_fsdp_over_ddp"] = [round(b / a, 3) for a, b in zip(ddp, fsdp, strict=True)]
    return found


def rank(strategy: str, folder: Path, values: dict[str, Any]) -> None:
    """What one process does for `memory`."""
    give_back_freed_memory() if strategy == "fsdp" else keep_freed_memory()  # as `train` does
    training.SAVE_EVERY = 1e9  # one checkpoint, at the end
    plan = divided(make(**values), 2)
    with together(Place.of(), Options(device="cpu", strategy=strategy)) as (team, _, device):
        before = resident("VmRSS")
        torch.manual_seed(0)
        member, solver, loader = (
            training.Member(folder),
            TASKS.load(plan.task).Solver(plan),
            loader_of(plan, team.rank, team.size),
        )
        look = Look(plan) if team.leads else None
        training.fit(build(plan).to(device), solver, loader, plan, member, training.Clock(), look, lambda *_: None, team)
        sys.stdout.write(json.dumps({"before": before, "peak": resident("VmHWM")}) + "\n")


def giant() -> list[dict[str, Any]]:
    """A row for each network, strategy and number of GPUs: what each takes as asked, whether that fits, and what `plan` changes
    where it does not."""
    rows = []
    for values in GIANTS:
        made = make(**values, size="giant", amp=True)
        for strategy in STRATEGIES:
            for count in COUNTS[strategy == "fsdp" :]:
                spread = Spread(count, strategy == "fsdp")
                plan = divided(shardable(made) if spread.sharded else made, count)
                taken = spread.taken(predict(plan, "cuda"))
                smaller = plan if taken <= CARD else fitted(plan, "cuda", CARD, spread.taken)
                least = spread.taken(predict(smaller, "cuda"))
                rows.append(
                    {
                        "network": f"{plan.network} {plan.ndim}D",
                        "millions": round(parameters(plan) / 1e6),
                        "strategy": strategy,
                        "devices": count,
                        "batch": [plan.training.accumulate, plan.training.batch],
                        "each": gib(taken),
                        "fits": taken <= CARD,
                        "changed": {key: why for key, why in smaller.reasons.items() if plan.reasons.get(key) != why},
                        "changed_each": gib(least),
                        "changed_fits": least <= CARD,
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rank", choices=STRATEGIES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("equality", "memory", "giant"))
    parser.add_argument("--size", default="large", help="of the networks whose memory is measured")
    given = parser.parse_args()
    if given.rank:
        rank(given.rank, given.folder, given.of)
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HOUNSFIELD_CACHE"] = str(Path(scratch) / "cache")
        parts: dict[str, Any] = {
            "equality": lambda: equality(Path(scratch), given.steps),
            "memory": lambda: memory(Path(scratch), given.size),
            "giant": giant,
        }
        found = {name: part() for name, part in parts.items() if given.only in (None, name)}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
