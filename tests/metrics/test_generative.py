"""Generated sets against closed forms, scipy and plain loops: distances, neighbourhoods and variety."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from hounsfield.core.errors import InputError
from hounsfield.metrics import bootstrap, generative
from hounsfield.metrics.generative import diversity, frechet, kernel_distance, support
from hounsfield.metrics.restoration import ms_ssim

Floats = npt.NDArray[np.float64]


def sets(seed: int, n: int, m: int, features: int) -> tuple[Floats, Floats]:
    """Two sets of correlated features, the second moved and stretched."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(features, features))
    return rng.normal(size=(n, features)) @ mixing, 1.3 * rng.normal(size=(m, features)) @ mixing.T + 0.5


def white(rng: np.random.Generator, n: int, features: int) -> Floats:
    """Features whose mean is exactly 0 and whose covariance is exactly the identity."""
    x = rng.normal(size=(n, features))
    x -= x.mean(axis=0)
    return np.asarray(x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T)


def fid(a: Floats, b: Floats) -> float:
    return float(frechet(a, b)[0])


def kid(a: Floats, b: Floats) -> float:
    return float(kernel_distance(a, b)[0])


def precision_recall(real: Floats, generated: Floats, k: int = 5) -> tuple[float, float]:
    found = support(real, generated, k)
    return float(found.precise.mean()), float(found.recalled.mean())


def density_coverage(real: Floats, generated: Floats, k: int = 5) -> tuple[float, float]:
    found = support(real, generated, k)
    return float(found.crowd.mean()), float(found.covered.mean())


def kernel(x: Floats, y: Floats) -> float:
    return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)


# Fréchet


def test_frechet_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    one, other, shift = rng.uniform(0.1, 3, 6), rng.uniform(0.1, 3, 6), rng.normal(size=6)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    a, b = white(rng, 50, 6) * one @ turn, (white(rng, 40, 6) * other + shift) @ turn
    assert fid(a, b) == pytest.approx((shift**2).sum() + ((one - other) ** 2).sum())


@pytest.mark.parametrize(("n", "m", "features"), [(80, 60, 12), (13, 200, 12), (40, 50, 1)])
def test_frechet_agrees_with_a_matrix_root(n: int, m: int, features: int) -> None:
    a, b = sets(1, n, m, features)
    of_a, of_b = (np.atleast_2d(np.cov(x.T)) for x in (a, b))
    root = np.real(linalg.sqrtm(of_a @ of_b))
    expected = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(of_a + of_b - 2 * root)
    assert fid(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_features_that_do_not_vary() -> None:
    rng = np.random.default_rng(2)
    a, b = (np.column_stack([white(rng, 30, 3) * scale, np.full((30, 5), 4.0)]) for scale in (1, 3))
    assert fid(a, b) == pytest.approx(3 * (3 - 1) ** 2)
    assert fid(a, a) == pytest.approx(0, abs=1e-12)
    assert fid(a, a + 2) == pytest.approx(8 * 4)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), features=st.integers(1, 8))
def test_properties_of_the_distances(seed: int, features: int) -> None:
    a, b = sets(seed, 20, 25, features)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(features, features)))[0]
    assert fid(a, b) >= 0
    assert fid(a, b) == pytest.approx(fid(b, a))
    assert fid(a, a[rng.permutation(20)]) == pytest.approx(0, abs=1e-9 * (a**2).sum())
    assert fid(a @ turn + 7, b @ turn + 7) == pytest.approx(fid(a, b), rel=1e-6, abs=1e-9)
    mixed_a, mixed_b = a[rng.permutation(20)] @ turn, b[rng.permutation(25)] @ turn
    for figure in (precision_recall, density_coverage):
        assert figure(mixed_a, mixed_b) == pytest.approx(figure(a, b), abs=1e-12)
    assert kid(mixed_a, mixed_b) == pytest.approx(kid(a, b))
    assert kid(a, b) == pytest.approx(kid(b, a))


def test_more_noise_is_farther() -> None:
    rng = np.random.default_rng(3)
    real, other, noise = rng.normal(size=(3, 300, 8))
    for figure in (fid, kid):
        values = [figure(real, other + sigma * noise) for sigma in (0, 0.5, 1, 2)]
        assert values == sorted(set(values))


