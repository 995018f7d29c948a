"""Branches are left out as often as they should be, of whole samples, and in training alone."""

from __future__ import annotations

import pytest
import torch

from hounsfield.models.parts.depth import DropPath, rates


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_part_of_the_samples_loses_the_branch_and_the_rest_makes_up_for_it(rate: float) -> None:
    torch.manual_seed(0)
    out = DropPath(rate).train()(torch.ones(4000, 3, 2))
    each = out.flatten(1)
    assert bool((each == each[:, :1]).all())  # a sample as a whole
    assert sorted(set(each[:, 0].tolist())) == pytest.approx([0, 1 / (1 - rate)])
    assert float((each[:, 0] == 0).float().mean()) == pytest.approx(rate, abs=0.03)
    assert float(each.mean()) == pytest.approx(1, abs=0.06)


def test_nothing_happens_in_use_or_at_a_rate_of_0() -> None:
    x = torch.randn(3, 4)
    state = torch.get_rng_state()
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x
    assert torch.equal(state, torch.get_rng_state())


def test_deep_blocks_are_left_out_more_often() -> None:
    assert rates(0.2, 5) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert rates(0.2, 1) == [0]
    assert rates(0.2, 0) == []
