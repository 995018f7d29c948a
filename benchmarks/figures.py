"""The figures of docs/results.md: every training that they rest on, one after another, resumable.

Usage: python benchmarks/figures.py [NAME...] [--data ../shared/data] [--out runs/figures] [--list]

Each row is one `hounsfield train`, with the rules' own plan and no option but budget and seed, and has the machine to itself.
A run that ended is not done again; one that was interrupted is begun anew, since its budget counts wall-clock time. Writes
OUT/figures.json and prints one line a row.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodules

Rows = list[dict[str, str]]
TENTH = 0.1  # of the hippocampus cases, held out
FUNDUS_HELD = 5  # of the fundus photographs


@dataclass(frozen=True)
class Figure:
    """One training. data: makes the dataset's path. busy: another process takes one core from half-time on. options: of the
    command beside budget and seed, where the data leave a choice."""

    name: str
    data: Callable[[Path, Path], Path]
    budget: str
    seed: int = 0
    busy: bool = False
    options: tuple[str, ...] = ()


def breast(data: Path, scratch: Path) -> Path:
    return data / "breastmnist/breastmnist.npz"


def hippocampus(data: Path, scratch: Path) -> Path:
    """A tenth of the cases, drawn once, is held out: nothing is chosen by it, as the weights are the final average."""
    cases = sorted(p.name for p in (data / "hippocampus/imagesTr").glob("*.nii.gz") if not p.name.startswith("."))
    held = set(random.Random(0).sample(cases, round(TENTH * len(cases))))
    folder = data / "hippocampus"
    rows = [
        {
            "image": str(folder / "imagesTr" / name),
            "mask": str(folder / "labelsTr" / name),
            "split": "val" if name in held else "train",
        }
        for name in cases
        if (folder / "labelsTr" / name).exists()
    ]
    return manifest(rows, scratch / "hippocampus")


def drive(data: Path, scratch: Path) -> Path:
    """15 photographs train, the last 5 are held out; scores count inside the field of view."""
    folder = data / "drive/training"
    images = sorted((folder / "images").glob("*.tif"))
    rows = []
    for k, image in enumerate(images):
        number = image.name.partition("_")[0]
        rows.append(
            {
                "image": str(image),
                "mask": str(next((folder / "1st_manual").glob(f"{number}_*"))),
                "valid_mask": str(next((folder / "mask").glob(f"{number}_*"))),
                "split": "train" if k < len(images) - FUNDUS_HELD else "val",
            }
        )
    return manifest(rows, scratch / "drive")


def lungs(data: Path, scratch: Path) -> Path:
    return data / "cxr_lungs"


def tuberculosis(data: Path, scratch: Path) -> Path:
    """Normal against tuberculosis, by the last letter of the file's name."""
    images = sorted((data / "cxr_lungs/images").glob("*.png"))
    kinds = {"0": "normal", "1": "tuberculosis"}
    return manifest([{"image": str(i), "target": kinds[i.stem[-1]]} for i in images], scratch / "tuberculosis")


