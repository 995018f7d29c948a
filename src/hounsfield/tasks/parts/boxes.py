"""Boxes as tensors, in any number of dimensions: overlap, and one box for the many that a network draws around one thing.

A box is a row (2n): first corner then last in array-axis order, half-open, in voxels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PAIRS = 2**23  # of boxes, or of boxes and places, that are compared at once: less than a gigabyte


def volume(boxes: Tensor) -> Tensor:
    """(...,) of boxes (..., 2n); 0 where a box is empty."""
    n = boxes.shape[-1] // 2
    return (boxes[..., n:] - boxes[..., :n]).clamp_min(0).prod(dim=-1)


def pairwise_iou(one: Tensor, other: Tensor) -> Tensor:
    """(..., N, M) intersection over union of (..., N, 2n) with (..., M, 2n)."""
    n = one.shape[-1] // 2
    low = torch.maximum(one[..., :, None, :n], other[..., None, :, :n])
    high = torch.minimum(one[..., :, None, n:], other[..., None, :, n:])
    shared = (high - low).clamp_min(0).prod(dim=-1)
    union = volume(one)[..., :, None] + volume(other)[..., None, :] - shared
    return shared / union.clamp_min(1e-9)


def generalised_iou(one: Tensor, other: Tensor) -> Tensor:
    """(...,) IoU of boxes (..., 2n) row by row, less the part of their common hull that neither covers, in (-1, 1]: it has a
    gradient where boxes do not touch (Rezatofighi et al., CVPR 2019)."""
    n = one.shape[-1] // 2
    shared = (torch.minimum(one[..., n:], other[..., n:]) - torch.maximum(one[..., :n], other[..., :n])).clamp_min(0).prod(-1)
    union = volume(one) + volume(other) - shared
    hull = (torch.maximum(one[..., n:], other[..., n:]) - torch.minimum(one[..., :n], other[..., :n])).prod(-1)
    return shared / union.clamp_min(1e-9) - (hull - union) / hull.clamp_min(1e-9)


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float, most: int) -> Tensor:
    """Indices, by falling score, of the boxes that no better-scored one of their class overlaps by more than `overlap`; the
    first `most` of them."""
    order = scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    open_ = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for k, alike in enumerate(_alike(boxes[order], labels[order], overlap)):
        if len(kept) == most:
            break
        if open_[k]:
            kept.append(k)
            open_ &= ~alike
    return order[torch.tensor(kept, dtype=torch.long, device=boxes.device)]


def fuse(boxes: Tensor, scores: Tensor, labels: Tensor, overlap: float, views: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels in which those of one class that overlap by more than `overlap` are one: the mean of their
    corners weighted by score, and the sum of the scores over `views`, the number of networks and mirrored images that each
    could have found it, at most the best score (weighted boxes fusion: Solovyev et al., Image and Vision Computing 107, 2021).
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    heads = torch.full((len(boxes),), -1, dtype=torch.long, device=boxes.device)
    for k, alike in enumerate(_alike(boxes, labels, overlap)):
        if heads[k] < 0:
            heads[alike & (heads < 0)] = k
            heads[k] = k
    found, place = torch.unique(heads, return_inverse=True)
    weight = torch.zeros(len(found), dtype=scores.dtype, device=boxes.device).index_add_(0, place, scores)
    mean = torch.zeros((len(found), boxes.shape[1]), dtype=boxes.dtype, device=boxes.device)
    mean = mean.index_add_(0, place, boxes * scores[:, None]) / weight[:, None].clamp_min(1e-9)
    return mean, torch.minimum(weight / views, scores[found]), labels[found]


def _alike(boxes: Tensor, labels: Tensor, overlap: float) -> Iterator[Tensor]:
    """For each box, which of all (N,) are of its class and overlap it by more than `overlap`. However many there are, PAIRS of
    them are compared at a time."""
    step = max(1, PAIRS // max(1, len(boxes)))
    for start in range(0, len(boxes), step):
        few = slice(start, start + step)
        yield from (pairwise_iou(boxes[few], boxes) > overlap) & (labels[few][:, None] == labels)
