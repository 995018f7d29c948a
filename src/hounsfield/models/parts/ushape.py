"""What U-shaped networks share: the way down through their levels, the way up with what each level saw, and a map on each.

Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015, figure 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.models.parts.blocks import CONV, CONV_TRANSPOSE, ConvBlock, Style, in_a_row, initialise, instance_norm

Norm = Literal["instance", "none"]


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.01, inplace=True)


# none: where images are the output, nothing is scaled or added before the last layer, so that twice the input gives twice the
# output (Mohan et al., "Robust and interpretable blind image denoising via bias-free CNNs", ICLR 2020).
STYLES: dict[Norm, Style] = {
    "instance": Style(CONV, instance_norm, _leaky),
    "none": Style(CONV, lambda _: nn.Identity(), _leaky),
}


class UShape(nn.Module):
    """(B, C, *spatial) -> (B, K, *spatial) scores without softmax; every size a multiple of the axis's whole stride.

    norm: of all convolutions, as in STYLES. stem: before the finest level. encoder: the levels, fine to coarse, each of which
    takes the step to itself. widths, kernels: channels and kernel of each level. steps: from each level to the next.
    decoder_blocks: convolutions of each level on the way up. In training mode with deep supervision, a tuple of the maps of all
    levels on the way up, fine to coarse.
    Raises ValueError for a size that is no such multiple, or that leaves the coarsest level a single voxel, where instance
    normalisation would erase all that was seen.
    """

    def __init__(
        self,
        norm: Norm,
        stem: nn.Module,
        encoder: Sequence[nn.Module],
        widths: Sequence[int],
        kernels: Sequence[tuple[int, ...]],
        steps: Sequence[tuple[int, ...]],
        decoder_blocks: int,
        out_channels: int,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        ndim = len(steps[0])
        ones = (1,) * ndim
        self.stride = stride(steps)
        self.deep_supervision = deep_supervision
        self.stem = stem
        self.encoder = nn.ModuleList(encoder)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for number in reversed(range(len(steps))):
            step, width = steps[number], widths[number]
            self.up.append(CONV_TRANSPOSE[ndim](widths[number + 1], width, step, step, bias=False))
            self.decoder.append(in_a_row(STYLES[norm], ConvBlock, 2 * width, width, kernels[number], ones, decoder_blocks))
        heads = len(steps) if deep_supervision else 1
        self.heads = nn.ModuleList(CONV[ndim](width, out_channels, 1) for width in widths[:heads])
        initialise(self)
        if norm == "none":
            begin_unchanged(self.heads)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        sizes = tuple(x.shape[2:])
        if any(n % s for n, s in zip(sizes, self.stride, strict=True)) or prod(sizes) == prod(self.stride):
            raise ValueError(f"found input of {sizes}, expected multiples of {self.stride} and more than one of them")
        x = self.stem(x)
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        skips.pop()
        maps = []
        for up, decode in zip(self.up, self.decoder, strict=True):
            x = decode(torch.cat((up(x), skips.pop()), dim=1))
            maps.append(x)
        if self.training and self.deep_supervision:
            return tuple(head(m) for head, m in zip(self.heads, reversed(maps), strict=True))
        out: Tensor = self.heads[0](x)
        return out


def begin_unchanged(heads: nn.Module) -> None:
    """First weights of the last layers where the output is a change of the input: near none, whatever the depth."""
    for module in heads.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.normal_(module.weight, std=1e-3)


def steps_of(strides: Sequence[tuple[int, ...]], ndim: int) -> list[tuple[int, ...]]:
    """One step per axis and level; one number stands for all axes. Raises InputError BAD_PLAN."""
    for step in strides:
        if len(step) not in (1, ndim):
            raise InputError(
                "BAD_PLAN",
                "model_options.strides",
                found=f"{step} in {ndim}D",
                expected=f"1 or {ndim} numbers for each step",
                fix=f"write {list(step[:1] * ndim)}",
            )
    return [step * ndim if len(step) == 1 else step for step in strides]


def stride(steps: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return tuple(prod(step[axis] for step in steps) for axis in range(len(steps[0])))


def flat_kernels(steps: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Kernel of each level, fine to coarse: 1 instead of 3 along an axis that the others are halved before, down to its first
    halving: such an axis is the coarse one of thick slices, and its neighbours there are far away."""
    kernels = []
    for number in range(len(steps) + 1):
        flat = [
            number < len(steps) and max(steps[number]) > 1 and all(step[axis] == 1 for step in steps[: number + 1])
            for axis in range(len(steps[0]))
        ]
        kernels.append(tuple(1 if f else 3 for f in flat))
    return kernels
