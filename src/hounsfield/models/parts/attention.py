"""Attention of many heads, over all places or within windows of a map, written once for two and three dimensions.

Vaswani et al., "Attention is all you need", NeurIPS 2017; in windows, every second time displaced by half of one, as in Liu et
al., "Swin transformer", ICCV 2021. There places are told by a depth-wise convolution before each block (Chu et al.,
"Conditional positional encodings for vision transformers", ICLR 2023), so that any size of image will do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.models.parts.blocks import CONV, Unit
from hounsfield.models.parts.depth import DropPath

HEAD = 32  # channels of one head
WIDER = 4  # times the channels between the two layers after attention
WHOLE = 2**31  # places a side of a window that holds any map


class MultiHeadAttention(nn.Module):
    """(B, L, d_model) -> (B, L, d_model): in each head softmax(Q K^T / sqrt(d)) V, d = d_model / heads, then a linear layer of
    all heads side by side (Vaswani 2017, sections 3.2.1 and 3.2.2).

    dropout: part of the weights that a training step leaves out. Runs on torch's fused kernel, which never holds the weights,
    but where these are asked for: `with_weights` returns them, and with keep_weights = True every forward pass leaves its own,
    (B, heads, L, S) without gradients, in `weights`; see `kept_weights`. Rows sum to 1, before dropout.
    Raises ValueError where d_model is no multiple of heads.
    """

    def __init__(self, heads: int, d_model: int, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or d_model % heads:
            raise ValueError(f"found d_model = {d_model} for {heads} heads, expected a multiple of them")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.keep_weights = False
        self.weights: Tensor | None = None

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        turn: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x asks memory (B, S, d_model), or itself.

        mask: (L, S) or (B, heads, L, S), sides of 1 standing for any; boolean, True where a query may attend, as torch's kernel
        has it and unlike torch's module; or numbers that are added before the softmax. A query that may attend nowhere hears 0.
        turn: cosines and sines (L, d / 2) of rotary positions, in self-attention (see `turned`).
        Raises ValueError for a mask of another kind.
        """
        out: Tensor = self.out(self.attend(*self.project(x, memory), mask, turn))
        return out

    def with_weights(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, turn: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same with the weights (B, heads, L, S), through which gradients flow."""
        heard, weights = self._weighed(*self._heads(*self.project(x, memory), turn), _checked(mask))
        return self.out(heard), weights

    def project(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, keys and values of memory, or of x; all heads side by side."""
        if memory is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            return q, k, v
        width = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
        return F.linear(x, weight[:width], bias[:width]), k, v

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, turn: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(B, L, d_model) of what `project` gives, before the last layer."""
        mask, (q, k, v) = _checked(mask), self._heads(q, k, v, turn)
        if self.keep_weights:
            heard, weights = self._weighed(q, k, v, mask)
            self.weights = weights.detach()
            return heard
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2).flatten(2)

    def _heads(self, q: Tensor, k: Tensor, v: Tensor, turn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, heads, length, d) of each."""
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (q, k, v))
        return (q, k, v) if turn is None else (turned(q, *turn), turned(k, *turn), v)

    def _weighed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, L, d_model) and (B, heads, L, S), by the formula."""
        weights = attention_weights(q, k, mask)
        heard = F.dropout(weights, self.dropout, self.training).to(v.dtype) @ v
        return heard.transpose(1, 2).flatten(2), weights


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """(..., L, S): softmax(Q K^T / sqrt(d)) of q (..., L, d) and k (..., S, d); mask as in MultiHeadAttention."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    nowhere = (scores == -math.inf).all(dim=-1, keepdim=True)
    return scores.masked_fill(nowhere, 0.0).softmax(dim=-1).masked_fill(nowhere, 0.0)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., L, d) with its channels k and k + d / 2 turned together, as a point of the plane, by the place's angle for k.

    cos, sin: (L, d / 2). What a query and a key say to each other then depends on the difference of their places alone (Su et
    al., "RoFormer", Neurocomputing 568, 2024, section 3.2).
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


def _checked(mask: Tensor | None) -> Tensor | None:
    if mask is not None and (mask.ndim not in (2, 4) or not (mask.dtype == torch.bool or mask.is_floating_point())):
        found = f"{mask.dtype} of {tuple(mask.shape)}"
        raise ValueError(f"found a mask of {found}, expected booleans or floats of (L, S) or (B, heads, L, S)")
    return mask


