"""U-Net: a map of scores of the input's size, in two and three dimensions.

Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015, figure 1; with
what Isensee et al., "nnU-Net", Nature Methods 2021 (supplementary note 2) found to serve: padded convolutions, steps by
strided convolution, instance normalisation, leaky ReLU, deep supervision. The residual encoder and the single convolution of
a decoder level are those of Isensee et al., "nnU-Net revisited", MICCAI 2024.

Measured on two CPU cores (AVX-512, patches of 40x56x40, batch 2, four levels), seconds a training step: width 12 0.29, width 16
0.30, width 32 1.0; with a second convolution in each decoder level, width 8 0.24, width 12 0.36, width 16 0.40. oneDNN
computes in blocks of 16 channels, so that 16 costs hardly more than 12. Transposed convolution is faster than trilinear
upsampling after a 1x1 convolution (9 against 14 ms at the finest level).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, Self, cast

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.core.errors import InputError
from hounsfield.models.parts.blocks import CONV, CONV_TRANSPOSE, ConvBlock, ResidualBlock, Style, initialise, instance_norm
from hounsfield.models.parts.halving import SMALLEST_SIDE, halvings

OUTPUT: Literal["dense"] = "dense"


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.01, inplace=True)


STYLES = {"instance": Style(CONV, instance_norm, _leaky), "none": Style(CONV, lambda _: nn.Identity(), _leaky)}


class Options(plan.Options):
    """width: channels of the finest level, doubled at each coarser one up to max_width.
    strides: the step from each level to the next coarser one, per axis, or one number for all axes; one level more than steps.
    blocks: convolutions (residual blocks if `residual`, after one convolution) of each encoder level, or one number for all.
    decoder_blocks: convolutions of each decoder level.
    flat_kernels: convolve 1 instead of 3 wide along an axis that the others are halved before, down to its first halving: such
    an axis is the coarse one of thick slices, and its neighbours there are far away.
    deep_supervision: in training mode, give the map of every decoder level, from fine to coarse.
    norm: none where images are the output: nothing is scaled or added before the last layer, so that twice the input gives
    twice the output (Mohan et al., "Robust and interpretable blind image denoising via bias-free CNNs", ICLR 2020)."""

    width: int = Field(default=32, ge=1)
    max_width: int = Field(default=320, ge=1)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,), (2,), (2,), (2,)), min_length=1)
    blocks: tuple[PositiveInt, ...] = (2,)
    decoder_blocks: int = Field(default=1, ge=1)
    residual: bool = False
    flat_kernels: bool = True
    deep_supervision: bool = True
    norm: Literal["instance", "none"] = "instance"

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if len(self.blocks) not in (1, len(self.strides) + 1):
            raise ValueError(f"{len(self.strides) + 1} levels need 1 or {len(self.strides) + 1} numbers of blocks")
        return self


class UNet(nn.Module):
    """(B, C, *spatial) -> (B, K, *spatial) scores without softmax; every size a multiple of the axis's whole stride.

    In training mode with deep supervision, a tuple of the maps of all decoder levels, fine to coarse.
    Raises ValueError for a size that is no such multiple, or that leaves the coarsest level a single voxel, where instance
    normalisation would erase all that was seen.
    """

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        super().__init__()
        ones = (1,) * ndim
        strides = _strides(options, ndim)
        self.stride = stride(options, ndim)
        self.deep_supervision = options.deep_supervision
        levels = len(strides) + 1
        widths = [min(options.width * 2**level, options.max_width) for level in range(levels)]
        kernels = _kernels(strides) if options.flat_kernels else [(3,) * ndim] * levels
        style = STYLES[options.norm]
        blocks = options.blocks * levels if len(options.blocks) == 1 else options.blocks

        block: type[ConvBlock] | type[ResidualBlock] = ConvBlock
        self.stem: nn.Module = nn.Identity()
        channels = in_channels
        if options.residual:
            block = ResidualBlock
            self.stem = ConvBlock(style, in_channels, widths[0], kernels[0], ones)
            channels = widths[0]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            step = strides[level - 1] if level else ones
            self.encoder.append(_level(style, block, channels, width, kernels[level], step, blocks[level]))
            channels = width

        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in reversed(range(levels - 1)):
            step, width = strides[level], widths[level]
            self.up.append(CONV_TRANSPOSE[ndim](widths[level + 1], width, step, step, bias=False))
            self.decoder.append(_level(style, ConvBlock, 2 * width, width, kernels[level], ones, options.decoder_blocks))

        heads = levels - 1 if options.deep_supervision else 1
        self.heads = nn.ModuleList(CONV[ndim](width, out_channels, 1) for width in widths[:heads])
        initialise(self)
        if options.norm == "none":  # near no change, whatever the depth
            for head in self.heads:
                nn.init.normal_(cast(nn.Conv2d, head).weight, std=1e-3)

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


def _level(
    style: Style,
    block: type[ConvBlock] | type[ResidualBlock],
    in_channels: int,
    width: int,
    kernel: Sequence[int],
    step: Sequence[int],
    blocks: int,
) -> nn.Module:
    """`blocks` blocks, of which the first takes the step."""
    layers = [block(style, in_channels, width, kernel, step)]
    layers += [block(style, width, width, kernel, (1,) * len(kernel)) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


def _strides(options: Options, ndim: int) -> list[tuple[int, ...]]:
    """One step per axis and level. Raises InputError BAD_PLAN."""
    for step in options.strides:
        if len(step) not in (1, ndim):
            raise InputError(
                "BAD_PLAN",
                "model_options.strides",
                found=f"{step} in {ndim}D",
                expected=f"1 or {ndim} numbers for each step",
                fix=f"write {list(step[:1] * ndim)}",
            )
    return [step * ndim if len(step) == 1 else step for step in options.strides]


def _kernels(strides: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Kernel of each level, finest first: see `Options.flat_kernels`."""
    kernels = []
    for level in range(len(strides) + 1):
        flat = [
            level < len(strides) and max(strides[level]) > 1 and all(step[axis] == 1 for step in strides[: level + 1])
            for axis in range(len(strides[0]))
        ]
        kernels.append(tuple(1 if f else 3 for f in flat))
    return kernels


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels, *spatial) scores without softmax."""
    return UNet(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    strides = _strides(options, ndim)
    return tuple(prod(step[axis] for step in strides) for axis in range(ndim))


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """Per level, halve each axis that is long enough and not still much coarser than the finest one; at most five steps."""
    strides = halvings(shape, voxel)
    why = f"windows of {'×'.join(map(str, shape))} halved while an axis keeps {SMALLEST_SIDE} voxels, fine axes first"
    # Dice of hippocampi -0.006 and of vessels in fundus photographs -0.001 with it, in trainings of 60 and 90 seconds.
    plain = "a loss at every scale takes time, and was not seen to bring anything"
    changes = {"strides": strides or [(1,) * len(shape)], "deep_supervision": False}
    return plan.Decision(changes, {"strides": why, "deep_supervision": plain})


def sizes(options: Options) -> tuple[Options, ...]:
    """Widths that oneDNN and tensor cores compute without waste."""
    return tuple(options.model_copy(update={"width": width}) for width in (32, 16, 8))
