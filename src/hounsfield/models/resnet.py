"""ResNet of basic blocks: a vector of scores from an image of any size, in two and three dimensions.

He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016, sections 3.3 (figure 5 left), 4.1 and, for
the small stem, 4.2. Activation follows the addition, as there: the last block's output is then a non-negative map, which
class activation maps want. Shortcuts are those of ResNet-D (`parts/blocks.py`).

Normalisation is by groups of channels (Wu & He, "Group normalization", ECCV 2018), not by batches: volumes train in batches
of 2 to 8, whose statistics are noise (figure 1 there), and a batch of one 1x1 map has none at all. Group norm has no state to
be averaged along with the weights, does the same in training and in use, and treats each sample alone. It needs convolutions
with standardised weights (Qiao et al., "Micro-batch training with batch-channel normalization and weight standardization",
2019) to learn as fast as batch norm. On BreastMNIST, width 16, validation AUROC after 150 steps of 32 images: 0.69 with group
norm alone, 0.88 with standardised weights as well, 0.89 with batch norm; after 400 augmented steps, 0.87 with either (after
300 without augmentation, batch norm led by 0.03). Starting each block as its shortcut (Goyal et al. 2017) cost 0.07 after 150
steps and gave nothing later, so it is not done.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import stems
from hounsfield.models.parts.blocks import GROUP, STANDARDISED, ResidualBlock, initialise

OUTPUT: Literal["vector"] = "vector"


class Options(plan.Options):
    """width: channels of the first stage, doubled at each further one. depth: blocks of each stage; (2, 2, 2, 2) is ResNet-18,
    (3, 4, 6, 3) ResNet-34. stem: "large" reduces the image fourfold before the first stage (7x7 stride 2, then pooling);
    "small" (3x3) keeps its size. dropout: part of the features before the head that a training step leaves out."""

    width: int = Field(default=64, ge=GROUP, multiple_of=GROUP)
    depth: tuple[PositiveInt, ...] = Field(default=(2, 2, 2, 2), min_length=1)
    stem: stems.Kind = "large"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class ResNet(nn.Module):
    """Stem, stages (each but the first halves the size), average over space, linear head."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        self.stem = stems.stem(options.stem, STANDARDISED, in_channels, options.width, ndim)
        stages: list[nn.Module] = []
        channels = options.width
        for level, blocks in enumerate(options.depth):
            width = options.width * 2**level
            stage = []
            for block in range(blocks):
                step = 2 if level > 0 and block == 0 else 1
                stage.append(ResidualBlock(STANDARDISED, channels, width, (3,) * ndim, (step,) * ndim))
                channels = width
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(channels, out_channels)
        initialise(self)

    def maps(self, x: Tensor) -> Tensor:
        """(B, features, *s), before they are averaged."""
        features: Tensor = self.stages(self.stem(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.dropout(self.maps(x).flatten(2).mean(2)))
        return scores


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels) scores without softmax."""
    return ResNet(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """Any size will do."""
    return (1,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The stem by the size of the image."""
    return stems.rules(shape)


def sizes(options: Options) -> tuple[Options, ...]:
    """ResNet-18 at three widths."""
    return tuple(options.model_copy(update={"width": width}) for width in (64, 32, 16))
