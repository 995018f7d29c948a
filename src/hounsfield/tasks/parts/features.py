"""Features of images, by a small network that learned from such images alone: what generated images are measured with.

Two crops of one image must be alike to the network, and over many images what it sees must vary: VICReg (Bardes, Ponce, LeCun,
ICLR 2022), which needs no labels, no negative pairs and small batches. Crops are the only change, cut without interpolation:
what a network is taught to overlook (noise, blur, contrast) a generator could get wrong unseen. The features are then the first
principal components of the means of all its maps, made white over the images learned from: left as they were, four directions
held nearly all the variance of chest X-rays, and mirrored ones were as near as real ones. Beyond BOUND deviations they
saturate: the third power of a kernel distance else lets a few odd images of a hundred decide (docs/results.md). Away from
photographs, features that were learned without labels rank generators better than those of a classifier of photographs
(Morozov, Voynov, Babenko, ICLR 2021).

A measure must not be learned on what it measures: keep the images that a network learns from out of the generator's training,
and out of the real images that generated ones are compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core.errors import InputError
from hounsfield.models.parts.blocks import ADAPTIVE_AVERAGE_POOL, CONV
from hounsfield.models.parts.halving import halvings

Floats = npt.NDArray[np.float64]

FEATURES = 32  # few enough that a Fréchet distance can be told from 33 images
WIDTHS = (16, 32, 64, 64)  # channels of the levels, each half as fine as the one before
BOUND = 2.0  # deviations, which no feature exceeds
CELLS = 2  # along each axis, in which the coarsest level is averaged apart: where something is counts too
EXPANDED = 128  # coordinates in which crops are compared; thrown away after learning
CROP = 7 / 8  # of each side
ALIKE, SPREAD, APART = 25.0, 25.0, 1.0  # weights of the three terms, as published
STEPS = 200
BATCH = 64  # images at a time, fewer where they have many voxels
LEAST = 16
VOXELS = 1 << 20  # of a batch, as long as that has LEAST images
RATE = 2e-3
FEWEST = FEATURES + 1  # images to learn from: over fewer the features cannot be white
TINY = 1e-6  # least deviation that is made 1
FAINT = 1e-4  # least variance that is made 1, of the largest: fainter directions are left faint

NORM: dict[int, Callable[[int], nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Extractor(nn.Module):
    """Images (B, C, *size) of any size -> (B, FEATURES) within BOUND of 0.

    Batch normalisation, not one that looks at each image alone: that would take an image's brightness and contrast away.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        ndim = len(size)
        strides = halvings(size, (1.0,) * ndim)[: len(WIDTHS)] or [(1,) * ndim]
        widths = [channels, *WIDTHS[: len(strides)]]
        self.levels = nn.ModuleList(
            nn.Sequential(*_layer(widths[k], widths[k + 1], stride), *_layer(widths[k + 1], widths[k + 1], (1,) * ndim))
            for k, stride in enumerate(strides)
        )
        self.pool = ADAPTIVE_AVERAGE_POOL[ndim](CELLS)
        self.pooled_features = sum(widths[1:-1]) + widths[-1] * CELLS**ndim
        self.register_buffer("mean", torch.zeros(self.pooled_features))
        self.register_buffer("basis", torch.eye(self.pooled_features, FEATURES))

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, width, *level) of each level, fine to coarse."""
        found = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found

    def pooled(self, x: Tensor) -> Tensor:
        """(B, pooled_features) means of all maps."""
        *fine, coarsest = self.maps(x)
        return torch.cat([*(found.flatten(2).mean(dim=2) for found in fine), self.pool(coarsest).flatten(1)], dim=1)

    def white(self, x: Tensor) -> Tensor:
        """(B, FEATURES) with mean 0 and covariance 1 over the images that it learned from."""
        return (self.pooled(x) - self.mean) @ self.basis

    def forward(self, x: Tensor) -> Tensor:
        return BOUND * torch.tanh(self.white(x) / BOUND)

    @property
    def digest(self) -> str:
        """SHA-256 of the weights: two networks with one digest make the same features."""
        content = hashlib.sha256()
        for name, values in sorted(self.state_dict().items()):
            content.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
            content.update(values.detach().cpu().contiguous().numpy().tobytes())
        return content.hexdigest()


def learn(
    images: Tensor, *, seed: int = 0, steps: int = STEPS, progress: Callable[[int, int], None] | None = None
) -> Extractor:
    """An extractor that learned from images (N, C, *size) float32 in [-1, 1], on their device; on one CPU the same one for the
    same images, seed and steps. progress: called with (steps done, all steps).

    Raises InputError TOO_FEW below FEWEST images.
    """
    if len(images) < FEWEST:
        found, fix = f"{len(images)} images", "give more images to learn features from"
        raise InputError("TOO_FEW", "features", found=found, expected=f"at least {FEWEST}", fix=fix)
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(seed)
        network = Extractor(images.shape[1], images.shape[2:])
        expand = nn.Sequential(
            nn.BatchNorm1d(network.pooled_features),
            nn.Linear(network.pooled_features, EXPANDED),
            nn.BatchNorm1d(EXPANDED),
            nn.ReLU(inplace=True),
            nn.Linear(EXPANDED, EXPANDED),
        )
        both = nn.ModuleList([network, expand]).to(images.device)
        optimiser = torch.optim.AdamW(both.parameters(), lr=RATE)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        batch = min(BATCH, max(LEAST, VOXELS // prod(images.shape[2:])))
        for step in range(steps):
            chosen = images[torch.randperm(len(images))[:batch].to(images.device)]
            loss = objective(*(expand(network.pooled(_crops(chosen))) for _ in range(2)))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            falling.step()
            if progress:
                progress(step + 1, steps)
    network.eval().requires_grad_(False)
    whiten(network, images)
    return network


def whiten(network: Extractor, images: Tensor) -> None:
    """Make the features of a network in evaluation mode the first principal components of its pooled maps, those scaled to
    deviation 1, and white over images (N, C, *size)."""
    with torch.inference_mode():
        pooled = torch.cat([network.pooled(part).double().cpu() for part in _batches(network, images)])
    deviation = pooled.std(dim=0)
    scale = torch.where(deviation > TINY, 1 / deviation.clamp_min(TINY), 0)
    values, axes = torch.linalg.eigh(((pooled - pooled.mean(dim=0)) * scale).T.cov())
    variances = values[-FEATURES:].clamp_min(max(TINY, FAINT * float(values[-1])))
    network.mean.copy_(pooled.mean(dim=0))
    network.basis.copy_(scale[:, None] * axes[:, -FEATURES:] / variances.sqrt())


def objective(one: Tensor, other: Tensor) -> Tensor:
    """VICReg's loss of two sets of coordinates (B, D), of two crops of the same images."""
    apart = sum(_covariance(z).square().sum() - _covariance(z).diagonal().square().sum() for z in (one, other)) / one.shape[1]
    spread = sum(F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() for z in (one, other))
    return ALIKE * F.mse_loss(one, other) + SPREAD * spread + APART * apart


