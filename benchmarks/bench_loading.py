"""Loading a batch of patches: where they lie is drawn, their voxels are read and stacked; nothing is augmented.

Usage: python benchmarks/bench_loading.py
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from bench_timing import OURS, Row, Table, alone, by, peer, side_by_side
from scipy import ndimage

from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan, Training
from hounsfield.data.cache import Cache
from hounsfield.data.loader import Loader
from hounsfield.models import unet
from hounsfield.tasks import segmentation

SHAPE = (128, 192, 192)
PATCH = (96, 96, 96)
BATCH = 2
CASES = 4
CLASSES = 3
FOREGROUND = 1 / 3  # of the patches are centred on a class
SECONDS = 25.0

Case = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]  # (1, *SHAPE) each


def case(seed: int) -> Case:
    """Smooth tissue with the noise of a scanner that stores whole numbers, and three blobs."""
    draw = np.random.default_rng(seed)
    coarse = ndimage.zoom(draw.normal(size=[s // 16 for s in SHAPE]), 16, order=1)
    image = np.round(200 * coarse + 20 * draw.normal(size=SHAPE)) / 200
    label = np.digitize(coarse, np.quantile(coarse, (0.8, 0.9, 0.97))).astype(np.uint8)
    return image[None].astype(np.float32), label[None]


def hounsfield(cases: list[Case], folder: Path) -> Callable[[], object]:
    cache = Cache(folder, 2**40)
    entries = {f"case {k}": cache.get(Cache.key(str(k)), f"case {k}", partial(cases.__getitem__, k)) for k in range(len(cases))}
    plan = Plan(
        task="segmentation",
        model="unet",
        ndim=3,
        classes=tuple(Class(value=k, name=f"class {k}") for k in range(1, CLASSES + 1)),
        channels=("CT",),
        grid=Grid(spacing=(1.0, 1.0, 1.0)),
        normalise=(Normalise(scope="case"),),
        patch=PATCH,
        augment=Augment(probability=0.0),  # so that the patch alone is read, without a margin
        training=Training(batch=BATCH, foreground=FOREGROUND),
        inference=Inference(),
        task_options=segmentation.Options(),
        model_options=unet.Options(),
    )
    loader = Loader(entries, plan, (1.0, 1.0, 1.0))
    steps = iter(range(10**9))
    return lambda: loader.raw(next(steps))


def nnunet(cases: list[Case], folder: Path) -> Callable[[], object]:
    """Its dataset class behind its loader, chunks as its preprocessor chooses them."""
    for name in ("raw", "preprocessed", "results"):  # else it says on import that they are not set
        os.environ.setdefault(f"nnUNet_{name}", str(folder))
    stored = peer("nnunetv2.training.dataloading.nnunet_dataset")
    for k, (image, label) in enumerate(cases):
        blocks, chunks = stored.comp_blosc2_params(image.shape, PATCH, image.itemsize)
        blocks_seg, chunks_seg = stored.comp_blosc2_params(label.shape, PATCH, label.itemsize)
        where = {c: np.argwhere(label == c)[::17] for c in range(1, CLASSES + 1)}
        about = {"class_locations": where}
        stored.nnUNetDatasetBlosc2.save_case(
            image, label.astype(np.int8), about, str(folder / f"case{k}"), chunks, blocks, chunks_seg, blocks_seg
        )
    labels = SimpleNamespace(all_labels=list(range(1, CLASSES + 1)), has_ignore_label=False)
    loader = peer("nnunetv2.training.dataloading.data_loader").nnUNetDataLoader(
        stored.nnUNetDatasetBlosc2(str(folder)),
        BATCH,
        PATCH,
        PATCH,
        labels,
        oversample_foreground_percent=FOREGROUND,
        probabilistic_oversampling=True,
    )
    run: Callable[[], object] = loader.generate_train_batch
    return run


def monai(cases: list[Case], folder: Path, kept: str) -> Callable[[], object]:
    """kept: the dataset class, which keeps what is not random; then a random crop."""
    data, transforms = peer("monai.data"), peer("monai.transforms")
    for k, (image, label) in enumerate(cases):
        np.savez(folder / f"{k}.npz", image=image, label=label)

    def read(path: Path) -> dict[str, Any]:
        with np.load(path) as stored:
            return {"image": torch.from_numpy(stored["image"]), "label": torch.from_numpy(stored["label"])}

    indices = {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"}
    steps = [
        transforms.Lambda(read),
        transforms.FgBgToIndicesd(keys="label", fg_postfix="_fg_indices", bg_postfix="_bg_indices"),
        transforms.RandCropByPosNegLabeld(
            keys=["image", "label"], label_key="label", spatial_size=PATCH, pos=FOREGROUND, neg=1 - FOREGROUND, **indices
        ),
    ]
    further = {"cache_dir": folder / "kept"} if kept == "PersistentDataset" else {"progress": False}
    dataset = getattr(data, kept)([folder / f"{k}.npz" for k in range(CASES)], transforms.Compose(steps), **further)
    turns = iter(range(10**9))

    def run() -> object:
        drawn = [dataset[next(turns) % CASES][0] for _ in range(BATCH)]
        return [torch.stack([d[key].as_tensor() for d in drawn]) for key in ("image", "label")]

    return run


RAN = {
    OURS: "`Loader.raw` on entries of `Cache`: float16, blosc2 chunks of 64³, mapped from disk",
    "nnU-Net": "`nnUNetDataLoader` on `nnUNetDatasetBlosc2`: float32, blosc2 chunks of its own choice, mapped from disk",
    "MONAI CacheDataset": "`RandCropByPosNegLabeld` with cached indices on whole cases that stay decoded in memory",
    "MONAI PersistentDataset": "the same on whole cases that are read from disk each time",
}


def measure() -> list[Table]:
    """One table, on one thread: nnU-Net holds its loader to one itself, and ours reads ahead in one."""
    torch.set_num_threads(1)
    cases = [case(k) for k in range(CASES)]
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / name.replace(" ", "_") for name in RAN}
        for folder in folders.values():
            folder.mkdir()
        calls = {
            OURS: hounsfield(cases, folders[OURS]),
            "nnU-Net": nnunet(cases, folders["nnU-Net"]),
            **{f"MONAI {kept}": monai(cases, folders[f"MONAI {kept}"], kept) for kept in ("CacheDataset", "PersistentDataset")},
        }
        timings = side_by_side(calls, SECONDS)
    about = (
        f"Batches of {BATCH} patches of {by(PATCH)} with labels from {CASES} cases of {by(SHAPE)}, a third of them centred on "
        f"a class; one thread, files in the system's file cache."
    )
    return [Table("Loading a batch", about, "one batch", tuple(Row(name, t, RAN[name]) for name, t in timings.items()))]


if __name__ == "__main__":
    alone(measure)
