"""What cuts an image into patches gives one place for each, whatever their shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hounsfield.models.parts.stems import patches


@pytest.mark.parametrize("cut", ["patch", "conv"])
@pytest.mark.parametrize(
    ("patch", "size"),
    [((4, 4), (8, 12)), ((1, 1), (3, 5)), ((3, 3), (6, 9)), ((6, 2), (12, 4)), ((1, 8, 8), (3, 16, 8)), ((2, 4, 4), (4, 8, 8))],
)
def test_every_patch_becomes_one_place(patch: tuple[int, ...], size: tuple[int, ...], cut: str) -> None:
    embed = patches(cut, 2, 32, patch)  # type: ignore[arg-type]
    out = embed(torch.randn(2, 2, *size))
    assert out.shape == (2, 32, *(n // p for n, p in zip(size, patch, strict=True)))


def test_long_sides_are_halved_first_and_channels_doubled() -> None:
    embed = patches("conv", 1, 64, (2, 8, 8))
    made = [(m.out_channels, m.stride) for m in embed.modules() if isinstance(m, nn.Conv3d)]
    assert made == [(16, (1, 2, 2)), (32, (1, 2, 2)), (64, (2, 2, 2)), (64, (1, 1, 1))]
