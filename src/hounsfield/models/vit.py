"""The plain vision transformer: a vector of scores from an image of any size, in two and three dimensions.

Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at scale", ICLR 2021; widths and depths
are those of its tables and of Touvron et al., "Training data-efficient image transformers", ICML 2021. See `parts/tokens.py`
for positions and registers. Nothing in its blocks knows that neighbours belong together, so it wants many images; for few it is
planned with convolutions that overlap in place of the matrix for each patch, and with stochastic depth.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import stems, tokens
from hounsfield.models.parts.tokens import UNIT, Encoder

OUTPUT: Literal["vector"] = "vector"
PATCHES = True

PLACES = {2: 14, 3: 8}  # patches a side, by dimensions: those of 16 in a picture of 224
LARGEST = 16  # voxels


class Options(plan.Options):
    """width: channels of a token. depth: blocks; None for as many as published networks of the width have.
    patch: voxels a side, per axis, or one number for all. positions: "rotary", or "learned", a table interpolated to the image.
    cut: by a matrix for each patch ("patch", as published), or by convolutions that overlap ("conv").
    registers: tokens without a place. head: scores from the "mean" of the patches or from a token for the "class".
    dropout: part of the weights of attention that a training step leaves out. drop_path: part of the branches of the deepest
    block that it leaves out; the first has none."""

    width: int = Field(default=192, ge=UNIT, multiple_of=UNIT)
    depth: PositiveInt | None = None
    patch: tuple[PositiveInt, ...] = Field(default=(16,), min_length=1)
    cut: stems.Cut = "patch"
    positions: Literal["rotary", "learned"] = "rotary"
    registers: int = Field(default=4, ge=0)
    head: Literal["mean", "class"] = "mean"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class ViT(nn.Module):
    """(B, C, *spatial) -> (B, K) scores. In attention's weights the class token stands first, where there is one, then come the
    registers, then the patches row by row. Raises ValueError for sides that are no multiples of the patch's."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        self.by_token = options.head == "class"
        self.encoder = Encoder(
            in_channels,
            options.width,
            tokens.sides(options.patch, ndim),
            (options.depth or tokens.depth(options.width),),
            options.positions,
            options.registers + self.by_token,
            options.dropout,
            options.drop_path,
            options.cut,
        )
        self.head = nn.Linear(options.width, out_channels)
        tokens.begin(self.head)

    def forward(self, x: Tensor) -> Tensor:
        (told,) = self.encoder(x)
        features = told[:, 0] if self.by_token else told[:, self.encoder.places_from :].mean(dim=1)
        scores: Tensor = self.head(features)
        return scores


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels) scores without softmax. Raises InputError BAD_PLAN."""
    return ViT(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The patch's sides."""
    return tokens.sides(options.patch, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The patch by the size of the image, and what lets it learn from few."""
    return tokens.rules(shape, PLACES[len(shape)], LARGEST)


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """The published small and tiny ones, and half of that."""
    return tuple(options.model_copy(update={"width": width}) for width in (384, 192, 96))
