"""Which places of a detector's maps are to find which box, and the loss that follows.

Task-aligned assignment: Feng et al., "TOOD: task-aligned one-stage object detection", ICCV 2021, section 3.2: a place inside a
box is as good for it as score^a * overlap^b says, the best few of each box learn it, and the score that they learn is that
goodness. Written for n axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.tasks.parts.boxes import PAIRS, generalised_iou, pairwise_iou

BEST = 10  # places that learn one box
SCORE_POWER, OVERLAP_POWER = 0.5, 4.0
BOX_WEIGHT = 2.0  # of the overlap loss beside the classes'
NEGATIVE = 0.75  # weight of a score where nothing is, beside its own square (Zhang et al., "VarifocalNet", CVPR 2021)


@dataclass(frozen=True)
class Assigned:
    """box: (B, P) index of the truth that each place learns, -1 for none. score: (B, P, K) to be learned, in [0, 1]."""

    box: Tensor
    score: Tensor


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, places: Tensor, strides: Tensor, truth: Tensor, labels: Tensor) -> Assigned:
    """scores: (B, P, K) in [0, 1]; boxes: (B, P, 2n); places: (P, n) centres; strides: (P,) of their maps; truth: (B, G, 2n);
    labels: (B, G), -1 for rows that are no box. However many boxes there are, PAIRS of them and places are held at a time."""
    box = torch.full(scores.shape[:2], -1, dtype=torch.long, device=scores.device)
    most, value = torch.zeros_like(scores[..., 0]), torch.zeros_like(scores[..., 0])
    step = max(1, PAIRS // (scores.shape[0] * scores.shape[1]))
    for start in range(0, truth.shape[1], step):
        some = slice(start, start + step)
        claim, wanted = _claims(scores, boxes, places, strides, truth[:, some], labels[:, some])
        # A place that several boxes want goes to the one that it overlaps most.
        best, index = claim.max(dim=1)
        better = best > most
        most = torch.where(better, best, most)
        box = torch.where(better, index + start, box)
        value = torch.where(better, wanted.gather(1, index[:, None])[:, 0], value)
    label = labels.gather(1, box.clamp_min(0)).clamp_min(0)
    score = torch.zeros_like(scores).scatter_(2, label[..., None], value[..., None])
    return Assigned(box, score)


def _claims(
    scores: Tensor, boxes: Tensor, places: Tensor, strides: Tensor, truth: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """(B, G, P) how much each box overlaps the places that it wants, -1 for others; and the score that each would learn."""
    n = places.shape[1]
    real = labels >= 0
    # A box so small that no place lies in it takes the places within half a stride of its middle.
    middle, half = (truth[..., :n] + truth[..., n:]) / 2, (truth[..., n:] - truth[..., :n]) / 2
    reach = torch.maximum(half[:, :, None], strides[None, None, :, None] / 2)
    inside = ((places - middle[:, :, None]).abs() < reach + 1e-4).all(dim=-1) & real[..., None]  # (B, G, P)
    overlap = pairwise_iou(truth, boxes)
    own = scores.transpose(1, 2).gather(1, labels.clamp_min(0)[..., None].expand(-1, -1, scores.shape[1]))
    good = own**SCORE_POWER * overlap**OVERLAP_POWER * inside
    # Where nothing is learned yet all are equally bad: the nearest are taken.
    distance = ((places - middle[:, :, None]) / half.clamp_min(1e-6)[:, :, None]).square().sum(-1)
    rank = torch.where(inside, good + 1e-9 / (1 + distance), -1.0)
    best = rank.topk(min(BEST, rank.shape[2]), dim=2)
    chosen = torch.zeros_like(inside).scatter_(2, best.indices, best.values > 0)
    claim = torch.where(chosen, overlap + 1e-6, -1.0)
    # Scaled so that the best place of a box learns its overlap.
    peak = good.amax(dim=2, keepdim=True).clamp_min(1e-12)
    reached = (overlap * chosen).amax(dim=2, keepdim=True)
    return claim, (good / peak * reached).clamp(0, 1)


def detection_loss(
    logits: Tensor, boxes: Tensor, places: Tensor, strides: Tensor, truth: Tensor, labels: Tensor, known: Tensor | None = None
) -> Tensor:
    """Classes and overlap of one batch. logits: (B, P, K); boxes: (B, P, 2n); truth and labels as in `assign`.
    known: (B, K) bool, False for classes that a sample was not searched for: their scores teach nothing there."""
    logits, boxes = logits.float(), boxes.float()
    found = assign(logits.sigmoid(), boxes, places, strides, truth, labels)
    total = found.score.sum().clamp_min(1)
    p = logits.sigmoid()
    weight = torch.where(found.score > 0, found.score, NEGATIVE * p.detach().square())
    if known is not None:
        weight = weight * known[:, None]
    classes = (F.binary_cross_entropy_with_logits(logits, found.score, reduction="none") * weight).sum() / total
    some = found.box >= 0
    if not some.any():
        return classes + 0 * boxes.sum()
    wanted = truth.gather(1, found.box.clamp_min(0)[..., None].expand(-1, -1, truth.shape[2]))[some]
    share = found.score.sum(dim=2)[some]
    overlap = ((1 - generalised_iou(boxes[some], wanted)) * share).sum() / total
    return classes + BOX_WEIGHT * overlap
