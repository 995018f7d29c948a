"""Losses, each right where a class is absent, a batch is small, or part of a target is unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.data.prepare import IGNORE, PARTIAL

Unknown = Sequence[Sequence[int]]  # sets of class indices; PARTIAL + k in a target: background, or a class of the k-th set
DenseLoss = Callable[[Tensor, Tensor, float], Tensor]


def cross_entropy(logits: Tensor, target: Tensor, unknown: Unknown = ()) -> Tensor:
    """Mean over known voxels of -log softmax; 0 where none is known. logits (B, 1 + K, *s); target (B, *s) index, IGNORE, or
    one of `unknown`, whose voxels ask only that background and the classes of their set have the probability together: the
    marginal loss of Shi et al., Med. Image Anal. 70 (2021)."""
    logits, known = logits.float(), target != IGNORE
    each = F.cross_entropy(logits, target.long().clamp_max(logits.shape[1] - 1), reduction="none")
    for k, classes in enumerate(unknown):
        together = logits[:, [0, *(c + 1 for c in classes)]].logsumexp(dim=1)
        each = torch.where(target == PARTIAL + k, logits.logsumexp(dim=1) - together, each)
    return (each * known).sum() / known.sum().clamp_min(1)


def soft_dice(probabilities: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """1 - mean Dice over the classes, 2 sum(pt) / (sum(p) + sum(t)) with one voxel added above and below.

    probabilities: (B, K, *s) in [0, 1]; truth: (B, K, *s) bool; known: (B, 1 or K, *s) bool. Sums run over the whole batch, so
    that a class absent from one small patch does not dominate; a class absent from all of it counts by what is wrongly
    predicted. The one voxel makes the loss 0 where nothing is known.
    """
    axes = (0, *range(2, truth.ndim))
    probabilities, truth = probabilities.float() * known, truth & known
    both = (probabilities * truth).sum(axes)
    total = probabilities.sum(axes) + truth.sum(axes)
    return 1 - ((2 * both + 1) / (total + 1)).mean()


def exclusive_overlap(logits: Tensor, target: Tensor, dice: float, unknown: Unknown = ()) -> Tensor:
    """cross_entropy + dice * soft_dice over foreground classes. logits (B, 1 + K, *s); target (B, *s) as in `cross_entropy`.

    The Dice leaves a class out of all of a case that `unknown` says was not searched for it. Else its few voxels that are
    known to be another class would pull a thousand times as hard, each, as one of a case that was searched.
    """
    loss = cross_entropy(logits, target, unknown)
    if dice == 0:
        return loss
    known = (target != IGNORE)[:, None]
    if unknown:
        known = known.repeat(1, logits.shape[1] - 1, *[1] * (target.ndim - 1))
        for k, classes in enumerate(unknown):
            searched = (target != PARTIAL + k).flatten(1).all(dim=1)
            known[:, list(classes)] &= searched.reshape(-1, 1, *[1] * (target.ndim - 1))
    # Compared, not one-hot: that would take 8 bytes a class and voxel.
    truth = target[:, None] == torch.arange(1, logits.shape[1], device=target.device).reshape(-1, *[1] * (target.ndim - 1))
    return loss + dice * soft_dice(logits.float().softmax(1)[:, 1:], truth, known)


def region_overlap(logits: Tensor, target: Tensor, dice: float) -> Tensor:
    """Binary cross-entropy + dice * soft_dice for overlapping regions. logits, target (B, R, *s); target 0, 1 or IGNORE."""
    known, truth = target != IGNORE, target == 1
    each = F.binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none")
    loss = (each * known).sum() / known.sum().clamp_min(1)
    return loss if dice == 0 else loss + dice * soft_dice(logits.float().sigmoid(), truth, known)


def deep(loss: DenseLoss, outputs: Tensor | tuple[Tensor, ...], target: Tensor, dice: float) -> Tensor:
    """A dense loss on every scale of a deeply supervised output, fine to coarse, weights halving and summing to 1.

    target (B, *s) or (B, R, *s) uint8 is thinned to each scale by nearest voxels, so labels stay labels.
    """
    scales = (outputs,) if isinstance(outputs, Tensor) else outputs
    weights = [0.5**k for k in range(len(scales))]
    each = [loss(output, thin(target, output.shape[2:]), dice) for output in scales]
    return torch.stack([w / sum(weights) * value for w, value in zip(weights, each, strict=True)]).sum()


def thin(target: Tensor, shape: torch.Size) -> Tensor:
    """Labels (B, *s) or (B, R, *s) at the voxels nearest to a coarser grid's centres."""
    first = target.ndim - len(shape)
    for axis, size in enumerate(shape):
        have = target.shape[first + axis]
        if have != size:
            at = ((torch.arange(size, device=target.device) + 0.5) * have / size - 0.5).round().long()
            target = target.index_select(first + axis, at)
    return target


def structural(made: Tensor, truth: Tensor, window: int = 7) -> Tensor:
    """1 - the mean structural similarity (Wang et al., IEEE Trans. Image Process. 13, 2004) of (B, C, *s) float32 in any units:
    windows are flat and `window` voxels wide, or as wide as the image, and the range of each channel is that of its truth."""
    axes = tuple(range(2, truth.ndim))
    peak = (truth.amax(axes, keepdim=True) - truth.amin(axes, keepdim=True)).clamp_min(1e-3)
    made, truth = (part.float() / peak for part in (made, truth))
    a, b = _window_means(made, window), _window_means(truth, window)
    spread_a, spread_b = _window_means(made.square(), window) - a * a, _window_means(truth.square(), window) - b * b
    shared = _window_means(made * truth, window) - a * b
    level = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    return 1 - (level * (2 * shared + 9e-4) / (spread_a + spread_b + 9e-4)).mean()


def _window_means(x: Tensor, window: int) -> Tensor:
    """The mean over every whole window, axis by axis: in volumes a tenth of the work of all at once."""
    pool: Callable[..., Tensor] = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    for axis, size in enumerate(x.shape[2:]):
        x = pool(x, tuple(min(window, size) if k == axis else 1 for k in range(x.ndim - 2)), stride=1)
    return x
