"""A critic of patches: a map that says of every place whether it looks real, in two and three dimensions.

Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017, section 3.2.2: a few convolutions
with stride, so that each value sees a patch of the image and none the whole.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from hounsfield.models.parts.blocks import CONV, instance_norm

WIDTH = 32  # channels of the first layer, doubled at each further one
HALVED = 3  # layers that halve an axis, and leave it a voxel at least


class PatchCritic(nn.Module):
    """(B, C, *spatial) -> (B, 1, *fewer): near 1 where a patch looks real, near 0 where it looks made. size: of the smallest
    input, which says how often an axis can be halved."""

    def __init__(self, in_channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        conv = CONV[len(size)]
        widths = [in_channels, *(WIDTH * 2**k for k in range(HALVED))]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            stride = tuple(2 if n >= 2 ** (k + 2) else 1 for n in size)
            layers.append(conv(before, after, tuple(s + 2 for s in stride), stride, 1, bias=k == 0))
            layers += [instance_norm(after)] if k else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers.append(conv(widths[-1], 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Adversaries(nn.Module):
    """A network that makes images, and the critic that it is trained against; alone it does what the network does."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out: Tensor | tuple[Tensor, ...] = self.generator(x)
        return out
