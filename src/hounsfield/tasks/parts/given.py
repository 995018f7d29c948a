"""What a restoring network is given, and its answer laid over the source's own voxels, where they were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Normalise
from hounsfield.data.degrade import Resolution, fill, refine
from hounsfield.data.prepare import Placement, Prepared, units
from hounsfield.tasks.parts.windows import Slab


@dataclass(frozen=True)
class Given(Prepared):
    """tensor: (C, *grid) normalised, what is to be changed; with holes (C + 1, *grid), in them what is around them, and 1 in
    them in the last channel. image: as it was given, (C, *its grid). hole: (*canonical grid), True where something is to
    be found, None for everywhere. scale: mean and deviation of each channel in the source's units."""

    image: Image
    hole: npt.NDArray[np.bool_] | None
    scale: tuple[tuple[float, float], ...]


def placed(
    image: Image, channels: int, normalise: Sequence[Normalise], finer: Resolution | None, device: torch.device
) -> Given:
    """image: (channels or channels + 1, *spatial), the last then not 0 in the holes. finer: the grid that is asked for.

    Raises InputError BAD_OPTION where the hole is everything.
    """
    known = Image(image.array[:channels], image.geometry, image.meta)
    upright, source = known.canonical().array, image.geometry
    hole = None if image.channels == channels else image.canonical().array[-1] != 0
    if hole is not None and hole.all():
        raise InputError(
            "BAD_OPTION",
            "--mask",
            found="a mask of every voxel",
            expected="some that are known around the holes",
            fix="mask the holes alone",
        )
    scale = units(upright if hole is None else (channel[~hole] for channel in upright), normalise)
    x = torch.from_numpy(np.array(upright, dtype=np.float32, order="C")).to(device)
    mean, std = columns(scale, x)
    x.sub_(mean).div_(std)
    if finer is not None:
        x, source = refine(x[None], finer)[0], _finer(source, finer)
    if hole is not None:
        inside = torch.from_numpy(np.ascontiguousarray(hole)).to(device)[None]
        x = torch.cat([fill(x[None], inside[None])[0], inside.float()])
    placement = Placement(source, (0,) * source.ndim, (1.0,) * source.ndim, source.canonical().shape)
    return Given(x, placement, known, hole, tuple(scale))


def composed(raw: Iterable[Slab], given: Given) -> tuple[Image, Image | None]:
    """The restored image in the type of the one given, and where slabs have twice its channels what the second half of them
    is in the source's units, float32. raw: what is to be added to the tensor, slab by slab."""
    place, image = given.placement, given.image
    count, kind = image.channels, image.array.dtype
    made = np.empty((count, *place.shape), kind) if given.hole is None else np.array(image.canonical().array, order="C")
    spread: npt.NDArray[np.float32] | None = None
    for start, first, values in raw:
        rows = (slice(start, start + values.shape[1]), slice(first, first + values.shape[2]))
        asked: Any = True if given.hole is None else given.hole[rows]
        mean, std = columns(given.scale, values)
        own = given.tensor[(slice(count), *rows)].to(values.device)
        found = ((own + values[:count]) * std + mean).cpu().numpy()
        np.copyto(made[(slice(None), *rows)], _stored(found, kind), where=asked)
        if len(values) > count:
            spread = np.zeros(made.shape, np.float32) if spread is None else spread
            np.copyto(spread[(slice(None), *rows)], (values[count:] * std).cpu().numpy(), where=asked)
    about = Meta("uncertainty", spaces=image.meta.spaces)
    apart = None if spread is None else Image(place.to_source(spread), place.source, about)
    return Image(place.to_source(made), place.source, image.meta), apart


def without_hole(x: Tensor, hole: Tensor) -> Tensor:
    """(B, C, *spatial) with the mean of what is known in the holes (B, 1, *spatial) of each channel."""
    axes = tuple(range(2, x.ndim))
    mean = (x * ~hole).sum(axes, keepdim=True) / (~hole).sum(axes, keepdim=True).clamp_min(1)
    return torch.where(hole, mean, x)


def divisible(x: Tensor, how: Resolution) -> Tensor:
    """(B, C, *spatial) less what is left over at the ends of the axes along which `factor` voxels become one. Raises InputError
    TOO_FEW where nothing is left."""
    factor, along = how.factor, how.along(x.ndim - 2)
    if any(x.shape[2 + axis] < factor for axis in along):
        raise InputError(
            "TOO_FEW",
            "image",
            found=f"{tuple(x.shape[2:])} voxels",
            expected=f"at least {factor} along the axes {list(along)}",
            fix="leave such images out",
        )
    kept = [slice(n // factor * factor if k in along else n) for k, n in enumerate(x.shape[2:])]
    return x[(slice(None), slice(None), *kept)]


def beyond_range(array: npt.NDArray[Any], normalise: Sequence[Normalise], room: float) -> None:
    """Raises InputError VALUE_RANGE where a channel (*spatial) has values that lie further from the range that was learned
    than `room` times its width; of channels that each case scales by itself none does."""
    for channel, how in zip(array, normalise, strict=True):
        low, high = float(channel.min()), float(channel.max())
        reach = room * (how.high - how.low)
        if how.scope == "dataset" and (low < how.low - reach or high > how.high + reach):
            raise InputError(
                "VALUE_RANGE",
                "image",
                found=f"values from {low:g} to {high:g}",
                expected=f"{how.low:g} to {how.high:g}, as in the images that were learned from",
                fix="bring the image to their units",
            )


def _finer(grid: Geometry, how: Resolution) -> Geometry:
    """The grid with more voxels along the axes that `how` names in canonical order."""
    order, _ = grid.canonical_axes()
    along = {order[axis] for axis in how.along(grid.ndim)}
    return grid.resize([n * (how.factor if k in along else 1) for k, n in enumerate(grid.shape)])


def columns(scale: Sequence[tuple[float, float]], like: Tensor) -> tuple[Tensor, Tensor]:
    """Means and deviations as (C, 1, ...) beside `like` (any, *spatial)."""
    shape = (-1, *[1] * (like.ndim - 1))
    mean, std = (torch.tensor(values, dtype=torch.float32, device=like.device) for values in zip(*scale, strict=True))
    return mean.reshape(shape), std.reshape(shape)


def _stored(values: npt.NDArray[np.float32], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """In the type of the source: whole numbers are rounded and kept within what it holds."""
    if kind.kind not in "iu":
        return values.astype(kind)
    holds = np.iinfo(kind)
    return np.rint(values.astype(np.float64)).clip(holds.min, holds.max).astype(kind)
