"""Prepared cases on disk: chunked, compressed, memory-mapped, rebuilt when damaged or stale."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import ResourceError
from hounsfield.data.prepare import PARTIAL

VERSION = 2  # of the entry's layout; another version is another key
CHUNK = 64  # voxels a side of what is decompressed at once
POINTS = 2000  # foreground positions kept per class, for windows centred on a class
HELD = 2**27  # bytes of the images and targets of a dataset that stay in memory once read
IN_USE = 3600.0  # seconds after its last use during which an entry may belong to a run in progress


@dataclass
class Entry:
    """One prepared case. `image(window)` reads (C, *window) of (C, *grid); `target(window)` (R, *window), or where the target
    is not dense all of it. hold: bytes up to which an image or a target stays in memory once read."""

    folder: Path
    hold: int = field(default=0, compare=False)
    used: float = field(default_factory=time.time, compare=False)
    held: dict[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "entry.json").read_text()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the model grid."""
        return tuple(self.facts["shape"])

    @property
    def dense(self) -> bool:
        """Whether the target lies on the grid."""
        return bool(self.facts["dense"])

    def image(self, window: tuple[slice, ...]) -> npt.NDArray[np.float32]:
        if time.time() - self.used > IN_USE / 4:  # so that a long training keeps its entries
            _mark_used(self.folder)
            self.used = time.time()
        stored: npt.NDArray[np.float16] = self._read("image.b2nd")[(slice(None), *window)]
        return stored.astype(np.float32)

    def target(self, window: tuple[slice, ...]) -> npt.NDArray[Any]:
        stored = self._read("target.b2nd" if self.dense else "target.npy")
        values: npt.NDArray[Any] = stored[(slice(None), *window)] if self.dense else stored
        return values

    def _read(self, name: str) -> Any:
        """What is sliced like an array; kept in memory where small: opening and decompressing take longer than all else."""
        if name in self.held:
            return self.held[name]
        path = self.folder / name
        stored = (
            blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
            if path.suffix == ".b2nd"
            else np.load(path, allow_pickle=False)
        )
        if np.prod(stored.shape) * stored.dtype.itemsize > self.hold:
            return stored
        self.held[name] = stored[...]
        return self.held[name]

    @cached_property
    def points(self) -> dict[int, npt.NDArray[np.int32]]:
        """Up to POINTS grid indices (N, n) of each class index + 1 that the case holds; of boxes, their middles."""
        if not self.dense:
            rows = self._read("target.npy")
            return _middles(rows, self.shape) if rows.ndim == 2 else {}
        points: npt.NDArray[np.int32] = np.load(self.folder / "points.npy", allow_pickle=False)
        return {int(c): points[points[:, 0] == c, 1:] for c in np.unique(points[:, 0])}


Build = Callable[[], tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]


