"""Self-attention between the channels of a map, written once for two and three dimensions.

Zamir et al., "Restormer: efficient transformer for high-resolution image restoration", CVPR 2022, section 3: each channel
attends to the others by how alike their maps are, so that the work grows with the number of voxels, not with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.models.parts.blocks import CONV, Unit

HEAD = 16  # channels of one head


class ChannelNorm(nn.Module):
    """(B, C, *s) scaled at every place to a variance of 1 over the channels; the mean stays, and with it what is bright."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, *[1] * ndim))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.float().var(dim=1, keepdim=True, correction=0)
        return x * torch.rsqrt(variance + 1e-5) * self.weight


class ChannelAttention(nn.Module):
    """(B, C, *s) -> the same; section 3.1."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        conv = CONV[ndim]
        self.ask = conv(channels, 3 * channels, 1, bias=False)
        self.near = conv(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.sharpness = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.tell = conv(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        asked = self.near(self.ask(x)).reshape(len(x), 3, self.heads, -1, x[0, 0].numel())
        q, k, v = asked.unbind(1)
        alike = F.normalize(q.float(), dim=-1) @ F.normalize(k.float(), dim=-1).transpose(-1, -2)
        heard = (alike * self.sharpness).softmax(dim=-1).to(v.dtype) @ v
        out: Tensor = self.tell(heard.reshape(x.shape))
        return out


class GatedLayers(nn.Module):
    """(B, C, *s) -> the same: one half decides what passes of the other; section 3.2."""

    def __init__(self, channels: int, wider: float, ndim: int) -> None:
        super().__init__()
        conv, inner = CONV[ndim], int(channels * wider)
        self.open = conv(channels, 2 * inner, 1, bias=False)
        self.near = conv(2 * inner, 2 * inner, 3, padding=1, groups=2 * inner, bias=False)
        self.close = conv(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, passing = self.near(self.open(x)).chunk(2, dim=1)
        out: Tensor = self.close(F.gelu(gate) * passing)
        return out


class ChannelBlock(Unit):
    """(B, C, *s) -> the same: attention and gated layers, each beside a shortcut and normed before it."""

    def __init__(self, channels: int, wider: float, ndim: int) -> None:
        super().__init__()
        self.first, self.second = ChannelNorm(channels, ndim), ChannelNorm(channels, ndim)
        self.attention = ChannelAttention(channels, ndim)
        self.layers = GatedLayers(channels, wider, ndim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        out: Tensor = x + self.layers(self.second(x))
        return out
