"""Window attention against the same attention computed place by place."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from hounsfield.models.parts.attention import HEAD, AttentionBlock, WindowAttention


def reference(layer: WindowAttention, x: Tensor) -> Tensor:
    """Every place attends to those of its window alone, by the formula softmax(QK^T / sqrt(d)) V."""
    size = x.shape[1:-1]
    q, k, v = layer.ask(x).chunk(3, dim=-1)
    out = torch.zeros_like(x)
    places = list(itertools.product(*(range(n) for n in size)))

    def window(place: tuple[int, ...]) -> tuple[int, ...]:
        shift = [s if n > w else 0 for s, n, w in zip(layer.shift, size, layer.window, strict=True)]
        return tuple((p + s) // w for p, s, w in zip(place, shift, layer.window, strict=True))

    width = x.shape[-1] // layer.heads
    for b, place in itertools.product(range(len(x)), places):
        others = [o for o in places if window(o) == window(place)]
        for h in range(layer.heads):
            part = slice(h * width, (h + 1) * width)
            keys = torch.stack([k[(b, *o)][part] for o in others])
            values = torch.stack([v[(b, *o)][part] for o in others])
            weights = torch.softmax(keys @ q[(b, *place)][part] / width**0.5, dim=0)
            out[(b, *place)][part] = weights @ values
    told: Tensor = layer.tell(out)
    return told


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("size", "window"), [((5, 6), (4, 4)), ((3, 9), (4, 2)), ((3, 5, 4), (2, 2, 4))])
@torch.no_grad()
def test_attention_stays_within_windows(size: tuple[int, ...], window: tuple[int, ...], shift: bool) -> None:
    torch.manual_seed(1)
    layer = WindowAttention(2 * HEAD, window, shift)
    x = torch.randn(2, *size, 2 * HEAD)
    torch.testing.assert_close(layer(x), reference(layer, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_block_keeps_its_shape_and_learns_everywhere(ndim: int) -> None:
    block = AttentionBlock(HEAD, (4,) * ndim, shift=True)
    x = torch.randn(2, HEAD, *(6, 5, 7)[:ndim])
    out = block(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in block.parameters())
