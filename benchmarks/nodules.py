"""Phantoms of lung nodules: noisy volumes with round nodules of 3 to 12 voxels, and vessels that look like them in a slice.

Usage: python benchmarks/nodules.py FOLDER [--volumes 60] [--seed 0]

Writes volumes with masks in nnU-Net's layout, the last sixth as `val` of a manifest.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image

Array = npt.NDArray[Any]

SIDE = 96
VESSELS = 14
NOISE = 60.0  # standard deviation, HU
LUNG, TISSUE = -850.0, 40.0


def volume(seed: int) -> tuple[Array, Array]:
    """(D, H, W) in HU, and its mask: 1 to 4 nodules that do not touch; vessels are not labelled."""
    draw = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*[np.arange(SIDE, dtype=np.float32)] * 3, indexing="ij"))
    density = np.zeros((SIDE,) * 3, dtype=np.float32)  # part of a voxel that is tissue
    for _ in range(VESSELS):
        start, direction = draw.uniform(0, SIDE, 3), draw.normal(size=3)
        direction /= np.linalg.norm(direction)
        bend = draw.normal(size=3) * 6
        away = at - start.reshape(3, 1, 1, 1)
        along = np.tensordot(direction, away, 1)
        curve = bend.reshape(3, 1, 1, 1) * np.sin(along / 20)
        distance = np.sqrt(np.maximum(((away - direction.reshape(3, 1, 1, 1) * along - curve) ** 2).sum(0), 0))
        density = np.maximum(density, (draw.uniform(1.2, 4.0) - distance + 0.5).clip(0, 1))
    mask = np.zeros((SIDE,) * 3, dtype=np.uint8)
    wanted = draw.integers(1, 5)
    while mask.max(initial=0) < 1 or ndimage.label(mask)[1] < wanted:
        half = draw.uniform(1.5, 6.0) * draw.uniform(0.85, 1.15, 3)
        middle = draw.uniform(8, SIDE - 8, 3)
        inside = np.sqrt((((at - middle.reshape(3, 1, 1, 1)) / half.reshape(3, 1, 1, 1)) ** 2).sum(0))
        body = ((1 - inside) * half.min() + 0.5).clip(0, 1)
        if (mask[ndimage.binary_dilation(body > 0, iterations=3)] > 0).any():
            continue
        density = np.maximum(density, body * draw.uniform(0.7, 1.0))
        mask[inside < 1] = 1
    image = LUNG + (TISSUE - LUNG) * density + draw.normal(0, NOISE, density.shape)
    return ndimage.gaussian_filter(image, 0.5).astype(np.int16), mask


def write(folder: Path, volumes: int, seed: int) -> Path:
    """`volumes` phantoms below `folder`, with a manifest; nothing where they are there."""
    if (folder / "manifest.csv").exists():
        return folder
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    grid = Geometry.from_spacing((SIDE,) * 3, (1.0, 0.7, 0.7))
    rows = []
    for k in range(volumes):
        image, mask = volume(seed * 10_000 + k)
        for kind, array in (("images", image), ("masks", mask)):
            io.write(Image(array[None], grid), folder / kind / f"{k:03}.nii.gz", overwrite=True)
        split = "val" if k >= volumes - volumes // 6 else "train"
        rows.append({"image": f"images/{k:03}.nii.gz", "mask": f"masks/{k:03}.nii.gz", "split": split})
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volumes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.volumes, given.seed)
