"""Image <-> model grid: canonical axes, crop, one resampling, normalisation; and the way back to the source grid.

The model grid is axis-aligned with the canonical source, so that the whole mapping is two numbers an axis: canonical source
index = start + (model index + 1/2) * scale - 1/2. Both ways are separable and run in slabs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Class, Grid, Normalise

CHUNK = 2**24  # values resampled to the source grid at a time
IGNORE = 255  # target value that teaches nothing: outside the valid mask, the ignore label, padding
PARTIAL = 224  # target values from here to IGNORE - 1: background, or a class that nobody looked for in this sample
CPU = torch.device("cpu")
MEASURED_VOXELS = 1_000_000  # of one channel, on which a case's own statistics rest

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Placement:
    """Where the model grid lies in its source. start: of the crop, canonical source voxels; scale: source voxels a model
    voxel; shape: of the model grid."""

    source: Geometry
    start: tuple[int, ...]
    scale: tuple[float, ...]
    shape: tuple[int, ...]

    @property
    def geometry(self) -> Geometry:
        """The model grid in the patient."""
        kept = [round(n * s) for n, s in zip(self.shape, self.scale, strict=True)]
        return self.source.canonical().crop(self.start, kept).resize(self.shape)

    def lookup(self, axis: int) -> tuple[Index, Index, npt.NDArray[np.float32], slice]:
        """For each canonical source index inside the crop: the two model indices around it and the weight of the second;
        and the slice of source indices that the crop covers."""
        count = round(self.shape[axis] * self.scale[axis])
        position = (np.arange(count) + 0.5) / self.scale[axis] - 0.5
        position = np.clip(position, 0, self.shape[axis] - 1)
        low = np.floor(position + 1e-9).astype(np.int64)
        high = np.minimum(low + 1, self.shape[axis] - 1)
        weight = np.clip(position - low, 0, 1).astype(np.float32)
        high = np.where(weight < 1e-6, low, high)
        return low, high, weight, slice(self.start[axis], self.start[axis] + count)

    def crop(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """An array (C, *source) -> (C, *crop) along the canonical axes of the source: a view."""
        axes, flips = self.source.canonical_axes()
        canonical = array.transpose(0, *[a + 1 for a in axes])[
            (slice(None), *[slice(None, None, -1 if f else 1) for f in flips])
        ]
        cover = [slice(s, s + round(n * k)) for s, n, k in zip(self.start, self.shape, self.scale, strict=True)]
        return canonical[(slice(None), *cover)]

    def to_source(self, canonical: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """An array (C, *canonical) -> (C, *source): flips and a transpose, no resampling."""
        axes, flips = self.source.canonical_axes()
        array = canonical[(slice(None), *[slice(None, None, -1 if f else 1) for f in flips])]
        return np.ascontiguousarray(array.transpose(0, *[int(a) + 1 for a in np.argsort(axes)]))


@dataclass(frozen=True)
class Prepared:
    """tensor: float32 (C, *placement.shape), normalised. source: Geometry of the file's own grid."""

    tensor: Tensor
    placement: Placement

    @property
    def source(self) -> Geometry:
        return self.placement.source

    def back_image(self, values: Tensor, outside: float = 0.0) -> Image:
        """Values (K, *grid) on the model grid -> an Image on the source grid, by linear interpolation; `outside` the crop."""
        place = self.placement
        canonical = np.full((len(values), *place.source.canonical().shape), outside, dtype=np.float32)
        inside = values.detach().float().cpu()
        slices = [slice(None)]
        for axis in range(len(place.shape)):
            low, high, weight, covered = place.lookup(axis)
            inside = blend(inside, axis + 1, low, high, weight)
            slices.append(covered)
        canonical[tuple(slices)] = inside.numpy()
        return Image(place.to_source(canonical), place.source, Meta(format="prediction"))

    def back_boxes(self, boxes: Boxes) -> Boxes:
        """Boxes in model indices -> source indices (half-open corners), clipped to the source grid; none for those outside."""
        place = self.placement
        axes, flips = place.source.canonical_axes()
        n = len(place.shape)
        low = boxes.corners[:, :n] * place.scale + np.array(place.start)
        high = boxes.corners[:, n:] * place.scale + np.array(place.start)
        shape = np.array(place.source.canonical().shape)
        for k, flip in enumerate(flips):
            if flip:
                low[:, k], high[:, k] = shape[k] - high[:, k], shape[k] - low[:, k]
        low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
        order, inside = np.argsort(axes), (high > low).all(axis=1)
        corners = np.concatenate([low[:, order], high[:, order]], axis=1)[inside]
        return Boxes(corners, boxes.labels[inside], None if boxes.scores is None else boxes.scores[inside])

    def back_labels(
        self, slabs: Iterable[tuple[int, int, Tensor]], decide: Callable[[Tensor], Tensor]
    ) -> npt.NDArray[np.uint8]:
        """Probabilities -> labels (R, *source) with bounded memory.

        slabs: (start, first, values): values (K, d, h, ...) of model rows start.. along axis 0 and first.. along axis 1, in
            rising order of `start` for each `first`; neighbours along axis 1 overlap by one row.
        decide: (K, *rows of the source) -> uint8 (R, *rows). Outside the crop labels are 0.
        """
        place = self.placement
        low0, high0, weight0, cover0 = place.lookup(0)
        low1, high1, weight1, cover1 = place.lookup(1)
        rest = [place.lookup(axis) for axis in range(2, len(place.shape))]
        beyond = int(np.prod([len(low) for low, *_ in rest]))
        out: npt.NDArray[np.uint8] | None = None
        previous: Tensor | None = None
        done = 0
        for start, first, values in slabs:
            if start == 0:
                previous, done = None, 0
            have = values if previous is None else torch.cat([previous, values], dim=1)
            offset = start if previous is None else start - 1
            last1 = first + values.shape[2] - 1
            # A source row between two tiles belongs to the one that holds both of its neighbours.
            rows = np.flatnonzero((low1 >= first) & (high1 <= last1) & ((low1 < last1) | (last1 == place.shape[1] - 1)))
            stop = int(np.searchsorted(high0, offset + have.shape[1] - 1, side="right"))
            ends = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
            for chunk0, chunk1 in _chunks((done, stop), ends, len(values) * beyond):
                part = blend(have, 1, low0[chunk0] - offset, high0[chunk0] - offset, weight0[chunk0])
                part = blend(part, 2, low1[chunk1] - first, high1[chunk1] - first, weight1[chunk1])
                for axis, (low, high, weight, _) in enumerate(rest):
                    part = blend(part, axis + 3, low, high, weight)
                labels = decide(part).cpu().numpy()
                if out is None:
                    out = np.zeros((labels.shape[0], *place.source.canonical().shape), dtype=np.uint8)
                covers = (_shifted(chunk0, cover0.start), _shifted(chunk1, cover1.start), *(cover for *_, cover in rest))
                out[(slice(None), *covers)] = labels
            done = max(done, stop)
            previous = have[:, -1:].clone()
        if out is None:
            raise ValueError("back_labels needs at least one slab")
        return place.to_source(out).astype(np.uint8, copy=False)


