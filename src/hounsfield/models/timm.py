"""Any network of the package timm by its name (`--model timm:convnext_tiny`): a vector of scores from a picture, from scratch.

Wightman: "PyTorch image models", 2019, https://github.com/huggingface/pytorch-image-models, which names the paper of each. They
are built as they were published, batch normalisation included, with fresh weights.
"""

from __future__ import annotations

from importlib import import_module
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import named
from hounsfield.models.parts.pyramid import check_size

OUTPUT: Literal["vector"] = "vector"


class Options(plan.Options):
    """name: one of timm.list_models()."""

    name: str = named.DEFAULT


class Named(nn.Module):
    """Input (B, C, h, w), sides that are multiples of 32. Convolutional networks see it as it is; transformers with a table of
    positions fit that to it, and the image to whole patches where these are of 14; what is made for images of one size is shown
    the image at that size, by linear interpolation.

    Raises ValueError for other sides; InputError UNSUPPORTED_PAIR for a network that gives no vector, BAD_PLAN.
    """

    def __init__(self, name: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        timm = import_module("timm")
        self.where, self.outputs = f"--model timm:{name}", out_channels
        self.size, self.patch = named.of_one_size(name), (1, 1)
        fits = {"dynamic_img_size": True} if self.size and named.fits_positions(name) else {}
        network = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=out_channels, **fits)
        self.network: nn.Module = network
        if fits:
            self.size, self.patch = None, network.patch_embed.feat_ratio(as_scalar=False)

    def forward(self, x: Tensor) -> Tensor:
        check_size(x.shape[2:], (named.STRIDE,) * (x.ndim - 2))
        size = list(self.size or (-(-n // p) * p for n, p in zip(x.shape[2:], self.patch, strict=True)))
        if size != list(x.shape[2:]):
            x = F.interpolate(x, size, mode="bilinear", antialias=True)
        out = named.applied(self.network, x, self.where)
        if not isinstance(out, Tensor) or out.shape != (len(x), self.outputs):
            found = f"an output of {tuple(out.shape)}" if isinstance(out, Tensor) else "several outputs"
            raise named.unsuitable(self.where, found, f"scores ({len(x)}, {self.outputs})", f"timm:{named.DEFAULT}")
        return out


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """(B, in_channels, h, w) -> (B, out_channels) scores without softmax.

    Raises InputError UNSUPPORTED_PAIR (3D), MISSING_EXTRA, UNKNOWN_MEMBER.
    """
    named.check_name(options.name, ndim, "timm", "resnet")
    return Named(options.name, in_channels, out_channels)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """32, the whole step of most."""
    return (named.STRIDE,) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The name says it all."""
    return plan.Decision({})


def sizes(options: Options) -> tuple[Options, ...]:
    """A name is one size: its larger and smaller kin have names of their own."""
    return (options,)