@contextmanager
def kept_weights(network: nn.Module) -> Iterator[dict[str, MultiHeadAttention]]:
    """Every attention of the network by its name. While this is open each leaves the weights of its last forward pass in
    `weights`; afterwards they are gone, and nothing is kept."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, MultiHeadAttention)}
    for layer in layers.values():
        layer.keep_weights = True
    try:
        yield layers
    finally:
        for layer in layers.values():
            layer.keep_weights, layer.weights = False, None


class WindowAttention(nn.Module):
    """(B, *s, C) -> the same: each place attends to those of its window. shift: windows begin half of one earlier.

    The weights that `attention` keeps are those of one window after another, row by row of each sample.
    """

    def __init__(self, channels: int, window: Sequence[int], shift: bool) -> None:
        super().__init__()
        self.window = tuple(window)
        self.shift = tuple(w // 2 if shift else 0 for w in window)
        self.attention = MultiHeadAttention(heads_of(channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1:-1]
        window = [min(w, n) for w, n in zip(self.window, size, strict=True)]
        before = [s if n > w else 0 for s, n, w in zip(self.shift, size, window, strict=True)]
        after = [-(n + b) % w for n, b, w in zip(size, before, window, strict=True)]
        pads = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
        asked = _divided(F.pad(self.attention.qkv(x), [0, 0, *pads]), window)
        mask = None
        if any(pads):  # what pads a window is no place
            there = F.pad(torch.ones((1, *size, 1), dtype=torch.bool, device=x.device), [0, 0, *pads])
            mask = _divided(there, window)[:, None, None, :, 0].repeat(len(x), 1, 1, 1)
        q, k, v = asked.chunk(3, dim=-1)
        whole = [n + b + a for n, b, a in zip(size, before, after, strict=True)]
        heard = _joined(self.attention.attend(q, k, v, mask), window, len(x), whole)
        inside = (slice(None), *(slice(b, b + n) for b, n in zip(before, size, strict=True)))
        told: Tensor = self.attention.out(heard[inside])
        return told


class AttentionBlock(Unit):
    """(B, C, *s) -> the same: place, attention, two layers, each beside a shortcut and normed before it (Xiong, ICML 2020).

    drop: part of the samples for which a training step leaves out attention, and part for which the layers.
    """

    def __init__(self, channels: int, window: Sequence[int], shift: bool, drop: float = 0.0) -> None:
        super().__init__()
        self.place = CONV[len(window)](channels, channels, 3, padding=1, groups=channels)
        self.first, self.second = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, window, shift)
        self.layers = two_layers(channels)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = (x + self.place(x)).movedim(1, -1)
        x = x + self.drop(self.attention(self.first(x)))
        out: Tensor = (x + self.drop(self.layers(self.second(x)))).movedim(-1, 1)
        return out


def attention_blocks(channels: int, window: Sequence[int], drops: Sequence[float]) -> list[AttentionBlock]:
    """One for each of `drops`, of which every second has its windows displaced."""
    return [AttentionBlock(channels, window, bool(number % 2), drop) for number, drop in enumerate(drops)]


def begin_without_places(network: nn.Module) -> None:
    """Every AttentionBlock of the network begins as if it did not know its places.

    With the random weights of `initialise` each would treble the variance of what it is given; dozens in a row know no bound.
    """
    for module in network.modules():
        if isinstance(module, AttentionBlock):
            for parameter in module.place.parameters():
                nn.init.zeros_(parameter)


def two_layers(channels: int) -> nn.Sequential:
    """What follows attention, for each place by itself (Vaswani 2017, section 3.3)."""
    return nn.Sequential(nn.Linear(channels, WIDER * channels), nn.GELU(), nn.Linear(WIDER * channels, channels))


def heads_of(channels: int) -> int:
    """Heads of HEAD channels, or as little wider as divides evenly."""
    return next(heads for heads in range(max(1, channels // HEAD), 0, -1) if channels % heads == 0)


def window_of(side: int, ndim: int) -> tuple[int, ...]:
    """A window of `side` places a side in 2D, of half as many in 3D, where a cube holds so many more."""
    return (side if ndim == 2 else max(2, side // 2),) * ndim


def _divided(x: Tensor, window: Sequence[int]) -> Tensor:
    """(B, *s, C) -> (B windows, places, C)."""
    n = len(window)
    shape = [part for s, w in zip(x.shape[1:-1], window, strict=True) for part in (s // w, w)]
    cut = x.reshape(len(x), *shape, x.shape[-1])
    order = [0, *range(1, 2 * n + 1, 2), *range(2, 2 * n + 1, 2), 2 * n + 1]
    return cut.permute(order).reshape(-1, prod(window), x.shape[-1])


def _joined(windows: Tensor, window: Sequence[int], batch: int, size: Sequence[int]) -> Tensor:
    """The way back of `_divided`."""
    n = len(window)
    cut = windows.reshape(batch, *(s // w for s, w in zip(size, window, strict=True)), *window, windows.shape[-1])
    order = [0, *(axis for k in range(n) for axis in (1 + k, 1 + n + k)), 2 * n + 1]
    return cut.permute(order).reshape(batch, *size, windows.shape[-1])
