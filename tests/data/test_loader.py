"""Batches as a function of seed and step: which cases, which windows, what the reading thread changes (nothing)."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hounsfield.core.plan import Augment, Class, Grid, Normalise, Plan, Training
from hounsfield.data import cache as cache_module
from hounsfield.data.cache import Cache, Entry, hold_small
from hounsfield.data.loader import AHEAD, Batch, Loader
from hounsfield.data.prepare import IGNORE
from hounsfield.models import resnet, unet
from hounsfield.tasks import classification, segmentation

Array = npt.NDArray[Any]
STILL = Augment(probability=0)


def plan(patch: tuple[int, ...], augment: Augment = STILL, seed: int = 0, whole: bool = False, **training: Any) -> Plan:
    return Plan(
        task="classification" if whole else "segmentation",
        model="resnet" if whole else "unet",
        ndim=len(patch),
        classes=(Class(value=1, name="a"), Class(value=2, name="b")),
        channels=("x",),
        grid=Grid(size=patch if whole else None),
        normalise=(Normalise(scope="case"),),
        patch=patch,
        augment=augment,
        training=Training(**{"batch": 2, **training}),
        task_options=classification.Options() if whole else segmentation.Options(),
        model_options=resnet.Options() if whole else unet.Options(),
        seed=seed,
    )


def numbered(shape: tuple[int, ...]) -> Array:
    """Every voxel its own place, exact in 16 bits: (1, *shape)."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)


def entries(folder: Path, cases: dict[str, tuple[Array, Array]]) -> dict[str, Entry]:
    store = Cache(folder, 2**40)
    return {name: store.get(name, name, lambda case=case: case) for name, case in cases.items()}  # type: ignore[misc]


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Entry]:
    """Five cases of 24 x 30 whose targets are class 1 in one place and class 2 in a rare one."""
    target = np.zeros((1, 24, 30), dtype=np.uint8)
    target[0, 4:8, 4:8], target[0, 20, 25] = 1, 2
    return entries(tmp_path, {f"case {k}": (numbered((24, 30)), target) for k in range(5)})


def same(one: Batch, other: Batch) -> bool:
    return one.ids == other.ids and torch.equal(one.image, other.image) and torch.equal(one.target, other.target)


def test_a_batch_depends_on_seed_and_step_alone(small: dict[str, Entry]) -> None:
    how = plan((8, 8), Augment(mirror=(0,), elastic=1))
    one, other = Loader(small, how, (1, 1)), Loader(dict(reversed(small.items())), how, (1, 1))
    device = torch.device("cpu")
    steps = [5, 0, 3, 3, 11]
    first = [one.finish(one.raw(s), s, device) for s in steps]
    again = {s: other.finish(other.raw(s), s, device) for s in sorted(steps)}
    assert all(same(a, again[s]) for a, s in zip(first, steps, strict=True))
    assert not same(one.raw(0), one.raw(1))
    another = Loader(small, plan((8, 8), seed=1), (1, 1))
    assert any(another.raw(s).ids != one.raw(s).ids for s in range(5))


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 1), (3, 1), (2, 2), (7, 1)])
def test_every_case_once_an_epoch_in_another_order(small: dict[str, Entry], batch: int, accumulate: int) -> None:
    loader = Loader(small, plan((8, 8), batch=batch, accumulate=accumulate), (1, 1))
    size = batch * accumulate
    ids = [i for step in range(40) for i in loader.raw(step).ids]
    epochs = [tuple(ids[k : k + 5]) for k in range(0, len(ids) - 5, 5)]
    assert all(sorted(epoch) == sorted(small) for epoch in epochs)
    assert len(set(epochs)) > 10
    assert loader.epochs(5) == size
    assert len(loader.raw(0).ids) == size


def places(loader: Loader, steps: int) -> Array:
    """First index of every window, read off the numbered voxels."""
    first = torch.cat([loader.raw(s).image[:, 0, 0, 0] for s in range(steps)]).numpy()
    return np.stack(np.unravel_index(first.astype(int), (24, 30)), axis=1)


def test_the_share_of_a_window_is_that_of_a_case(tmp_path: Path) -> None:
    shapes = {"large": (16, 20), "small": (4, 6)}
    held = entries(tmp_path, {n: (numbered(s), np.zeros((1, *s), np.uint8)) for n, s in shapes.items()})
    assert Loader(held, plan((8, 8)), (1, 1)).share == pytest.approx((64 / 320 + 1) / 2)


