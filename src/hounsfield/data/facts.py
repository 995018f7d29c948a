"""What is measured on a case when it is read in full, once: the audit judges by it and the planner decides by it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.geometry import Space
from hounsfield.core.image import Image
from hounsfield.core.sample import LazyImage, Sample
from hounsfield.data.burned_text import characters
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import ImageFile
from hounsfield.data.masks import MaskFile, count_values, same_grid
from hounsfield.io.formats import Peek
from hounsfield.io.limits import atomic

VERSION = 3  # of what is measured; facts of another version are measured anew
LEVELS: Final = (0.0, 0.005, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.995, 1.0)  # of Intensity.quantiles
THUMBNAIL: Final = {2: (16, 16), 3: (8, 8, 8)}
QUANTILE_VOXELS = 1_000_000  # inner quantiles of more real values are taken on an even selection of about so many
SLAB = 2**22  # voxels converted at once


@dataclass(frozen=True)
class Intensity:
    """Of one channel, in the source's units. quantiles: the smallest value that LEVELS of the voxels do not exceed, so that
    each is a value of the image. voxels: how many were measured."""

    voxels: int
    mean: float
    std: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Header:
    """What the headers of one sample's files tell, on the grid of its first image.

    key: of its files (equal keys, equal facts), "" where no voxel was read. shape, spacing: per array axis (mm, px where
    space is "none"). orientation: as Geometry.orientation. modality: of the first file. dtype: of all channels together; of
    headers alone as stored in the first file.
    """

    id: str
    key: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    space: Space
    orientation: str
    modality: str | None
    dtype: str
    channels: int


@dataclass(frozen=True)
class CaseFacts(Header):
    """Of one sample whose voxels were read.

    grey: every channel holds the same values. content: per axis, first and last + 1 index of what is not every channel's
    minimum. whole: per channel over the image; foreground, background: per channel under labels that are not 0 and under 0,
    less what the valid mask and the ignored value leave out, () where nothing is left or no mask is there.
    voxels: of the mask, by value; boxes by class index for boxes; empty without. unknown: voxels outside the valid mask.
    digest: equal for equal voxels and shape, whatever the file format. thumbnail: the bytes of float32 block means over all
    channels, zero mean and unit norm, flat; zeros for a constant image. burned_in: a file says that it holds burned-in text;
    characters: as `burned_text.characters`.
    """

    # As numbers, the thumbnail would be nine tenths of what is kept of a case.
    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    grey: bool
    content: tuple[tuple[int, int], ...]
    whole: tuple[Intensity, ...]
    foreground: tuple[Intensity, ...]
    background: tuple[Intensity, ...]
    voxels: dict[int, int]
    unknown: int
    digest: str
    thumbnail: bytes
    burned_in: bool = False
    characters: int = 0


def sample_key(sample: Sample, ignore: int | None = None) -> str:
    """What stands for the content of all files of a sample. ignore: as in `measure`."""
    parts = [f"{VERSION}", *(image.key for image in sample.images)]
    if isinstance(sample.target, Boxes):
        parts += [sample.target.corners.tobytes().hex(), sample.target.labels.tobytes().hex()]
    elif (mask := mask_of(sample)) is not None:
        parts.append(f"mask {mask.key} {ignore}")
    if sample.valid_mask is not None:
        parts.append(f"valid {sample.valid_mask.key}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def mask_of(sample: Sample) -> LazyImage | None:
    """The target where it is an image of labels."""
    return None if sample.target is None or isinstance(sample.target, (int, tuple, Boxes)) else sample.target


def measure(sample: Sample, ignore: int | None = None) -> CaseFacts:
    """Read every file of `sample` and measure it. ignore: a mask value that is no class and teaches nothing.

    Raises InputError for what cannot be read, and GRID_MISMATCH where a mask lies on another grid than the first image.
    """
    key = sample_key(sample, ignore)  # before reading, so that a file that changes meanwhile is measured again
    image = read_case(sample)
    grid = image.geometry
    labels, valid = (_on_grid(lazy, image, sample) for lazy in (mask_of(sample), sample.valid_mask))
    inside, outside = _regions(labels, valid, ignore)
    return CaseFacts(
        id=sample.id,
        key=key,
        shape=grid.shape,
        spacing=grid.spacing,
        space=grid.space,
        orientation=grid.orientation,
        modality=image.meta.modality,
        dtype=image.array.dtype.name,
        channels=image.channels,
        grey=_grey(image.array),
        content=_content(image.array),
        whole=tuple(_intensity(channel) for channel in image.array),
        foreground=_within(image.array, inside),
        background=_within(image.array, outside),
        voxels=_count(sample.target, labels),
        unknown=0 if valid is None else int((valid[0] == 0).sum()),
        digest=digest(image),
        thumbnail=thumbnail(image).astype("<f4").tobytes(),
        burned_in=image.meta.burned_in,
        characters=characters(image.array),
    )


def glance(sample: Sample) -> Header:
    """What the headers of `sample` tell, no voxel being read where its files can be asked so.

    Raises InputError for what a header shows to be unreadable, and GRID_MISMATCH as `measure` does.
    """
    peeks = [_peek(lazy) for lazy in sample.images]
    first = peeks[0]
    for lazy in (mask_of(sample), sample.valid_mask):
        if lazy is not None:
            same_grid(first, _peek(lazy), sample.images[0].path, lazy.path)
    grid = first.geometry
    return Header(
        id=sample.id,
        key="",
        shape=grid.shape,
        spacing=grid.spacing,
        space=grid.space,
        orientation=grid.orientation,
        modality=first.modality,
        dtype=first.dtype.name,
        channels=sum(peek.channels for peek in peeks),
    )


def _peek(lazy: LazyImage) -> Peek:
    if isinstance(lazy, (ImageFile, MaskFile)):
        found = lazy.peek()
        if isinstance(lazy, ImageFile) and found.volumes > 1 and lazy.choices.volume is None and lazy.choices.frame is None:
            raise InputError(
                "WRONG_DIMENSION",
                lazy.path,
                found=f"{found.volumes} volumes or frames",
                expected="one",
                fix="choose one with --volume or --frame",
            )
        return found
    image = lazy()  # an array in memory
    return Peek(image.meta.format, image.geometry, image.channels, image.array.dtype, image.meta.modality)


def _on_grid(lazy: LazyImage | None, image: Image, sample: Sample) -> npt.NDArray[Any] | None:
    """The labels of a mask (C, *spatial), on the grid of `image`; None without a mask. Raises InputError GRID_MISMATCH."""
    if lazy is None:
        return None
    mask = lazy()
    same_grid(image, mask, sample.images[0].path, lazy.path)
    return mask.array


def _regions(
    labels: npt.NDArray[Any] | None, valid: npt.NDArray[Any] | None, ignore: int | None
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.bool_] | None]:
    """Where a label is known not to be 0 and where it is known to be 0, (*spatial) each; None without labels."""
    if labels is None:
        return None, None
    inside = (labels != 0).any(axis=0)
    known = np.ones_like(inside) if valid is None else valid[0] != 0
    if ignore is not None:
        known &= (labels != ignore).all(axis=0)
    return inside & known, ~inside & known


def digest(image: Image) -> str:
    """A hash of shape and values: the same for uint8 and float32 of equal values, and for grey saved as RGB."""
    array = image.array[:1] if _grey(image.array) else image.array
    out = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    rows = max(1, SLAB // max(1, array[0, 0].size))
    for channel in array:
        for start in range(0, len(channel), rows):
            slab = np.ascontiguousarray(channel[start : start + rows], dtype="<f4")
            out.update((slab + np.float32(0)).data)  # -0 becomes 0
    return out.hexdigest()


def block_means(array: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """`array` (*spatial) averaged over `shape` blocks that divide it evenly, from both ends alike so that mirror images give
    mirrored blocks; an axis shorter than `shape` repeats voxels."""
    out: npt.NDArray[Any] = array
    for axis, count in enumerate(shape):
        size = out.shape[axis]
        edges = np.minimum(np.rint(np.arange(count) * size / count).astype(np.int64), size - 1)
        widths = np.maximum(np.diff(np.append(edges, size)), 1)
        sums = np.add.reduceat(out, edges, axis=axis, dtype=np.float64)
        out = sums / widths.reshape([-1 if k == axis else 1 for k in range(out.ndim)])
    return out.astype(np.float32)


def standardise(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Flat, zero mean, unit norm, so that the inner product of two is their correlation; zeros where nothing varies."""
    flat = values.astype(np.float64).ravel()
    flat -= flat.mean()
    norm = np.linalg.norm(flat)
    scale = float(np.abs(values).max(initial=0)) * np.sqrt(flat.size)
    return (flat / norm if norm > 1e-6 * max(scale, 1e-30) else np.zeros_like(flat)).astype(np.float32)


