"""Attention against torch's own module, the written formula, and the same computed place by place."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hounsfield.models.parts.attention import (
    HEAD,
    WHOLE,
    AttentionBlock,
    MultiHeadAttention,
    WindowAttention,
    attention_weights,
    begin_without_places,
    heads_of,
    kept_weights,
    turned,
)

WIDTH, HEADS = 24, 4


def pair(dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """Ours and torch's with the same weights."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, dropout=dropout, batch_first=True, dtype=dtype)
    nn.init.normal_(theirs.in_proj_bias)
    ours = MultiHeadAttention(HEADS, WIDTH, dropout).to(dtype)
    ours.qkv.load_state_dict({"weight": theirs.in_proj_weight.detach(), "bias": theirs.in_proj_bias.detach()})
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    return ours, theirs


def masks() -> dict[str, Tensor | None]:
    """True where a query may attend; every query somewhere."""
    some = torch.rand(2, HEADS, 7, 9, generator=torch.Generator().manual_seed(2)) > 0.4
    some[..., 0] = True
    return {"none": None, "boolean": some[0, 0], "each head": some, "added": torch.randn(7, 9)}


@pytest.mark.parametrize("memory_length", [None, 9])
@pytest.mark.parametrize("kind", ["none", "boolean", "each head", "added"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_torch_s_own_and_so_are_its_gradients(dtype: torch.dtype, kind: str, memory_length: int | None) -> None:
    ours, theirs = pair(dtype)
    mask = masks()[kind]
    if mask is not None:
        mask = mask.to(dtype) if mask.is_floating_point() else mask
        mask = mask if memory_length else mask[..., :7]
    x = torch.randn(2, 7, WIDTH, dtype=dtype)
    memory = x if memory_length is None else torch.randn(2, memory_length, WIDTH, dtype=dtype)
    its = None if mask is None else ~mask if mask.dtype == torch.bool else mask
    if its is not None and its.ndim == 4:
        its = its.flatten(0, 1)
    a, b, c, d = (t.clone().requires_grad_() for t in (x, memory, x, memory))
    out, weights = ours.with_weights(a, None if memory_length is None else b, mask)
    expected, expected_weights = theirs(c, d if memory_length else c, d if memory_length else c, attn_mask=its,
                                        average_attn_weights=False)  # fmt: skip
    close = {"atol": 1e-6 if dtype == torch.float32 else 1e-12, "rtol": 1e-6}
    torch.testing.assert_close(out, expected, **close)  # type: ignore[arg-type]
    torch.testing.assert_close(weights, expected_weights, **close)  # type: ignore[arg-type]
    torch.testing.assert_close(ours(a, None if memory_length is None else b, mask), expected, **close)  # type: ignore[arg-type]
    ours(a, None if memory_length is None else b, mask).square().mean().backward()
    expected.square().mean().backward()
    torch.testing.assert_close(a.grad, c.grad, **close)  # type: ignore[arg-type]
    if memory_length:
        torch.testing.assert_close(b.grad, d.grad, **close)  # type: ignore[arg-type]
    for mine, its_own in (
        (ours.qkv.weight, theirs.in_proj_weight),
        (ours.qkv.bias, theirs.in_proj_bias),
        (ours.out.weight, theirs.out_proj.weight),
        (ours.out.bias, theirs.out_proj.bias),
    ):
        torch.testing.assert_close(mine.grad, its_own.grad, **close)  # type: ignore[arg-type]


def test_weights_are_those_of_the_formula_scaled_by_the_head_s_width() -> None:
    draw = np.random.default_rng(0)
    q, k = draw.normal(size=(2, 3, 5, 8)), draw.normal(size=(2, 3, 6, 8))
    scores = np.einsum("bhld,bhsd->bhls", q, k) / np.sqrt(8)
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    found = attention_weights(torch.from_numpy(q), torch.from_numpy(k)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-12)


@pytest.mark.parametrize("boolean", [True, False])
def test_a_query_that_may_attend_nowhere_hears_nothing(boolean: bool) -> None:
    ours, _ = pair()
    mask = torch.ones(5, 5, dtype=torch.bool)
    mask[2] = False
    given = mask if boolean else torch.zeros(5, 5).masked_fill(~mask, -math.inf)
    x = torch.randn(1, 5, WIDTH, requires_grad=True)
    out, weights = ours.with_weights(x, mask=given)
    assert weights[:, :, 2].abs().max() == 0
    torch.testing.assert_close(out[:, 2], ours.out.bias.expand(1, -1))
    torch.testing.assert_close(ours(x, mask=given), out, atol=1e-6, rtol=1e-5)
    torch.autograd.backward(out.sum())
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_dropout_leaves_out_weights_in_training_alone() -> None:
    torch.manual_seed(0)
    half = MultiHeadAttention(1, 2, 0.5)
    nn.init.zeros_(half.qkv.weight)  # all weights equal; values are the bias
    nn.init.ones_(half.qkv.bias)
    half.out.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    x = torch.zeros(1, 4000, 2)
    heard = half.train()(x)[0, :, 0]
    assert heard.mean().item() == pytest.approx(1, abs=0.02)  # what is left is doubled
    assert heard.std().item() == pytest.approx(4000**-0.5, rel=0.1)
    torch.testing.assert_close(half.eval()(x), torch.ones_like(x))
    out, weights = half.train().with_weights(x[:, :50])
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 1, 50))
    assert out.std() > 0.05


@pytest.mark.parametrize(("heads", "width"), [(5, 24), (0, 24), (32, 24)])
def test_a_width_that_heads_do_not_divide_is_refused(heads: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"d_model = {width} for {heads} heads, expected a multiple"):
        MultiHeadAttention(heads, width, 0.0)


