"""Batches as a pure function of (seed, step): which cases, which windows; threads read ahead."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hounsfield.core.plan import Plan
from hounsfield.data.augment import augment, augment_boxes, generator, margin
from hounsfield.data.cache import Entry
from hounsfield.data.prepare import IGNORE

AHEAD = 4  # batches read before they are asked for


@dataclass(frozen=True)
class Batch:
    """image: float32 (B, C, *patch). target: on the grid uint8 (B, R, *patch) with IGNORE; of boxes float32 (B, M, 2n + 1),
    corners in voxels of the patch and class index, rows below 0 being no box; else as the task encodes it, (B, ...).
    ids: of the samples, in order."""

    image: Tensor
    target: Tensor
    ids: tuple[str, ...]

    def parts(self, count: int) -> list[Batch]:
        """The batch in `count` equal parts, for gradient accumulation."""
        size = len(self.ids) // count
        cuts = [slice(k * size, (k + 1) * size) for k in range(count)]
        return [Batch(self.image[cut], self.target[cut], self.ids[cut]) for cut in cuts]


class Loader:
    """Batches from prepared cases. A step is `plan.training.accumulate` parts of `plan.training.batch` samples each, and this
    is the `rank`-th of `ranks` equal shares of it: `parts` from part `first` on. What a part holds depends on plan, seed and
    step alone, not on the number of shares."""

    def __init__(self, entries: dict[str, Entry], plan: Plan, spacing: Sequence[float], rank: int = 0, ranks: int = 1) -> None:
        self.ids = sorted(entries)
        self.entries = entries
        self.plan = plan
        self.spacing = tuple(spacing)
        self.parts = plan.training.accumulate // ranks
        self.first = rank * self.parts
        largest = [max(e.shape[k] for e in entries.values()) for k in range(plan.ndim)]
        wide = margin(plan.patch, plan.augment)
        whole = plan.grid.size is not None
        first = next(iter(entries.values()))
        self.boxes = not first.dense and first.target(()).ndim == 2
        self.read = tuple(p if whole else max(p, min(w, s)) for p, w, s in zip(plan.patch, wide, largest, strict=True))
        share = plan.training.empty
        self.filled = [] if share is None else [name for name in self.ids if entries[name].points]
        self.empty = [] if share is None else [name for name in self.ids if not entries[name].points]
        self.share_empty = share if self.filled and self.empty else None

    def epochs(self, step: int) -> float:
        """How often each case was seen after `step` steps; where `training.empty` decides, each that holds a box."""
        samples = step * self.plan.training.batch * self.plan.training.accumulate
        return samples / len(self.ids) if self.share_empty is None else samples * (1 - self.share_empty) / len(self.filled)

    @property
    def share(self) -> float:
        """The part of a case that one window holds, on average over the cases."""
        window = math.prod(self.plan.patch)
        return sum(min(1.0, window / math.prod(e.shape)) for e in self.entries.values()) / len(self.entries)

    def names(self, step: int) -> tuple[str, ...]:
        """The cases of all of a step, in order."""
        size = self.plan.training.batch * self.plan.training.accumulate
        return tuple(self._case(step * size + slot) for slot in range(size))

    def raw(self, step: int) -> Batch:
        """This share of a step before augmentation: windows of `self.read`."""
        how = self.plan.training
        start = (step * how.accumulate + self.first) * how.batch
        images, targets, ids = [], [], []
        for number in range(start, start + self.parts * how.batch):
            name = self._case(number)
            image, target = self._window(self.entries[name], np.random.default_rng((self.plan.seed, 1, number)))
            images.append(image)
            targets.append(target)
            ids.append(name)
        # Not torch.stack: a second thread with tensor work of its own makes OpenMP's workers sleep between the operations of
        # the first, and each training step a fifth longer.
        return Batch(torch.from_numpy(np.stack(images)), torch.from_numpy(_stacked(targets, self.boxes)), tuple(ids))

    def finish(self, batch: Batch, step: int, device: torch.device) -> Batch:
        """The raw batch of `step`, moved to `device` and augmented there, each part by draws of its own."""
        image, target = (part.to(device, non_blocking=True) for part in (batch.image, batch.target))
        moved = Batch(image, target, batch.ids)
        done = [self._augmented(part, step, self.first + k) for k, part in enumerate(moved.parts(self.parts))]
        if len(done) == 1:
            return done[0]
        return Batch(torch.cat([part.image for part in done]), torch.cat([part.target for part in done]), batch.ids)

    def _augmented(self, part: Batch, step: int, number: int) -> Batch:
        """Part `number` of a step."""
        draw = generator(part.image.device, self.plan.seed, 2, step * self.plan.training.accumulate + number)
        image, target = part.image, part.target
        if self.boxes:
            image, target = augment_boxes(image, target, self.plan.patch, self.spacing, self.plan.augment, draw)
            return Batch(image, target, part.ids)
        dense = target.ndim == image.ndim
        image, moved = augment(image, target if dense else None, self.plan.patch, self.spacing, self.plan.augment, draw)
        return Batch(image, target if moved is None else moved, part.ids)

    def ahead(self, start: int) -> Generator[Batch, None, None]:
        """Raw batches from step `start` on, without end, read ahead in one thread. Close the iterator to stop it."""
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            pending = [pool.submit(self.raw, start + k) for k in range(AHEAD)]
            step = start + AHEAD
            try:
                while True:
                    yield pending.pop(0).result()
                    pending.append(pool.submit(self.raw, step))
                    step += 1
            finally:
                for future in pending:
                    future.cancel()

    def _case(self, number: int) -> str:
        """The case of a sample: each is seen once an epoch, in another order. Where `training.empty` decides, those without a
        box and those with one take turns by that share, each kind in epochs of its own."""
        ids, place = self.ids, number
        if self.share_empty is not None:
            before, after = int(number * self.share_empty), int((number + 1) * self.share_empty)
            ids, place = (self.empty, before) if after > before else (self.filled, number - before)
        epoch, position = divmod(place, len(ids))
        return ids[_order(self.plan.seed, epoch, len(ids))[position]]

    def _window(self, entry: Entry, draw: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.generic]]:
        """One window of size `read` around a patch that lies inside the case where the case is large enough."""
        centre = [int(draw.integers(0, s)) for s in entry.shape]
        if entry.points and draw.random() < self.plan.training.foreground:
            of_class = entry.points[int(draw.choice(sorted(entry.points)))]
            centre = [int(c) for c in of_class[draw.integers(len(of_class))]]
        start = []
        for c, patch, size, read in zip(centre, self.plan.patch, entry.shape, self.read, strict=True):
            first = int(np.clip(c - patch // 2, 0, size - patch)) if size > patch else (size - patch) // 2
            start.append(first - (read - patch) // 2)
        window = tuple(slice(max(0, a), min(s, a + r)) for a, r, s in zip(start, self.read, entry.shape, strict=True))
        pad = [(0, 0), *((w.start - a, a + r - w.stop) for a, r, w in zip(start, self.read, window, strict=True))]
        image, target = entry.image(window), entry.target(window)
        if self.boxes:
            target = target.copy()
            target[:, :-1] -= np.array([*start, *start], dtype=np.float32)
        if any(before or after for before, after in pad):
            image = np.pad(image, pad, mode="edge")
            target = np.pad(target, pad, constant_values=IGNORE) if entry.dense else target
        return image, target


def _stacked(targets: Sequence[npt.NDArray[Any]], boxes: bool) -> npt.NDArray[Any]:
    """One array; of boxes with as many rows as the sample with most of them has, at least one; a row of class -1 is no box."""
    if not boxes:
        return np.stack(targets)
    out = np.full((len(targets), max(1, *map(len, targets)), targets[0].shape[1]), -1, dtype=np.float32)
    for rows, own in zip(out, targets, strict=True):
        rows[: len(own)] = own
    return out


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.random.default_rng((seed, 0, epoch)).permutation(count))
