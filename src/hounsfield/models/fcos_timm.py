"""The detector `fcos` on a network of the package timm (`--model fcos_timm:resnet18`), from scratch, in two dimensions.

Wightman: "PyTorch image models", 2019, https://github.com/huggingface/pytorch-image-models; the pyramid and the head are those
of `parts/pyramid.py`. Boxes are drawn from the map of stride 2, 4 or 8 on, as their sizes ask, down to that of stride 32. Many
networks have no map of stride 2: theirs is one convolution of the image, as small things are told by their edges and what the
coarser maps say of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from hounsfield.core import plan
from hounsfield.models.parts import named
from hounsfield.models.parts.blocks import GROUP, STANDARDISED, ConvBlock, initialise
from hounsfield.models.parts.pyramid import PLACES, Detector

OUTPUT: Literal["boxes"] = "boxes"

STRIDES = (2, 4, 8, 16, 32)
EXAMPLE = f"fcos_timm:{named.DEFAULT}"


class Options(plan.Options):
    """name: one of timm.list_models(). finest: stride of the finest map on which boxes are drawn. channels: of the pyramid and
    the head. depth: convolutions of the head."""

    name: str = named.DEFAULT
    finest: Literal[2, 4, 8] = 8
    channels: int = Field(default=64, ge=2 * GROUP, multiple_of=2 * GROUP)
    depth: int = Field(default=2, ge=1)


class OnNamed(Detector):
    """See Detector. features: of timm, giving maps of which those numbered `shown` are taken, from fine to coarse.
    first: makes the map of stride 2 from the image, None where none is asked for or `features` has it."""

    def __init__(
        self, options: Options, features: Any, first: nn.Module | None, shown: list[int], channels: list[int], classes: int
    ) -> None:
        whole = (STRIDES[-1],) * 2
        super().__init__(STANDARDISED, (), channels, 1, whole, options.channels, options.depth, classes)
        # After what Detector initialises: timm has its own way for each network.
        self.features: nn.Module = features
        self.shown, self.where = shown, f"--model fcos_timm:{options.name}"
        self.channels_last = getattr(features, "output_fmt", "NCHW") == "NHWC"
        self.first = first
        if first is not None:
            initialise(first)

    def levels(self, x: Tensor) -> list[Tensor]:
        maps = named.applied(self.features, x, self.where)
        taken = [maps[k].movedim(-1, 1) if self.channels_last else maps[k] for k in self.shown]
        taken = taken if self.first is None else [self.first(x), *taken]
        strides = STRIDES[-len(taken) :]
        if any(m.shape[2:] != tuple(n // s for n in x.shape[2:]) for m, s in zip(taken, strides, strict=True)):
            found = f"maps of {[tuple(m.shape[2:]) for m in taken]} from {tuple(x.shape[2:])}"
            raise named.unsuitable(self.where, found, f"whole strides {list(strides)}", EXAMPLE)
        return taken


def build(options: Options, in_channels: int, out_channels: int, ndim: int) -> nn.Module:
    """See Detector; out_channels: classes.

    Raises InputError UNSUPPORTED_PAIR (3D, a network without such maps), MISSING_EXTRA, UNKNOWN_MEMBER.
    """
    named.check_name(options.name, ndim, "fcos_timm", "fcos")
    where = f"--model fcos_timm:{options.name}"
    wanted = [s for s in STRIDES if s >= options.finest]
    expected = f"maps of strides {', '.join(map(str, STRIDES[1:]))} of images of any size"
    if (size := named.of_one_size(options.name)) is not None:
        raise named.unsuitable(where, f"a network for images of {size[0]}×{size[1]}", expected, EXAMPLE)
    try:
        features = import_module("timm").create_model(options.name, pretrained=False, in_chans=in_channels, features_only=True)
        at = {s: k for k, s in enumerate(features.feature_info.reduction())}
        widths = features.feature_info.channels()
    except (AssertionError, AttributeError, RuntimeError, TypeError) as error:  # each family has its own way to say no
        raise named.unsuitable(where, f"a network that gives no maps ({error})", expected, EXAMPLE) from error
    if set(wanted) - set(at) - {2}:
        raise named.unsuitable(where, f"maps of strides {', '.join(map(str, at))}", expected, EXAMPLE)
    shown = [at[s] for s in wanted if s in at]
    channels = [widths[k] for k in shown]
    first: nn.Module | None = None
    if wanted[0] not in at:
        channels.insert(0, options.channels // 2)
        first = ConvBlock(STANDARDISED, in_channels, channels[0], (5, 5), (2, 2))
    return OnNamed(options, features, first, shown, channels, out_channels)


def stride(options: Options, ndim: int) -> tuple[int, ...]:
    """That of the coarsest map."""
    return (STRIDES[-1],) * ndim


def rules(shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...] | None = None) -> plan.Decision:
    """The finest map by the smallest usual box."""
    if smallest is None:
        return plan.Decision({"finest": 8}, {"finest": "boxes from stride 8 on, as nothing is known of their sizes"})
    small = "×".join(f"{s:.0f}" for s in smallest)
    finest = max((s for s in (4, 8) if PLACES * s <= min(smallest)), default=2)
    why = f"a box of {small} voxels, as the smallest tenth, holds {PLACES:g} places a side where a map has them"
    return plan.Decision({"finest": finest}, {"finest": why})


def sizes(options: Options) -> tuple[Options, ...]:
    """A name is one size: its larger and smaller kin have names of their own."""
    return (options,)
