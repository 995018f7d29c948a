"""Self-attention within windows of a map, written once for two and three dimensions.

Vaswani et al., "Attention is all you need", NeurIPS 2017; in windows, every second time displaced by half of one, as in Liu et
al., "Swin transformer", ICCV 2021. Places are told by a depth-wise convolution before each block (Chu et al., "Conditional
positional encodings for vision transformers", ICLR 2023), so that any size of image will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.models.parts.blocks import CONV

HEAD = 32  # channels of one head
WIDER = 4  # times the channels between the two layers after attention


class WindowAttention(nn.Module):
    """(B, *s, C) -> the same: each place attends to those of its window. shift: windows begin half of one earlier."""

    def __init__(self, channels: int, window: Sequence[int], shift: bool) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.window = tuple(window)
        self.shift = tuple(w // 2 if shift else 0 for w in window)
        self.ask = nn.Linear(channels, 3 * channels)
        self.tell = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1:-1]
        before = [s if n > w else 0 for s, n, w in zip(self.shift, size, self.window, strict=True)]
        after = [-(n + b) % w for n, b, w in zip(size, before, self.window, strict=True)]
        pads = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
        asked = self.ask(x)
        windows = _divided(F.pad(asked, [0, 0, *pads]), self.window)
        count, tokens = windows.shape[:2]
        q, k, v = windows.reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None
        if any(pads):  # what pads a window is no place
            there = F.pad(torch.ones((1, *size, 1), dtype=torch.bool, device=x.device), [0, 0, *pads])
            mask = _divided(there, self.window)[:, None, None, :, 0].repeat(len(x), 1, 1, 1)
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = _joined(
            heard.transpose(1, 2).reshape(count, tokens, -1),
            self.window,
            len(x),
            [n + b + a for n, b, a in zip(size, before, after, strict=True)],
        )
        told: Tensor = self.tell(out[(slice(None), *(slice(b, b + n) for b, n in zip(before, size, strict=True)))])
        return told


class AttentionBlock(nn.Module):
    """(B, C, *s) -> the same: place, attention, two layers, each beside a shortcut and normed before it (Xiong, ICML 2020)."""

    def __init__(self, channels: int, window: Sequence[int], shift: bool) -> None:
        super().__init__()
        self.place = CONV[len(window)](channels, channels, 3, padding=1, groups=channels)
        self.first, self.second = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, window, shift)
        self.layers = nn.Sequential(nn.Linear(channels, WIDER * channels), nn.GELU(), nn.Linear(WIDER * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = (x + self.place(x)).movedim(1, -1)
        x = x + self.attention(self.first(x))
        out: Tensor = (x + self.layers(self.second(x))).movedim(-1, 1)
        return out


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