class Cache:
    """Entries below `root`, at most `quota` bytes of them beyond those in use (the least recently used go first). `rebuilt`
    names what was found damaged."""

    def __init__(self, root: Path, quota: int) -> None:
        self.root = root
        self.quota = quota
        self.rebuilt: list[str] = []

    @staticmethod
    def key(*parts: str) -> str:
        return hashlib.sha256("\n".join((str(VERSION), *parts)).encode()).hexdigest()[:32]

    def get(self, key: str, name: str, build: Build) -> Entry:
        """The entry of `key`; built where absent, rebuilt where a file is damaged (and `name` is then in `rebuilt`).

        Raises ResourceError DISK_FULL, and what `build` raises; neither leaves half an entry.
        """
        folder = self.root / key
        if folder.exists():
            if _intact(folder):
                _mark_used(folder)
                return Entry(folder)
            self.rebuilt.append(name)
            shutil.rmtree(folder, ignore_errors=True)
        image, target = build()
        self._write(folder, image, target)
        return Entry(folder)

    def make_room(self, sizes: Mapping[str, int]) -> None:
        """Evict until the entries that are wanted fit under the quota, and check the disk. sizes: their bytes by key; those
        that are there already are kept.

        Raises ResourceError DISK_FULL before anything is written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for key in sizes:
            if (self.root / key / "entry.json").exists():
                _mark_used(self.root / key)
        needed = sum(size for key, size in sizes.items() if not (self.root / key).exists())
        entries = sorted((_last_used(e), e) for e in self.root.iterdir() if e.is_dir())
        held = {e: sum(f.stat().st_size for f in e.iterdir()) for _, e in entries}
        total = sum(held.values())
        for used, entry in entries:
            # What has a dot was left by a process that was killed.
            if time.time() - used > IN_USE and (entry.name.startswith(".") or total + needed > self.quota):
                total -= held[entry]
                shutil.rmtree(entry, ignore_errors=True)
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise self._full(f"{free / 2**30:.2f} GiB free", f"{needed / 2**30:.2f} GiB for the prepared cases")

    def _write(self, folder: Path, image: npt.NDArray[np.float32], target: npt.NDArray[Any]) -> None:
        """Beside, then renamed."""
        beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        beside.mkdir(parents=True)
        dense = target.ndim == image.ndim
        try:
            _save(beside / "image.b2nd", image.astype(np.float16))
            if not dense:
                np.save(beside / "target.npy", target, allow_pickle=False)
            else:
                _save(beside / "target.b2nd", target)
                np.save(beside / "points.npy", _points(target), allow_pickle=False)
            facts = {"schema": VERSION, "shape": image.shape[1:], "dense": dense, "crc": _checksums(beside)}
            (beside / "entry.json").write_text(json.dumps(facts))
            beside.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._full("no space left", "room for a prepared case") from error
            if not folder.exists():  # else another process was first, with the same content
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _full(self, found: str, expected: str) -> ResourceError:
        fix = "free some space, or set HOUNSFIELD_CACHE to a larger disk"
        return ResourceError("DISK_FULL", self.root, found=found, expected=expected, fix=fix)


def hold_small(entries: Collection[Entry]) -> None:
    """Let these cases, of one dataset, keep what is small in memory once read: HELD bytes of all of them together at most."""
    for entry in entries:
        entry.hold = HELD // (2 * len(entries))


def cache_root() -> Path:
    """$HOUNSFIELD_CACHE, else the user's cache folder."""
    named = os.environ.get("HOUNSFIELD_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hounsfield"


def default_cache() -> Cache:
    """Entries below `cache_root`; quota $HOUNSFIELD_CACHE_GIB, else a quarter of the disk."""
    root = cache_root() / "prepared"
    root.mkdir(parents=True, exist_ok=True)
    gib = os.environ.get("HOUNSFIELD_CACHE_GIB")
    return Cache(root, int(float(gib) * 2**30) if gib else shutil.disk_usage(root).total // 4)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    chunks = (array.shape[0], *(min(s, CHUNK) for s in array.shape[1:]))
    cparams = {"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1}
    blosc2.asarray(np.ascontiguousarray(array), urlpath=str(path), mode="w", cparams=cparams, chunks=chunks)


def _points(target: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """(N, 1 + n): class index + 1, then the grid index, evenly thinned to POINTS a class. Regions count as classes."""
    exclusive = len(target) == 1
    values = np.unique(target[(target > 0) & (target < PARTIAL)]) if exclusive else np.arange(1, len(target) + 1)
    rows = []
    for value in values:
        where = np.flatnonzero(target[0] == value if exclusive else target[value - 1] == 1)
        if len(where) > POINTS:
            where = where[np.linspace(0, len(where) - 1, POINTS).astype(np.int64)]
        index = np.stack(np.unravel_index(where, target.shape[1:]), axis=1)
        rows.append(np.concatenate([np.full((len(where), 1), value), index], axis=1))
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, target.ndim), dtype=np.int32)


def _middles(rows: npt.NDArray[np.float32], shape: tuple[int, ...]) -> dict[int, npt.NDArray[np.int32]]:
    """Of rows (M, 2n + 1), corners and class index, by class index + 1."""
    n = len(shape)
    middle = ((rows[:, :n] + rows[:, n:-1]) / 2).astype(np.int32).clip(0, np.array(shape) - 1)
    label = rows[:, -1]
    return {int(c) + 1: middle[label == c] for c in np.unique(label[label >= 0])}


def _mark_used(folder: Path) -> None:
    with suppress(OSError):  # a read-only cache serves too
        os.utime(folder / "entry.json")


def _last_used(folder: Path) -> float:
    entry = folder / "entry.json"
    return (entry if entry.exists() else folder).stat().st_mtime


def _checksums(folder: Path) -> dict[str, int]:
    return {f.name: zlib.crc32(f.read_bytes()) for f in sorted(folder.iterdir()) if f.name != "entry.json"}


def _intact(folder: Path) -> bool:
    try:
        facts = json.loads((folder / "entry.json").read_text())
        return bool(facts["crc"] == _checksums(folder))
    except (OSError, ValueError, KeyError):
        return False
