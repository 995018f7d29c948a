"""A vision transformer's encoder: an image cut into patches that all attend to each other, in two and three dimensions.

Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, with layers normed before each part. Places are told by rotary
positions along each axis (Heo et al., "Rotary position embedding for vision transformer", ECCV 2024) or by a learned table that
is interpolated; either takes an image of any size. Tokens without a place (Darcet et al., "Vision transformers need registers",
ICLR 2024) stand before the patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Decision
from hounsfield.models.parts.attention import MultiHeadAttention, two_layers
from hounsfield.models.parts.blocks import StandardisedConv2d, StandardisedConv3d, Unit
from hounsfield.models.parts.depth import DropPath, rates
from hounsfield.models.parts.pyramid import check_size
from hounsfield.models.parts.stems import Cut, patches

UNIT = 32  # channels: a head of attention, or half of one
BASE = 100.0  # longest wave of rotary positions over the shortest (Heo 2024, section 3.2)
TABLE = {2: 14, 3: 8}  # places a side of the learned table
SPREAD = 0.02  # standard deviation of first weights (Dosovitskiy's own, and those of all its kin)
BLOCKS, USUAL = 12, 768  # blocks of published networks up to this width, where deeper ones begin
DEEPER = (3, 64)  # blocks more for so many channels more: 24 at 1024 and 42 at 1408, where 24 and 40 were published
DROPPED = 0.1  # branches of the deepest block, where nobody chose otherwise (Touvron et al., ICML 2021)
WHY_DROPPED = "blocks that are left out at random are a check on each other; not measured yet against others"


class TransformerBlock(Unit):
    """(B, L, width) -> the same: attention, then two layers, each beside a shortcut and normed before it.

    drop: part of the samples for which a training step leaves out attention, and part for which the layers.
    """

    def __init__(self, width: int, dropout: float, drop: float) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(heads(width), width, dropout)
        self.layers = two_layers(width)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.drop(self.attention(self.first(x), turn=turn))
        out: Tensor = x + self.drop(self.layers(self.second(x)))
        return out


class Encoder(nn.Module):
    """(B, C, *s) -> tokens (B, prefix + places, width), normed, after each of the blocks that `taps` numbers from 1, rising.

    The first `prefix` tokens have no place; those of the patches follow row by row. patch: voxels a side, per axis, which `cut`
    embeds. dropout: of the weights of attention; drop_path: of the branches of the deepest block.
    kept: of each sample, (B, K) numbers of the patches that alone are encoded, in the place of all.
    Raises ValueError for sides that are no multiples of the patch's.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        patch: Sequence[int],
        taps: Sequence[int],
        positions: Literal["rotary", "learned"] = "rotary",
        prefix: int = 0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        cut: Cut = "patch",
    ) -> None:
        super().__init__()
        self.patch, self.taps, self.places_from, self.width = tuple(patch), tuple(taps), prefix, width
        self.head = width // heads(width)  # channels of a head
        self.embed = patches(cut, in_channels, width, self.patch)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, width)) if prefix else None
        self.table = nn.Parameter(torch.zeros(1, width, *(TABLE[len(patch)],) * len(patch))) if positions == "learned" else None
        self.blocks = nn.ModuleList(TransformerBlock(width, dropout, drop) for drop in rates(drop_path, self.taps[-1]))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.taps)
        for parameter in (self.prefix, self.table):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=SPREAD)
        begin(self)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> list[Tensor]:
        check_size(x.shape[2:], self.patch)
        cells = self.embed(x)
        if self.table is not None:
            linear = "bilinear" if cells.ndim == 4 else "trilinear"
            cells = cells + F.interpolate(self.table, size=cells.shape[2:], mode=linear, align_corners=False)
        turn = rotary(cells.shape[2:], self.places_from, self.head, x.device) if self.table is None else None
        tokens = cells.flatten(2).transpose(1, 2)
        if kept is not None:
            tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
            turn = None if turn is None else _of_places(turn, kept, self.places_from)
        if self.prefix is not None:
            tokens = torch.cat((self.prefix.expand(len(x), -1, -1), tokens), dim=1)
        told: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens, turn)
            if number in self.taps:
                told.append(self.norms[len(told)](tokens))
        return told

    def maps(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """(B, width, *s / patch) of what `forward` gives for an input of `size`."""
        places = (n // p for n, p in zip(size, self.patch, strict=True))
        return tokens[:, self.places_from :].transpose(1, 2).reshape(len(tokens), -1, *places)


def rotary(places: Sequence[int], prefix: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (prefix + places, width / 2) each, of the angles that turn the pairs of a head of `width` channels.

    Every axis has as many pairs of its own, whose angles grow by 1 a place down to 1 / BASE. Pairs that are left over, and
    tokens without a place, stay as they are.
    """
    pairs = width // 2
    own = pairs // len(places)
    rates = torch.pow(BASE, -torch.arange(own, device=device, dtype=torch.float32) / max(1, own))
    axes = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in places), indexing="ij")
    angles = torch.cat([axis.flatten()[:, None] * rates for axis in axes], dim=1)
    angles = F.pad(angles, (0, pairs - angles.shape[1], prefix, 0))
    return angles.cos(), angles.sin()


def _of_places(turn: tuple[Tensor, Tensor], kept: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """Of what `rotary` gives the prefix and the places `kept` (B, K) of each sample: (B, 1, prefix + K, width / 2) each."""
    first = torch.arange(prefix, device=kept.device).expand(len(kept), -1)
    rows = torch.cat((first, kept + prefix), dim=1)
    return turn[0][rows][:, None], turn[1][rows][:, None]


def begin(network: nn.Module) -> None:
    """First weights of a transformer's layers and of the convolution that cuts its patches: small ones, no bias.

    Standardised convolutions, whose weights have no size, are left as they are."""
    for module in network.modules():
        if isinstance(module, StandardisedConv2d | StandardisedConv3d):
            continue
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.trunc_normal_(module.weight, std=SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def heads(width: int) -> int:
    """Of 64 channels, as published, or of 32 where these do not divide the width, a multiple of UNIT."""
    return width // 64 if width % 64 == 0 else width // UNIT


def depth(width: int) -> int:
    """Blocks that published networks of this width have, or lie between: 12 up to 768 channels, 24 at 1024."""
    more, channels = DEEPER
    return BLOCKS + max(0, width - USUAL) * more // channels


def sides(patch: Sequence[int], ndim: int) -> tuple[int, ...]:
    """The patch's sides; one number stands for all axes. Raises InputError BAD_PLAN."""
    if len(patch) not in (1, ndim):
        raise InputError(
            "BAD_PLAN",
            "model_options.patch",
            found=f"{list(patch)} in {ndim}D",
            expected=f"1 or {ndim} numbers",
            fix=f"write {list(patch[:1])}",
        )
    return tuple(patch) if len(patch) == ndim else tuple(patch) * ndim


def patch_of(shape: Sequence[int], places: int, most: int) -> tuple[int, ...]:
    """Per axis the power of two, at most `most`, that gives nearest to `places` patches."""
    return tuple(min(most, 2 ** max(0, round(math.log2(n / places)))) for n in shape)


def steps(patch: Sequence[int]) -> list[tuple[int, ...]]:
    """From each level to the next coarser one, per axis, down to patches of powers of two; short sides come last."""
    halvings = [side.bit_length() - 1 for side in patch]
    levels = max(halvings)
    return [tuple(2 if level >= levels - count else 1 for count in halvings) for level in range(levels)]


def training() -> Decision:
    """What networks that attend learn with where nobody chose otherwise."""
    return Decision(
        {"lr": 1e-3, "weight_decay": 5e-2, "warmup": 0.2, "ema": 0.99},
        {
            "lr": "attention bears less than convolutions do; not measured yet against others",
            "weight_decay": "as vision transformers are trained",
            "warmup": "attention is fickle before it knows where to look",
            "ema": "an average of the last weights, as they are trained; not measured yet against none",
        },
    )


def rules(shape: Sequence[int], places: int, most: int) -> Decision:
    """`patch_of` the image, and what lets a network of blocks learn from few images."""
    patch = patch_of(shape, places, most)
    why = {
        "patch": f"{'×'.join(map(str, shape))} voxels cut into about {places} patches a side, of at most {most} voxels",
        "cut": "convolutions that overlap learn from fewer images than a matrix for each patch",
        "drop_path": WHY_DROPPED,
    }
    return Decision({"patch": patch, "cut": "conv", "drop_path": DROPPED}, why)
