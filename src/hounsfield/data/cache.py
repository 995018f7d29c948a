"""Prepared cases on disk: chunked, compressed, memory-mapped, rebuilt when damaged or stale."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import ResourceError

VERSION = 1  # of the entry's layout; another version is another key
CHUNK = 64  # voxels a side of what is decompressed at once
POINTS = 2000  # foreground positions kept per class, for windows centred on a class


@dataclass(frozen=True)
class Entry:
    """One prepared case. `image(start, shape)` and `target(start, shape)` read a window of (C, *grid) and (R, *grid)."""

    folder: Path

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
        stored: npt.NDArray[np.float16] = _open(self.folder / "image.b2nd")[(slice(None), *window)]
        return stored.astype(np.float32)

    def target(self, window: tuple[slice, ...]) -> npt.NDArray[Any]:
        if not self.dense:
            whole: npt.NDArray[Any] = np.load(self.folder / "target.npy", allow_pickle=False)
            return whole
        values: npt.NDArray[Any] = _open(self.folder / "target.b2nd")[(slice(None), *window)]
        return values

    @cached_property
    def points(self) -> dict[int, npt.NDArray[np.int32]]:
        """Up to POINTS grid indices (N, n) of each class index + 1 that the case holds."""
        if not self.dense:
            return {}
        rows: npt.NDArray[np.int32] = np.load(self.folder / "points.npy", allow_pickle=False)
        return {int(c): rows[rows[:, 0] == c, 1:] for c in np.unique(rows[:, 0])}


Build = Callable[[], tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]


class Cache:
    """Entries below `root`, at most `quota` bytes of them (the least recently used go first).

    Raises ResourceError DISK_FULL before writing what the disk cannot hold.
    """

    def __init__(self, root: Path, quota: int) -> None:
        self.root = root
        self.quota = quota
        self.rebuilt: list[str] = []

    @staticmethod
    def key(*parts: str) -> str:
        return hashlib.sha256("\n".join((str(VERSION), *parts)).encode()).hexdigest()[:32]

    def get(self, key: str, name: str, build: Build) -> Entry:
        """The entry of `key`; built where absent, rebuilt where a file is damaged (and `name` is then in `rebuilt`)."""
        folder = self.root / key
        if folder.exists():
            if _intact(folder):
                os.utime(folder / "entry.json")
                return Entry(folder)
            self.rebuilt.append(name)
            shutil.rmtree(folder, ignore_errors=True)
        image, target = build()
        self._write(folder, image, target)
        return Entry(folder)

    def make_room(self, needed: int) -> None:
        """Evict until `needed` bytes fit under the quota, and check the disk."""
        self.root.mkdir(parents=True, exist_ok=True)
        entries = sorted(
            (e for e in self.root.iterdir() if (e / "entry.json").exists()), key=lambda e: (e / "entry.json").stat().st_mtime
        )
        sizes = {e: sum(f.stat().st_size for f in e.iterdir()) for e in entries}
        total = sum(sizes.values())
        for entry in entries:
            if total + needed <= self.quota:
                break
            # An entry that was used within the hour may belong to a run in progress.
            if time.time() - (entry / "entry.json").stat().st_mtime > 3600:
                total -= sizes[entry]
                shutil.rmtree(entry, ignore_errors=True)
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise ResourceError(
                "DISK_FULL",
                self.root,
                found=f"{free / 2**30:.2f} GiB free",
                expected=f"{needed / 2**30:.2f} GiB for the prepared cases",
                fix="free some space, or set HOUNSFIELD_CACHE to a larger disk",
            )

    def _write(self, folder: Path, image: npt.NDArray[np.float32], target: npt.NDArray[Any]) -> None:
        beside = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        dense = target.ndim == image.ndim
        _save(beside / "image.b2nd", image.astype(np.float16))
        if not dense:
            np.save(beside / "target.npy", target, allow_pickle=False)
        else:
            _save(beside / "target.b2nd", target)
            np.save(beside / "points.npy", _points(target), allow_pickle=False)
        facts = {"schema": VERSION, "shape": image.shape[1:], "dense": dense, "crc": _checksums(beside)}
        (beside / "entry.json").write_text(json.dumps(facts))
        try:
            beside.rename(folder)
        except OSError:  # another process was first, with the same content
            shutil.rmtree(beside, ignore_errors=True)


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


def _open(path: Path) -> Any:
    return blosc2.open(str(path), mode="r", mmap_mode="r")


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    chunks = (array.shape[0], *(min(s, CHUNK) for s in array.shape[1:]))
    cparams = {"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1}
    blosc2.asarray(np.ascontiguousarray(array), urlpath=str(path), mode="w", cparams=cparams, chunks=chunks)


def _points(target: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """(N, 1 + n): class index + 1, then the grid index, evenly thinned to POINTS a class. Regions count as classes."""
    rows = []
    exclusive = len(target) == 1
    for value in np.unique(target[(target > 0) & (target < 255)]) if exclusive else range(1, len(target) + 1):
        where = np.argwhere(target[0] == value) if exclusive else np.argwhere(target[value - 1] == 1)
        where = where[:: max(1, len(where) // POINTS)][:POINTS]
        rows.append(np.concatenate([np.full((len(where), 1), value), where], axis=1))
    width = target.ndim
    return np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, width), dtype=np.int32)


def _checksums(folder: Path) -> dict[str, int]:
    return {f.name: zlib.crc32(f.read_bytes()) for f in sorted(folder.iterdir()) if f.name != "entry.json"}


def _intact(folder: Path) -> bool:
    try:
        facts = json.loads((folder / "entry.json").read_text())
        return bool(facts["crc"] == _checksums(folder))
    except (OSError, ValueError, KeyError):
        return False
