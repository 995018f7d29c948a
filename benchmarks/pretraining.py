"""What pretraining on unlabelled images is worth where labels are few, against from-scratch training of the same total time.

Usage: python benchmarks/pretraining.py [KIND...] [--data ../shared/data] [--out runs/pretraining] [--budget 4m] [--before 2m]
       [--seeds 3] [--list]
       python benchmarks/pretraining.py --stream 8 [--out runs/pretraining]

Chest X-rays: a quarter of each class, drawn once, is the test part. Of the others all images are pretrained on, without labels;
5%, 10% and 100% of them have labels, drawn by the seed. From scratch has the whole budget for training, the other arm spends
`--before` of it on pretraining and what is left on training, with the network that was pretrained. Kinds: lungs (Dice of unet),
tuberculosis (AUROC of resnet), tuberculosis-vit (AUROC of vit). Every figure is the mean over seeds, with a 95% interval of
cases; differences are paired. What ended is not done again. Writes OUT/pretraining.json and prints a Markdown table.

--stream GIB: peak memory of a pretraining on made-up volumes that are so large together when prepared, and on an eighth of it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import numpy as np
import numpy.typing as npt

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.metrics import bootstrap, ranking

Rows = list[dict[str, str]]
Floats = npt.NDArray[np.float64]
HELD = 0.25  # of each class
SHARES = (0.05, 0.1, 1.0)  # of the other images that have labels
ARMS = ("from scratch", "pretrained")
SIDE = 128  # voxels of a made-up volume, two bytes each


@dataclass(frozen=True)
class Kind:
    """One task. column: of its labels in a manifest."""

    model: str
    column: str


KINDS = {
    "lungs": Kind("unet", "mask"),
    "tuberculosis": Kind("resnet", "target"),
    "tuberculosis-vit": Kind("vit", "target"),
}


def every(data: Path) -> Rows:
    """Every image with its mask, class and part; the parts are drawn once."""
    names = {"0": "normal", "1": "tuberculosis"}
    folder = data / "cxr_lungs"
    rows = [
        {"image": str(path), "mask": str(folder / "masks" / path.name), "target": names[path.stem[-1]], "split": "train"}
        for path in sorted((folder / "images").glob("*.png"))
    ]
    for name in names.values():
        own = [row for row in rows if row["target"] == name]
        for row in random.Random(0).sample(own, round(HELD * len(own))):
            row["split"] = "test"
    return rows


def labelled(rows: Rows, column: str, share: float, seed: int, folder: Path) -> Path:
    """The test part, and a share of each class of the others, at least two of each."""
    train = [row for row in rows if row["split"] == "train"]
    chosen: Rows = []
    for name in sorted({row["target"] for row in train}):
        own = [row for row in train if row["target"] == name]
        chosen += random.Random(seed).sample(own, max(2, round(share * len(own))))
    kept = [*chosen, *(row for row in rows if row["split"] == "test")]
    return figures.manifest([{key: row[key] for key in ("image", column, "split")} for row in kept], folder)


def unlabelled(rows: Rows, folder: Path) -> Path:
    return figures.manifest([{"image": row["image"]} for row in rows if row["split"] == "train"], folder)


def hounsfield(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "hounsfield", *words], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"hounsfield {' '.join(words)}: {done.stderr}")


def trained(verb: str, data: Path, run: Path, budget: float, seed: int, *more: str) -> Path:
    """The run, made where it is not there yet."""
    if not (run / "report.html").exists():
        words = ("--out", str(run), "--budget", f"{budget:g}s", "--seed", str(seed), "--overwrite")
        hounsfield(verb, str(data), *words, *more)
    return run


def cases(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "evaluation" / "test.json").read_text())["cases"]
    return sorted(found, key=lambda row: str(row["id"]))


def figure(runs: Sequence[list[dict[str, Any]]], against: Sequence[list[dict[str, Any]]] = ()) -> bootstrap.Interval:
    """The mean over runs (one of each seed), or of what they have more than those they are against."""
    patients = [None] * len(runs[0])
    if "dice" in runs[0][0]:
        mean = np.mean([[float(row["dice"]) for row in rows] for rows in runs], axis=0)
        other = np.mean([[float(row["dice"]) for row in rows] for rows in against], axis=0) if against else 0.0
        return bootstrap.mean(mean - other, patients)

    def of(weights: Floats) -> Floats:
        each = [_auroc(rows, weights) for rows in runs]
        other = [_auroc(rows, weights) for rows in against]
        return np.asarray(np.mean(each, axis=0) - (np.mean(other, axis=0) if other else 0.0))

    return bootstrap.interval(of, patients)


def _auroc(rows: Sequence[dict[str, Any]], weights: Floats) -> Floats:
    scores = np.array([float(row["p_tuberculosis"]) for row in rows])
    return ranking.auroc(scores, np.array([row["truth"] == "tuberculosis" for row in rows]), weights)


def measure(name: str, given: argparse.Namespace) -> None:
    """Every run of a kind that was not done before, all shares and arms of a seed before the next seed."""
    kind, rows = KINDS[name], every(given.data.resolve())
    whole, before = figures.seconds(given.budget), figures.seconds(given.before)
    out = given.out.resolve()
    for seed in range(given.seeds):
        start = out / f"{name}-{seed}"
        images = unlabelled(rows, out / "images")
        known = trained("pretrain", images, start / "known", before, seed, "--model", kind.model)
        for share in SHARES:
            data = labelled(rows, kind.column, share, seed, out / f"data-{kind.column}-{share:g}-{seed}")
            trained("train", data, start / f"{share:g}-from scratch", whole, seed, "--model", kind.model)
            trained("train", data, start / f"{share:g}-pretrained", whole - before, seed, "--init", str(known))
            sys.stdout.write(f"{name} seed {seed} {share:.0%} done\n")
            sys.stdout.flush()


def table(out: Path, seeds: int, budget: str, before: str) -> dict[str, Any]:
    """What there is so far, printed and returned."""
    found: dict[str, Any] = {"budget": budget, "before": before}
    lines = [f"| task | labels | seeds | {ARMS[0]} | {ARMS[1]} | difference |", "|---|---|---|---|---|---|"]
    for name in KINDS:
        for share in SHARES:
            ends = {s: [out / f"{name}-{s}" / f"{share:g}-{arm}" / "report.html" for arm in ARMS] for s in range(seeds)}
            done = [s for s, pages in ends.items() if all(page.exists() for page in pages)]
            if not done:
                continue
            scratch, known = ([cases(out / f"{name}-{s}" / f"{share:g}-{arm}") for s in done] for arm in ARMS)
            each = {ARMS[0]: figure(scratch), ARMS[1]: figure(known), "difference": figure(known, scratch)}
            found[f"{name} {share:g}"] = {"seeds": len(done), **{key: value.to_json() for key, value in each.items()}}
            said = " | ".join(value.text() for value in each.values())
            lines.append(f"| {name} | {share:.0%} | {len(done)} | {said} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return found


def stream(gib: float, out: Path) -> None:
    """Peak resident memory of a pretraining beside what it streamed."""
    count = math.ceil(gib * 2**30 / (2 * SIDE**3))
    for part in (max(20, count // 8), count):
        folder = out / f"volumes-{part}"
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(part):
            path = folder / f"{k:05}.nii.gz"
            if not path.exists():
                array = np.random.default_rng(k).normal(100, 30, (1, SIDE, SIDE, SIDE)).astype(np.int16)
                io.write(Image(array, Geometry.from_spacing((SIDE,) * 3, (1, 1, 1))), path)
        words = ["pretrain", str(folder), "--out", str(out / f"streamed-{part}"), "--budget", "40steps", "--overwrite"]
        process = subprocess.Popen([sys.executable, "-m", "hounsfield", *words, "--set", "model_options.width=8"])
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"ended with {status}")
        prepared = 2 * part * SIDE**3 / 2**30
        sys.stdout.write(f"{part} volumes, {prepared:.2f} GiB when prepared: peak {used.ru_maxrss / 2**20:.2f} GiB\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--budget", default="4m")
    parser.add_argument("--before", default="2m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--stream", type=float, help="GiB of made-up volumes")
    parser.add_argument("--list", action="store_true", help="print what is there, train nothing")
    given = parser.parse_args()
    if given.stream:
        stream(given.stream, given.out.resolve())
        return
    for name in () if given.list else given.kinds:
        measure(name, given)
    given.out.mkdir(parents=True, exist_ok=True)
    found = table(given.out.resolve(), given.seeds, given.budget, given.before)
    (given.out / "pretraining.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
