"""A case as one image: its files stacked into the channels that the plan names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import look_up

LEAST_OVERLAP = 0.5  # of the first channel's voxels that another channel must cover


def read_case(sample: Sample, channels: int | None = None) -> Image:
    """All channels of a case on the grid of its first file. channels: how many are expected, as `fitted` makes them; None: as
    they are.

    Palette pictures become colours. Other grids are resampled to the first, linearly. Raises InputError CHANNELS.
    """
    parts = [look_up(lazy()) for lazy in sample.images]
    first = parts[0]
    arrays = [first.array]
    for part, lazy in zip(parts[1:], sample.images[1:], strict=True):
        same = part.geometry.same_grid(first.geometry)
        arrays.append(part.array if same else _onto(part, first.geometry, lazy.path.name))
    stacked = Image(np.concatenate(arrays) if len(arrays) > 1 else first.array, first.geometry, first.meta)
    return stacked if channels is None else fitted(stacked, channels, sample)


def fitted(image: Image, channels: int, sample: Sample) -> Image:
    """The sample's image with as many channels: a grey picture serves where three colours are expected, and three equal colours
    where one grey is. Raises InputError CHANNELS."""
    if image.channels == channels:
        return image
    if image.channels == 1 and channels == 3:
        return Image(np.repeat(image.array, 3, axis=0), image.geometry, image.meta)
    if image.channels == 3 and channels == 1 and (image.array == image.array[:1]).all():
        return Image(image.array[:1], image.geometry, image.meta)
    raise InputError(
        "CHANNELS",
        sample.images[0].path,
        found=f"{image.channels} channels",
        expected=f"{channels}",
        fix="give every case the same channels, in the same order",
    )


def _onto(image: Image, grid: Geometry, name: str) -> npt.NDArray[np.float32]:
    """`image` on another grid, by world position, linear; outside, each channel's minimum (0 would be water in a CT).

    Raises InputError CHANNELS for too little overlap.
    """
    if image.ndim != grid.ndim or "none" in (image.geometry.space, grid.space):
        raise _apart(name, image.geometry.shape, grid.shape, "no common space")
    out: list[npt.NDArray[np.float32]] = []
    covered = 0
    source = torch.from_numpy(image.array.astype(np.float32))[None]
    lowest = source.flatten(2).amin(dim=2).reshape(1, -1, *[1] * grid.ndim)
    source -= lowest
    size = np.array(image.geometry.shape)
    for row in range(grid.shape[0]):  # slab by slab: the sampling grid is three times an image
        index = np.stack(np.meshgrid([row], *[np.arange(s) for s in grid.shape[1:]], indexing="ij"), -1).reshape(-1, grid.ndim)
        position = image.geometry.world_to_index(grid.index_to_world(index))
        covered += int(((position >= -0.5) & (position <= size - 0.5)).all(axis=1).sum())
        unit = torch.from_numpy(((2 * position + 1) / size - 1)[:, ::-1].astype(np.float32))
        at = unit.reshape(1, 1, *grid.shape[1:], grid.ndim)
        out.append((F.grid_sample(source, at, align_corners=False) + lowest)[0].numpy())
    if covered < LEAST_OVERLAP * np.prod(grid.shape):
        raise _apart(name, image.geometry.shape, grid.shape, f"{covered / np.prod(grid.shape):.0%} of it covered")
    return np.concatenate(out, axis=1)


def _apart(name: str, have: Sequence[int], want: Sequence[int], why: str) -> InputError:
    return InputError(
        "CHANNELS",
        name,
        found=f"a grid of {tuple(have)} against the first channel's {tuple(want)}: {why}",
        expected=f"channels that cover at least {LEAST_OVERLAP:.0%} of the first one's grid",
        fix="register the channels to each other first",
    )
