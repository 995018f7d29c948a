"""A hierarchical vision transformer with windows that shift: a vector of scores from an image of any size, in 2D and 3D.

Liu et al., "Swin transformer: hierarchical vision transformer using shifted windows", ICCV 2021, section 3: widths, depths and
the merging of neighbours are those of its table 7; what differs stands in `parts/hierarchy.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import hierarchy, stems, tokens
from hounsfield.models.parts.attention import HEAD
from hounsfield.models.parts.pyramid import check_size

OUTPUT: Literal["vector"] = "vector"

PLACES = {2: 32, 3: 14}  # patches a side, by dimensions
LARGEST = 4  # voxels


class Options(plan.Options):
    """width: channels of the first stage, doubled at each further one. depth: blocks of each stage; (2, 2, 6, 2) is Swin-T.
    patch: voxels a side, per axis, or one number for all. cut: as that of `vit`. window: places a side of a window in 2D, half
    as many in 3D. drop_path: part of the branches of the deepest block that a training step leaves out; the first has none."""

    width: int = Field(default=96, ge=HEAD, multiple_of=HEAD)
    depth: tuple[PositiveInt, ...] = Field(default=(2, 2, 6, 2), min_length=1)
    patch: tuple[PositiveInt, ...] = Field(default=(4,), min_length=1)
    cut: stems.Cut = "patch"
    window: int = Field(default=8, ge=2)
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class Swin(nn.Module):
    """(B, C, *spatial) -> (B, K) scores. Raises ValueError for sides that are no multiples of the patch's."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        self.patch = stride(options, ndim)
        self.stages = nn.Sequential(
            *hierarchy.stages(
                options.cut, in_channels, options.width, self.patch, options.depth, options.window, options.drop_path
            )
        )
        width = options.width * 2 ** (len(options.depth) - 1)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out_channels)
        hierarchy.begin_stages(self)

    def maps(self, x: Tensor) -> Tensor:
        """(B, features, *s), before they are normed and averaged. Raises ValueError as the network."""
        check_size(x.shape[2:], self.patch)
        features: Tensor = self.stages(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.maps(x).flatten(2).transpose(1, 2))
        scores: Tensor = self.head(features.mean(dim=1))
        return scores


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels) scores without softmax. Raises InputError BAD_PLAN."""
    return Swin(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The patch's sides; what is merged need be no multiple of 2."""
    return tokens.sides(options.patch, ndim)


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The patch by the size of the image, and what lets it learn from few."""
    return tokens.rules(shape, PLACES[len(shape)], LARGEST)


def training() -> plan.Decision:
    """As every network that attends."""
    return tokens.training()


def sizes(options: Options) -> tuple[Options, ...]:
    """Swin-T, two thirds and a third of its width."""
    return tuple(options.model_copy(update={"width": width}) for width in (96, 64, 32))
