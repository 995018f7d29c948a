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

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from hounsfield.core import plan
from hounsfield.models.parts import ushape
from hounsfield.models.parts.blocks import Block, ConvBlock, ResidualBlock, in_a_row
from hounsfield.models.parts.halving import SMALLEST_SIDE, halvings
from hounsfield.models.parts.ushape import UShape

OUTPUT: Literal["dense"] = "dense"


class Options(plan.Options):
    """width: channels of the finest level, doubled at each coarser one up to max_width.
    strides: the step from each level to the next coarser one, per axis, or one number for all axes; one level more than steps.
    blocks: convolutions (residual blocks if `residual`, after one convolution) of each encoder level, or one number for all.
    decoder_blocks: convolutions of each decoder level.
    flat_kernels: convolve 1 instead of 3 wide along an axis that the others are halved before, down to its first halving: such
    an axis is the coarse one of thick slices, and its neighbours there are far away.
    deep_supervision: in training mode, give the map of every decoder level, from fine to coarse.
    norm: "none" where images are the output (see `parts/ushape.py`)."""

    width: int = Field(default=32, ge=1)
    max_width: int = Field(default=320, ge=1)
    strides: tuple[tuple[PositiveInt, ...], ...] = Field(default=((2,), (2,), (2,), (2,)), min_length=1)
    blocks: tuple[PositiveInt, ...] = (2,)
    decoder_blocks: int = Field(default=1, ge=1)
    residual: bool = False
    flat_kernels: bool = True
    deep_supervision: bool = True
    norm: ushape.Norm = "instance"

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if len(self.blocks) not in (1, len(self.strides) + 1):
            raise ValueError(f"{len(self.strides) + 1} levels need 1 or {len(self.strides) + 1} numbers of blocks")
        return self


class UNet(UShape):
    """See UShape."""

    def __init__(self, options: Options, in_channels: int, out_channels: int, ndim: int) -> None:
        ones = (1,) * ndim
        steps = ushape.steps_of(options.strides, ndim)
        levels = len(steps) + 1
        widths = [min(options.width * 2**level, options.max_width) for level in range(levels)]
        kernels = ushape.flat_kernels(steps) if options.flat_kernels else [(3,) * ndim] * levels
        style = ushape.STYLES[options.norm]
        blocks = options.blocks * levels if len(options.blocks) == 1 else options.blocks

        block: Block = ConvBlock
        stem: nn.Module = nn.Identity()
        channels = in_channels
        if options.residual:
            block = ResidualBlock
            stem = ConvBlock(style, in_channels, widths[0], kernels[0], ones)
            channels = widths[0]
        encoder = []
        for level, width in enumerate(widths):
            step = steps[level - 1] if level else ones
            encoder.append(in_a_row(style, block, channels, width, kernels[level], step, blocks[level]))
            channels = width
        super().__init__(
            options.norm, stem, encoder, widths, kernels, steps, options.decoder_blocks, out_channels, options.deep_supervision
        )


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, *spatial) -> (B, out_channels, *spatial) scores without softmax."""
    return UNet(options, in_channels, out_channels, ndim)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """The product of all steps along each axis."""
    return ushape.stride(ushape.steps_of(options.strides, ndim))


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
