"""Which places learn which box, in small cases worked by hand, and that the loss leads there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hounsfield.tasks.parts import assign as module
from hounsfield.tasks.parts.assign import BEST, assign, detection_loss
from hounsfield.tasks.parts.boxes import pairwise_iou


def grid(side: int, stride: float, ndim: int = 2) -> Tensor:
    axes = [(torch.arange(side) + 0.5) * stride] * ndim
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, ndim)


def around(places: Tensor, half: float) -> Tensor:
    return torch.cat([places - half, places + half], dim=1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_places_inside_learn_the_box_and_no_others(ndim: int) -> None:
    places = grid(8, 4.0, ndim)
    truth = torch.tensor([[[4.0] * ndim + [16.0] * ndim, [0.0] * 2 * ndim]])
    labels = torch.tensor([[1, -1]])
    found = assign(
        torch.full((1, len(places), 2), 0.3), around(places, 6.0)[None], places, torch.full((len(places),), 4.0), truth, labels
    )
    inside = ((places > 4) & (places < 16)).all(dim=1)
    assert (found.box[0] >= 0).sum() == min(BEST, int(inside.sum()))
    assert inside[found.box[0] >= 0].all()
    assert (found.score[0, :, 0] == 0).all()
    # The place in the middle draws the box best, and learns its overlap.
    middle = (places == 10).all(dim=1)
    best = found.score[0, :, 1].max()
    assert found.score[0, middle, 1].item() == best.item()
    side = 12.0
    assert best.item() == pytest.approx((12.0 / side) ** ndim, abs=1e-5)


def test_a_box_between_all_places_is_learned_by_its_nearest() -> None:
    places = grid(4, 8.0)
    truth, labels = torch.tensor([[[7.0, 7.0, 9.0, 9.0]]]), torch.tensor([[0]])
    found = assign(torch.full((1, 16, 1), 0.01), around(places, 4.0)[None], places, torch.full((16,), 8.0), truth, labels)
    assert places[found.box[0] >= 0].tolist() == [[4.0, 4.0], [4.0, 12.0], [12.0, 4.0], [12.0, 12.0]]


def test_a_place_in_two_boxes_learns_the_one_it_overlaps_most() -> None:
    places = grid(4, 8.0)
    truth = torch.tensor([[[0.0, 0, 32, 32], [0.0, 0, 8, 8]]])
    found = assign(
        torch.full((1, 16, 1), 0.5), around(places, 4.0)[None], places, torch.full((16,), 8.0), truth, torch.tensor([[0, 0]])
    )
    assert found.box[0, 0] == 1
    assert (found.box[0, 1:] <= 0).all()


def test_an_image_without_boxes_teaches_that_there_are_none() -> None:
    places = grid(4, 8.0)
    logits = torch.zeros(1, 16, 2, requires_grad=True)
    boxes = around(places, 4.0)[None].requires_grad_()
    loss = detection_loss(logits, boxes, places, torch.full((16,), 8.0), torch.zeros(1, 1, 4), torch.tensor([[-1]]))
    pushed, moved = torch.autograd.grad(loss, (logits, boxes))
    assert (pushed > 0).all()
    assert (moved == 0).all()
    unknown = detection_loss(
        logits, boxes, places, torch.full((16,), 8.0), torch.zeros(1, 1, 4), torch.tensor([[-1]]), torch.tensor([[True, False]])
    )
    (pushed,) = torch.autograd.grad(unknown, logits)
    assert (pushed[..., 0] > 0).all()
    assert (pushed[..., 1] == 0).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_descent_finds_the_boxes(ndim: int) -> None:
    """Free logits and boxes end with the truth on top and nothing else that scores."""
    places = grid(6, 4.0, ndim)
    truth = torch.tensor([[[2.0] * ndim + [11.0] * ndim, [12.0] * ndim + [23.0] * ndim]])
    labels = torch.tensor([[0, 1]])
    strides = torch.full((len(places),), 4.0)
    logits = torch.full((1, len(places), 2), -2.0, requires_grad=True)
    sides = torch.full((1, len(places), 2 * ndim), 4.0, requires_grad=True)
    optimiser = torch.optim.Adam([logits, sides], lr=0.1)
    for _ in range(250):
        optimiser.zero_grad()
        boxes = torch.cat([places - sides[..., :ndim].abs(), places + sides[..., ndim:].abs()], -1)
        detection_loss(logits, boxes, places, strides, truth, labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for k in (0, 1):
        best = int(logits[0, :, k].argmax())
        assert torch.allclose(boxes[0, best], truth[0, k], atol=0.7)
        assert logits[0, best, k].sigmoid() > 0.8


def test_boxes_a_few_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    places, strides = grid(12, 4.0), torch.full((144,), 4.0)
    low = torch.rand(2, 50, 2, generator=draw) * 40
    truth = torch.cat([low, low + 1 + torch.rand(2, 50, 2, generator=draw) * 12], dim=2)
    truth[:, 7] = truth[:, 31]  # of boxes that are alike the first has the place
    labels = torch.randint(-1, 3, (2, 50), generator=draw)
    scores, boxes = torch.rand(2, 144, 3, generator=draw), around(places, 5.0)[None].expand(2, -1, -1)
    whole = assign(scores, boxes, places, strides, truth, labels)
    assert (whole.box >= 0).sum() > 50
    for pairs in (1, 3 * 288, 17 * 288):
        monkeypatch.setattr(module, "PAIRS", pairs)
        parts = assign(scores, boxes, places, strides, truth, labels)
        assert torch.equal(parts.box, whole.box)
        assert torch.equal(parts.score, whole.score)


def test_ten_thousand_boxes_of_one_image_take_no_more_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    def watched(one: Tensor, other: Tensor) -> Tensor:
        held.append(one.shape[0] * one.shape[1] * other.shape[1])
        return pairwise_iou(one, other)

    monkeypatch.setattr(module, "pairwise_iou", watched)
    monkeypatch.setattr(module, "PAIRS", 2**20)
    places = grid(32, 8.0)
    low = torch.rand(1, 10_000, 2, generator=torch.Generator().manual_seed(0)) * 250
    truth, labels = torch.cat([low, low + 4], dim=2), torch.zeros(1, 10_000, dtype=torch.long)
    logits = torch.zeros(1, 1024, 1, requires_grad=True)
    boxes = around(places, 4.0)[None].requires_grad_()
    loss = detection_loss(logits, boxes, places, torch.full((1024,), 8.0), truth, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert len(held) == 10
    assert max(held) <= 2**20
