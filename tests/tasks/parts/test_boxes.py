"""Box arithmetic against plain counting, NumPy and torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hounsfield.metrics.detection import iou
from hounsfield.tasks.parts import boxes as module
from hounsfield.tasks.parts.boxes import fuse, generalised_iou, pairwise_iou, suppress, volume


def some(count: int, ndim: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    low = torch.rand(count, ndim, generator=draw) * 30
    return torch.cat([low, low + 1 + torch.rand(count, ndim, generator=draw) * 20], dim=1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_overlap_agrees_with_the_metric_s(ndim: int) -> None:
    one, other = some(6, ndim), some(9, ndim, 1)
    np.testing.assert_allclose(pairwise_iou(one, other), iou(one.double().numpy(), other.double().numpy()), atol=1e-6)


def test_overlap_and_suppression_agree_with_torchvision() -> None:
    from torchvision import ops

    boxes, scores = some(60, 2), torch.rand(60, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(60) % 3
    ours, theirs = pairwise_iou(boxes, boxes), ops.box_iou(boxes, boxes)
    assert torch.allclose(ours, theirs, atol=1e-6)
    general = generalised_iou(boxes[:30], boxes[30:])
    assert torch.allclose(general, ops.generalized_box_iou(boxes[:30], boxes[30:]).diagonal(), atol=1e-5)
    for limit in (0.1, 0.5, 0.9):
        theirs = ops.batched_nms(boxes, scores, labels, limit).tolist()
        assert suppress(boxes, scores, labels, limit, 60).tolist() == theirs
        assert suppress(boxes, scores, labels, limit, 7).tolist() == theirs[:7]


def test_generalised_overlap_in_3d_in_closed_form() -> None:
    one, apart = torch.tensor([0.0, 0, 0, 2, 2, 2]), torch.tensor([2.0, 0, 0, 4, 2, 2])
    assert float(volume(one)) == 8
    assert float(generalised_iou(one, one)) == pytest.approx(1)
    assert float(generalised_iou(one, apart)) == pytest.approx(0)  # they fill their hull
    far = torch.tensor([6.0, 0, 0, 8, 2, 2])
    assert float(generalised_iou(one, far)) == pytest.approx(-16 / 32)


@pytest.mark.parametrize("ndim", [2, 3])
def test_fused_boxes_are_weighted_means(ndim: int) -> None:
    box = torch.cat([torch.zeros(ndim), torch.full((ndim,), 10.0)])
    boxes = torch.stack([box, box + 1, box + 40, box])
    scores, labels = torch.tensor([0.9, 0.3, 0.8, 0.7]), torch.tensor([0, 0, 0, 1])
    fused, score, label = fuse(boxes, scores, labels, 0.5, 2)
    rows = sorted(zip(label.tolist(), score.tolist(), fused[:, 0].tolist(), strict=True))
    # Both views saw the first, one alone the second and the third.
    expected = [(0, 0.4, 40.0), (0, 0.6, 0.25), (1, 0.35, 0.0)]
    assert [r[0] for r in rows] == [r[0] for r in expected]
    np.testing.assert_allclose([r[1:] for r in rows], [r[1:] for r in expected], atol=1e-6)


def test_many_of_one_view_do_not_add_up_beyond_the_best() -> None:
    box = torch.tensor([[0.0, 0, 10, 10]]).repeat(5, 1)
    _, score, _ = fuse(box, torch.full((5,), 0.8), torch.zeros(5, dtype=torch.long), 0.5, 2)
    assert score.tolist() == pytest.approx([0.8])


def test_nothing_stays_nothing() -> None:
    none = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    assert [len(part) for part in fuse(*none, 0.5, 2)] == [0, 0, 0]
    assert suppress(*none, 0.5, 3).tolist() == []


def test_thousands_of_boxes_are_compared_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of 10,000 boxes would take gigabytes."""
    held = []

    def watched(one: Tensor, other: Tensor) -> Tensor:
        held.append(one.shape[0] * other.shape[0])
        return pairwise_iou(one, other)

    monkeypatch.setattr(module, "pairwise_iou", watched)
    monkeypatch.setattr(module, "PAIRS", 2**20)
    boxes, scores = some(10_000, 2), torch.linspace(0.9, 0.1, 10_000)
    labels = torch.zeros(10_000, dtype=torch.long)
    assert len(suppress(boxes, scores, labels, 0.9, 300)) == 300
    assert len(fuse(boxes[:3000], scores[:3000], labels[:3000], 0.2, 2)[0]) < 3000
    assert max(held) <= 2**20
    assert len(held) < 20, "it ends when there are enough"
