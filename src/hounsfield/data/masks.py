"""Label images: what a mask file may hold, and which classes a set of masks has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.core.sample import LazyImage
from hounsfield.data.dataset import file_key, look_up, name_classes
from hounsfield.io.formats import DEFAULT, Choices, Peek

MOST_CLASSES = 255
# A resized or smoothed two-valued mask has greys between 0 and 255, few voxels of each; a label map has gaps or fewer values.
MOST_GREYS = 16

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class MaskFile:
    """A lazy label image (1, *spatial) of integers in the source's values; several `paths` merge into one, the larger value
    winning. choices: those of its image; of a mask of one volume or frame, `volume` and `frame` choose nothing.

    Raises InputError LOSSY_MASK, BAD_LABEL, GRID_MISMATCH when called.
    """

    paths: tuple[Path, ...]
    choices: Choices = DEFAULT

    @property
    def path(self) -> Path:
        return self.paths[0]

    @property
    def key(self) -> str:
        return "|".join(map(file_key, self.paths)) + f":{self.choices.model_dump_json(exclude_defaults=True)}:labels"

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    def __call__(self) -> Image:
        merged = self._labels(self.path)
        for path in self.paths[1:]:
            part = self._labels(path)
            same_grid(merged, part, self.path, path)
            merged = replace(merged, array=np.maximum(merged.array, part.array))
        return merged

    def peek(self) -> Peek:
        """What the header of the first file tells, no voxel being read."""
        return io.peek(self.path, self._choices(self.path))

    def _labels(self, path: Path) -> Image:
        return as_labels(io.read(path, self._choices(path)), path)

    def _choices(self, path: Path) -> Choices:
        """Of a 4D image often a single volume is annotated, and of a cine a single frame, in a file of its own."""
        if self.choices.volume is None and self.choices.frame is None:
            return self.choices
        alone = self.choices.model_copy(update={"volume": None, "frame": None})
        return self.choices if io.peek(path, alone).volumes > 1 else alone


@dataclass(frozen=True)
class Relabelled:
    """A lazy label image in other values. values: old to new; what is not among them stays."""

    image: LazyImage
    values: tuple[tuple[int, int], ...]

    @property
    def path(self) -> Path:
        return self.image.path

    @property
    def key(self) -> str:
        return f"{self.image.key}:{self.values}"

    def __str__(self) -> str:
        return str(self.image)

    def __call__(self) -> Image:
        image = self.image()
        array = image.array.astype(np.int32)
        for old, new in self.values:
            array[image.array == old] = new
        small = array.min(initial=0) >= 0 and array.max(initial=0) < 256
        return replace(image, array=array.astype(np.uint8) if small else array)


def as_labels(image: Image, path: Path) -> Image:
    """`image` with one channel of whole numbers. Colour masks of equal channels count as grey. Palette indices stay, unless
    all colours are grey: that is how GIF stores a grey picture, and each file numbers its greys anew.

    Raises InputError LOSSY_MASK for a lossy encoding, BAD_LABEL for fractions, and for colours, naming some.
    """
    if image.meta.lossy:
        raise InputError(
            "LOSSY_MASK",
            path,
            found=f"a {image.meta.format} mask in a lossy encoding",
            expected="labels stored without loss",
            fix="save the masks as PNG or NIfTI from the original labels",
        )
    if image.meta.palette is not None and all(r == g == b for r, g, b in image.meta.palette):
        image = look_up(image)
    array = image.array
    if array.shape[0] > 1:
        if not (array[1:] == array[:1]).all():
            colours = np.unique(array.reshape(array.shape[0], -1), axis=1).T
            listed = ", ".join(str(tuple(c.tolist())) for c in colours[:8])
            raise InputError(
                "BAD_LABEL",
                path,
                found=f"a mask of {len(colours)} colours: {listed}{', ...' if len(colours) > 8 else ''}",
                expected="one label value per voxel",
                fix="save the masks with one channel, or a palette, whose values are the classes",
            )
        array = array[:1]
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    elif not np.issubdtype(array.dtype, np.integer):
        whole = np.rint(array)
        if not (whole == array).all() or np.abs(whole).max(initial=0) > np.iinfo(np.int32).max:
            odd = np.unique(array[whole != array])[:4].tolist()
            raise InputError(
                "BAD_LABEL",
                path,
                found=f"label values such as {', '.join(f'{v:.4g}' for v in odd)}",
                expected="whole numbers",
                fix="resample labels with nearest neighbour, and save them as integers",
            )
        array = whole.astype(np.int32)
    return replace(image, array=array)


def same_grid(image: Image | Peek, mask: Image | Peek, image_path: Path, mask_path: Path) -> None:
    """Raises InputError GRID_MISMATCH, with both shapes and affines, unless both lie on one grid."""
    if image.geometry.same_grid(mask.geometry):
        return
    one, other = image.geometry, mask.geometry
    raise InputError(
        "GRID_MISMATCH",
        mask_path,
        found=f"shape {other.shape}, affine {np.round(other.affine, 4).tolist()}",
        expected=f"the grid of {image_path.name}: shape {one.shape}, affine {np.round(one.affine, 4).tolist()}",
        fix="resample the mask to its image with nearest neighbour",
    )


def count_values(labels: npt.NDArray[Any]) -> dict[int, int]:
    """How often each value stands in an integer array."""
    if labels.size and labels.min() >= 0 and labels.max() < 2**16:
        counts = np.bincount(labels.ravel())
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    values, numbers = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


def in_threads(
    work: Callable[[T], R], items: Sequence[T], progress: Callable[[int, int], None] | None = None, threads: int | None = None
) -> list[R]:
    """[work(item) for item in items] in threads, in order; the first item that fails raises. `progress` gets (done, all)."""
    results: list[R] = []
    with ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1), thread_name_prefix="audit") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                results.append(future.result())
                if progress:
                    progress(len(results), len(items))
        finally:
            for future in futures:
                future.cancel()
    return results


def find_classes(
    masks: Mapping[str, LazyImage], root: Path, names: Mapping[int, str] | None = None
) -> tuple[tuple[Class, ...], dict[str, dict[int, int]]]:
    """The classes of a set of masks that declares none: every value but 0; and the voxels of each value by sample id.

    A single class is named "foreground", several after their values, unless `names` knows better. Masks that cannot be read
    are left out, as reading them again will say why; where none can, the first one's error is raised.
    Raises InputError BAD_LABEL for negative values, too many values, and greys of smoothed masks; NO_FOREGROUND.
    """

    def count(mask: LazyImage) -> dict[int, int] | InputError:
        try:
            return count_values(mask().array)
        except InputError as error:
            return error

    found = dict(zip(masks, in_threads(count, list(masks.values())), strict=True))
    counted = {name: counts for name, counts in found.items() if not isinstance(counts, InputError)}
    failed = [error for error in found.values() if isinstance(error, InputError)]
    if failed and not counted:
        raise failed[0]
    total: Counter[int] = Counter()
    for counts in counted.values():
        total.update(counts)
    values = sorted(v for v in total if v != 0)
    if not values:
        raise InputError(
            "NO_FOREGROUND",
            root,
            found=f"{len(masks)} masks, all of them empty",
            expected="at least one mask with a labelled voxel",
            fix="check that the masks are the right files",
        )
    odd = next((masks[i].path for i, counts in counted.items() if min(counts) < 0 or len(counts) > MOST_CLASSES), None)
    greys = [v for v in values if v != 255]
    smoothed = 255 in values and len(greys) > MOST_GREYS and sum(total[v] for v in greys) < 0.1 * total[255]
    if odd or len(values) > MOST_CLASSES or smoothed:
        where = odd or next(masks[i].path for i, counts in counted.items() if set(counts) & set(greys))
        raise InputError(
            "BAD_LABEL",
            where,
            found=f"{len(values)} label values over all masks, from {values[0]} to {values[-1]}"
            + (": two-valued masks with grey edges" if smoothed else ""),
            expected=f"0 for background and at most {MOST_CLASSES} classes of positive values",
            fix="threshold the masks" if smoothed else "save the labels as small whole numbers",
        )
    known = names or {}
    fallback = {values[0]: "foreground"} if len(values) == 1 else {v: str(v) for v in values}
    return name_classes((v, known.get(v, fallback[v])) for v in values), counted


def check_pairs(root: Path, images: Iterable[str], labels: Iterable[str]) -> None:
    """Raises InputError UNPAIRED, naming up to ten of each kind, where `images` without label or `labels` without image are."""
    kinds = (("images without a label", sorted(images)), ("labels without an image", sorted(labels)))
    parts = [
        f"{len(names)} {what} ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})" for what, names in kinds if names
    ]
    if parts:
        raise InputError(
            "UNPAIRED",
            root,
            found=" and ".join(parts),
            expected="one label for every image",
            fix="add the missing files, or remove those that stand alone",
        )
