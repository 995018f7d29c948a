"""A classifier that convolves where images are fine and attends where they are coarse, for images of any size in 2D and 3D.

Two stages of residual blocks as in `resnet`, then two of attention over the whole map. The order is that of Dai et al.,
"CoAtNet: marrying convolution and attention for all data sizes", NeurIPS 2021, section 2.2 (two of each), which learns from few
images as convolutional networks do; Xiao et al., "Early convolutions help transformers see better", NeurIPS 2021, say why.
Places are told by a depth-wise convolution before each block (see `parts/attention.py`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import stems, tokens
from hounsfield.models.parts.attention import WHOLE, attention_blocks, begin_without_places
from hounsfield.models.parts.blocks import GROUP, STANDARDISED, ConvBlock, ResidualBlock, in_a_row, initialise
from hounsfield.models.parts.depth import rates

OUTPUT: Literal["vector"] = "vector"

CONVOLVED = 2  # stages before attention begins
USUAL = 32  # channels up to which each stage has two blocks


class Options(plan.Options):
    """width: channels of the first stage, doubled at each further one. depth: blocks of each of the four; None for two, and in
    the third stage one more for every 8 channels of width above 32, as large networks are deepest there. stem: as that of
    `resnet`. dropout: part of the features before the head that a training step leaves out. drop_path: part of the branches of
    the deepest block that it leaves out; the first that attends has none."""

    width: int = Field(default=64, ge=GROUP, multiple_of=GROUP)
    depth: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] | None = None
    stem: stems.Kind = "large"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class Hybrid(nn.Module):
    """Stem, stages (each but the first halves the size), average over space, linear head."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        self.stem = stems.stem(options.stem, STANDARDISED, in_channels, options.width, ndim)
        kernel, whole = (3,) * ndim, (WHOLE,) * ndim
        stages: list[nn.Module] = []
        channels = options.width
        depth = options.depth or _depth(options.width)
        drops = rates(options.drop_path, sum(depth[CONVOLVED:]))
        for number, blocks in enumerate(depth):
            width, step = options.width * 2**number, (2 if number else 1,) * ndim
            if number < CONVOLVED:
                stages.append(in_a_row(STANDARDISED, ResidualBlock, channels, width, kernel, step, blocks))
            else:
                first = ConvBlock(STANDARDISED, channels, width, kernel, step)
                own, drops = drops[:blocks], drops[blocks:]
                stages.append(nn.Sequential(first, *attention_blocks(width, whole, own)))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(channels, out_channels)
        initialise(self)
        begin_without_places(self)

    def maps(self, x: Tensor) -> Tensor:
        """(B, features, *s), before they are normed and averaged."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.maps(x).flatten(2).transpose(1, 2)).mean(dim=1)
        scores: Tensor = self.head(self.dropout(features))
        return scores


def _depth(width: int) -> tuple[int, ...]:
    return 2, 2, 2 + max(0, width - USUAL) // 8, 2


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels) scores without softmax."""
    return Hybrid(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """Any size will do."""
    return (1,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The stem by the size of the image, and stochastic depth."""
    stem = stems.rules(shape)
    changes, why = {**stem.changes, "drop_path": tokens.DROPPED}, {**stem.reasons, "drop_path": tokens.WHY_DROPPED}
    return plan.Decision(changes, why)


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """The widths of `resnet`."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32, 16))
