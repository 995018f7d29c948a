"""How well the kernel distance tells changed images from real ones, with features as they are and without their bound.

Usage: python benchmarks/features.py RUN [--seeds 4] [--draws 40]

RUN: of a generator. Features are learned from its val part; of its training part, real images all, two halves of 94 each are
drawn, one of which is changed. Nothing that was generated takes part. Prints the deviation of the distance between two real
halves over the draws, and for each change how many deviations (of both) the distance then lies above that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from hounsfield.metrics.generative import kernel_distance
from hounsfield.tasks.parts import features
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run

Floats = npt.NDArray[np.float64]
HALF = 94


def blurred(x: Tensor) -> Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, *[0.7] * (x.ndim - 2))))


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "blur of 0.7 voxels": blurred,
    "noise of 0.1": lambda x: x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
    "mirrored": lambda x: x.flip(-1),
    "ten images alone": lambda x: x[torch.arange(len(x)) % 10],
}


def read(run: Run, part: tuple[str, ...]) -> Tensor:
    """(N, C, *grid) in [-1, 1]."""
    predictor = Predictor(run)
    return torch.stack([predictor.prepare(predictor.read(s)).tensor for s in run.dataset().select(part).samples]).clamp_(-1, 1)


def told(real: Floats, changed: dict[str, Floats], draws: int) -> str:
    rng = np.random.default_rng(0)
    nothing: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in changed}
    for _ in range(draws):
        order = rng.permutation(len(real))
        one, other = order[:HALF], order[HALF : 2 * HALF]
        nothing.append(kernel_distance(real[one], real[other])[0])
        for name, values in changed.items():
            found[name].append(kernel_distance(values[one], real[other])[0])
    each = (
        f"{name} {(np.mean(values) - np.mean(nothing)) / np.hypot(np.std(values), np.std(nothing)):.1f}"
        for name, values in found.items()
    )
    return f"deviation {np.std(nothing):.4f}; " + ", ".join(each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=40)
    asked = parser.parse_args()
    run = Run(asked.run)
    spare, real = (read(run, part) for part in (run.split.val, run.split.train))
    for seed in range(asked.seeds):
        network = features.learn(spare, seed=seed)
        every = {"": real} | {name: change(real) for name, change in CHANGES.items()}
        seen = {name: features.vectors(network, images) for name, images in every.items()}
        with torch.inference_mode():
            free = {name: network.white(images).double().numpy() for name, images in every.items()}
        for what, values in (("bounded", seen), ("free", free)):
            sys.stdout.write(f"seed {seed}, {what}: {told(values.pop(''), values, asked.draws)}\n")


if __name__ == "__main__":
    main()
