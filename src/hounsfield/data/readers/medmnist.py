"""MedMNIST: one .npz with {train,val,test}_{images,labels}, small grey or RGB images or volumes (Yang et al., 2023)."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, file_key, name_classes
from hounsfield.data.layout import RGB
from hounsfield.data.readers import Match
from hounsfield.io.arrays import Stored, stored
from hounsfield.io.formats import Choices

PARTS: tuple[Split, ...] = get_args(Split)
NEEDED = ("train_images", "train_labels")


def match(path: Path) -> Match:
    """A .npz with train_images and train_labels, or a folder whose only .npz is such a file."""
    file = _file(path)
    if file is None:
        return Match(missed="single .npz file")
    try:
        with zipfile.ZipFile(file) as archive:
            absent = [name for name in NEEDED if f"{name}.npy" not in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        absent = []  # read says what is wrong with it
    if absent:
        return Match(missed=f"{' and '.join(absent)} in {file.name}")
    return Match(f"MedMNIST arrays in {file.name}", priority=30)


def read(path: Path, choices: Choices) -> Dataset:
    """Samples "train/0000" and on, splits as given. Labels (N,) or (N, 1) are classes, (N, k) yes or no for each of k labels.
    The arrays leave nothing to choose.

    Class names are the values, unless "<name>.json" beside the file has {"label": {"0": "benign", ...}}.
    Raises InputError TRUNCATED, TOO_LARGE, UNSAFE_FILE and what else a faulty .npz has; WRONG_DIMENSION, CHANNELS, BAD_LABEL,
    UNPAIRED, and BAD_MANIFEST for that .json.
    """
    file = _file(path)
    assert file is not None
    arrays = stored(file)
    parts = [p for p in PARTS if f"{p}_images" in arrays]
    labels = {p: _labels(file, p, arrays) for p in parts}
    multilabel = labels["train"].ndim == 2
    values = list(range(labels["train"].shape[1])) if multilabel else sorted({int(v) for own in labels.values() for v in own})
    index = {value: k for k, value in enumerate(values)}
    samples, channels = [], set()
    key = file_key(file)
    for part in parts:
        count, _, colours = _layout(file, f"{part}_images", arrays[f"{part}_images"].shape)
        channels.add(colours)
        digits = max(4, len(str(count - 1)))
        for k, row in enumerate(labels[part]):
            target = tuple(np.flatnonzero(row).tolist()) if multilabel else index[int(row)]
            lazy = ArrayImage(file, f"{part}_images", k, key)
            samples.append(Sample(f"{part}/{k:0{digits}d}", (lazy,), target, split=part))
    if len(channels) > 1:
        raise InputError("CHANNELS", file, found="grey and RGB parts", expected="one kind", fix="save all parts alike")
    names = _names(file)
    return Dataset(
        tuple(samples),
        name_classes((v, names.get(str(v), str(v))) for v in values),
        channels.pop(),
        "classification",
        "medmnist",
        f"{len(samples)} images in {file.name} ({', '.join(f'{len(labels[p])} {p}' for p in parts)})",
        path,
        multilabel=multilabel,
    )


@dataclass(frozen=True)
class ArrayImage:
    """A lazy image at `index` of the array `member` in a .npz; the array is decompressed once per process."""

    path: Path
    member: str
    index: int
    file: str  # file_key of path when the dataset was read

    @property
    def key(self) -> str:
        return f"{self.file}:{self.member}[{self.index}]"

    def __call__(self) -> Image:
        with _LOCK:
            array = _load(self.path, self.member, self.file)
        _, shape, names = _layout(self.path, self.member, array.shape)
        values = array[self.index].reshape(*shape, len(names))
        return Image(
            np.ascontiguousarray(np.moveaxis(values, -1, 0)), Geometry.none(shape), Meta(format="numpy", channels=names)
        )

    def __str__(self) -> str:
        return f"{self.path.name} {self.member}[{self.index}]"


_LOCK = threading.Lock()


@lru_cache(maxsize=6)
def _load(path: Path, member: str, file: str) -> npt.NDArray[Any]:
    """`file`, the file's key, makes a changed file another entry."""
    array = stored(path)[member].load()
    array.setflags(write=False)
    return array


def _file(path: Path) -> Path | None:
    if path.is_dir():
        files = [f for f in path.glob("*.npz") if not f.name.startswith(".")]
        return files[0] if len(files) == 1 else None
    return path if path.suffix == ".npz" else None


def _layout(path: Path, member: str, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...], tuple[str, ...]]:
    """(number, spatial shape, channel names) of (N, H, W), (N, H, W, 1 or 3), (N, D, H, W), (N, D, H, W, 1 or 3)."""
    colour = len(shape) > 3 and shape[-1] in (1, 3)
    spatial = shape[1:-1] if colour else shape[1:]
    if len(spatial) not in (2, 3):
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"{member} of shape {shape}",
            expected="(N, H, W), (N, H, W, 3) or (N, D, H, W)",
            fix="save the images so",
        )
    return shape[0], spatial, RGB if colour and shape[-1] == 3 else ("intensity",)


def _labels(path: Path, part: str, arrays: Mapping[str, Stored]) -> npt.NDArray[np.int64]:
    """(N,) class values, or (N, k) zeros and ones where k > 1."""
    count = arrays[f"{part}_images"].shape[0]
    shape = arrays[f"{part}_labels"].shape if f"{part}_labels" in arrays else ()
    if not shape or shape[0] != count:
        raise InputError(
            "UNPAIRED",
            path,
            found=f"{count} images and {shape[0] if shape else 0} labels in {part}",
            expected="one label for every image",
            fix="download the file again",
        )
    raw = _load(path, f"{part}_labels", file_key(path))
    labels = raw.reshape(count, -1)
    yes_or_no = labels.shape[1] == 1 or np.isin(labels, (0, 1)).all()
    if not yes_or_no or not np.issubdtype(labels.dtype, np.number) or not (labels == np.rint(labels)).all():
        raise InputError(
            "BAD_LABEL",
            path,
            found=f"{part}_labels of shape {shape} with the values {np.unique(labels)[:8].tolist()}",
            expected="whole numbers, one per image, or 0 and 1 for each of several labels",
            fix="mend the labels",
        )
    whole = labels.astype(np.int64)
    return whole[:, 0] if whole.shape[1] == 1 else whole


def _names(path: Path) -> dict[str, str]:
    """Class names from "<name>.json" beside the file, in MedMNIST's own form."""
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        return {}
    try:
        return {str(k): str(v) for k, v in json.loads(sidecar.read_text(encoding="utf-8"))["label"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "BAD_MANIFEST", sidecar, found=repr(error), expected='{"label": {"0": "name", ...}}', fix="mend or remove the file"
        ) from error
