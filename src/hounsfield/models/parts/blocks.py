"""Convolution, normalisation and residual blocks, written once for two and three dimensions.

Shapes: x is (B, C, *spatial), *spatial = (h, w) or (d, h, w). A kernel or stride is one number per spatial axis in that order.

What deep learning calls a convolution is a correlation, y(p) = sum of w(k) x(p + k); the convolution of the literature,
y(p) = sum of w(k) x(p - k), is the same with the kernel turned round along every axis. Learned kernels do not care.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Layer = Callable[..., nn.Module]

CONV: dict[int, Layer] = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, Layer] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: dict[int, Layer] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
ADAPTIVE_AVERAGE_POOL: dict[int, Layer] = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

# Channels that share a mean and a variance in `group_norm` (Wu & He 2018, table 3: 8 to 16 are near the best).
GROUP = 8


def standardised(weight: Tensor) -> Tensor:
    """(out, in, *kernel) weights with mean 0 and squares that sum to 1 for each output channel (Qiao 2019, equation 4)."""
    axes = tuple(range(1, weight.ndim))
    variance, mean = torch.var_mean(weight, axes, correction=0, keepdim=True)
    return (weight - mean) * torch.rsqrt(variance * weight[0].numel() + 1e-8)


class StandardisedConv2d(nn.Conv2d):
    """Convolution with standardised weights, for use before `group_norm`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.conv2d(input, standardised(self.weight), self.bias, self.stride, self.padding, self.dilation, self.groups)


class StandardisedConv3d(nn.Conv3d):
    """Convolution with standardised weights, for use before `group_norm`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return F.conv3d(input, standardised(self.weight), self.bias, self.stride, self.padding, self.dilation, self.groups)


STANDARDISED_CONV: dict[int, Layer] = {2: StandardisedConv2d, 3: StandardisedConv3d}


def instance_norm(channels: int) -> nn.Module:
    """Instance normalisation (Ulyanov 2016) with a scale and a shift.

    Written as GroupNorm of one channel a group, which is the same function: on CPU, torch's InstanceNorm runs a batch-norm
    kernel that takes five times as long (a tenth of a training step of a small 3D U-Net).
    """
    return nn.GroupNorm(channels, channels)


def group_norm(channels: int) -> nn.Module:
    """Group normalisation (Wu & He 2018) in groups of 8 channels; `channels` is a multiple of 8."""
    return nn.GroupNorm(channels // GROUP, channels)


@dataclass(frozen=True)
class Style:
    """What the blocks of one network are made of. conv: a convolution class by number of dimensions. norm: of so many
    channels."""

    conv: dict[int, Layer]
    norm: Callable[[int], nn.Module]
    activation: Callable[[], nn.Module]


# Of networks that are trained in small batches (Qiao et al., 2019).
STANDARDISED = Style(STANDARDISED_CONV, group_norm, lambda: nn.ReLU(inplace=True))


def conv_norm(
    style: Style, in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]
) -> tuple[nn.Module, nn.Module]:
    """Convolution of odd kernel, padded by half of it so that size n becomes ceil(n / stride), and its normalisation."""
    padding = tuple(k // 2 for k in kernel)
    conv = style.conv[len(kernel)](in_channels, out_channels, tuple(kernel), tuple(stride), padding, bias=False)
    return conv, style.norm(out_channels)


class ConvBlock(nn.Sequential):
    """Convolution, normalisation, activation: size n becomes ceil(n / stride)."""

    def __init__(self, style: Style, in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__(*conv_norm(style, in_channels, out_channels, kernel, stride), style.activation())


class Shrink(nn.Module):
    """Averages over the stride, at the far edge over what is there: size n becomes ceil(n / stride), as in a convolution."""

    def __init__(self, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        pool: Callable[..., Tensor] = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
        # torch refuses a window that is larger than the image.
        window = tuple(min(s, n) for s, n in zip(self.stride, x.shape[2:], strict=True))
        return pool(x, window, window, ceil_mode=True, count_include_pad=False)


class Unit(nn.Module):
    """What may forget the maps inside it in a training step, and compute them again on the way back (see `recompute`)."""


class ResidualBlock(Unit):
    """Two convolutions beside a shortcut, activation after their sum (He 2016, figure 5 left).

    Where the shape changes, the shortcut averages over the stride and then projects, so that no voxel is skipped
    (He 2019, "Bag of tricks for image classification", section 4.2, ResNet-D).
    """

    def __init__(self, style: Style, in_channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        ndim = len(kernel)
        ones = (1,) * ndim
        first = ConvBlock(style, in_channels, out_channels, kernel, stride)
        self.branch = nn.Sequential(first, *conv_norm(style, out_channels, out_channels, kernel, ones))
        self.shortcut = nn.Sequential()
        if max(stride) > 1:
            self.shortcut.append(Shrink(stride))
        if in_channels != out_channels:
            self.shortcut.extend(conv_norm(style, in_channels, out_channels, ones, ones))
        self.activation = style.activation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


Block = type[ConvBlock] | type[ResidualBlock]


class Row(nn.Sequential, Unit):
    """Blocks one after another, as one level of a network."""


def in_a_row(
    style: Style,
    block: Block,
    in_channels: int,
    width: int,
    kernel: Sequence[int],
    step: Sequence[int],
    count: int,
) -> nn.Module:
    """`count` blocks, of which the first takes the step."""
    layers = [block(style, in_channels, width, kernel, step)]
    layers += [block(style, width, width, kernel, (1,) * len(kernel)) for _ in range(count - 1)]
    return Row(*layers)


def units(network: nn.Module) -> list[Unit]:
    """Those of the network that lie in no other, in order."""
    if isinstance(network, Unit):
        return [network]
    return [unit for part in network.children() for unit in units(part)]


def recompute(network: nn.Module) -> None:
    """From now on a training step keeps of every unit what it is given, and computes the rest a second time for the gradients
    (Chen et al., "Training deep nets with sublinear memory cost", 2016): the same numbers for one more forward pass."""
    for unit in units(network):
        unit.forward = partial(checkpoint, unit.forward, use_reentrant=False)


def initialise(network: nn.Module) -> None:
    """Convolutions: normal weights of variance 2 / fan-in (He 2015, equation 10), no bias.

    Transposed ones, whose kernel is their stride and which no ReLU follows: 1 / channels. Other layers are left as they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.normal_(module.weight, std=module.in_channels**-0.5)