def test_windows_lie_inside_and_everywhere(small: dict[str, Entry]) -> None:
    loader = Loader(small, plan((8, 8), foreground=0.0, batch=10), (1, 1))
    assert loader.read == (8, 8)
    batch = loader.raw(0)
    assert batch.image.shape == (10, 1, 8, 8)
    assert batch.image.dtype == torch.float32
    assert batch.target.dtype == torch.uint8
    assert (batch.target != IGNORE).all()
    for image in batch.image[:, 0].numpy():
        at = np.unravel_index(int(image[0, 0]), (24, 30))
        np.testing.assert_array_equal(image, numbered((24, 30))[0, at[0] : at[0] + 8, at[1] : at[1] + 8])
    found = places(loader, 60)
    assert found.min(axis=0).tolist() == [0, 0]
    assert found.max(axis=0).tolist() == [16, 22]
    assert len(np.unique(found[:, 1])) == 23


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_part_of_the_windows_is_centred_on_a_class_each_as_often(small: dict[str, Entry], share: float) -> None:
    """Centred on (20, 25), the only voxel of class 2, a window of 8 is clipped to begin at (16, 21)."""
    loader = Loader(small, plan((8, 8), foreground=share, batch=20), (1, 1))
    found = places(loader, 50)
    rare = (found == (16, 21)).all(axis=1).mean()
    by_chance = (1 - share) * (8 / 24) / 30
    assert rare == pytest.approx(share / 2 + by_chance, abs=0.06)
    common = ((found >= 0) & (found < 4)).all(axis=1).mean()
    assert common >= share / 2 - 0.06


def test_a_small_case_is_padded_and_what_is_padded_is_unknown(tmp_path: Path) -> None:
    image = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4)
    loader = Loader(entries(tmp_path, {"a": (image, np.ones((1, 3, 4), dtype=np.uint8))}), plan((6, 4), batch=1), (1, 1))
    batch = loader.raw(0)
    known = (batch.target == 1)[0, 0]
    assert set(batch.target.flatten().tolist()) == {1, IGNORE}
    assert known.sum() == 12
    rows = torch.nonzero(known.all(dim=1)).flatten().tolist()
    assert len(rows) == 3
    np.testing.assert_array_equal(batch.image[0, 0, rows].numpy(), image[0])
    np.testing.assert_array_equal(batch.image[0, 0, 0].numpy(), image[0, 0])  # the border repeated
    np.testing.assert_array_equal(batch.image[0, 0, -1].numpy(), image[0, -1])


def test_cases_of_all_sizes_make_one_batch(tmp_path: Path) -> None:
    shapes = {"a": (5, 40, 7), "b": (20, 6, 9), "c": (9, 9, 9)}
    cases = entries(
        tmp_path, {n: (np.ones((1, *s), dtype=np.float32), np.ones((1, *s), dtype=np.uint8)) for n, s in shapes.items()}
    )
    loader = Loader(cases, plan((8, 8, 8), Augment(rotation=(20.0, 0.0, 0.0)), batch=3), (1, 1, 1))
    raw = loader.raw(0)
    assert raw.image.shape == (3, 1, *loader.read)
    assert all(r >= 8 for r in loader.read)
    done = loader.finish(raw, 0, torch.device("cpu"))
    assert done.image.shape == done.target.shape == (3, 1, 8, 8, 8)
    assert done.ids == raw.ids


def test_the_margin_is_read_and_the_patch_stays_in_its_middle(small: dict[str, Entry]) -> None:
    """Without a change drawn, the patch of a window with margin is the window without."""
    turning = plan((8, 8), Augment(rotation=(45.0,), probability=1e-12, scale=0, shift=0, elastic=0))
    wide, narrow = Loader(small, turning, (1, 1)), Loader(small, plan((8, 8)), (1, 1))
    assert wide.read == (12, 12)
    for step in range(8):
        batch = wide.finish(wide.raw(step), step, torch.device("cpu"))
        assert torch.allclose(batch.image, narrow.raw(step).image, atol=1e-2)  # of values up to 720
        assert torch.equal(batch.target, narrow.raw(step).target)


