"""Changes of images that gradients pass, made before a critic sees them, so that it cannot learn a small set by heart.

Zhao et al., "Differentiable augmentation for data-efficient GAN training", NeurIPS 2020: real and generated images are changed
alike, in colour, place and by holes. Each change with a probability that rises while the critic tells too many real images
from generated ones (Karras et al., "Training generative adversarial networks with limited data", NeurIPS 2020): seldom changes
do not leak into what is generated.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 1 / 8  # of a side, at most
HOLE = 1 / 2  # of a side
BRIGHTER = 0.5  # of the range from 0 to 1, at most
CONTRAST = 0.5  # at most more or less of it
MOST = 0.8  # probability of a change: more, and changed images are what is learned
TOLD_APART = 0.6  # of the pairs by more than those that are mistaken: from there on more is changed
IMAGES = 100_000  # until a probability has risen from 0 to 1


def jitter(x: Tensor, asked: Tensor | None, probability: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, C, *s) in [-1, 1] -> the same, each sample brightened, in contrast, shifted and with a hole by `probability` () each;
    and what was asked for (B, K, *s), shifted with it."""
    x = x + BRIGHTER * 2 * _amount(x, probability)
    mean = x.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
    x = (x - mean) * (1 + 2 * CONTRAST * _amount(x, probability)) + mean
    both = x if asked is None else torch.cat([x, asked.to(x.dtype)], dim=1)
    for axis in range(2, x.ndim):
        both = _shifted(both, axis, probability)
    moved = None if asked is None else both[:, x.shape[1] :]
    return both[:, : x.shape[1]] * _holes(x, probability), moved


def adapt(probability: Tensor, margins: Tensor) -> None:
    """Move `probability` (), in place, by what the critic told apart. margins: (B,) of its logits between pairs of a real and a
    generated image."""
    with torch.no_grad():
        ahead = margins.sign().mean() - TOLD_APART
        probability.add_(ahead.sign() * (len(margins) / IMAGES)).clamp_(0, MOST)


def _amount(x: Tensor, probability: Tensor) -> Tensor:
    """(B, 1, ..., 1) uniform in [-1/2, 1/2] where chosen, else 0."""
    amount = (torch.rand(len(x), device=x.device) - 0.5) * (torch.rand(len(x), device=x.device) < probability)
    return amount.reshape(-1, *[1] * (x.ndim - 1))


def _shifted(x: Tensor, axis: int, probability: Tensor) -> Tensor:
    """Along one axis, by whole voxels; the border is repeated."""
    size = x.shape[axis]
    by = (_amount(x, probability) * 2 * SHIFT * size).round().long()
    line = torch.arange(size, device=x.device).reshape(-1, *[1] * (x.ndim - 1 - axis))
    return x.gather(axis, (line - by).clamp(0, size - 1).expand(x.shape))


def _holes(x: Tensor, probability: Tensor) -> Tensor:
    """(B, 1, *s): 0 in a box somewhere, 1 elsewhere; 1 throughout where not chosen."""
    chosen = torch.rand(len(x), device=x.device) < probability
    inside = chosen.reshape(-1, *[1] * (x.ndim - 1))
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        middle = torch.rand(len(x), device=x.device).reshape(-1, *[1] * (x.ndim - 1)) * size
        line = torch.arange(size, device=x.device).reshape(-1, *[1] * (x.ndim - 1 - axis))
        inside = inside & ((line + 0.5 - middle).abs() < HOLE * size / 2)
    return (~inside).to(x.dtype)