def manifest(rows: Rows, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


def whole_hippocampus(data: Path, scratch: Path) -> Path:
    return data / "hippocampus"


def cells(data: Path, scratch: Path) -> Path:
    return data / "bccd"


def lesions(data: Path, scratch: Path) -> Path:
    """Sixty phantoms with nodules and vessels, ten of them held out."""
    return nodules.write(scratch / "nodules", 60, 0)


DETECT = ("--task", "detection")
DROP = ("--drop-invalid",)  # two of its boxes have no extent


def restoring(repair: str, *more: str) -> tuple[str, ...]:
    """Options of a restoration; more: further values of the plan."""
    values = (f"task_options.repair={repair}", *more)
    return ("--task", "restoration", *(word for value in values for word in ("--set", value)))


TESTED = ("--test", "0.2")
DRAW = ("--task", "generation", "--test", "0.2", "--model")
FIGURES = (
    *(Figure(f"breast-5m-{seed}", breast, "5m", seed) for seed in range(3)),
    Figure("hippocampus-5m", hippocampus, "5m"),
    Figure("hippocampus-20m", hippocampus, "20m"),
    Figure("lungs-10m", lungs, "10m"),
    Figure("tuberculosis-10m", tuberculosis, "10m"),
    Figure("drive-20m", drive, "20m"),
    Figure("hippocampus-2m", hippocampus, "2m"),
    Figure("hippocampus-10m", hippocampus, "10m"),
    Figure("breast-1m", breast, "1m"),
    Figure("hippocampus-1m", hippocampus, "1m"),
    Figure("lungs-1m", lungs, "1m"),
    Figure("tuberculosis-1m", tuberculosis, "1m"),
    Figure("drive-1m", drive, "1m"),
    Figure("hippocampus-5m-busy", hippocampus, "5m", busy=True),
    Figure("breast-1m-busy", breast, "1m", busy=True),
    Figure("lungs-1m-busy", lungs, "1m", busy=True),
    Figure("drive-1m-busy", drive, "1m", busy=True),
    Figure("lungs-5m", lungs, "5m"),
    Figure("drive-5m", drive, "5m"),
    Figure("hippocampus-5m-1", hippocampus, "5m", 1),
    Figure("hippocampus-5m-2", hippocampus, "5m", 2),
    Figure("cells-10m", cells, "10m", options=DROP),
    Figure("cells-20m", cells, "20m", options=DROP),
    Figure("cells-45m", cells, "45m", options=DROP),
    Figure("cells-20m-attention", cells, "20m", options=(*DROP, "--model", "fcos_attention")),
    Figure("lung-boxes-10m", lungs, "10m", options=DETECT),
    Figure("nodules-15m", lesions, "15m", options=DETECT),
    Figure("hippocampus-boxes-10m", hippocampus, "10m", options=DETECT),
    Figure("lungs-inpaint-15m", lungs, "15m", options=(*restoring("inpaint"), *TESTED)),
    Figure("lungs-denoise-15m", lungs, "15m", options=(*restoring("denoise", "task_options.noise.sigma=25"), *TESTED)),
    Figure("lungs-upscale-15m", lungs, "15m", options=(*restoring("upscale"), *TESTED)),
    Figure("hippocampus-slices-15m", hippocampus, "15m", options=restoring("upscale", "task_options.resolution.axes=[0]")),
    *(Figure(f"lungs-{model}-20m", lungs, "20m", options=(*DRAW, model)) for model in ("dcgan", "gan", "flow")),
    *(Figure(f"hippocampus-{model}-20m", whole_hippocampus, "20m", options=(*DRAW, model)) for model in ("dcgan", "gan")),
    *(
        Figure(f"breast-5m-{model}-{seed}", breast, "5m", seed, options=("--model", model))
        for model in ("hybrid", "vit", "swin")
        for seed in range(3)
    ),
    *(
        Figure(f"hippocampus-20m-{model}", hippocampus, "20m", options=("--model", model))
        for model in ("unet_attention", "unetr", "swinunetr")
    ),
    Figure("tuberculosis-gan-20m", tuberculosis, "20m", options=(*DRAW, "gan")),
)


def seconds(budget: str) -> float:
    return float(budget[:-1]) * {"s": 1, "m": 60}[budget[-1]]


def work(figure: Figure, data: Path, out: Path) -> dict[str, Any]:
    """Train, and read what the run says of itself."""
    run = out / figure.name
    shutil.rmtree(run, ignore_errors=True)
    source = figure.data(data, out / "data")
    command = [sys.executable, "-m", "hounsfield", "train", str(source), "--out", str(run)]
    command += ["--budget", figure.budget, "--seed", str(figure.seed), *figure.options]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    eater = None
    try:
        if figure.busy:
            time.sleep(seconds(figure.budget) / 2)
            eater = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        _, said = process.communicate()
    finally:
        if eater is not None:
            eater.kill()
    took = time.monotonic() - begun
    if process.returncode != 0:
        raise SystemExit(f"{figure.name}: {said}")
    plan = json.loads((run / "plan.json").read_text())
    result: dict[str, Any] = {
        "budget": figure.budget,
        "seed": figure.seed,
        "busy": figure.busy,
        "seconds": round(took, 1),
        "width": plan["model_options"].get("width"),
        "members": plan["members"],
        "planned": plan["training"]["steps"],
        "steps": [json.loads(p.read_text().splitlines()[-1])["step"] for p in sorted(run.glob("members/*/metrics.jsonl"))],
        "batch": plan["training"]["batch"],
        "patch": plan["patch"],
        "amp": plan["training"]["amp"],
    }
    for part in sorted((run / "evaluation").glob("*.json")):
        found = json.loads(part.read_text())
        result[part.stem] = {k: [v["value"], v["low"], v["high"], v["n"]] for k, v in found["metrics"].items()}
    return result


def told_of(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="rows; all that are not done by default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/figures"))
    parser.add_argument("--list", action="store_true", help="print what is there, train nothing")
    given = parser.parse_args()
    known = given.out / "figures.json"
    done: dict[str, Any] = json.loads(known.read_text()) if known.exists() else {}
    for figure in FIGURES:
        wanted = figure.name in given.names if given.names else figure.name not in done
        if wanted and not given.list:
            done[figure.name] = work(figure, given.data.resolve(), given.out)
            known.write_text(json.dumps(done, indent=1))
        if figure.name in done:
            row = done[figure.name]
            parts = {part: row[part] for part in ("test", "val") if part in row}
            told = "; ".join(
                f"{part} " + ", ".join(f"{k} {told_of(*v[:3])}" for k, v in list(found.items())[:2])
                for part, found in parts.items()
            )
            size = f"width {row['width']} steps {row['steps']}"
            sys.stdout.write(f"{figure.name:22} {row['seconds']:7.1f} s of {row['budget']:4} {size} {told}\n")


if __name__ == "__main__":
    main()