def thumbnail(image: Image) -> npt.NDArray[np.float32]:
    """The mean of the channels in THUMBNAIL blocks, standardised."""
    array = image.array[0] if image.channels == 1 else image.array.mean(axis=0, dtype=np.float32)
    return standardise(block_means(array, THUMBNAIL[image.ndim]))


class FactStore:
    """Facts kept in one file of `folder` per dataset root, one JSON line each; a line that cannot be read is measured anew."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.path = folder / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.jsonl"

    def load(self) -> dict[str, CaseFacts]:
        """Facts by key; none where nothing was kept."""
        facts = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    fact = _FACTS.validate_json(line)
                except ValidationError:
                    continue
                facts[fact.key] = fact
        return facts

    def save(self, facts: Sequence[CaseFacts]) -> None:
        """Keep `facts` alone, written beside and renamed. A cache that cannot be written is no fault."""
        with suppress(OSError, ResourceError), atomic(self.path) as beside, beside.open("wb") as file:
            file.writelines(_FACTS.dump_json(fact) + b"\n" for fact in facts)


_FACTS = TypeAdapter(CaseFacts)


def _grey(array: npt.NDArray[Any]) -> bool:
    return bool((array[1:] == array[:1]).all())


def _within(array: npt.NDArray[Any], region: npt.NDArray[np.bool_] | None) -> tuple[Intensity, ...]:
    return () if region is None or not region.any() else tuple(_intensity(channel[region]) for channel in array)


def _intensity(values: npt.NDArray[Any]) -> Intensity:
    flat = values.ravel()
    low, high = flat.min().item(), flat.max().item()
    if np.issubdtype(flat.dtype, np.integer) and high - low < 2**16:
        # Integers of few values are counted: exact, and much faster than ordering them.
        counts = np.bincount(flat.astype(np.int64) - low if low else flat)
        scale = low + np.arange(len(counts), dtype=np.float64)
        mean = float(counts @ scale) / flat.size
        variance = float(counts @ (scale - mean) ** 2) / flat.size
        ranks = np.ceil(np.array(LEVELS) * flat.size).clip(min=1)
        quantiles = scale[np.searchsorted(np.cumsum(counts), ranks)].tolist()
    else:
        mean = float(flat.mean(dtype=np.float64))
        # In double precision: the squares of float16, and of large float32, would not be finite.
        slabs = (flat[start : start + SLAB].astype(np.float64) - mean for start in range(0, flat.size, SLAB))
        variance = sum(float(np.vdot(s, s)) for s in slabs) / flat.size
        few = flat[:: max(1, flat.size // QUANTILE_VOXELS)]
        inner = np.quantile(few, LEVELS[1:-1], method="inverted_cdf").tolist()
        quantiles = [float(low), *inner, float(high)]
    return Intensity(flat.size, mean, variance**0.5, tuple(quantiles))


def _content(array: npt.NDArray[Any]) -> tuple[tuple[int, int], ...]:
    axes = tuple(range(1, array.ndim))
    varies = (array > array.min(axis=axes, keepdims=True)).any(axis=0)
    spans = []
    for axis in range(varies.ndim):
        where = np.flatnonzero(varies.any(axis=tuple(k for k in range(varies.ndim) if k != axis)))
        spans.append((int(where[0]), int(where[-1]) + 1) if where.size else (0, varies.shape[axis]))
    return tuple(spans)


def _count(target: object, labels: npt.NDArray[Any] | None) -> dict[int, int]:
    if labels is not None and len(labels) > 1:  # a region a channel, which are the classes 1, 2, ...
        counts = {k: int(np.count_nonzero(region)) for k, region in enumerate(labels, start=1)}
        return {k: n for k, n in {0: int((labels == 0).all(axis=0).sum()), **counts}.items() if n}
    if labels is not None:
        return count_values(labels)
    return count_values(target.labels) if isinstance(target, Boxes) else {}
