"""COCO: pictures with annotations/instances_PART.json; of masks a box and an exact outline for each connected part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.image import Image
from hounsfield.core.sample import LazyImage, Sample
from hounsfield.data.dataset import Dataset, ImageFile, look_up, name_classes
from hounsfield.data.layout import RGB
from hounsfield.data.writers import Progress, Written, cannot
from hounsfield.data.writers._files import ending, own_file, put
from hounsfield.io.limits import atomic

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class _Part:
    """One object. label: class index. corners: first row, first column, last row, last column. area: pixels. counts: lengths of
    the runs outside and inside, column by column, of the whole image; None for a box without a mask."""

    label: int
    corners: tuple[float, ...]
    area: float
    counts: list[int] | None = None


def write(dataset: Dataset, folder: Path, copy: bool, progress: Progress) -> Written:
    """A case's picture lies in `folder` by its id: linked where it is a picture file, else written as PNG or TIFF. Category ids
    are the classes' values.

    Raises InputError BAD_OPTION for other than pictures with boxes or masks, and what reading and writing raise.
    """
    notes = _checked(dataset)
    folder.mkdir(parents=True)
    samples = []
    parts: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}
    for done, sample in enumerate(dataset.samples):
        progress(done, len(dataset))
        listed, annotations = parts.setdefault(f"_{sample.split}" if sample.split else "", ([], []))
        name, shape = _picture(dataset, sample, folder, copy)
        listed.append({"id": len(listed) + 1, "file_name": name, "height": shape[0], "width": shape[1]})
        objects = list(_parts(dataset, sample))
        for part in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": len(listed), **_annotation(dataset, part, shape)})
        corners = np.array([part.corners for part in objects], dtype=np.float64).reshape(-1, 4)
        boxes = Boxes(corners, np.array([part.label for part in objects], dtype=np.int64))
        samples.append(Sample(sample.id, sample.images, boxes, split=sample.split))
    if not any(annotations for _, annotations in parts.values()):
        raise cannot("coco", "no box and no mask with a labelled pixel", "objects", "check the labels")
    categories = [{"id": c.value, "name": c.name} for c in dataset.classes]
    for part_name, (listed, annotations) in parts.items():
        values = {"images": listed, "annotations": annotations, "categories": categories}
        with atomic(folder / "annotations" / f"instances{part_name}.json") as beside:
            beside.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    progress(len(dataset), len(dataset))
    if len({s.split for s in samples}) == 1:
        samples = [replace(s, split=None) for s in samples]
    expected = replace(
        dataset.only(samples),
        kind="detection",
        classes=name_classes(sorted((c.value, c.name) for c in dataset.classes)),
        channels=RGB if len(dataset.channels) == 3 else ("intensity",),
        ignore_value=None,
        multilabel=False,
    )
    return Written(expected, tuple(notes))


def _checked(dataset: Dataset) -> list[str]:
    """Notes on what COCO has no place for. Raises InputError BAD_OPTION."""
    if dataset.kind not in ("detection", "segmentation"):
        what = "no labels" if dataset.kind is None else f"{dataset.kind} labels"
        raise cannot("coco", what, "boxes or masks", "convert to a manifest, which holds every kind")
    several = next((s for s in dataset.samples if len(s.images) > 1), None)
    if several is not None or len(dataset.channels) not in (1, 3):
        found = (
            f"{len(dataset.channels)} channels" if several is None else f"case {several.id!r} of {len(several.images)} files"
        )
        raise cannot("coco", found, "one picture, grey or in colours, for each case", "convert to a manifest")
    if [c.value for c in dataset.classes] != sorted({c.value for c in dataset.classes}):
        raise cannot("coco", "classes whose values are not in order", "a larger number for each next class", "renumber them")
    volumes = [s.id for s in dataset.samples if _shape(s.images[0]) is None]
    if volumes:
        raise cannot(
            "coco", f"{len(volumes)} volumes, the first {volumes[0]!r}", "pictures", "convert to a manifest or to nnunet"
        )
    lost = {
        "patients": any(s.patient for s in dataset.samples),
        "attributes": any(s.attributes for s in dataset.samples),
        "valid masks": any(s.valid_mask for s in dataset.samples),
        "the ignored value": dataset.ignore_value is not None,
        "spacings": any(isinstance(i := s.images[0], ImageFile) and _spaced(i) for s in dataset.samples),
    }
    names = [name for name, there in lost.items() if there]
    return [f"{', '.join(names)}: COCO has no place for them, and they are left out"] if names else []


def _shape(lazy: LazyImage) -> tuple[int, ...] | None:
    """(H, W) of a picture; None of a volume."""
    shape = io.peek(lazy.path, lazy.choices).geometry.shape if isinstance(lazy, ImageFile) else lazy().geometry.shape
    return shape if len(shape) == 2 else None


def _spaced(image: ImageFile) -> bool:
    return io.peek(image.path, image.choices).geometry.space != "none"


def _picture(dataset: Dataset, sample: Sample, folder: Path, copy: bool) -> tuple[str, tuple[int, ...]]:
    """The name of the case's picture in `folder`, and its (H, W)."""
    lazy = sample.images[0]
    source = own_file(lazy)
    if source is not None and ending(source).lower() in PICTURES:
        told = io.peek(source)
        if told.format == "raster":
            name = f"{sample.id}{ending(source)}"
            put(source, folder / name, copy)
            return name, told.geometry.shape
    image = look_up(lazy())
    small = image.array.dtype == np.uint8 or (image.array.dtype == np.uint16 and image.channels == 1)
    name = f"{sample.id}{'.png' if small else '.tif'}"
    array = image.array if small or not np.issubdtype(image.array.dtype, np.integer) else image.array.astype(np.int32)
    io.write(Image(array, image.geometry, image.meta), folder / name)
    return name, image.geometry.shape


def _parts(dataset: Dataset, sample: Sample) -> Iterator[_Part]:
    if isinstance(sample.target, Boxes):
        for label, corners in zip(sample.target.labels.tolist(), sample.target.corners.tolist(), strict=True):
            top, left, bottom, right = corners
            yield _Part(label, tuple(corners), (bottom - top) * (right - left))
        return
    assert callable(sample.target)
    labels = sample.target().array[0]
    for k, c in enumerate(dataset.classes):
        components, _ = ndimage.label(labels == c.value, np.ones((3, 3)))
        for number, place in enumerate(ndimage.find_objects(components), start=1):
            inside = components == number
            corners = (place[0].start, place[1].start, place[0].stop, place[1].stop)
            yield _Part(k, corners, int(inside.sum()), _runs(inside))


def _runs(inside: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs outside, inside, outside, ..., column by column; the first may be 0."""
    flat = inside.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    ends = np.concatenate([[0] if not flat[0] else [0, 0], changes, [flat.size]])
    return [int(n) for n in np.diff(ends)]


def _annotation(dataset: Dataset, part: _Part, shape: tuple[int, ...]) -> dict[str, Any]:
    top, left, bottom, right = part.corners
    found = {
        "category_id": dataset.classes[part.label].value,
        "bbox": [left, top, right - left, bottom - top],
        "area": part.area,
        "iscrowd": 0,
    }
    return found if part.counts is None else {**found, "segmentation": {"size": list(shape), "counts": part.counts}}
