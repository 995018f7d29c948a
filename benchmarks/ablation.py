"""What each rule of the planner is worth: the plan with the rule, and the same with the rule off, over sets and seeds.

Usage: python benchmarks/ablation.py [RULE...] [--only SET] [--budget 60s] [--seeds 3] [--data FOLDER] [--out runs/ablation]

Development parts alone: the training parts of benchmarks/figures.py, divided anew by each seed; no test case is opened. Every
run has the same budget, so that a rule which costs time pays for it. Resumable; writes OUT/SET.json and prints a table. Both
sets may run at once, each on a core of its own: taskset -c 0 ... --only hippocampus, and taskset -c 1 ... --only breast.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from figures import hippocampus, manifest
from PIL import Image

# Each rule, and what switches it off, by kind of task; a kind that is absent knows no such rule.
OFF: dict[str, dict[str, list[str]]] = {
    "all rules": {"segmentation": [], "classification": []},
    "augmentation": {"segmentation": ["augment.probability=0"], "classification": ["augment.probability=0"]},
    "mirror images by likeness": {"segmentation": ["augment.mirror=[2]"]},
    "mirrored training": {"classification": ["augment.mirror=[]"]},
    "mirrored prediction": {"classification": ["inference.mirror=false"]},
    "last weights, no average": {"segmentation": ["training.ema=0.96"], "classification": ["training.ema=0.96"]},
    "Dice loss": {"segmentation": ["task_options.dice=0"]},
    "loss at the finest scale alone": {"segmentation": ["model_options.deep_supervision=true"]},
    "no centred windows of whole images": {"segmentation": ["training.foreground=0.33"]},
    "warm-up": {"segmentation": ["training.warmup=0"], "classification": ["training.warmup=0"]},
    "width by the time": {"segmentation": ["model_options.width=32"], "classification": ["model_options.width=64"]},
    "precision by measurement": {"segmentation": ["training.amp=false"], "classification": ["training.amp=false"]},
    "members": {"classification": ["--seeds=1"]},
    "label smoothing": {"classification": ["task_options.smoothing=0"]},
    "stem by image size": {"classification": ["model_options.stem=large"]},
    "tiny pictures enlarged": {"classification": ["grid.size=[28,28]", "patch=[28,28]"]},
    "peak rate": {"segmentation": ["training.lr=0.001"], "classification": ["training.lr=0.0007"]},
}


def hippocampus_part(data: Path, scratch: Path) -> Path:
    with (hippocampus(data, scratch) / "manifest.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k != "split"} for row in csv.DictReader(file) if row["split"] == "train"]
    return manifest(rows, scratch / "hippocampus-development")


def breast_part(data: Path, scratch: Path) -> Path:
    """The official training and validation images, in class folders."""
    folder = scratch / "breast-development"
    arrays = np.load(data / "breastmnist/breastmnist.npz", allow_pickle=False)
    for part in ("train", "val"):
        for k, (image, label) in enumerate(zip(arrays[f"{part}_images"], arrays[f"{part}_labels"].ravel(), strict=True)):
            path = folder / str(int(label)) / f"{part}-{k:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


SETS: dict[str, tuple[str, Callable[[Path, Path], Path]]] = {
    "hippocampus": ("segmentation", hippocampus_part),
    "breast": ("classification", breast_part),
}


def score(data: Path, run: Path, budget: str, seed: int, off: list[str]) -> float | None:
    """The headline figure on the drawn validation part; None where the plan does not fit in the time."""
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "hounsfield", "train", str(data), "--out", str(run), "--budget", budget]
    command += ["--seed", str(seed)]
    for change in off:
        command += [change] if change.startswith("--") else ["--set", change]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "BUDGET_TOO_SMALL" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads((run / "evaluation/val.json").read_text())
    return float(found["metrics"][found["headline"]]["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules", nargs="*")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--only", choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    given = parser.parse_args()
    rules = ("all rules", *(given.rules or list(OFF)[1:]))
    for name in SETS if given.only is None else (given.only,):
        measure(name, rules, given.budget, given.seeds, given.data.resolve(), given.out.resolve())
    sys.stdout.write(table({name: known(name, given.out) for name in SETS}))


def measure(name: str, rules: Sequence[str], budget: str, seeds: int, data: Path, out: Path) -> None:
    """Every run of the set that was not done before, all rules of a seed before the next seed."""
    kind, make = SETS[name]
    source = make(data, out / "data")
    done = known(name, out)
    for seed in range(seeds):
        for rule in rules:
            key = f"{rule}/{seed}"
            if kind in OFF[rule] and key not in done:
                done[key] = score(source, out / f"run-{name}", budget, seed, OFF[rule][kind])
                (out / f"{name}.json").write_text(json.dumps(done, indent=1))
                sys.stdout.write(f"{name}/{key} {done[key]}\n")
                sys.stdout.flush()


def known(name: str, out: Path) -> dict[str, float | None]:
    """ "rule/seed" -> score of the runs of a set that were done."""
    path = out / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def table(done: dict[str, dict[str, float | None]]) -> str:
    """A Markdown table: for each set what the rule adds, mean over seeds, and each seed's own."""
    lines = [f"| rule | {' | '.join(SETS)} |", "|---|" + "---|" * len(SETS)]
    for rule in OFF:
        cells = []
        for scores in done.values():
            seeds = sorted(key.rpartition("/")[2] for key in scores if key.rpartition("/")[0] == rule)
            pairs = [(scores[f"all rules/{s}"], scores[f"{rule}/{s}"]) for s in seeds]
            both = [(every, without) for every, without in pairs if every is not None and without is not None]
            if len(both) < len(pairs):
                cells.append("does not fit in the time")
            elif rule == "all rules":
                cells.append(_said([every for every, _ in both], ""))
            else:
                cells.append(_said([every - without for every, without in both], "+"))
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _said(values: Sequence[float], sign: str) -> str:
    """Mean and values, "" of none."""
    each = ", ".join(f"{v:{sign}.4f}" for v in values)
    return f"{statistics.mean(values):{sign}.4f} ({each})" if values else ""


if __name__ == "__main__":
    main()
