"""Dice per class of two label maps, from arrays in memory to the figures, which must agree.

Usage: python benchmarks/bench_dice.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from bench_timing import OURS, Row, Table, alone, by, peer, side_by_side
from scipy import ndimage

from hounsfield.metrics.overlap import count_labels

SHAPE = (128, 128, 128)
CLASSES = 8
TOLERANCE = 1e-5


def labels(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Smooth blobs of 0 to CLASSES, several of them in contact; those of neighbouring seeds overlap."""
    coarse = np.random.default_rng(0).normal(size=(8, 8, 8)) + 0.3 * np.random.default_rng(seed).normal(size=(8, 8, 8))
    smooth = ndimage.zoom(coarse, [s / c for s, c in zip(SHAPE, coarse.shape, strict=True)], order=1)
    cuts = np.quantile(smooth, np.linspace(0.3, 0.98, CLASSES))
    found: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.digitize(smooth, cuts).astype(np.uint8)
    return found


def measure() -> list[Table]:
    """One table. Raises SystemExit where the figures differ."""
    metrics = peer("monai.metrics")
    prediction, truth = labels(1), labels(2)
    values = list(range(1, CLASSES + 1))

    def hounsfield() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return count_labels(prediction, truth, values).dice

    def monai() -> torch.Tensor:
        pair = (torch.from_numpy(a)[None, None] for a in (prediction, truth))
        dice: torch.Tensor = metrics.compute_dice(*pair, include_background=False, num_classes=CLASSES + 1)
        return dice[0]

    difference = float(np.abs(hounsfield() - monai().numpy()).max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"Dice: figures differ by {difference}, expected at most {TOLERANCE}")
    calls: dict[str, Callable[[], object]] = {OURS: hounsfield, "MONAI": monai}
    timings = side_by_side(calls, seconds=15.0)
    ran = {
        OURS: "`count_labels(...).dice`, one pass for all classes in blocks of bounded memory",
        "MONAI": "`compute_dice` of label maps with `num_classes`",
    }
    about = (
        f"{by(SHAPE)} voxels of uint8, {CLASSES} classes; {torch.get_num_threads()} threads. "
        f"Figures of both differ by at most {difference:.0e}."
    )
    return [Table("Dice", about, "one pair of label maps", tuple(Row(n, t, ran[n]) for n, t in timings.items()))]


if __name__ == "__main__":
    alone(measure)