def test_real_against_real_falls_as_one_over_n_for_frechet_and_is_nothing_for_the_kernel() -> None:
    rng = np.random.default_rng(4)

    def means(n: int) -> tuple[float, float]:
        draws = [(rng.normal(size=(n, 5)), rng.normal(size=(n, 5))) for _ in range(60)]
        kernels = [kid(a, b) for a, b in draws]
        assert abs(np.mean(kernels)) < 3.5 * np.std(kernels) / math.sqrt(60)
        return float(np.mean([fid(a, b) for a, b in draws])), float(np.mean(np.array(kernels) < 0))

    few, many = means(50), means(200)
    assert few[0] / many[0] == pytest.approx(4, rel=0.15)
    assert 0.3 < few[1] < 0.9


# kernel distance


def test_kernel_distance_is_that_of_plain_loops() -> None:
    a, b = sets(5, 7, 7, 3)
    n = 7
    within = [sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1)) for x in (a, b)]
    between = sum(kernel(x, y) for x in a for y in b) / n**2
    assert kid(a, b) == pytest.approx(sum(within) - 2 * between)


def test_weights_count_images_as_often_as_they_say() -> None:
    a, b = sets(7, 12, 15, 3)
    rng = np.random.default_rng(7)
    weights_a, weights_b = rng.integers(0, 4, (5, 12)).astype(float), rng.integers(0, 4, (5, 15)).astype(float)
    distances = frechet(a, b, weights_a, weights_b)
    kernels = kernel_distance(a, b, weights_a, weights_b)
    for row, (w, v) in enumerate(zip(weights_a.astype(int), weights_b.astype(int), strict=True)):
        assert distances[row] == pytest.approx(fid(np.repeat(a, w, axis=0), np.repeat(b, v, axis=0)))
        within = []
        for x, counts in ((a, w), (b, v)):
            pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
            total = sum(counts[i] * counts[j] for i, j in pairs)
            within.append(sum(counts[i] * counts[j] * kernel(x[i], x[j]) for i, j in pairs) / total)
        between = sum(w[i] * v[j] * kernel(a[i], b[j]) for i in range(12) for j in range(15)) / (w.sum() * v.sum())
        assert kernels[row] == pytest.approx(sum(within) - 2 * between)
    alone = np.zeros((1, 12))
    alone[0, 3] = 12
    assert np.isnan(kernel_distance(a, b, alone, np.ones((1, 15))))


def test_intervals_by_patient_hold_the_value_and_tell_sets_apart() -> None:
    rng = np.random.default_rng(8)
    real, alike, other = rng.normal(size=(3, 90, 6))
    other += 1
    patients, names = [f"p{i // 3}" for i in range(90)], [f"generated {i}" for i in range(90)]
    for weighted in (frechet, kernel_distance):
        near, far = (bootstrap.two_samples(partial(weighted, real, x), patients, names, replicates=200) for x in (alike, other))
        for found in (near, far):
            assert found.low < found.value < found.high
            assert (found.n, found.clusters, found.note) == (180, 30, "")
        assert near.high < far.low
        assert near.value == pytest.approx(weighted(real, alike, np.ones((1, 90)), np.ones((1, 90)))[0])


