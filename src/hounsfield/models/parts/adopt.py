"""Weights that were learned elsewhere, made to fit a network: which are used, which adapted and how, which begin anew."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSITIONS = ("table", "pos_embed", "position_embedding", "position_embeddings", "pos_embedding")  # last words of names
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@dataclass(frozen=True)
class Adopted:
    """tensors: by the network's names, in its shapes. used: names of those taken as they are. adapted: how, by name. fresh:
    why, by the names that begin anew. unused: names, as they were given, that the network has no place for. share: of the
    network's weights, the output layer aside, that are not fresh."""

    tensors: Mapping[str, Tensor]
    used: tuple[str, ...]
    adapted: Mapping[str, str]
    fresh: Mapping[str, str]
    unused: tuple[str, ...]
    share: float


def adopt(
    have: Mapping[str, Tensor],
    network: nn.Module,
    inputs: Collection[str],
    outputs: Collection[str],
    keep_outputs: bool = False,
) -> Adopted:
    """What `network` takes of `have`. inputs, outputs: names of its weights that follow the number of channels in and out;
    those of the outputs begin anew unless `keep_outputs`, as they answer another question. Nothing is changed."""
    want = network.state_dict()
    named = renamed(have, want)
    taken: dict[str, Tensor] = {}
    adapted: dict[str, str] = {}
    fresh: dict[str, str] = {}
    for name, own in want.items():
        if name in outputs and not keep_outputs:
            fresh[name] = "the output layer"
        elif name not in named:
            fresh[name] = "not there"
        elif (found := fitted(named[name][1], own, name, network, inputs)) is None:
            fresh[name] = f"of {_by(named[name][1].shape)}, not {_by(own.shape)}"
        else:
            taken[name] = found[0]
            if found[1]:
                adapted[name] = found[1]
    body = {name: value.numel() for name, value in want.items() if name not in outputs}
    share = sum(count for name, count in body.items() if name in taken) / max(1, sum(body.values()))
    sources = {named[name][0] for name in taken}
    unused = tuple(key for key in have if key not in sources)
    used = tuple(name for name in taken if name not in adapted)
    return Adopted(taken, used, adapted, fresh, unused, share)


def renamed(have: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """(name, tensor) of `have` by the names of `want`: as they are, or less a first part that all of them share with others, or
    with one before them, such as "module." or "network."; whichever makes most of them fit, if that is half of them."""

    def places(less: str, more: str) -> dict[str, tuple[str, Tensor]]:
        moved = ((key, more + key.removeprefix(less), value) for key, value in have.items() if key.startswith(less))
        return {name: (key, value) for key, name, value in moved if name in want}

    def fit(found: Mapping[str, tuple[str, Tensor]]) -> tuple[int, int]:
        return len(found), sum(value.shape == want[name].shape for name, (_, value) in found.items())

    best = max((places(less, more) for less, more in product(_beginnings(have), _beginnings(want))), key=fit)
    return best if 2 * len(best) >= min(len(have), len(want)) else places("", "")


def fitted(value: Tensor, own: Tensor, name: str, network: nn.Module, inputs: Collection[str]) -> tuple[Tensor, str] | None:
    """`value` in the shape of `own`, the network's tensor of this name, and how it was brought to it, "" where it has that
    shape; None where it cannot be."""
    if value.shape == own.shape:
        return value.to(own.dtype), ""
    if not value.is_floating_point():
        return None
    owner, _, last = name.rpartition(".")
    layer = network.get_submodule(owner)
    made, how = value.float(), list[str]()
    if last in POSITIONS:
        table = positions(made, own.shape)
        return None if table is None else (table.to(own.dtype), f"positions {_by(value.shape)} brought to {_by(own.shape)}")
    if not isinstance(layer, CONVOLUTIONS):
        return None
    if name in inputs and made.ndim >= 4 and made.shape[1] != own.shape[1] and not isinstance(layer, TRANSPOSED):
        how.append(f"{made.shape[1]} input channels made {own.shape[1]}")
        made = channels(made, own.shape[1])
    if made.ndim == 4 and own.ndim == 5:
        taps = own.shape[2] / (layer.stride[0] if isinstance(layer, TRANSPOSED) else 1)
        how.append(f"inflated to a depth of {own.shape[2]}")
        made = inflated(made, own.shape[2], taps)
    return (made.to(own.dtype), ", ".join(how)) if made.shape == own.shape else None


def channels(kernel: Tensor, count: int) -> Tensor:
    """(out, C, *k) -> (out, count, *k): for one channel the sum over those that were, which answers a grey picture as the
    kernel answers its copies; for more, the channels in turn, scaled so that equal ones are answered about as strongly."""
    have = kernel.shape[1]
    if count == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel[:, [k % have for k in range(count)]] * (have / count)


def inflated(kernel: Tensor, depth: int, taps: float) -> Tensor:
    """(out, in, h, w) -> (out, in, depth, h, w): the same at every depth, divided by the `taps` that meet in a voxel, so that a
    volume of equal slices is answered as one of them (Carreira and Zisserman, CVPR 2017, section 2.4)."""
    return (kernel / taps)[:, :, None].repeat(1, 1, depth, 1, 1)


def positions(table: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A table of positions for another number of places: (1, width, *places), or (1, prefix + places, width) of a square with
    tokens before it, interpolated; a flat table serves every depth of a volume. None where the widths differ."""
    if table.ndim >= 4 and len(shape) >= 4 and table.shape[1] == shape[1]:
        deep = len(shape) == 5 and table.ndim == 4
        if table.ndim != len(shape) and not deep:
            return None
        flat = _resized(table, shape[3:] if deep else shape[2:])
        return flat[:, :, None].expand(*shape).contiguous() if deep else flat
    if table.ndim == 3 and len(shape) == 3 and table.shape[2] == shape[2]:
        for prefix in (0, 1, 2, 5):
            old, new = (math.isqrt(max(0, n - prefix)) for n in (table.shape[1], shape[1]))
            if old**2 + prefix == table.shape[1] and new**2 + prefix == shape[1] and old > 0 and new > 0:
                square = table[:, prefix:].transpose(1, 2).reshape(1, -1, old, old)
                square = _resized(square, (new, new)).flatten(2).transpose(1, 2)
                return torch.cat((table[:, :prefix], square), dim=1)
    return None


def _resized(table: Tensor, size: Iterable[int]) -> Tensor:
    mode = "bicubic" if table.ndim == 4 else "trilinear"
    return F.interpolate(table, size=tuple(size), mode=mode, align_corners=False)


def _beginnings(names: Iterable[str]) -> list[str]:
    """ "", and the first part, and the first two, of every name, each with its point."""
    found = {""}
    for name in names:
        first = name.split(".")[:3]
        found |= {".".join(first[:k]) + "." for k in range(1, len(first))}
    return sorted(found)


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "one number"
