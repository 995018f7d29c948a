"""Losses against MONAI, torch and closed forms, with parts unknown, classes absent and several scales."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.data.prepare import IGNORE, PARTIAL
from hounsfield.tasks.parts import losses

SHAPES = [(7, 6), (5, 4, 6)]


def exclusive(shape: tuple[int, ...], batch: int = 3, classes: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn((batch, classes, *shape), generator=draw, requires_grad=True)
    return logits, torch.randint(0, classes, (batch, *shape), generator=draw).to(torch.uint8)


def regions(shape: tuple[int, ...], batch: int = 3, count: int = 3) -> tuple[Tensor, Tensor]:
    logits, _ = exclusive(shape, batch, count)
    target = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    return logits, target


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dice", [0.0, 1.0, 0.4])
def test_exclusive_classes_agree_with_monai(shape: tuple[int, ...], batch: int, dice: float) -> None:
    from monai.losses.dice import DiceCELoss

    logits, target = exclusive(shape, batch)
    monai = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1, smooth_dr=1, lambda_dice=dice
    )
    ours = losses.exclusive_overlap(logits, target, dice)
    theirs = monai(logits, target[:, None].long())
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    for a, b in zip(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_regions_agree_with_monai_and_torch(shape: tuple[int, ...]) -> None:
    from monai.losses.dice import DiceLoss

    logits, target = regions(shape)
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)(logits, target.float())
    expected = F.binary_cross_entropy_with_logits(logits, target.float()) + 0.7 * dice
    assert losses.region_overlap(logits, target, 0.7).item() == pytest.approx(expected.item(), abs=1e-6)


def test_what_is_unknown_counts_for_nothing() -> None:
    """The loss of a half-known target is that of the known half alone, and no gradient reaches the rest."""
    logits, target = exclusive((8, 6))
    target[:, 4:] = IGNORE
    ours = losses.exclusive_overlap(logits, target, 1.0)
    alone = losses.exclusive_overlap(logits[:, :, :4], target[:, :4], 1.0)
    assert ours.item() == pytest.approx(alone.item(), abs=1e-6)
    (gradient,) = torch.autograd.grad(ours, logits)
    assert (gradient[:, :, 4:] == 0).all()
    assert (gradient[:, :, :4] != 0).any()
    assert losses.cross_entropy(logits, target).item() == pytest.approx(
        F.cross_entropy(logits, target.long(), ignore_index=IGNORE).item(), abs=1e-6
    )


def test_one_region_may_be_unknown_where_another_is_known() -> None:
    logits, target = regions((6, 6))
    target[:, 1] = IGNORE
    ours = losses.region_overlap(logits, target, 0.0)
    known = F.binary_cross_entropy_with_logits(logits[:, [0, 2]], target[:, [0, 2]].float())
    assert ours.item() == pytest.approx(known.item(), abs=1e-6)
    (gradient,) = torch.autograd.grad(losses.region_overlap(logits, target, 1.0), logits)
    assert (gradient[:, 1] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_background_of_a_case_that_was_not_searched_for_a_class_may_be_that_class(shape: tuple[int, ...]) -> None:
    """As if background and the unknown classes were one class: the softmax over their summed probability."""
    logits, target = exclusive(shape)
    lacking = target.clone()
    lacking[0][(target[0] == 0) | (target[0] == 2) | (target[0] == 3)] = PARTIAL + 1  # classes 1 and 2 of 0..2
    found = losses.cross_entropy(logits[:1], lacking[:1], unknown=((0,), (1, 2)))
    together = torch.stack([logits[:1, [0, 2, 3]].logsumexp(1), logits[:1, 1]], dim=1)
    expected = F.cross_entropy(together, (target[:1] == 1).long())
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    whole = losses.cross_entropy(logits, lacking, unknown=((0,), (1, 2)))
    rest = losses.cross_entropy(logits[1:], target[1:])
    assert whole.item() == pytest.approx((expected.item() + 2 * rest.item()) / 3, abs=1e-6)


def test_a_class_that_was_not_searched_for_has_no_dice_loss_there() -> None:
    logits, target = exclusive((6, 6), batch=2)
    target[0] = PARTIAL
    target[0, 0] = 2  # known voxels of another class
    value = losses.exclusive_overlap(logits, target, 1.0, unknown=((0, 2),))
    p, truth = logits.softmax(1)[:, 1:], torch.stack([target == k for k in (1, 2, 3)], dim=1)
    known = torch.ones_like(truth)
    known[0, [0, 2]] = False
    expected = losses.cross_entropy(logits, target, ((0, 2),)) + losses.soft_dice(p, truth, known)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    # Whether the unknown classes or background have the rest of the probability makes no difference.
    (gradient,) = torch.autograd.grad(value, logits)
    gradient, logits = gradient[:, :, 1:], logits[:, :, 1:]
    either = logits.detach()[0, [0, 1, 3]].softmax(0)
    assert torch.allclose(gradient[0, [0, 1, 3]] / either, (gradient[0, :1] / either[:1]).expand(3, -1, -1), atol=1e-6)


@pytest.mark.parametrize("loss", [losses.exclusive_overlap, losses.region_overlap])
def test_nothing_known_is_no_loss_and_no_gradient(loss: losses.DenseLoss) -> None:
    logits, target = (exclusive if loss is losses.exclusive_overlap else regions)((5, 5))
    value = loss(logits, torch.full_like(target, IGNORE), 1.0)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert (gradient == 0).all()


def test_dice_in_closed_form() -> None:
    """Four voxels, half certain of each: 2 sum(pt) = 2, sum(p) + sum(t) = 4, and one voxel more above and below."""
    probabilities = torch.full((1, 1, 4), 0.5)
    truth = torch.tensor([[[True, True, False, False]]])
    known = torch.ones(1, 1, 4, dtype=torch.bool)
    assert losses.soft_dice(probabilities, truth, known).item() == pytest.approx(1 - (2 + 1) / (4 + 1))
    assert float(losses.soft_dice(truth.float(), truth, known)) == 0
    known[..., 2:] = False
    assert losses.soft_dice(probabilities, truth, known).item() == pytest.approx(1 - (2 + 1) / (3 + 1))


def test_an_absent_class_counts_by_what_is_wrongly_predicted() -> None:
    truth, known = torch.zeros(2, 1, 8, dtype=torch.bool), torch.ones(2, 1, 8, dtype=torch.bool)
    values = [float(losses.soft_dice(torch.full((2, 1, 8), p), truth, known)) for p in (0.0, 0.01, 0.5)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[2] == pytest.approx(1 - 1 / 9)


def test_cross_entropy_in_closed_form() -> None:
    logits = torch.zeros(1, 5, 3, 3)
    assert float(losses.cross_entropy(logits, torch.zeros(1, 3, 3, dtype=torch.uint8))) == pytest.approx(math.log(5))


def test_half_precision_logits_are_measured_in_full() -> None:
    """Beyond 2^8 voxels a count in bfloat16 is rounded."""
    logits = torch.zeros(1, 2, 100, 101)
    target = torch.zeros(1, 100, 101, dtype=torch.uint8)
    target[0, :50] = 1
    full = losses.exclusive_overlap(logits, target, 1.0)
    assert losses.exclusive_overlap(logits.bfloat16(), target, 1.0).item() == pytest.approx(full.item(), abs=1e-6)


@pytest.mark.parametrize("scales", [1, 2, 4])
def test_deep_supervision_halves_its_weights(scales: int) -> None:
    outputs = tuple(torch.zeros(1, 2, 16 >> k, 16 >> k) for k in range(scales))
    target = torch.zeros(1, 16, 16, dtype=torch.uint8)
    seen: list[tuple[int, ...]] = []

    def loss(output: Tensor, thinned: Tensor, dice: float) -> Tensor:
        seen.append(tuple(thinned.shape))
        return torch.tensor(float(len(seen)))  # the k-th scale has loss k

    value = losses.deep(loss, outputs if scales > 1 else outputs[0], target, 1.0)
    weights = [2.0 ** (scales - k) / (2**scales - 1) for k in range(1, scales + 1)]
    assert sum(weights) == pytest.approx(1)
    assert value.item() == pytest.approx(sum(w * k for k, w in enumerate(weights, start=1)))
    assert seen == [(1, 16 >> k, 16 >> k) for k in range(scales)]


@pytest.mark.parametrize(("have", "want"), [(9, 3), (8, 4), (8, 2), (10, 4), (7, 7), (5, 1), (12, 5)])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_thinning_takes_the_nearest_centre(have: int, want: int, channels: tuple[int, ...]) -> None:
    """Every label kept is that of a voxel no further from the coarse voxel's centre than any other."""
    target = torch.arange(have, dtype=torch.uint8).expand(2, *channels, 3, have)
    out = losses.thin(target, torch.Size((3, want)))
    assert out.shape == (2, *channels, 3, want)
    for k, chosen in enumerate(out.reshape(-1, want)[0].tolist()):
        centre = (k + 0.5) * have / want - 0.5
        assert abs(chosen - centre) <= min(abs(i - centre) for i in range(have)) + 1e-9
