"""Networks, one file each: typed `Options` and `build`, plain PyTorch, of use alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hounsfield.core import plan
from hounsfield.core.registry import Folder

if TYPE_CHECKING:
    from torch import nn


class Model(Protocol):
    """What a file in this folder defines.

    OUTPUT: "vector", build gives (B, C, *spatial) -> (B, out_channels); "dense", -> (B, out_channels, *spatial), or in
        training mode a tuple of such maps from fine to coarse (deep supervision); "boxes", -> a tuple of maps from fine to
        coarse, (B, out_channels + 2n, *spatial / stride): logits, and the distances from a place's middle to a box's
        first and last sides, in strides; "generator", (B, *network.noise_shape) standard normal noise and what is asked for,
        (B, out_channels, *options.size) in [0, 1], None for no channels -> images (B, in_channels, *options.size) in [-1, 1].
        What a generator is trained for says `network.objective`: "logistic" or "relativistic" (losses of an adversary,
        Goodfellow 2014; Jolicoeur-Martineau 2019), then network.generator and network.discriminator, which takes images and
        what was asked for and gives (B,) logits, are optimised in turn, and `network.changed` is the probability with which a
        relativistic critic's images are changed; or "flow" (Liu 2023), then network.velocity takes images between noise and
        data, times (B,) and what is asked for, and gives their change.
    Options: sizes and choices; one called `name` is what `--model MODEL:NAME` says.
    build: the network with freshly initialised weights; raises InputError UNSUPPORTED_PAIR for what it cannot do.
    stride: per axis, the factor that an input's size must be divisible by.
    rules: the network's own decisions for inputs of `shape` voxels with sides `voxel` (mm or px); smallest: sides in voxels of
        the smallest tenth of the boxes to find, where there are boxes.
    sizes: the same options from the largest to the smallest network that a budget may choose among.
    training (optional): the network's own decisions on keys of `plan.Training`, such as a published rate.
    PATCHES (optional): True where `network.encoder` is one of `parts/tokens.py`, which encodes some of the patches alone. Other
        networks that give a vector may have `network.maps`, (B, C, *spatial) -> (B, features, *places), what they see before
        they average over space. Either lets them be pretrained.
    """

    OUTPUT: str
    Options: type[plan.Options]

    @staticmethod
    def build(options: plan.Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module: ...

    @staticmethod
    def stride(options: plan.Options, ndim: int) -> tuple[int, ...]: ...

    @staticmethod
    def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision: ...

    @staticmethod
    def sizes(options: plan.Options) -> tuple[plan.Options, ...]: ...


MODELS: Folder[Model] = Folder("hounsfield.models", "model", ("OUTPUT", "Options", "build", "stride", "rules", "sizes"))