def test_targets_beside_the_grid_come_as_they_are(tmp_path: Path) -> None:
    cases = entries(tmp_path, {f"{k}": (numbered((8, 8)), np.array([k, 1, -1])) for k in range(4)})
    loader = Loader(cases, plan((8, 8), Augment(), whole=True, batch=4), (1, 1))
    batch = loader.finish(loader.raw(0), 0, torch.device("cpu"))
    assert batch.image.shape == (4, 1, 8, 8)
    assert batch.target.dtype == torch.int64
    assert batch.target.tolist() == [[int(i), 1, -1] for i in batch.ids]


def test_parts_are_equal_and_together_the_whole() -> None:
    batch = Batch(torch.arange(6.0).reshape(6, 1), torch.arange(6), tuple("abcdef"))
    parts = batch.parts(3)
    assert [p.ids for p in parts] == [("a", "b"), ("c", "d"), ("e", "f")]
    assert torch.equal(torch.cat([p.image for p in parts]), batch.image)
    assert torch.equal(torch.cat([p.target for p in parts]), batch.target)


def test_reading_ahead_changes_nothing_and_ends_with_its_reader(small: dict[str, Entry]) -> None:
    loader = Loader(small, plan((8, 8)), (1, 1))
    with closing(loader.ahead(3)) as ahead:
        for step, batch in enumerate(islice(ahead, 10), start=3):
            assert same(batch, loader.raw(step))
        assert any(t.name.startswith("loader") for t in threading.enumerate())
    assert not any(t.name.startswith("loader") for t in threading.enumerate())