def blend(
    x: Tensor, dim: int, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], weight: npt.NDArray[np.float32]
) -> Tensor:
    """x[low] (1 - weight) + x[high] weight along `dim`; no copy where the indices are an identity."""
    contiguous = len(low) > 0 and not weight.any() and (np.diff(low) == 1).all()
    if contiguous:
        return x.narrow(dim, int(low[0]), len(low))
    below = x.index_select(dim, torch.from_numpy(low).to(x.device))
    if not weight.any():
        return below
    above = x.index_select(dim, torch.from_numpy(high).to(x.device))
    shape = [1] * x.ndim
    shape[dim] = -1
    return torch.lerp(below.float(), above.float(), torch.from_numpy(weight).to(x.device).reshape(shape))


def _shifted(rows: slice, by: int) -> slice:
    return slice(rows.start + by, rows.stop + by)


def _chunks(rows: tuple[int, int], columns: tuple[int, int], values: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows and columns of at most CHUNK values, with `values` at each crossing."""
    width = max(1, min(columns[1] - columns[0], CHUNK // values))
    height = max(1, CHUNK // (values * width))
    for i in range(*rows, height):
        for j in range(*columns, width):
            yield slice(i, min(i + height, rows[1])), slice(j, min(j + width, columns[1]))


def place(image: Image, grid: Grid) -> Placement:
    """Where the plan's grid puts this image. Raises InputError WRONG_DIMENSION where the plan has another number of axes."""
    source = image.geometry
    wanted = grid.spacing or grid.size
    if wanted is not None and len(wanted) != source.ndim:
        raise InputError(
            "WRONG_DIMENSION",
            "image",
            found=f"{source.ndim} spatial axes {source.shape}",
            expected=f"{len(wanted)} axes, as the plan has",
            fix="choose a slice or a volume",
        )
    canonical = source.canonical()
    start, kept = (0,) * source.ndim, canonical.shape
    if grid.crop_foreground:
        start, kept = _foreground(image.canonical().array)
    if grid.size is not None:
        shape = grid.size
    elif grid.spacing is not None and source.space != "none":
        shape = tuple(max(1, round(n * a / b)) for n, a, b in zip(kept, canonical.spacing, grid.spacing, strict=True))
    else:
        shape = kept
    return Placement(source, start, tuple(k / s for k, s in zip(kept, shape, strict=True)), shape)


def prepare(image: Image, grid: Grid, normalise: Sequence[Normalise], device: torch.device = CPU) -> Prepared:
    """An image in source units -> the model grid, resampled on `device`, where the tensor stays.

    Raises InputError CHANNELS, WRONG_DIMENSION.
    """
    if image.channels != len(normalise):
        raise InputError(
            "CHANNELS",
            "image",
            found=f"{image.channels} channels",
            expected=f"{len(normalise)}, as the plan has",
            fix="give the channels that the model was trained on",
        )
    placement = place(image, grid)
    planes = []
    for channel, how in zip(placement.crop(image.array), normalise, strict=True):
        plane = torch.from_numpy(np.array(channel, dtype=np.float32, order="C"))
        if how.scope == "histogram":
            _standardise(plane, how)
        low, high, mean, std = _range(plane, how)
        planes.append(resize(plane.to(device).clamp_(low, high).sub_(mean).div_(std)[None], placement.shape))
    return Prepared(torch.cat(planes) if len(planes) > 1 else planes[0], placement)


def prepare_labels(
    labels: Image, placement: Placement, classes: Sequence[Class], valid: Image | None = None, ignore: int | None = None
) -> Tensor:
    """A label image in source values -> uint8 (R, *grid): class index + 1, 0 background, IGNORE where nothing is known.

    One channel of exclusive values; several channels: one 0/1 region a class. Resampled class by class, linearly, so that no
    class wins by its number; what is unknown counts for none. labels and valid lie on the source grid.
    """
    # By the axes of the image: a mask's own affine may say the same with other axes nearest.
    array = placement.crop(labels.array)
    unknown = np.zeros(array.shape[1:], dtype=bool)
    if valid is not None:
        unknown |= placement.crop(valid.array)[0] == 0
    if ignore is not None:
        unknown |= (array == ignore).any(axis=0)
    if len(array) > 1:
        planes = [_share((region != 0) & ~unknown, placement.shape) > 0.5 for region in array]
        out = torch.stack(planes).to(torch.uint8)
    else:
        out = torch.zeros((1, *placement.shape), dtype=torch.uint8)
        best = _share(~np.isin(array[0], [c.value for c in classes]) & ~unknown, placement.shape)
        for index, c in enumerate(classes):
            share = _share((array[0] == c.value) & ~unknown, placement.shape)
            out[0][share > best] = index + 1
            best = torch.maximum(best, share)
    out[:, _share(unknown, placement.shape) > 0.5] = IGNORE
    return out


def prepare_boxes(boxes: Boxes, placement: Placement) -> Boxes:
    """Boxes of the source on the model grid (half-open corners in its voxels), clipped to it; none for those outside. The way
    back is `Prepared.back_boxes`."""
    axes, flips = placement.source.canonical_axes()
    n = boxes.ndim
    order = np.array(axes)
    low, high = boxes.corners[:, :n][:, order], boxes.corners[:, n:][:, order]
    shape = np.array(placement.source.canonical().shape)
    for k, flip in enumerate(flips):
        if flip:
            low[:, k], high[:, k] = shape[k] - high[:, k], shape[k] - low[:, k]
    limit = np.array(placement.shape)
    low, high = (np.clip((edge - placement.start) / placement.scale, 0, limit) for edge in (low, high))
    inside = (high > low).all(axis=1)
    scores = None if boxes.scores is None else boxes.scores[inside]
    return Boxes(np.concatenate([low, high], axis=1)[inside], boxes.labels[inside], scores)


def grid_mismatch(case: str, mask: Geometry, image: Geometry) -> InputError:
    """A mask lies on another grid than its image."""
    return InputError(
        "GRID_MISMATCH",
        case,
        found=f"a mask of {mask.shape} with affine {np.round(mask.affine, 3).tolist()}",
        expected=f"the image's {image.shape} with affine {np.round(image.affine, 3).tolist()}",
        fix="resample the mask to its image",
    )


def resize(x: Tensor, shape: Sequence[int]) -> Tensor:
    """(C, *spatial) float32 -> (C, *shape), linear with anti-aliasing, extents aligned, one axis at a time."""
    for axis, size in enumerate(shape):
        have, before, after = x.shape[axis + 1], x.shape[: axis + 1], x.shape[axis + 2 :]
        if have != size:
            rows, columns = math.prod(before), math.prod(after)
            # Along the last dimension where it is the last axis: torch 2.14 takes a map of one column for a constant one.
            view, to = ((1, 1, rows, have), (rows, size)) if columns == 1 else ((1, rows, have, columns), (size, columns))
            x = F.interpolate(x.reshape(view), size=to, mode="bilinear", antialias=True).reshape(*before, size, *after)
    return x


def _share(mask: npt.NDArray[np.bool_], shape: Sequence[int]) -> Tensor:
    """The part of each model voxel that `mask` covers, in [0, 1]."""
    return resize(torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None], shape)[0]


