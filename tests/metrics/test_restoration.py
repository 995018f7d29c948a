"""Restored images against scikit-image, MONAI and plain reading of the definitions; masks, small shapes and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hounsfield.core.errors import InputError
from hounsfield.metrics import restoration
from hounsfield.metrics.restoration import feature_distance, mae, ms_ssim, psnr, scales, ssim

Floats = npt.NDArray[np.float64]
sk: Any = skimage.metrics

SHAPES = [(1, 40, 33), (3, 24, 31), (1, 16, 19, 14), (2, 13, 12, 15)]


def pair(seed: int, shape: tuple[int, ...], noise: float = 0.1) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    truth = rng.random(shape)
    return truth, truth + rng.normal(0, noise, shape)


def reference(truth: Floats, restored: Floats, peak: float) -> tuple[float, Floats]:
    """SSIM and its map, as scikit-image computes them with the settings of Wang et al."""
    options: Any = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    value, each = sk.structural_similarity(truth, restored, data_range=peak, channel_axis=0, **options)
    return float(value), np.asarray(each)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("peak", [1.0, 4095.0])
def test_agrees_with_scikit_image(shape: tuple[int, ...], peak: float) -> None:
    truth, restored = (peak * image for image in pair(0, shape))
    assert ssim(truth, restored, peak) == pytest.approx(reference(truth, restored, peak)[0], abs=1e-9)
    assert psnr(truth, restored, peak) == pytest.approx(sk.peak_signal_noise_ratio(truth, restored, data_range=peak), abs=1e-9)
    assert mae(truth, restored) == pytest.approx(np.abs(truth - restored).mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_takes_its_own_voxels_of_the_map_those_at_the_border_too(shape: tuple[int, ...]) -> None:
    truth, restored = pair(1, shape)
    mask = np.random.default_rng(2).random(shape) < 0.3
    mask.reshape(shape[0], -1)[:, 0] = True  # a corner
    each = reference(truth, restored, 1.0)[1]
    assert ssim(truth, restored, 1, mask) == pytest.approx(each[mask].mean(), abs=1e-9)
    assert ssim(truth, restored, 1, mask[0].astype(np.uint8)) == pytest.approx(each[:, mask[0]].mean(), abs=1e-9)
    difference = (truth - restored)[mask]
    assert mae(truth, restored, mask) == pytest.approx(np.abs(difference).mean())
    assert psnr(truth, restored, 1, mask) == pytest.approx(-10 * np.log10((difference**2).mean()))


def test_what_is_outside_the_mask_does_not_count() -> None:
    truth = np.random.default_rng(3).random((1, 20, 20))
    restored, hole = truth.copy(), np.zeros((20, 20), dtype=bool)
    hole[5:9, 6:12] = True
    restored[0, hole] += 0.5
    assert psnr(truth, restored, 1, ~hole) == math.inf
    assert mae(truth, restored, hole) == pytest.approx(0.5)
    assert psnr(truth, restored, 1, hole) == pytest.approx(20 * math.log10(2))
    assert psnr(truth, restored, 1) > psnr(truth, restored, 1, hole)


@pytest.mark.parametrize("shape", [(1, 180, 177), (1, 64, 65), (1, 48, 50, 47)])
def test_several_scales_agree_with_monai(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    regression = pytest.importorskip("monai.metrics.regression")
    truth, restored = pair(4, shape, noise=0.3)
    count = scales(shape[1:])
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:count]
    tensors = [torch.from_numpy(image[None].astype(np.float32)) for image in (restored, truth)]
    expected = regression.compute_ms_ssim(*tensors, spatial_dims=len(shape) - 1, weights=tuple(weights / weights.sum()))
    assert ms_ssim(truth, restored, 1) == pytest.approx(float(expected), abs=2e-5)
    assert count == {180: 5, 64: 3, 48: 3}[shape[1]]


def blurred(image: Floats) -> Floats:
    return np.asarray(ndimage.gaussian_filter(image, 1.5, radius=5))


def test_several_scales_in_a_mask_are_its_own_blocks() -> None:
    """The definition, read scale by scale: at each the map is averaged over the blocks that hold a voxel of the mask."""
    truth, restored = pair(13, (1, 46, 45), noise=0.3)
    mask = np.zeros((46, 45), dtype=bool)
    mask[10:19, 20:31] = True
    mask[45, 44] = True  # in the odd last column, which is halved away
    weights = np.array([0.0448, 0.2856, 0.3001])[: scales((46, 45))]
    assert len(weights) == 3
    weights /= weights.sum()
    x, y, where, value = truth[0], restored[0], mask, 1.0
    for scale, weight in enumerate(weights):
        if scale:
            rows, columns = (n // 2 for n in x.shape)
            x, y = (p[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean((1, 3)) for p in (x, y))
            held = np.zeros((rows, columns), dtype=bool)
            for i, j in np.argwhere(where):
                held[min(i // 2, rows - 1), min(j // 2, columns - 1)] = True
            where = held
        mx, my = blurred(x), blurred(y)
        structure = (2 * (blurred(x * y) - mx * my) + 9e-4) / (blurred(x * x) - mx**2 + blurred(y * y) - my**2 + 9e-4)
        luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        each = structure * luminance if scale == 2 else structure
        value *= max(0.0, float(each[where].mean())) ** float(weight)
    assert ms_ssim(truth, restored, 1, mask) == pytest.approx(value, abs=1e-9)
    assert ms_ssim(truth, truth, 1, mask) == pytest.approx(1)
    assert ms_ssim(truth, restored, 1, np.stack([mask])) == pytest.approx(value, abs=1e-9)


def test_of_one_scale_a_mask_is_that_of_ssim() -> None:
    truth, restored = pair(14, (2, 16, 18))
    mask = np.zeros((2, 16, 18), dtype=bool)
    mask[1, 2:6, 3:9] = True
    assert ms_ssim(truth, restored, 1, mask) == pytest.approx(ssim(truth, restored, 1, mask))


def test_the_number_of_scales_is_declared() -> None:
    assert [scales((n, 500)) for n in (1, 11, 21, 22, 43, 44, 88, 175, 176, 4000)] == [1, 1, 1, 2, 2, 3, 4, 4, 5, 5]
    truth, restored = pair(5, (2, 21, 30))
    assert ms_ssim(truth, restored, 1) == pytest.approx(ssim(truth, restored, 1)), "one scale is SSIM"


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), shape=st.lists(st.integers(1, 24), min_size=2, max_size=3).map(tuple))
def test_properties(seed: int, shape: tuple[int, ...]) -> None:
    truth, restored = pair(seed, (2, *shape), noise=0.5)
    figures: list[Callable[[Floats, Floats, float], float]] = [psnr, ssim, ms_ssim, lambda a, b, peak: mae(a, b) / peak]
    for figure, perfect in zip(figures, (math.inf, 1, 1, 0), strict=True):
        value = figure(truth, restored, 1)
        assert math.isfinite(value)
        assert value != pytest.approx(perfect)
        assert figure(truth, truth, 1) == pytest.approx(perfect)
        assert figure(restored, truth, 1) == pytest.approx(value)
        assert figure(300 * truth, 300 * restored, 300) == pytest.approx(value)  # units
        assert figure(truth[::-1], restored[::-1], 1) == pytest.approx(value)  # channels
    assert -1 <= ssim(truth, restored, 1) <= 1
    assert 0 <= ms_ssim(truth, restored, 1) <= 1
    turned = [np.moveaxis(image, 1, -1)[..., ::-1] for image in (truth, restored)]
    assert ssim(turned[0], turned[1], 1) == pytest.approx(ssim(truth, restored, 1))
    order = np.random.default_rng(seed).permutation(truth.size)
    mixed = [image.ravel()[order].reshape(image.shape) for image in (truth, restored)]
    assert psnr(mixed[0], mixed[1], 1) == pytest.approx(psnr(truth, restored, 1))


@pytest.mark.parametrize("shape", [(1, 48, 52), (1, 24, 24, 24)])
def test_more_noise_is_worse_by_every_figure(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    axes = np.meshgrid(*[np.linspace(0, 6, n) for n in shape[1:]], indexing="ij")
    truth = (np.sin(sum(axes)) / 2 + 0.5)[None]
    noise = rng.normal(size=shape)
    steps = [truth + sigma * noise for sigma in (0.01, 0.03, 0.1, 0.3)]
    for figure in (psnr, ssim, ms_ssim):
        values = [figure(truth, restored, 1) for restored in steps]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == len(values)
    distances = [feature_distance([np.concatenate([truth, truth**2])], [np.concatenate([x, x**2])]) for x in steps]
    assert distances == sorted(set(distances))


def test_a_volume_of_one_slice_is_that_slice() -> None:
    truth, restored = pair(7, (1, 30, 28))
    assert ssim(truth[:, None], restored[:, None], 1) == pytest.approx(ssim(truth, restored, 1), abs=1e-12)


def test_thin_volumes_have_a_smaller_window_along_the_thin_axis() -> None:
    truth, restored = pair(8, (1, 4, 16, 16))
    middle = np.array([math.exp(-0.5 * (k / 1.5) ** 2) for k in (-1, 0, 1)])
    window = np.array([math.exp(-0.5 * (k / 1.5) ** 2) for k in range(-5, 6)])
    weights = np.einsum("i,j,k->ijk", middle, window, window)
    weights /= weights.sum()
    each = []
    for d in (1, 2):
        for h in range(5, 11):
            for w in range(5, 11):
                cut = (0, slice(d - 1, d + 2), slice(h - 5, h + 6), slice(w - 5, w + 6))
                x, y = truth[cut], restored[cut]
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
                cov = (weights * (x - mx) * (y - my)).sum()
                luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
                each.append(luminance * (2 * cov + 9e-4) / (vx + vy + 9e-4))
    assert ssim(truth, restored, 1) == pytest.approx(np.mean(each), abs=1e-12)


def test_slabs_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, restored = pair(9, (2, 25, 14, 12))
    mask = np.random.default_rng(10).random(truth.shape) < 0.2

    def figures() -> list[float]:
        masked = [figure(truth, restored, 1, mask) for figure in (ssim, psnr)]
        return [*masked, ssim(truth, restored, 1), ms_ssim(truth, restored, 1)]

    whole = figures()
    monkeypatch.setattr(restoration, "CHUNK", 4 * 14 * 12)
    assert figures() == pytest.approx(whole, abs=1e-12)


def test_opposite_structure_counts_nothing() -> None:
    truth = np.random.default_rng(11).random((1, 64, 64))
    assert ssim(truth, 1 - truth, 1) < 0
    assert ms_ssim(truth, 1 - truth, 1) == 0


def test_whole_numbers_do_not_wrap() -> None:
    truth, restored = np.zeros((1, 12, 12), dtype=np.uint8), np.full((1, 12, 12), 3, dtype=np.uint8)
    assert mae(truth, restored) == mae(restored, truth) == 3
    assert ssim(truth, restored, 255) == pytest.approx(ssim(truth.astype(float), restored.astype(float), 255))


def test_features_are_compared_by_direction() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=(2, 5, 3, 4))
    cosine = (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    assert feature_distance([a], [b]) == pytest.approx((2 - 2 * cosine).mean())
    assert feature_distance([a, 3 * a], [b, 7 * a]) == pytest.approx(feature_distance([a], [b]) / 2), "mean over layers"
    assert feature_distance([a], [-a]) == pytest.approx(4)
    assert feature_distance([a], [b]) == feature_distance([b], [a])
    nothing = np.zeros_like(a)
    assert feature_distance([nothing], [nothing]) == 0
    assert feature_distance([nothing], [a]) == pytest.approx(1)


def test_features_in_a_mask_are_those_of_the_positions_that_hold_it() -> None:
    rng = np.random.default_rng(15)
    fine, coarse = rng.normal(size=(3, 8, 6)), rng.normal(size=(4, 4, 2))
    changed = [fine.copy(), coarse.copy()]
    mask = np.zeros((16, 12), dtype=bool)
    mask[5, 7] = True  # row 2 and column 3 of the fine map, row 1 and column 1 of the coarse one
    changed[0][:, 0, 0], changed[1][:, 3, 0] = 9, -9  # elsewhere
    assert feature_distance([fine, coarse], changed, mask) == 0
    changed[0][:, 2, 3], changed[1][:, 1, 1] = -fine[:, 2, 3], -2 * coarse[:, 1, 1]
    assert feature_distance([fine, coarse], changed, mask) == pytest.approx(4)
    assert feature_distance([fine], [changed[0]], np.ones((8, 6))) == pytest.approx(feature_distance([fine], [changed[0]]))
    whole = np.ones((3, 2), dtype=np.uint8)  # a map finer than the mask: what lies in a voxel counts
    assert feature_distance([fine], [changed[0]], whole) == pytest.approx(feature_distance([fine], [changed[0]]))
    refused(lambda: feature_distance([fine], [fine], np.zeros((8, 6))), "NO_FOREGROUND", "no voxel")
    refused(lambda: feature_distance([fine], [fine], np.ones(8)), "GRID_MISMATCH", r"mask \(8,\), maps \(8, 6\)")


GOOD = np.zeros((1, 12, 12))


@pytest.mark.parametrize("figure", [psnr, ssim, ms_ssim, lambda a, b, peak: mae(a, b)])
def test_other_shapes_and_values_are_refused(figure: Callable[[Floats, Floats, float], float]) -> None:
    refused(lambda: figure(GOOD, np.zeros((1, 1, 12)), 1), "GRID_MISMATCH", r"\(1, 12, 12\) and \(1, 1, 12\)")
    refused(lambda: figure(np.zeros(5), np.zeros(5), 1), "WRONG_DIMENSION", r"\(5,\)")
    refused(lambda: figure(np.zeros((1, 0, 4)), np.zeros((1, 0, 4)), 1), "WRONG_DIMENSION", "at least one voxel")
    bad = GOOD.copy()
    bad[0, 3, 4], bad[0, 5, 5] = np.nan, np.inf
    refused(lambda: figure(GOOD, bad, 1), "NOT_FINITE", "2 NaN or infinite values")


@pytest.mark.parametrize("figure", [psnr, ssim, ms_ssim])
@pytest.mark.parametrize("peak", [0.0, -1.0, math.nan, math.inf])
def test_a_peak_must_be_positive(figure: Callable[[Floats, Floats, float], float], peak: float) -> None:
    refused(lambda: figure(GOOD, GOOD, peak), "BAD_OPTION", "positive number")


@pytest.mark.parametrize("figure", [psnr, ssim, ms_ssim, lambda a, b, peak, where: mae(a, b, where)])
def test_a_mask_must_fit_and_hold_something(figure: Callable[..., float]) -> None:
    refused(lambda: figure(GOOD, GOOD, 1, np.zeros((12, 12))), "NO_FOREGROUND", "no voxel")
    refused(lambda: figure(GOOD, GOOD, 1, np.ones((1, 12))), "GRID_MISMATCH", r"mask \(1, 12\), image \(1, 12, 12\)")


def test_features_of_other_networks_are_refused() -> None:
    refused(lambda: feature_distance([GOOD], []), "WRONG_DIMENSION", "1 and 0 maps")
    refused(lambda: feature_distance([], []), "WRONG_DIMENSION", "at least 1")
    refused(lambda: feature_distance([GOOD], [np.zeros((2, 12, 12))]), "GRID_MISMATCH", r"\(2, 12, 12\)")


def refused(call: Callable[[], float], code: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call()
    assert error.value.code == code