# neighbourhoods


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(6, 15), m=st.integers(6, 15), k=st.integers(1, 5))
def test_neighbourhoods_are_those_of_plain_loops(seed: int, n: int, m: int, k: int) -> None:
    real, generated = sets(seed, n, m, 2)

    def radius(x: Floats, i: int) -> float:
        return sorted(math.dist(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]

    balls = [radius(real, i) for i in range(n)]
    near = [[math.dist(g, real[i]) <= balls[i] for i in range(n)] for g in generated]
    recalled = [any(math.dist(r, generated[j]) <= radius(generated, j) for j in range(m)) for r in real]
    precision, recall = precision_recall(real, generated, k)
    density, coverage = density_coverage(real, generated, k)
    assert precision == pytest.approx(np.mean([any(row) for row in near]))
    assert recall == pytest.approx(np.mean(recalled))
    assert density == pytest.approx(np.sum(near) / (k * m))
    assert coverage == pytest.approx(np.mean([any(row[i] for row in near) for i in range(n)]))
    found = support(real, generated, k)
    assert found.recalled.tolist() == recalled
    assert found.crowd.tolist() == pytest.approx([sum(row) / k for row in near])


def test_blocks_do_not_change_neighbourhoods(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = sets(9, 30, 41, 3)
    whole = precision_recall(real, generated), density_coverage(real, generated)
    monkeypatch.setattr(generative, "CHUNK", 70)
    assert (precision_recall(real, generated), density_coverage(real, generated)) == whole


def test_real_images_in_place_of_generated_ones() -> None:
    rng = np.random.default_rng(10)
    n, k = 100, 5
    draws = [density_coverage(rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), k) for _ in range(40)]
    density, coverage = np.mean(draws, axis=0)
    # Naeem et al. 2020: the chance that none of the k nearest of 2n - 1 others is of the second set.
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert coverage == pytest.approx(expected, abs=0.01)
    assert density == pytest.approx(1, abs=0.05)
    real = rng.normal(size=(n, 4))
    assert precision_recall(real, real[rng.permutation(n)]) == (1, 1)
    assert density_coverage(real, real)[1] == 1


def test_a_collapsed_generator_is_precise_and_covers_little() -> None:
    rng = np.random.default_rng(11)
    real = rng.normal(size=(200, 5)) + 20 * (np.arange(200) % 4)[:, None]
    one_mode = rng.normal(size=(200, 5))
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.9
    assert 0.15 < recall <= 0.25
    assert 0.15 < density_coverage(real, one_mode)[1] <= 0.25
    assert precision_recall(real, one_mode + 1000) == (0, 0)
    assert density_coverage(real, one_mode + 1000) == (0, 0)


# variety


def test_diversity_is_the_mean_over_pairs_of_different_images() -> None:
    images = np.random.default_rng(12).random((3, 1, 16, 16))
    every = [ms_ssim(images[i], images[j], 1) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert diversity(images, pairs=400, limits=(0, 1)) == pytest.approx(np.mean(every), abs=0.1 * float(np.std(every)) + 1e-3)
    assert diversity(images, 5, seed=1) == diversity(images, 5, seed=1) != diversity(images, 5, seed=2)
    assert diversity(images[:1].repeat(4, axis=0), 10) == pytest.approx(1)


def test_diversity_falls_with_variety_and_takes_any_units_and_dimension() -> None:
    rng = np.random.default_rng(13)
    mean, noise = rng.random((1, 1, 14, 15, 12)), rng.normal(size=(6, 1, 14, 15, 12))
    alike, varied = mean + 0.05 * noise, mean + 0.3 * noise
    assert diversity(alike, 20, limits=(-1, 2)) > diversity(varied, 20, limits=(-1, 2)) + 0.05
    hounsfield = 1000 * varied - 700
    assert diversity(hounsfield, 20) == pytest.approx(diversity(varied, 20))


# refusals


def refused(call: Callable[[], object], code: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call()
    assert error.value.code == code


def test_too_few_images_are_refused_and_the_least_number_is_named() -> None:
    many, few = np.random.default_rng(14).normal(size=(2, 40, 16))
    refused(lambda: fid(many, few[:16]), "TOO_FEW", "b: found 16 images, expected at least 17")
    refused(lambda: kid(many[:3], few), "TOO_FEW", "a: found 3 images, expected at least 4")
    refused(lambda: precision_recall(many[:5], few), "TOO_FEW", "real: found 5 images, expected at least 6")
    refused(lambda: density_coverage(many, few[:3], k=3), "TOO_FEW", "generated: found 3 images, expected at least 4")
    refused(lambda: diversity(np.zeros((1, 1, 12, 12))), "TOO_FEW", "at least 2")


def test_features_that_do_not_compare_are_refused() -> None:
    real = np.random.default_rng(15).normal(size=(30, 4))
    figures: list[Callable[..., object]] = [frechet, kernel_distance, support]
    for figure in figures:
        refused(partial(figure, real, real[:, :3]), "WRONG_DIMENSION", r"\(30, 4\).*\(30, 3\)")
        refused(partial(figure, real, real[:, 0]), "WRONG_DIMENSION", r"\(30,\)")
        bad = real.copy()
        bad[2, 1] = math.nan
        refused(partial(figure, real, bad), "NOT_FINITE", "1 NaN")
    refused(lambda: support(real, real, k=0), "BAD_OPTION", "k: found 0")
    refused(lambda: diversity(np.zeros((5, 1, 12, 12))), "BAD_OPTION", "peak: found 0")