@pytest.mark.parametrize("room", [2**20, 2 * 5 * 24 * 30 * 2, 2 * 5 * 24 * 30, 0])
def test_what_stays_in_memory_is_bounded_and_changes_no_batch(
    small: dict[str, Entry], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images take two bytes a pixel here, targets one."""
    before = Loader(small, plan((8, 8)), (1, 1)).raw(3)
    monkeypatch.setattr(cache_module, "HELD", room)
    fresh = {name: Entry(entry.folder) for name, entry in small.items()}
    hold_small(fresh.values())
    loader = Loader(fresh, plan((8, 8)), (1, 1))
    assert torch.equal(loader.raw(3).image, before.image)
    for step in range(10):
        loader.raw(step)
    held = [array.nbytes for entry in fresh.values() for array in entry.held.values()]
    assert sum(held) <= room
    assert len(held) == {2**20: 10, 2 * 5 * 24 * 30 * 2: 10, 2 * 5 * 24 * 30: 5, 0: 0}[room]


def test_the_reading_thread_starts_no_team_of_tensor_workers(small: dict[str, Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second OpenMP team lets the workers of the first sleep between operations: each step a fifth longer."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("tensor work in the reading thread")

    for name in ("stack", "cat", "empty", "zeros"):
        monkeypatch.setattr(torch, name, refuse)
    with closing(Loader(small, plan((8, 8)), (1, 1)).ahead(0)) as ahead:
        assert next(ahead).image.shape == (2, 1, 8, 8)


def test_what_fails_in_the_thread_is_told_to_the_reader(small: dict[str, Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(small, plan((8, 8)), (1, 1))
    read: Counter[int] = Counter()
    inner = loader.raw

    def raw(step: int) -> Batch:
        read[step] += 1
        if step == 2:
            raise OSError("disk gone")
        return inner(step)

    monkeypatch.setattr(loader, "raw", raw)
    ahead = loader.ahead(0)
    assert same(next(ahead), inner(0))
    assert same(next(ahead), inner(1))
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
    assert not any(t.name.startswith("loader") for t in threading.enumerate())
    assert max(read) <= 2 + AHEAD


def test_boxes_move_with_their_window_and_pad_the_batch(tmp_path: Path) -> None:
    rows = np.array([[3, 4, 6, 8, 1], [20, 20, 24, 25, 0], [0, 0, 0, 0, -2]], dtype=np.float32)
    cases = {"many": (numbered((24, 30)), rows), "none": (numbered((24, 30)), np.zeros((0, 5), np.float32))}
    held = entries(tmp_path, cases)
    loader = Loader(held, plan((12, 12)), (1, 1))
    assert loader.boxes
    for step in range(8):
        raw = loader.raw(step)
        assert raw.target.shape == (2, 3, 5)
        for image, target, name in zip(raw.image, raw.target, raw.ids, strict=True):
            if name == "none":
                assert (target[:, -1] == -1).all()
                continue
            first = int(image[0, 0, 0])
            corner = np.array([*divmod(first, 30), *divmod(first, 30)])
            np.testing.assert_array_equal(target[:, :-1].numpy() + corner, rows[:, :-1])
            assert target[:, -1].tolist() == [1, 0, -2]
    assert {k: v.tolist() for k, v in held["many"].points.items()} == {1: [[22, 22]], 2: [[4, 6]]}
    assert held["none"].points == {}


@pytest.fixture
def mostly_empty(tmp_path: Path) -> dict[str, Entry]:
    """Three cases with a box and nine without, of which one was not searched for class 0."""
    box, mark = np.array([[3, 4, 6, 8, 1]], np.float32), np.array([[0, 0, 0, 0, -2]], np.float32)
    rows = {**{f"box {k}": box for k in range(3)}, **{f"none {k}": box[:0] for k in range(8)}, "none 8": mark}
    return entries(tmp_path, {name: (numbered((24, 30)), own) for name, own in rows.items()})


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.3, 0.9])
def test_cases_without_a_box_come_in_their_share_and_all_of_a_kind_as_often(
    mostly_empty: dict[str, Entry], share: float
) -> None:
    loader = Loader(mostly_empty, plan((8, 8), batch=4, empty=share), (1, 1))
    steps = 180
    seen = Counter(i for step in range(steps) for i in loader.raw(step).ids)
    kinds = Counter(name.split()[0] for name in seen.elements())
    assert abs(kinds["none"] - share * 4 * steps) <= 1
    for kind, count in (("box", 3), ("none", 9)):
        of_kind = [n for name, n in seen.items() if name.startswith(kind)]
        assert len(of_kind) == (count if kinds[kind] else 0)
        assert max(of_kind, default=0) - min(of_kind, default=0) <= 1
    assert loader.epochs(steps) == pytest.approx(kinds["box"] / 3, abs=0.5)
    orders = {tuple(loader.raw(step).ids) for step in range(steps)}
    assert len(orders) > 10


def test_halves_of_every_step_are_with_and_without_a_box(mostly_empty: dict[str, Entry]) -> None:
    loader = Loader(mostly_empty, plan((8, 8), batch=4, empty=0.5), (1, 1))
    for step in (0, 1, 17):
        assert [name.split()[0] for name in loader.raw(step).ids] == ["box", "none"] * 2
    again = Loader(mostly_empty, plan((8, 8), batch=4, empty=0.5), (1, 1))
    assert all(same(loader.raw(step), again.raw(step)) for step in (3, 0))


@pytest.mark.parametrize("share", [None, 0.5])
def test_where_no_share_decides_or_all_cases_are_alike_every_case_comes_once_an_epoch(
    mostly_empty: dict[str, Entry], small: dict[str, Entry], share: float | None
) -> None:
    """In the order that it always had, so that plans which are there train the same again."""
    kinds = {name: entry for name, entry in mostly_empty.items() if name.startswith("box")}
    for held in ([mostly_empty] if share is None else []) + [small, kinds]:
        loader = Loader(held, plan((8, 8), batch=4, empty=share, seed=3), (1, 1))
        drawn = [i for step in range(9) for i in loader.raw(step).ids]
        ids = sorted(held)
        orders = [np.random.default_rng((3, 0, epoch)).permutation(len(ids)) for epoch in range(13)]
        assert drawn == [ids[k] for order in orders for k in order][:36]


@pytest.mark.parametrize("ranks", [2, 4])
def test_shares_of_a_step_are_the_step_whoever_has_them(small: dict[str, Entry], ranks: int) -> None:
    """Windows and every change of them: four parts by one process, or by several, in order and none twice."""
    how = plan((8, 8), Augment(mirror=(0,), elastic=1), batch=3, accumulate=4)
    device = torch.device("cpu")
    alone = Loader(small, how, (1, 1))
    shares = [Loader(small, how, (1, 1), rank, ranks) for rank in range(ranks)]
    for step in (0, 7):
        whole = alone.finish(alone.raw(step), step, device)
        parts = [share.finish(share.raw(step), step, device) for share in shares]
        assert alone.names(step) == whole.ids == tuple(name for part in parts for name in part.ids)
        assert all(share.names(step) == whole.ids for share in shares)
        assert torch.equal(whole.image, torch.cat([part.image for part in parts]))
        assert torch.equal(whole.target, torch.cat([part.target for part in parts]))
        assert [part.ids for share in parts for part in share.parts(4 // ranks)] == [part.ids for part in whole.parts(4)]
