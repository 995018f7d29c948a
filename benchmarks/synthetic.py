"""What synthetic images are worth: classifiers trained on real, on synthetic, and on both, measured on the same real images.

Usage: python benchmarks/synthetic.py [--data ../shared/data] [--out runs/synthetic] [--budget 20m] [--each 5m] [--model gan]

Of the chest X-rays a drawn fifth is held out, normal against tuberculosis. A generator learns from the others, and draws as
many images of each class as there are. All pictures are 64x64, as what is drawn is. Prints one line a classifier; a training
that ended is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import figures

SIDE = 64
HELD = 5  # one image in so many


def hounsfield(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "hounsfield", *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def divided(data: Path, out: Path) -> list[dict[str, str]]:
    """Rows of every image with its class and part; every HELD-th of each class is held out."""
    with (figures.tuberculosis(data, out) / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seen: Counter[str] = Counter()
    for row in rows:
        row["split"] = "test" if seen[row["target"]] % HELD == 0 else "train"
        seen[row["target"]] += 1
    return rows


def drawn(run: Path, rows: list[dict[str, str]], out: Path) -> list[dict[str, str]]:
    """As many rows of synthetic images of each class as are trained on."""
    made = []
    for label, count in Counter(row["target"] for row in rows if row["split"] == "train").items():
        folder = out / f"drawn-{label}"
        if not (folder / "generation.json").exists():
            hounsfield("generate", str(run), "--out", str(folder), "-n", str(count), "--class", label, "--seed", "1")
        made += [{"image": str(path), "target": label, "split": "train"} for path in sorted((folder / "images").rglob("*.png"))]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/synthetic"))
    parser.add_argument("--budget", default="20m", help="of the generator")
    parser.add_argument("--each", default="5m", help="of each classifier")
    parser.add_argument("--model", default="gan")
    given = parser.parse_args()
    out = given.out.resolve()
    rows = divided(given.data.resolve(), out)
    train, held = ([r for r in rows if r["split"] == part] for part in ("train", "test"))
    run = out / given.model
    if not (run / "report.html").exists():
        words = ("--task", "generation", "--model", given.model, "--budget", given.budget, "--overwrite")
        hounsfield("train", str(figures.manifest(rows, out / "real")), "--out", str(run), *words)
    made = drawn(run, rows, out)
    size = [f"--set={key}=[{SIDE},{SIDE}]" for key in ("grid.size", "patch")]
    for name, learned in (("real", train), ("synthetic", made), ("both", train + made)):
        folder = figures.manifest([*learned, *held], out / f"data-{name}")
        classifier = out / f"classifier-{name}"
        if not (classifier / "report.html").exists():
            hounsfield("train", str(folder), "--out", str(classifier), "--budget", given.each, *size, "--overwrite")
        found = json.loads((classifier / "evaluation" / "test.json").read_text())["metrics"]["auroc"]
        bounds = f"[{found['low']:.3f}, {found['high']:.3f}]"
        sys.stdout.write(f"{name:10} AUROC {found['value']:.3f} {bounds} on {found['n']} cases\n")


if __name__ == "__main__":
    main()
