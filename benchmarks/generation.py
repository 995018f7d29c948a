"""Generators side by side: each run's images beside the same held-out real ones, by one network's features.

Usage: python benchmarks/generation.py RUN... [--blur 1] [--planted 0.1] [--out FILE]

Two rows stand beside the runs that a good measure must tell from them: training images that were blurred (--blur, deviation in
voxels), and the first run's images of which some were replaced by training images (--planted, the share), which the test for
copies must find. All runs must have learned from the same data and have the same parts; the features are those that the first
run is evaluated by.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from hounsfield.tasks.parts.sets import Part, compare
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run
from hounsfield.workflow.sets import Known, beside_of, drawn, known

SHOWN = ("kid", "fid", "precision", "recall", "density", "coverage", "diversity", "nearer_train", "copies")


def blurred(beside: Known, sigma: float) -> Part:
    """As many training images as real ones are held out, blurred."""
    some = beside.train.some(len(beside.real))
    values = ndimage.gaussian_filter(some.values, (0, 0, *[sigma] * (some.values.ndim - 2)))
    return seen(beside, values, [f"blurred {k}" for k in range(len(values))])


def planted(beside: Known, made: Part, share: float) -> Part:
    """Generated images, the first of which are training images."""
    count = max(1, round(share * len(made)))
    values = np.concatenate([beside.train.some(count).values, made.values[count:]])
    return seen(beside, values, made.ids)


def seen(beside: Known, values: npt.NDArray[np.float32], names: Any) -> Part:
    return Part(names, names, values, beside.judge(torch.from_numpy(values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--blur", type=float, default=1.0)
    parser.add_argument("--planted", type=float, default=0.1)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    asked = parser.parse_args()
    runs = [Run(path) for path in asked.runs]
    for run in runs[1:]:
        if (run.split.train, run.split.test) != (runs[0].split.train, runs[0].split.test):
            parser.error(f"{run.root} has other parts than {runs[0].root}")
    data, first = runs[0].dataset(), Predictor(runs[0])
    held = data.select(runs[0].split.test).samples if runs[0].split.test else ()
    beside = known(first, held, beside_of(runs[0], data, "test"), SILENT)
    made = drawn(first, beside)
    parts = {runs[0].root.name: made}
    for run in runs[1:]:
        other = Predictor(run)
        if other.plan.grid.size != first.plan.grid.size or other.plan.normalise != first.plan.normalise:
            parser.error(f"{run.root} draws other images than {runs[0].root}")
        parts[run.root.name] = drawn(other, beside)
    parts |= {"blurred": blurred(beside, asked.blur), "planted": planted(beside, made, asked.planted)}
    figures: dict[str, Any] = {}
    for name, part in parts.items():
        found = compare(beside.real, part, beside.train, beside.note)
        figures[name] = {key: figure.to_json() for key, figure in found.figures.items()}
        told = {key: replace(found.figures[key], note="").text() for key in SHOWN}
        print(name, *(f"{key} {value}" for key, value in told.items()), found.figures["copies"].note.split(";")[0], sep=", ")  # noqa: T201
    print(beside.note)  # noqa: T201
    if asked.out:
        asked.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
