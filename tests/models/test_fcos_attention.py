"""The hybrid detector: windows of attention reach across their borders block by block."""

from __future__ import annotations

import torch

from hounsfield.models import fcos_attention


def test_coarse_levels_see_far() -> None:
    """A change in one corner reaches places that no convolution of these levels would."""
    torch.manual_seed(0)
    options = fcos_attention.Options(width=32, strides=((2,), (2,), (2,)), finest=3, blocks=2, window=8)
    network = fcos_attention.build(options, 1, 1, 2).eval()
    x = torch.randn(1, 1, 128, 128)
    other = x.clone()
    other[..., :4, :4] += 3
    with torch.no_grad():
        changed = (network(x)[0] - network(other)[0]).abs().amax(dim=1)[0]
    assert changed[10, 10] > 0
