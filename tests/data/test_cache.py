"""The cache of prepared cases: exact, rebuilt when damaged, bounded, and never half written."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.core.errors import ResourceError
from hounsfield.data import cache as module
from hounsfield.data.cache import POINTS, Cache, Entry, cache_root, default_cache
from hounsfield.data.prepare import IGNORE

Array = npt.NDArray[Any]
Usage = namedtuple("Usage", "total used free")
GIB = 2**30


def case(shape: tuple[int, ...] = (20, 30), seed: int = 0, channels: int = 2) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    image = draw.normal(size=(channels, *shape)).astype(np.float32)
    return image, draw.choice(np.array([0, 1, 2, IGNORE], dtype=np.uint8), size=(1, *shape), p=(0.6, 0.2, 0.1, 0.1))


def cache(folder: Path, quota: int = GIB) -> Cache:
    return Cache(folder / "prepared", quota)


def never() -> tuple[Array, Array]:
    raise AssertionError("built again")


def whole(entry: Entry) -> tuple[slice, ...]:
    return tuple(slice(0, s) for s in entry.shape)


@settings(max_examples=15)
@given(st.data())
def test_every_window_is_what_was_put_in(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """To the precision of 16 bits, and labels exactly; chunks are smaller than some of these cases."""
    shape = tuple(data.draw(st.integers(1, 90)) for _ in range(data.draw(st.sampled_from((2, 3)))))
    image, target = case(shape)
    entry = cache(tmp_path_factory.mktemp("c")).get("k", "a", lambda: (image, target))
    assert (entry.shape, entry.dense) == (shape, True)
    starts = [data.draw(st.integers(0, s - 1)) for s in shape]
    window = tuple(slice(a, data.draw(st.integers(a + 1, s))) for a, s in zip(starts, shape, strict=True))
    for _ in range(2):  # small cases stay in memory
        read = entry.image(window)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, image[(slice(None), *window)].astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(entry.target(window), target[(slice(None), *window)])


@pytest.mark.parametrize("target", [np.array(3), np.array([1, 0, -1])])
def test_a_target_beside_the_grid(tmp_path: Path, target: Array) -> None:
    entry = cache(tmp_path).get("k", "a", lambda: (case()[0], target))
    assert not entry.dense
    assert entry.points == {}
    read = entry.target((slice(0, 3), slice(0, 3)))
    np.testing.assert_array_equal(read, target)
    assert read.dtype == target.dtype


def test_points_lie_on_their_class_and_all_over_it(tmp_path: Path) -> None:
    target = np.zeros((1, 60, 60), dtype=np.uint8)
    target[0, :, :50] = 1  # 3000 voxels: one and a half times as many as are kept
    target[0, 5:10, 55:58] = 2
    target[0, 30:, 55:] = IGNORE
    entry = cache(tmp_path).get("k", "a", lambda: (np.zeros((1, 60, 60), dtype=np.float32), target))
    assert sorted(entry.points) == [1, 2]
    assert len(entry.points[1]) == POINTS
    for value, points in entry.points.items():
        assert (target[0][tuple(points.T)] == value).all()
    assert len(np.unique(entry.points[2], axis=0)) == 15
    assert entry.points[1].mean(axis=0) == pytest.approx((29.5, 24.5), abs=1)


def test_points_of_regions(tmp_path: Path) -> None:
    target = np.zeros((3, 4, 4), dtype=np.uint8)
    target[0, 1, 1], target[2, 1, 1:3], target[1, 3, 3] = 1, 1, IGNORE
    entry = cache(tmp_path).get("k", "a", lambda: (np.zeros((1, 4, 4), dtype=np.float32), target))
    assert {k: v.tolist() for k, v in entry.points.items()} == {1: [[1, 1]], 3: [[1, 1], [1, 2]]}


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    store = cache(tmp_path)
    store.get("k", "a", case)
    assert store.get("k", "a", never).shape == (20, 30)
    assert store.rebuilt == []


def test_the_key_depends_on_every_part_and_where_it_ends() -> None:
    keys = {Cache.key(*parts) for parts in (("a", "b"), ("a", "c"), ("ab",), ("a", "b", ""), ("b", "a"))}
    assert len(keys) == 5
    assert Cache.key("a", "b") == Cache.key("a", "b")


def test_a_file_that_changes_has_another_key(tmp_path: Path) -> None:
    from hounsfield.data.dataset import ImageFile

    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    before = ImageFile(path).key
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert ImageFile(path).key != before


@pytest.mark.parametrize("name", ["image.b2nd", "target.b2nd", "points.npy", "entry.json"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_entry_is_rebuilt_and_named(tmp_path: Path, name: str, harm: str) -> None:
    store = cache(tmp_path)
    image, target = case()
    path = store.get("k", "a", lambda: (image, target)).folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    if harm == "flip":
        path.write_bytes(bytes(data))
    elif harm == "truncate":
        path.write_bytes(bytes(data[: len(data) // 2]))
    else:
        path.unlink()
    entry = store.get("k", "case a", lambda: (image, target))
    assert store.rebuilt == ["case a"]
    np.testing.assert_array_equal(entry.target(whole(entry)), target)
    store.get("k", "case a", never)


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 99 * GIB, GIB))
    store = cache(tmp_path)
    with pytest.raises(
        ResourceError, match=r"^DISK_FULL .*: found 1\.00 GiB free, expected 1\.50 GiB for the prepared cases"
    ) as error:
        store.make_room({"a": GIB, "b": GIB // 2})
    assert error.value.exit_code == 3
    assert list(store.root.iterdir()) == []


def test_what_is_there_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = cache(tmp_path)
    store.get("a", "a", case)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(GIB, GIB, 10))
    store.make_room({"a": GIB, "b": 10})
    with pytest.raises(ResourceError):
        store.make_room({"a": GIB, "b": 11})


def test_a_disk_that_fills_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_save", full)
    store = cache(tmp_path)
    with pytest.raises(ResourceError, match=r"^DISK_FULL .*no space left"):
        store.get("k", "a", case)
    assert list(store.root.iterdir()) == []


def aged(store: Cache, key: str, hours: float) -> None:
    entry = store.get(key, key, case).folder / "entry.json"
    os.utime(entry, (time.time() - hours * 3600,) * 2)


def test_the_least_recently_used_go_first_and_those_in_use_never(tmp_path: Path) -> None:
    store = cache(tmp_path)
    for key, hours in (("old", 50.0), ("older", 90.0), ("wanted", 99.0), ("today", 2.0), ("now", 0.1)):
        aged(store, key, hours)
    size = sum(f.stat().st_size for f in (store.root / "old").iterdir())
    store.quota = 4 * size + 100
    store.make_room({"new": size, "wanted": size})
    assert sorted(e.name for e in store.root.iterdir()) == ["now", "today", "wanted"]
    store.quota = 0
    store.make_room({"new": 1})
    assert sorted(e.name for e in store.root.iterdir()) == ["now", "wanted"]


def test_reading_for_long_keeps_an_entry_in_use(tmp_path: Path) -> None:
    store = cache(tmp_path)
    entry = store.get("k", "a", case)
    os.utime(entry.folder / "entry.json", (0, 0))
    entry.used = time.time() - module.IN_USE
    entry.image((slice(0, 1), slice(0, 1)))
    assert (entry.folder / "entry.json").stat().st_mtime > time.time() - 100


def test_a_kill_between_writing_and_renaming_leaves_no_half_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(self: Path, target: Path) -> None:
        raise Killed

    store = cache(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", kill)
        patched.setattr(shutil, "rmtree", lambda *args, **options: None)  # a killed process tidies nothing
        with pytest.raises(Killed):
            store.get("k", "a", case)
    (left,) = store.root.iterdir()
    assert left.name.startswith(".k.")
    assert store.get("k", "a", case).shape == (20, 30)
    assert store.rebuilt == []
    store.make_room({})
    assert left.exists()  # another process may be at it
    for file in (left, left / "entry.json"):
        os.utime(file, (0, 0))
    store.make_room({})
    assert [e.name for e in store.root.iterdir()] == ["k"]


def test_a_failing_build_leaves_nothing(tmp_path: Path) -> None:
    store = cache(tmp_path)
    store.make_room({})
    with pytest.raises(AssertionError, match="built again"):
        store.get("k", "a", never)
    assert list(store.root.iterdir()) == []


def test_concurrent_builders_of_one_entry(tmp_path: Path) -> None:
    image, target = case((40, 40))

    def slow() -> tuple[Array, Array]:
        time.sleep(0.02)
        return image, target

    with ThreadPoolExecutor(8) as pool:
        entries = list(pool.map(lambda k: cache(tmp_path).get("k", str(k), slow), range(16)))
    for entry in entries:
        np.testing.assert_array_equal(entry.target(whole(entry)), target)
    assert [e.name for e in (tmp_path / "prepared").iterdir()] == ["k"]


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("HOUNSFIELD_CACHE_GIB", "1.5")
    assert default_cache().root == tmp_path / "here" / "prepared"
    assert default_cache().quota == 3 * 2**29
    monkeypatch.delenv("HOUNSFIELD_CACHE_GIB")
    assert default_cache().quota == shutil.disk_usage(tmp_path).total // 4
    monkeypatch.delenv("HOUNSFIELD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "hounsfield"


def test_an_entry_says_its_layout(tmp_path: Path) -> None:
    entry = cache(tmp_path).get("k", "a", case)
    facts = json.loads((entry.folder / "entry.json").read_text())
    assert facts["schema"] == module.VERSION
    assert sorted(facts["crc"]) == ["image.b2nd", "points.npy", "target.b2nd"]