def _foreground(array: npt.NDArray[np.generic]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size of the box outside which every channel stays at its minimum; the whole grid where none does."""
    above = np.zeros(array.shape[1:], dtype=bool)
    for channel in array:
        above |= channel > channel.min()
    start, size = [], []
    for axis in range(above.ndim):
        line = np.flatnonzero(above.any(axis=tuple(a for a in range(above.ndim) if a != axis)))
        first, last = (int(line[0]), int(line[-1])) if len(line) else (0, above.shape[axis] - 1)
        start.append(first)
        size.append(last - first + 1)
    return tuple(start), tuple(size)


def _range(plane: Tensor, how: Normalise) -> tuple[float, float, float, float]:
    """(low, high, mean, std) that normalise one channel."""
    if how.scope != "case":
        return how.low, how.high, how.mean, how.std
    sampled = _sampled(plane)
    low, high = (float(v) for v in np.percentile(sampled, (how.low_percentile, how.high_percentile)))
    if high <= low:  # nearly all voxels are equal, and what differs is what there is to see
        low, high = float(sampled.min()), float(sampled.max())
    clipped = sampled.clip(low, high)
    std = float(clipped.std())
    # A spread below the precision of 32-bit floats is rounding, not signal.
    return low, high, float(clipped.mean()), std if std > 1e-6 * max(abs(low), abs(high)) else 1.0


def _standardise(plane: Tensor, how: Normalise) -> None:
    """Bring the percentiles of one channel to the plan's landmarks, in place; beyond the first and the last all is equal."""
    levels, standard = zip(*how.landmarks, strict=True)
    own = np.percentile(_sampled(plane), levels)
    if own[0] == own[-1]:  # nearly all voxels are equal, and what differs is what there is to see
        sampled = _sampled(plane)
        own, standard = np.array([sampled.min(), sampled.max()]), (standard[0], standard[-1])
    rising = np.append(np.diff(own) > 0, True)  # of equal percentiles the last counts
    for row in plane.numpy():
        row[...] = np.interp(row, own[rising], np.array(standard)[rising])


def units(channels: Iterable[npt.NDArray[np.generic]], normalise: Sequence[Normalise]) -> list[tuple[float, float]]:
    """Mean and deviation by which `prepare` normalises each channel (any shape, in source units): a value of the source is mean
    + deviation * the tensor's value."""
    planes = (torch.from_numpy(np.array(channel, dtype=np.float32, order="C")) for channel in channels)
    return [_range(plane, how)[2:] for plane, how in zip(planes, normalise, strict=True)]


def _sampled(plane: Tensor) -> npt.NDArray[np.float64]:
    """What one channel is measured on: of a large case every k-th voxel along each axis, as a step through the flat array
    could follow one column."""
    step = math.ceil((plane.numel() / MEASURED_VOXELS) ** (1 / plane.ndim))
    return plane[(slice(None, None, step),) * plane.ndim].numpy().astype(np.float64)
