"""Blind spots: a voxel is learned from its neighbours, so that images that are noisy themselves teach to take noise away.

Krull, Buchholz, Jug: "Noise2Void: learning denoising from single noisy images", CVPR 2019, section 3.2: some voxels are given
the value of a neighbour, and the loss asks there alone for the value that they had. What cannot be told from the neighbours,
noise that is independent from voxel to voxel, is not learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 1 / 50  # of the voxels that are spots
NEIGHBOURS = 8  # of which one is drawn for each spot
REACH = 2  # voxels along each axis within which they lie


def blind_spots(noisy: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, *s) with the spots replaced, and where they are, (B, 1, *s) bool; drawn from torch's own generators."""
    shape, axes = (len(noisy), 1, *noisy.shape[2:]), tuple(range(2, noisy.ndim))
    spots = torch.rand(shape, device=noisy.device) < SHARE
    which = torch.randint(NEIGHBOURS, shape, device=noisy.device)
    shifts = torch.randint(-REACH, REACH + 1, (NEIGHBOURS, len(axes)), device="cpu").tolist()
    given = noisy
    for k, shift in enumerate(shifts):
        away = shift if any(shift) else [1, *shift[1:]]  # itself would be no neighbour
        given = torch.where(spots & (which == k), torch.roll(noisy, away, axes), given)
    return given, spots
