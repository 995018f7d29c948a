"""Blind spots: few, replaced by neighbours, and no other voxel is touched."""

from __future__ import annotations

import pytest
import torch

from hounsfield.tasks.parts.blind import REACH, SHARE, blind_spots


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (1, 3, 16, 24, 20)])
def test_spots_take_a_neighbour_s_value(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    noisy = torch.arange(torch.tensor(shape).prod().item()).float().reshape(shape)
    given, spots = blind_spots(noisy)
    assert spots.shape == (shape[0], 1, *shape[2:])
    assert float(spots.float().mean()) == pytest.approx(SHARE, rel=0.25)
    changed = given != noisy
    assert torch.equal(changed, spots.expand(shape))
    # All channels of a spot come from one place, REACH away at most along each axis.
    sizes = torch.tensor(shape[2:])
    for place in spots[0, 0].nonzero():
        source = int(given[(0, 0, *place)])
        there = []
        for size in reversed(shape[2:]):
            there.append(source % size)
            source //= size
        apart = (torch.tensor(there[::-1]) - place).abs()
        assert (torch.minimum(apart, sizes - apart) <= REACH).all()


def test_the_seed_decides() -> None:
    noisy = torch.randn(1, 1, 32, 32)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(blind_spots(noisy)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
