"""Changes that a critic's images undergo: seldom or always, of the size that is said, and gradients pass."""

from __future__ import annotations

import pytest
import torch

from hounsfield.tasks.parts import jitter as module
from hounsfield.tasks.parts.jitter import adapt, jitter

NEVER, ALWAYS = torch.zeros(()), torch.ones(())


@pytest.mark.parametrize("size", [(16, 24), (8, 12, 10)])
def test_without_probability_nothing_changes(size: tuple[int, ...]) -> None:
    x = torch.randn(3, 2, *size)
    torch.testing.assert_close(jitter(x, None, NEVER), (x, None))


def test_with_a_probability_some_samples_change_and_others_do_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 1, 8, 8)
    same = (jitter(x, None, torch.tensor(0.1))[0] - x).abs().flatten(1).amax(dim=1) < 1e-5
    # Brightness, contrast, two shifts (of which one in five is by nothing) and a hole.
    assert 0.9**5 - 0.08 < same.float().mean() < 0.9**5 + 0.12


def test_what_was_asked_for_moves_with_the_image_and_changes_in_no_other_way() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(100, 1, 32, 32)
    mask[:, :, 12:20, 12:20] = 1
    image, moved = jitter(2 * mask - 1, mask, ALWAYS)
    assert moved is not None
    assert set(moved.flatten().tolist()) == {0.0, 1.0}
    assert (moved.sum(dim=(1, 2, 3)) == 64).all()
    assert (moved != mask).any()
    for k in range(100):  # where no hole is, the image has its two values where the mask has
        inside, outside = (set(image[k][(moved[k] == v) & (image[k] != 0)].tolist()) for v in (1, 0))
        assert len(inside) <= 1
        assert len(outside) <= 1


def test_a_hole_is_a_quarter_of_an_image_at_most() -> None:
    torch.manual_seed(0)
    holes = module._holes(torch.ones(500, 1, 16, 16), ALWAYS)
    part = (holes == 0).float().mean(dim=(1, 2, 3))
    assert set(holes.flatten().tolist()) == {0.0, 1.0}
    assert float(part.max()) == pytest.approx(0.25)
    assert float(part.min()) > 0.05  # at the border half of its sides is outside


def test_shifts_move_whole_voxels_and_repeat_the_border() -> None:
    torch.manual_seed(0)
    x = torch.arange(16.0).repeat(200, 1, 3, 1)
    moved = module._shifted(x, 3, ALWAYS)
    by = (x - moved)[:, 0, 0, 8]
    assert set(by.tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}  # an eighth of 16
    right = moved[by == 2][0, 0, 0]
    assert right.tolist() == [0, 0, *range(14)]


def test_gradients_pass_twice() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(jitter(x, None, ALWAYS)[0].square().sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(slope.sum(), x)
    assert bool((again != 0).any())


def test_what_is_told_apart_too_well_is_changed_more_often() -> None:
    probability = torch.zeros(())
    adapt(probability, torch.ones(50))
    assert float(probability) == pytest.approx(50 / module.IMAGES)
    adapt(probability, torch.tensor([1.0, -1.0] * 25))
    assert float(probability) == pytest.approx(0)
    adapt(probability, -torch.ones(50))
    assert float(probability) == 0
    probability.fill_(module.MOST)
    adapt(probability, torch.ones(50))
    assert float(probability) == pytest.approx(module.MOST)
