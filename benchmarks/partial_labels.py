"""Two halves of a dataset that each know one class, merged, beside the same cases with both labels, at one budget.

Usage: python benchmarks/partial_labels.py [--data ../shared/data] [--out runs/partial] [--budget 5m] [--seeds 1]

Of the hippocampus set: every second training case keeps the anterior label alone, the others the posterior one. Both are
measured on the held-out tenth with both labels. Prints one line a training; one that ended is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import figures

from hounsfield import io

MAPPING = """classes: [anterior, posterior]
sources:
  half-anterior: {labels: {1: anterior}}
  half-posterior: {labels: {2: posterior}}
"""


def halves(full: Path, out: Path) -> list[Path]:
    """Manifests of the two halves, with the split of the whole; nothing where they are there."""
    with (full / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    folders = []
    for k, (name, kept) in enumerate((("half-anterior", 1), ("half-posterior", 2))):
        folder = out / name
        folders.append(folder)
        if (folder / "manifest.csv").exists():
            continue
        own = []
        for row in rows[k::2]:
            mask = io.read(row["mask"])
            path = folder / "masks" / Path(row["mask"]).name
            path.parent.mkdir(parents=True, exist_ok=True)
            io.write(replace(mask, array=mask.array * (mask.array == kept)), path, overwrite=True)
            own.append({**row, "mask": str(path.relative_to(folder))})
        figures.manifest(own, folder)
    return folders


def hounsfield(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "hounsfield", *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/partial"))
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    full = figures.hippocampus(given.data.resolve(), given.out)
    merged = given.out / "merged"
    if not merged.exists():
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "mapping.yaml").write_text(MAPPING)
        parts = [str(folder) for folder in halves(full, given.out)]
        hounsfield("merge", *parts, "--labels", str(given.out / "mapping.yaml"), "--out", str(merged))
    for seed in range(given.seeds):
        for name, data in (("both labels", full), ("merged halves", merged)):
            run = given.out / f"{name.split()[0]}-{given.budget}-{seed}"
            if not (run / "evaluation").exists():
                words = ("--budget", given.budget, "--seed", str(seed), "--set", "model_options.width=16")
                hounsfield("train", str(data), "--out", str(run), *words, "--overwrite")
            found = json.loads(hounsfield("evaluate", str(run), str(full), "--split", "val", "--json"))["metrics"]
            told = ", ".join(
                f"{k} {v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for k, v in found.items() if "iou" not in k
            )
            sys.stdout.write(f"seed {seed}, {name}: {told}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
