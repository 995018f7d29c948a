"""Networks that are shown a part of an image and fill in the rest, by which they learn to see without labels, in 2D and 3D.

Plain vision transformers as masked autoencoders (He et al., "Masked autoencoders are scalable vision learners", CVPR 2022):
the encoder meets the visible patches alone, a small decoder all places. Networks that convolve, or attend in windows, need the
whole grid: what is hidden is given a learned value there (Xie et al., "SimMIM: a simple framework for masked image modeling",
CVPR 2022). Not zero, which images have where they are of mean brightness: a learned value can be one that none has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hounsfield.models.parts.blocks import CONV
from hounsfield.models.parts.growth import unfolded
from hounsfield.models.parts.tokens import SPREAD, UNIT, Encoder, TransformerBlock, begin, heads, rotary

DECODER = 4  # blocks: one is enough for what is fine-tuned, more help what stays frozen (He 2022, table 1a)


def hide(batch: int, size: Sequence[int], cell: Sequence[int], share: float, draw: torch.Generator | None = None) -> Tensor:
    """(batch, 1, *size) bool, True in `share` of the cells of `cell` voxels, of which the last may reach beyond the image: in
    as many of each sample. Drawn from `draw` and on its device, else from torch's own generator on the current one."""
    cells = [-(-n // c) for n, c in zip(size, cell, strict=True)]
    count = math.prod(cells)
    drawn = torch.rand(batch, count, generator=draw, device=None if draw is None else draw.device)
    rank = drawn.argsort(dim=1).argsort(dim=1)
    hidden = (rank < hidden_of(count, share)).reshape(batch, 1, *cells)
    for axis, (n, c) in enumerate(zip(size, cell, strict=True), start=2):
        hidden = hidden.repeat_interleave(c, dim=axis).narrow(axis, 0, n)
    return hidden


def hidden_of(count: int, share: float) -> int:
    """How many of `count` cells are hidden: at least one, and not all where there are several."""
    return max(1, min(round(share * count), count - 1))


class MaskedMap(nn.Module):
    """x (B, C, *s) normalised, hidden (B, 1, *s) -> (B, C, *s), what is there. network: gives a map of as many channels as it
    is given."""

    def __init__(self, network: nn.Module, channels: int, ndim: int) -> None:
        super().__init__()
        self.network = network
        self.value = nn.Parameter(torch.zeros(1, channels, *[1] * ndim))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        out = self.network(torch.where(hidden, self.value, x))
        filled: Tensor = out if isinstance(out, Tensor) else out[0]  # of several maps the finest
        return filled


class MaskedFeatures(nn.Module):
    """As MaskedMap. network: its `maps` are what it sees before it averages over space, of which one layer makes the voxels of
    each place, as in SimMIM. size: of the images."""

    def __init__(self, network: nn.Module, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.value = nn.Parameter(torch.zeros(1, channels, *[1] * len(size)))
        with torch.no_grad():
            found = self._maps(torch.zeros(1, channels, *size)).shape
        self.step = tuple(-(-n // m) for n, m in zip(size, found[2:], strict=True))
        self.head = CONV[len(size)](found[1], channels * math.prod(self.step), 1)
        begin(self.head)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        filled = unfolded(self.head(self._maps(torch.where(hidden, self.value, x))), self.step)
        return filled[(slice(None), slice(None), *(slice(n) for n in x.shape[2:]))]

    def _maps(self, x: Tensor) -> Tensor:
        maps: Tensor = self.network.maps(x)  # type: ignore[operator]
        return maps


class MaskedTokens(nn.Module):
    """x (B, C, *s) normalised, hidden (B, 1, *s), the same in all voxels of a patch and in `share` of the patches of every
    sample -> (B, C, *s). network: its `encoder` is one of tokens."""

    def __init__(self, network: nn.Module, channels: int, share: float) -> None:
        super().__init__()
        assert isinstance(network.encoder, Encoder)
        wide, patch = network.encoder.width, network.encoder.patch
        narrow = max(UNIT, wide // 2 // UNIT * UNIT)
        self.network = network
        self.share = share
        self.value = nn.Parameter(torch.zeros(1, channels, *[1] * len(patch)))
        self.head = narrow // heads(narrow)  # channels of a head
        self.bridge = nn.Linear(wide, narrow)
        self.token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.blocks = nn.ModuleList(TransformerBlock(narrow, 0.0, 0.0) for _ in range(DECODER))
        self.norm = nn.LayerNorm(narrow)
        self.out = nn.Linear(narrow, channels * math.prod(patch))
        nn.init.trunc_normal_(self.token, std=SPREAD)
        for part in (self.bridge, self.blocks, self.out):
            begin(part)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        encoder = self.network.encoder
        assert isinstance(encoder, Encoder)
        places = [n // p for n, p in zip(x.shape[2:], encoder.patch, strict=True)]
        count = math.prod(places)
        cells = hidden[:, 0][(slice(None), *(slice(None, None, p) for p in encoder.patch))].flatten(1)
        order = cells.to(torch.uint8).argsort(dim=1, stable=True)  # what is visible comes first
        visible = order[:, : count - hidden_of(count, self.share)]
        # Where convolutions cut the patches, they see beyond one.
        told: Tensor = encoder(torch.where(hidden, self.value, x), visible)[-1]
        known = self.bridge(told[:, encoder.places_from :])
        lacking = self.token.to(known.dtype).expand(len(x), count - visible.shape[1], -1)
        back = order.argsort(dim=1)[..., None].expand(-1, -1, known.shape[2])
        tokens = torch.cat((known, lacking), dim=1).gather(1, back)
        turn = rotary(places, 0, self.head, x.device)
        for block in self.blocks:
            tokens = block(tokens, turn)
        out: Tensor = self.out(self.norm(tokens))
        return unfolded(out.transpose(1, 2).reshape(len(x), -1, *places), encoder.patch)
