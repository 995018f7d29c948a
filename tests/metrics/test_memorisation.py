"""Copies among generated images are found, however few; fresh, typical and poor images pass."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.core.errors import InputError
from hounsfield.metrics.generative import LEVEL, memorisation

Floats = npt.NDArray[np.float64]


def drawn(rng: np.random.Generator, n: int, features: int) -> Floats:
    """Features like those of images: three kinds, of unequal spread, in fewer dimensions than there are features."""
    kinds = rng.integers(0, 3, n)
    inner = rng.normal(size=(n, features)) * (1 + kinds)[:, None] + 4 * kinds[:, None]
    mixing = np.random.default_rng(features).normal(size=(features, 2 * features))
    return np.tanh(inner @ mixing / 10)


def three(seed: int, train: int, held_out: int, generated: int, features: int) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    return drawn(rng, train, features), drawn(rng, held_out, features), drawn(rng, generated, features)


@pytest.mark.parametrize("features", [1, 3, 10, 40])
@pytest.mark.parametrize(("train", "held_out", "generated"), [(300, 100, 200), (60, 40, 300)])
def test_fresh_images_pass(train: int, held_out: int, generated: int, features: int) -> None:
    found = [memorisation(*three(seed, train, held_out, generated, features)) for seed in range(40)]
    # One in fifty is expected to fail; six or more of forty do so once in five thousand times.
    assert sum(not each.passed for each in found) < 6
    assert np.mean([each.share for each in found]) == pytest.approx(found[0].expected, abs=0.03)
    assert np.mean([each.p for each in found]) == pytest.approx(0.5, abs=0.2)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), features=st.integers(1, 40), copies=st.integers(1, 3))
def test_one_per_cent_of_copies_fail_and_are_named(seed: int, features: int, copies: int) -> None:
    train, held_out, generated = three(seed, 150, 60, 100, features)
    rng = np.random.default_rng(seed)
    at, source = rng.choice(100, copies, replace=False), rng.choice(150, copies, replace=False)
    generated[at] = train[source]
    found = memorisation(train, held_out, generated)
    assert not found.passed
    assert set(at) <= set(found.copies)
    assert {(i, j, 0.0) for i, j in zip(at, source, strict=True)} <= set(found.closest(len(found.copies)))


@pytest.mark.parametrize("features", [3, 10, 40])
def test_near_copies_fail(features: int) -> None:
    train, held_out, generated = three(1, 200, 100, 200, features)
    fresh = memorisation(train, held_out, generated)
    assert fresh.threshold > {3: 0.002, 10: 0.03, 40: 0.2}[features] * np.median(fresh.held_out), "or near copies are not seen"
    step = np.random.default_rng(2).normal(size=(3, train.shape[1]))
    step *= np.array([[0.9], [0.9], [1.1]]) * fresh.threshold / np.linalg.norm(step, axis=1, keepdims=True)
    generated[[5, 17, 30]] = train[[100, 101, 102]] + step
    found = memorisation(train, held_out, generated)
    assert set(found.copies) == {5, 17}
    assert not found.passed
    assert {pair[:2] for pair in found.closest(2)} == {(5, 100), (17, 101)}
    assert found.closest(3)[2][:2] == (30, 102)


def test_images_scattered_about_training_images_fail_though_none_is_a_near_copy() -> None:
    train, held_out, _ = three(3, 200, 100, 20, 10)
    rng = np.random.default_rng(4)
    step = rng.normal(size=(300, train.shape[1]))
    step *= 0.8 * np.median(memorisation(train, held_out, held_out).held_out) / np.linalg.norm(step, axis=1, keepdims=True)
    found = memorisation(train, held_out, train[rng.integers(0, 200, 300)] + step)
    assert not len(found.copies)
    assert found.share > found.expected + 0.1
    assert found.p < LEVEL
    assert not found.passed


def test_typical_and_poor_images_that_copy_nothing_pass() -> None:
    """Both of them would fail, or could hide copies, where distances alone are compared."""
    passed = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        train, held_out, generated = (rng.normal(size=(n, 10)) for n in (200, 100, 200))
        each = [memorisation(train, held_out, x) for x in (0.6 * generated, 1.3 * generated + 0.3)]
        assert np.median(each[0].distances) < np.median(each[0].held_out)
        assert np.median(each[1].distances) > np.median(each[1].held_out)
        passed += [found.passed for found in each]
    assert np.mean(passed) > 0.85


def test_poor_images_do_not_hide_a_copying_model() -> None:
    rng = np.random.default_rng(6)
    train, held_out = rng.normal(size=(200, 20)), rng.normal(size=(100, 20))
    found = memorisation(train, held_out, train[rng.integers(0, 200, 400)] + rng.normal(0, 1.1, (400, 20)))
    assert np.median(found.distances) > np.median(found.held_out)
    assert not found.passed


def test_copies_among_the_held_out_images_do_not_blind_the_test() -> None:
    train, held_out, generated = three(7, 200, 100, 100, 10)
    held_out[:5] = train[:5]
    generated[3] = train[50] + 1e-6
    found = memorisation(train, held_out, generated)
    assert found.copies.tolist() == [3]
    assert found.held_out[:5].tolist() == [0] * 5


def test_the_figures_are_what_they_say() -> None:
    train, held_out, generated = three(8, 40, 25, 30, 4)
    found = memorisation(train, held_out, generated)
    for i, image in enumerate(generated):
        every = [math.dist(image, other) for other in train]
        assert found.distances[i] == pytest.approx(min(every))
        assert found.nearest[i] == int(np.argmin(every))
    assert found.held_out == pytest.approx([min(math.dist(image, other) for other in train) for image in held_out])
    nearer = [min(math.dist(g, t) for t in train) <= min(math.dist(g, h) for h in held_out) for g in generated]
    assert found.share == pytest.approx(np.mean(nearer))
    assert found.expected == pytest.approx(40 / 65)
    assert found.threshold < found.held_out.min()
    distances = [distance for _, _, distance in found.closest(30)]
    assert distances == sorted(found.distances)
    again = memorisation(train, held_out, generated)
    assert (again.p, again.threshold) == (found.p, found.threshold)
    order = np.random.default_rng(9).permutation(30)
    mixed = memorisation(train[::-1], held_out[::-1], generated[order])
    assert mixed.distances.tolist() == found.distances[order].tolist()
    assert mixed.p == pytest.approx(found.p, abs=0.05)


def test_whole_patients_are_exchanged() -> None:
    """Patients whose images are all alike: as images the nearest ones are strong evidence, as patients they are none."""
    rng = np.random.default_rng(10)
    centres = 50 * rng.normal(size=(10, 6))
    train, held_out = (np.repeat(c, 10, axis=0) + rng.normal(size=(50, 6)) for c in (centres[:5], centres[5:]))
    generated = np.repeat(centres[[0, 1, 2, 3, 5]], 8, axis=0) + rng.normal(size=(40, 6))
    images = memorisation(train, held_out, generated)
    names = [f"a{i // 10}" for i in range(50)], [f"b{i // 10}" for i in range(50)]
    patients = memorisation(train, held_out, generated, patients=names)
    assert images.share == patients.share == pytest.approx(0.8)
    assert images.p < LEVEL
    assert patients.p > 0.05
    unknown = memorisation(train, held_out, generated, patients=([None] * 50, [None] * 50))
    assert unknown.p == images.p


def test_features_that_are_all_equal_are_all_copies() -> None:
    same = np.ones((25, 3))
    found = memorisation(same, same, same)
    assert len(found.copies) == 25
    assert not found.passed


def test_what_cannot_be_tested_is_refused() -> None:
    train, held_out, generated = three(11, 30, 30, 30, 3)
    for few in ((train[:19], held_out, generated), (train, held_out[:19], generated), (train, held_out, generated[:19])):
        with pytest.raises(InputError, match="found 19 images, expected at least 20") as error:
            memorisation(*few)
        assert error.value.code == "TOO_FEW"
    with pytest.raises(InputError, match="held_out") as error:
        memorisation(train, held_out[:, :2], generated)
    assert error.value.code == "WRONG_DIMENSION"
    with pytest.raises(InputError, match="1 of the training patients") as error:
        memorisation(train, held_out, generated, patients=(["a", *[None] * 29], ["a", "b", *[None] * 28]))
    assert error.value.code == "PATIENT_LEAK"
