"""What is measured on a case, against plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.data.facts import LEVELS, FactStore, block_means, digest, measure, sample_key, standardise

Array = npt.NDArray[Any]
SHEARED = np.array([[0, 0, -2.0, 5], [0, 1.5, 0, 6], [4.0, 0, 0, 7], [0, 0, 0, 1]])


def image(array: Array) -> Image:
    return Image(array, Geometry.none(array.shape[1:]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_every_fact_of_a_case(dtype: type, lazy: Any) -> None:
    draw = np.random.default_rng(0)
    array: Array = draw.integers(0, 200, (2, 5, 6, 7)).astype(dtype)
    array[:, :2] = 0
    array[:, :, :, -1] = 0
    array[:, 3, 3, 3] = 200
    if dtype is np.int16:
        array -= 100
    mask = np.zeros((1, 5, 6, 7), np.uint8)
    mask[0, 2:4, 2:4, 2:4] = 1
    mask[0, 4, 4, 4] = 7
    valid = np.ones((1, 5, 6, 7), np.uint8)
    valid[0, 0] = 0
    sample = Sample("a", (lazy("a", array, SHEARED),), lazy("m", mask, SHEARED), lazy("v", valid, SHEARED))
    facts = measure(sample)
    assert (facts.id, facts.shape, facts.spacing, facts.space) == ("a", (5, 6, 7), (4, 1.5, 2), "patient")
    assert (facts.orientation, facts.dtype, facts.channels, facts.grey) == ("SAL", np.dtype(dtype).name, 2, False)
    assert facts.content == ((2, 5), (0, 6), (0, 6))
    assert facts.voxels == {0: 201, 1: 8, 7: 1}
    assert facts.unknown == 42
    known = valid[0] != 0
    for k, channel in enumerate(array):
        regions = (
            (channel.ravel(), facts.whole[k]),
            (channel[known & (mask[0] != 0)], facts.foreground[k]),
            (channel[known & (mask[0] == 0)], facts.background[k]),
        )
        for values, measured in regions:
            assert measured.voxels == values.size
            assert measured.mean == pytest.approx(values.mean(dtype=np.float64))
            assert measured.std == pytest.approx(values.std(dtype=np.float64))
            np.testing.assert_array_equal(measured.quantiles, np.quantile(values, LEVELS, method="inverted_cdf"))


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16]),
        st.integers(1, 60).map(lambda n: (1, 1, n)),
        elements=st.integers(0, 255),
    )
)
def test_counted_quantiles_are_those_of_ordered_values(array: Array) -> None:
    class One:
        path, key = Path("a"), "a"

        def __call__(self) -> Image:
            return image(array)

    counted = measure(Sample("a", (One(),))).whole[0]
    np.testing.assert_array_equal(counted.quantiles, np.quantile(array, LEVELS, method="inverted_cdf"))
    assert counted.std == pytest.approx(array.std(), abs=1e-9)


def test_ignored_values_are_neither_foreground_nor_background(lazy: Any) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(1, 4, 6)
    mask = np.zeros((1, 4, 6), np.uint8)
    mask[0, 0] = 1
    mask[0, 1] = 255
    sample = Sample("a", (lazy("a", array),), lazy("m", mask))
    facts, plain = measure(sample, ignore=255), measure(sample)
    assert [(r[0].voxels, r[0].mean) for r in (facts.foreground, facts.background)] == [(6, 2.5), (12, 17.5)]
    assert [r[0].voxels for r in (plain.foreground, plain.background)] == [12, 12]
    assert facts.key == sample_key(sample, 255) != plain.key
    full = measure(Sample("a", (lazy("a", array),), lazy("m", np.ones_like(mask))))
    assert full.background == ()
    assert measure(Sample("a", (lazy("a", array),), 1)).background == ()


@pytest.mark.parametrize(("dtype", "scale"), [(np.float16, 60000), (np.float32, 1e30), (np.int32, 2**30)])
def test_spread_is_finite_where_squares_would_not_be(dtype: type, scale: float, lazy: Any) -> None:
    array: Array = (np.random.default_rng(0).uniform(-1, 1, (1, 40, 50)) * scale).astype(dtype)
    (whole,) = measure(Sample("a", (lazy("a", array),))).whole
    assert whole.mean == pytest.approx(array.astype(np.float64).mean())
    assert whole.std == pytest.approx(array.astype(np.float64).std())


@pytest.mark.parametrize("shape", [(1, 1, 40), (1, 1, 1), (1, 30, 1, 20), (1, 1, 1, 1)])
def test_axes_of_one_voxel(shape: tuple[int, ...], lazy: Any) -> None:
    array = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    facts = measure(Sample("a", (lazy("a", array),), lazy("m", np.ones(shape, np.uint8))))
    assert facts.shape == shape[1:]
    assert facts.whole[0].mean == pytest.approx(array.mean())
    assert np.isfinite(np.frombuffer(facts.thumbnail, dtype=np.float32)).all()


def test_channels_on_other_grids_are_measured_on_the_first(lazy: Any) -> None:
    fine = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)
    coarse = np.full((1, 2, 2, 2), 3.0, np.float32)
    affine = Geometry.from_spacing((4, 4, 4), (1, 1, 1)).affine
    wide = Geometry.from_spacing((4, 4, 4), (1, 1, 1)).resize((2, 2, 2)).affine
    mask = (fine > 31).astype(np.uint8)
    facts = measure(Sample("a", (lazy("a", fine, affine), lazy("b", coarse, wide)), lazy("m", mask, affine)))
    assert facts.channels == 2
    assert [f.voxels for f in facts.foreground] == [32, 32]
    assert facts.foreground[0].mean == pytest.approx(47.5)


def test_a_mask_on_another_grid_prints_both(lazy: Any) -> None:
    array = np.ones((1, 4, 4, 4), np.uint8)
    moved = SHEARED.copy()
    moved[0, 3] = 9
    for target, valid, name in ((lazy("m", array, moved), None, "m"), (None, lazy("v", array, moved), "v")):
        with pytest.raises(InputError) as caught:
            measure(Sample("a", (lazy("a", array, SHEARED),), target, valid))
        error = caught.value
        assert (error.code, error.where) == ("GRID_MISMATCH", name)
        assert error.found == f"shape (4, 4, 4), affine {moved.tolist()}"
        assert error.expected == f"the grid of a: shape (4, 4, 4), affine {SHEARED.tolist()}"


def test_digests_tell_content_and_shape_not_storage(noise: Any) -> None:
    grey = noise(1, 6, 8)[None]
    same = (image(grey.astype(np.float32)), image(np.asfortranarray(grey)), image(np.repeat(grey, 3, axis=0)))
    assert {digest(i) for i in same} == {digest(image(grey))}
    changed = grey.copy()
    changed[0, 5, 7] ^= 1
    others = (changed, grey.reshape(1, 8, 6), grey[:, ::-1], np.concatenate([grey, changed]))
    assert len({digest(image(grey)), *(digest(image(o)) for o in others)}) == 5
    zeros = np.zeros((1, 2, 2), np.float32)
    assert digest(image(-zeros)) == digest(image(zeros))


@pytest.mark.parametrize(("shape", "blocks"), [((12, 20), (4, 5)), ((6, 8, 10), (3, 4, 5))])
def test_block_means_of_even_blocks(shape: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random(shape)
    split = array.reshape([n for size, count in zip(shape, blocks, strict=True) for n in (count, size // count)])
    expected = split.mean(axis=tuple(range(1, 2 * len(shape), 2)))
    np.testing.assert_allclose(block_means(array, blocks), expected, rtol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40))
def test_block_means_divide_any_size_and_keep_constants(size: int, count: int) -> None:
    np.testing.assert_allclose(block_means(np.full(size, 3.0), (count,)), np.full(count, 3.0))


def test_standardised_products_are_correlations() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.random((8, 8)), draw.random((8, 8))
    assert float(standardise(one) @ standardise(other)) == pytest.approx(
        np.corrcoef(one.ravel(), other.ravel())[0, 1], abs=1e-6
    )
    assert float(standardise(one) @ standardise(3 * one + 100)) == pytest.approx(1, abs=1e-6)
    for constant in (0.0, 0.1, 4000.0):
        np.testing.assert_array_equal(standardise(np.full((8, 8), constant)), 0)


def test_keys_follow_every_part_of_a_sample(lazy: Any, noise: Any) -> None:
    one, other = lazy("a", noise(0)[None]), lazy("a", noise(1)[None])
    box = Boxes(np.array([[0, 0, 1, 1]]), np.array([0]))
    samples = [
        Sample("a", (one,)),
        Sample("a", (other,)),
        Sample("a", (one, other)),
        Sample("a", (one,), other),
        Sample("a", (one,), None, other),
        Sample("a", (one,), box),
        Sample("a", (one,), Boxes(box.corners, np.array([1]))),
    ]
    assert len({sample_key(s) for s in samples}) == len(samples)
    assert sample_key(Sample("b", (one,), 1)) == sample_key(Sample("a", (one,), 0))


def test_kept_facts_return_and_damage_is_forgotten(tmp_path: Path, lazy: Any, noise: Any) -> None:
    facts = [measure(Sample(f"{k}", (lazy(f"{k}", noise(k)[None]),), lazy("m", noise(k)[None]))) for k in range(3)]
    store = FactStore(tmp_path / "facts", tmp_path)
    assert store.load() == {}
    store.save(facts)
    assert store.load() == {f.key: f for f in facts}
    lines = store.path.read_text().splitlines()
    store.path.write_text("\n".join([lines[0], lines[1][:50], "", lines[2]]))
    assert set(store.load()) == {facts[0].key, facts[2].key}
    assert FactStore(tmp_path / "facts", tmp_path / "other").load() == {}


def test_a_store_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FactStore(tmp_path / "file" / "facts", tmp_path)
    store.save([])
    assert store.load() == {}