@pytest.mark.parametrize("mask", [torch.ones(2, 7, 7, dtype=torch.bool), torch.ones(7, 7, dtype=torch.int64)])
def test_a_mask_that_could_mean_something_else_is_refused(mask: Tensor) -> None:
    ours, _ = pair()
    for ask in (ours, ours.with_weights):
        with pytest.raises(ValueError, match="found a mask of torch"):
            ask(torch.zeros(2, 7, WIDTH), mask=mask)


def test_the_fused_kernel_runs_unless_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair()
    calls: list[int] = []
    real = nn.functional.scaled_dot_product_attention

    def counted(*values: Any, **named: Any) -> Tensor:
        calls.append(1)
        return real(*values, **named)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", counted)
    x = torch.randn(1, 7, WIDTH)
    plain = ours(x)
    assert len(calls) == 1
    assert ours.weights is None
    out, weights = ours.with_weights(x)
    with kept_weights(nn.ModuleList([ours])) as layers:
        kept = ours(x)
        assert list(layers) == ["0"]
        assert layers["0"].weights is not None
        torch.testing.assert_close(layers["0"].weights, weights)
        assert not layers["0"].weights.requires_grad
    assert len(calls) == 1
    assert ours.weights is None
    torch.testing.assert_close(kept, plain, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(out, plain, atol=1e-6, rtol=1e-5)
    ours(x)
    assert ours.weights is None


def test_turning_is_a_rotation_of_complex_numbers() -> None:
    torch.manual_seed(0)
    x, angles = torch.randn(2, 3, 5, 8), torch.randn(5, 4)
    out = turned(x, angles.cos(), angles.sin())
    expected = torch.complex(x[..., :4], x[..., 4:]) * torch.exp(1j * angles)
    torch.testing.assert_close(torch.complex(out[..., :4], out[..., 4:]), expected)


def reference(layer: WindowAttention, x: Tensor) -> Tensor:
    """Every place attends to those of its window alone, by the formula softmax(QK^T / sqrt(d)) V."""
    size, inner = x.shape[1:-1], layer.attention
    q, k, v = inner.qkv(x).chunk(3, dim=-1)
    out = torch.zeros_like(x)
    places = list(itertools.product(*(range(n) for n in size)))

    def window(place: tuple[int, ...]) -> tuple[int, ...]:
        shift = [s if n > w else 0 for s, n, w in zip(layer.shift, size, layer.window, strict=True)]
        return tuple((p + s) // w for p, s, w in zip(place, shift, layer.window, strict=True))

    width = x.shape[-1] // inner.heads
    for b, place in itertools.product(range(len(x)), places):
        others = [o for o in places if window(o) == window(place)]
        for h in range(inner.heads):
            part = slice(h * width, (h + 1) * width)
            keys = torch.stack([k[(b, *o)][part] for o in others])
            values = torch.stack([v[(b, *o)][part] for o in others])
            weights = torch.softmax(keys @ q[(b, *place)][part] / width**0.5, dim=0)
            out[(b, *place)][part] = weights @ values
    told: Tensor = inner.out(out)
    return told


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(
    ("size", "window"), [((5, 6), (4, 4)), ((3, 9), (4, 2)), ((3, 5, 4), (2, 2, 4)), ((3, 5), (WHOLE, WHOLE))]
)
@torch.no_grad()
def test_attention_stays_within_windows(size: tuple[int, ...], window: tuple[int, ...], shift: bool) -> None:
    torch.manual_seed(1)
    layer = WindowAttention(2 * HEAD, window, shift)
    x = torch.randn(2, *size, 2 * HEAD)
    torch.testing.assert_close(layer(x), reference(layer, x), atol=1e-5, rtol=1e-4)


def test_a_window_larger_than_the_map_is_no_larger_than_the_map() -> None:
    layer = WindowAttention(HEAD, (8, 8), shift=False)
    with kept_weights(layer) as layers:
        layer(torch.randn(2, 3, 20, HEAD))
        # Three windows of 3 x 8 places in each of two samples, of which the last ones are half padding.
        weights = layers["attention"].weights
        assert weights is not None
        assert weights.shape == (6, 1, 24, 24)
        there = torch.arange(24).reshape(3, 8) % 8 < 4
        assert weights[2, 0][:, ~there.flatten()].abs().max() == 0


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_block_keeps_its_shape_and_learns_everywhere(ndim: int) -> None:
    block = AttentionBlock(HEAD, (4,) * ndim, shift=True)
    x = torch.randn(2, HEAD, *(6, 5, 7)[:ndim])
    out = block(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in block.parameters())


def test_a_block_that_begins_without_places_treats_all_alike_and_can_learn_them() -> None:
    torch.manual_seed(0)
    block = AttentionBlock(HEAD, (WHOLE, WHOLE), shift=False)
    x, order = torch.randn(1, HEAD, 4, 5), torch.randperm(20)

    def shuffled(y: Tensor) -> Tensor:
        return y.flatten(2)[..., order].reshape(1, -1, 4, 5)

    assert not torch.allclose(block(shuffled(x)), shuffled(block(x)), atol=1e-3)
    begin_without_places(block)
    torch.testing.assert_close(block(shuffled(x)), shuffled(block(x)), atol=1e-5, rtol=1e-4)
    block(x).square().sum().backward()
    gradient = block.place.get_parameter("weight").grad
    assert gradient is not None
    assert bool((gradient != 0).any())


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (32, 1), (48, 1), (80, 2), (96, 3), (104, 2), (320, 10)])
def test_heads_divide_the_channels(channels: int, heads: int) -> None:
    assert heads_of(channels) == heads