def vectors(network: Extractor, images: Tensor) -> Floats:
    """(N, FEATURES) of images (N, C, *size) as above, for `metrics.generative`."""
    with torch.inference_mode():
        return np.concatenate([network(part).double().cpu().numpy() for part in _batches(network, images)])


def maps(network: Extractor, image: Tensor) -> list[Floats]:
    """(width, *level) of each level for an image (C, *size), for `metrics.restoration.feature_distance`."""
    with torch.inference_mode():
        (part,) = _batches(network, image[None])
        return [found[0].double().cpu().numpy() for found in network.maps(part)]


def _batches(network: Extractor, images: Tensor) -> Iterator[Tensor]:
    return (images[start : start + LEAST].to(network.mean) for start in range(0, len(images), LEAST))


def _crops(images: Tensor) -> Tensor:
    """A part of each image, CROP of its sides, from anywhere."""
    sides = [max(1, round(CROP * n)) for n in images.shape[2:]]
    starts = [torch.randint(n - side + 1, (len(images),)).tolist() for n, side in zip(images.shape[2:], sides, strict=True)]
    cuts = [tuple(slice(s, s + side) for s, side in zip(at, sides, strict=True)) for at in zip(*starts, strict=True)]
    return torch.stack([image[(slice(None), *cut)] for image, cut in zip(images, cuts, strict=True)])


def _layer(before: int, width: int, stride: Sequence[int]) -> tuple[nn.Module, ...]:
    ndim = len(stride)
    return CONV[ndim](before, width, 3, tuple(stride), 1, bias=False), NORM[ndim](width), nn.ReLU(inplace=True)


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(dim=0)
    return centred.T @ centred / (len(z) - 1)
