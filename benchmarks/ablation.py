"""What each rule of the planner is worth: the plan with the rule, and the same with the rule off, over sets and seeds.

Usage: python benchmarks/ablation.py [RULE...] [--budget 45s] [--seeds 3] [--data ../shared/data] [--out runs/ablation]

Development parts alone: the training parts of benchmarks/figures.py, divided anew by each seed; no test case is opened. Every
run has the same budget, so that a rule which costs time pays for it. Resumable; writes OUT/ablation.json and prints a table.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
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
    "average of weights": {"segmentation": ["training.ema=0"], "classification": ["training.ema=0"]},
    "Dice loss": {"segmentation": ["task_options.dice=0"]},
    "deep supervision": {"segmentation": ["model_options.deep_supervision=false"]},
    "foreground windows": {"segmentation": ["training.foreground=0"]},
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


def score(data: Path, run: Path, budget: str, seed: int, off: list[str]) -> float:
    """The headline figure on the drawn validation part."""
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "hounsfield", "train", str(data), "--out", str(run), "--budget", budget]
    command += ["--seed", str(seed)]
    for change in off:
        command += [change] if change.startswith("--") else ["--set", change]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((run / "evaluation/val.json").read_text())
    return float(found["metrics"][found["headline"]]["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules", nargs="*")
    parser.add_argument("--budget", default="45s")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    given = parser.parse_args()
    known = given.out / "ablation.json"
    done: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
    for seed in range(given.seeds):
        for name, (kind, make) in SETS.items():
            data = make(given.data.resolve(), given.out.resolve() / "data")
            for rule in ("all rules", *(given.rules or list(OFF)[1:])):
                key = f"{name}/{rule}/{seed}"
                if kind in OFF[rule] and key not in done:
                    done[key] = score(data, given.out / "run", given.budget, seed, OFF[rule][kind])
                    known.write_text(json.dumps(done, indent=1))
                    sys.stdout.write(f"{key} {done[key]:.4f}\n")
                    sys.stdout.flush()
    sys.stdout.write(table(done))


def table(done: dict[str, float]) -> str:
    """A Markdown table: for each set what the rule adds, mean over seeds, and each seed's own."""
    lines = [f"| rule | {' | '.join(SETS)} |", "|---|" + "---|" * len(SETS)]
    for rule in OFF:
        cells = []
        for name in SETS:
            seeds = sorted(int(k.rsplit("/", 1)[1]) for k in done if k.startswith(f"{name}/{rule}/"))
            values = [done[f"{name}/{rule}/{s}"] for s in seeds]
            if rule == "all rules":
                cells.append(f"{statistics.mean(values):.4f} ({', '.join(f'{v:.4f}' for v in values)})" if values else "")
                continue
            gains = [done[f"{name}/all rules/{s}"] - v for s, v in zip(seeds, values, strict=True)]
            cells.append(f"{statistics.mean(gains):+.4f} ({', '.join(f'{g:+.4f}' for g in gains)})" if gains else "")
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
