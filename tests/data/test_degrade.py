"""Degradations: their statistics are those of the physics they name, their shares exact, and the same seed gives the same."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hounsfield.core.errors import InputError
from hounsfield.data.degrade import Holes, Noise, Resolution, add_noise, coarsen, fill, make_holes, refine, strengths

MANY = (4, 1, 200, 200)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_its_deviation_and_no_mean() -> None:
    x = torch.full(MANY, 100.0)
    apart = add_noise(x, Noise(sigma=12.0), seeded()) - x
    assert float(apart.mean()) == pytest.approx(0, abs=0.2)
    assert float(apart.std()) == pytest.approx(12, rel=0.02)


def test_rician_noise_is_rayleigh_where_there_is_no_signal_and_nearly_gaussian_far_above_it() -> None:
    how = Noise(kind="rician", sigma=10.0, zero=-5.0)
    none = add_noise(torch.full(MANY, -5.0), how, seeded()) + 5
    assert float(none.mean()) == pytest.approx(10 * math.sqrt(math.pi / 2), rel=0.02)
    assert float(none.var()) == pytest.approx((2 - math.pi / 2) * 100, rel=0.03)
    far = add_noise(torch.full(MANY, 495.0), how, seeded())
    assert float(far.std()) == pytest.approx(10, rel=0.02)
    assert float(far.mean()) == pytest.approx(-5 + math.hypot(500, 10), abs=0.2)


def test_poisson_noise_has_the_variance_of_counts() -> None:
    how = Noise(kind="poisson", quanta=0.5, zero=10.0)
    for height in (4.0, 90.0):
        found = add_noise(torch.full(MANY, 10 + height), how, seeded())
        assert float(found.mean()) == pytest.approx(10 + height, rel=0.02)
        assert float(found.var()) == pytest.approx(height / 0.5, rel=0.03)
    assert (add_noise(torch.zeros(MANY), how, seeded()) == 10).all()


def test_a_lower_dose_is_noisier_and_most_where_little_comes_through() -> None:
    """To first order the deviation is sqrt(N + electronic²) / (N attenuation) for N quanta that arrive."""
    for dose, value in ((1.0, 0.0), (0.25, 0.0), (0.25, 200.0)):
        how = Noise(kind="low_dose", photons=1e5, dose=dose, attenuation=0.01, electronic=20.0)
        found = add_noise(torch.full(MANY, value), how, seeded())
        arrive = 1e5 * dose * math.exp(-0.01 * value)
        assert float(found.mean()) == pytest.approx(value, abs=0.1)
        assert float(found.std()) == pytest.approx(math.sqrt(arrive + 400) / arrive / 0.01, rel=0.03)
    dark = Noise(kind="low_dose", photons=10, dose=0.1, attenuation=1.0, electronic=50.0)
    assert add_noise(torch.full(MANY, 40.0), dark, seeded()).isfinite().all()


@pytest.mark.parametrize("kind", ["gaussian", "rician", "poisson", "low_dose"])
def test_the_same_seed_gives_the_same_noise(kind: str) -> None:
    how = Noise.parse({"kind": kind}, "test")
    x = torch.rand(2, 3, 8, 9, 7) * 100
    assert torch.equal(add_noise(x, how, seeded(3)), add_noise(x, how, seeded(3)))
    assert not torch.equal(add_noise(x, how, seeded(3)), add_noise(x, how, seeded(4)))


def test_strengths_of_a_range_are_drawn_by_their_ratio() -> None:
    how = Noise.parse({"sigma": [2, 50]}, "test")
    assert (how.limits, how.varies, how.key) == ((2, 50), True, "sigma")
    drawn = strengths(how, 20000, seeded())
    assert 2 <= float(drawn.min()) < 2.01
    assert 49.9 < float(drawn.max()) <= 50
    assert float(drawn.median()) == pytest.approx(10, rel=0.03)
    assert torch.equal(drawn, strengths(how, 20000, seeded()))


def test_of_one_strength_nothing_is_drawn() -> None:
    draw = seeded()
    before = draw.get_state()
    assert strengths(Noise(sigma=7.0), 3, draw).tolist() == [7, 7, 7]
    assert torch.equal(draw.get_state(), before)


@pytest.mark.parametrize("kind", ["gaussian", "rician", "poisson", "low_dose"])
def test_each_sample_has_its_own_strength(kind: str) -> None:
    """As strong as in a batch of one strength; of a range it is drawn first."""
    how = Noise.parse({"kind": kind, "sigma": [2, 50], "quanta": [0.1, 5], "dose": [0.1, 0.9]}, "test")
    x = torch.full((2, 1, 100, 100), 100.0)
    told = torch.tensor([how.limits[0], how.limits[1]])
    both = add_noise(x, how, seeded(1), told)
    for k, strength in enumerate(how.limits):
        one = Noise.parse({"kind": kind, how.key: strength}, "test")
        assert float(both[k].std()) == pytest.approx(float(add_noise(x, one, seeded(2)).std()), rel=0.05)
    draw = seeded(1)
    own = strengths(how, 2, draw)
    assert torch.equal(add_noise(x, how, seeded(1)), add_noise(x, how, draw, own))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"sigma": 0}, r"'sigma' = 0, expected a number above 0, or two of them as \[lowest, highest\]; fix"),
        ({"sigma": [9, 3]}, r"'sigma' = \[9, 3\], expected"),
        ({"sigma": [0, 3]}, r"'sigma' = \[0, 3\]"),
        ({"sigma": [1, 2, 3]}, r"'sigma' = \[1, 2, 3\]"),
        ({"sigma": "much"}, r"'sigma' = 'much'"),
        ({"sigma": [1, math.inf]}, r"'sigma'"),
        ({"quanta": math.nan}, r"'quanta'"),
        ({"dose": [0.1, 1.5]}, r"'dose' = \[0.1, 1.5\], expected a number above 0 and at most 1, or two of them"),
    ],
)
def test_strengths_that_mean_nothing_are_refused(values: dict[str, object], line: str) -> None:
    with pytest.raises(InputError, match=f"BAD_PLAN plan: found {line}"):
        Noise.parse(values, "plan")


def test_plans_keep_one_strength_or_two() -> None:
    """As they were written before there were ranges, too."""
    for sigma in (25.0, (5.0, 50.0)):
        how = Noise.parse({"sigma": sigma}, "test")
        assert how.sigma == sigma
        assert Noise.parse(json.loads(how.model_dump_json()), "plan") == how


@settings(max_examples=25)
@example((12, 20, 16), 0.5851742154905072, 248)  # two voxels are equally near
@given(st.sampled_from([(40, 50), (12, 20, 16)]), st.floats(0.02, 0.9), st.integers(0, 1000))
def test_holes_cover_their_share(shape: tuple[int, ...], share: float, seed: int) -> None:
    strokes = make_holes(3, shape, Holes(share=share), seeded(seed))
    assert strokes.shape == (3, 1, *shape)
    assert strokes.dtype == torch.bool
    assert strokes.flatten(1).sum(1).tolist() == [max(1, round(share * math.prod(shape)))] * 3
    boxes = make_holes(3, shape, Holes(kind="boxes", share=share, count=2), seeded(seed))
    assert torch.equal(boxes, make_holes(3, shape, Holes(kind="boxes", share=share, count=2), seeded(seed)))
    assert boxes.flatten(1).any(1).all()


def test_boxes_are_boxes_apart_from_each_other() -> None:
    how = Holes(kind="boxes", share=0.25, count=3)
    shares = []
    for hole in make_holes(20, (96, 80), how, seeded())[:, 0].numpy():
        labels, count = ndimage.label(hole)
        assert 1 <= count <= 3
        for found in ndimage.find_objects(labels):
            assert hole[found].all()
        shares.append(hole.mean())
    assert np.mean(shares) == pytest.approx(0.25, abs=0.01)


def test_strokes_wind_through_the_image() -> None:
    """Thin for their extent: a ball of the same share would lie twice as deep."""
    hole = make_holes(1, (128, 128), Holes(share=0.2, bend=24), seeded(1))[0, 0].numpy()
    depth = ndimage.distance_transform_edt(hole).max()
    assert depth < 0.5 * math.sqrt(0.2 * 128**2 / math.pi)


def test_coarse_voxels_are_means_and_keep_the_mean() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert coarsen(x, Resolution()).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    assert coarsen(x, Resolution(axes=(1,))).shape == (1, 1, 4, 2)
    noise = torch.randn(2, 1, 16, 12, 8)
    for factor in (2, 4):
        how = Resolution.parse({"factor": factor}, "test")
        small = coarsen(noise, how)
        assert small.shape == (2, 1, 16 // factor, 12 // factor, 8 // factor)
        torch.testing.assert_close(small.mean(), noise.mean())


def test_the_gaussian_profile_has_half_of_its_height_a_coarse_side_apart() -> None:
    how = Resolution(profile="gaussian", factor=4, axes=(1,))
    point = torch.zeros(1, 1, 1, 64)
    heights = []
    for place in range(28, 36):  # around the middle of the coarse voxel 7, which is at 29.5
        point.zero_()[..., place] = 1
        heights.append(float(coarsen(point, how)[0, 0, 0, 7]))
    assert sum(float(coarsen(torch.eye(64)[k].reshape(1, 1, 1, 64), how)[0, 0, 0, 7]) for k in range(64)) == pytest.approx(1)
    assert heights[0] == pytest.approx(heights[3], rel=1e-5)
    # 1.5 and 2.5 voxels from the middle, between which the half lies
    assert heights[3] > 0.5 * heights[1] > heights[4]


@pytest.mark.parametrize("factor", [2, 4])
def test_what_is_coarse_becomes_fine_over_the_same_extent(factor: int) -> None:
    """A parabola of place comes back exactly, but at the border."""
    how = Resolution.parse({"factor": factor}, "test")
    fine_at = (torch.arange(12 * factor) + 0.5) / factor
    coarse_at = torch.arange(12) + 0.5

    def curve(at: torch.Tensor) -> torch.Tensor:
        return 0.3 * at**2 - at + 2

    coarse = curve(coarse_at)[:, None] + curve(coarse_at)[None]
    expected = curve(fine_at)[:, None] + curve(fine_at)[None]
    found = refine(coarse[None, None], how)[0, 0]
    inside = slice(2 * factor, -2 * factor)
    torch.testing.assert_close(found[inside, inside], expected[inside, inside], atol=1e-4, rtol=1e-5)
    flat = torch.full((1, 2, 3, 4, 5), 7.0)
    torch.testing.assert_close(refine(flat, how), torch.full((1, 2, 3 * factor, 4 * factor, 5 * factor), 7.0))


def test_along_one_axis_alone_the_others_stay() -> None:
    how = Resolution(axes=(0,))
    x = torch.randn(1, 1, 8, 5, 7)
    assert coarsen(x, how).shape == (1, 1, 4, 5, 7)
    assert refine(coarsen(x, how), how).shape == x.shape
    torch.testing.assert_close(coarsen(x, how), (x[:, :, ::2] + x[:, :, 1::2]) / 2)


@pytest.mark.parametrize("shape", [(40, 33), (12, 17, 20), (5, 1), (1, 9, 7)])
def test_holes_are_filled_from_what_is_around_them(shape: tuple[int, ...]) -> None:
    ramp = torch.arange(shape[0]).float().reshape(1, 1, -1, *[1] * (len(shape) - 1)).expand(1, 1, *shape) + 3
    hole = make_holes(1, shape, Holes(share=0.3, bend=8), seeded(2))
    spoilt = torch.where(hole, 1e6, ramp)
    found = fill(spoilt, hole)
    assert torch.equal(found[~hole], ramp[~hole]), "what is known changed"
    assert torch.equal(found, fill(ramp, hole)), "what is in a hole was seen"
    assert float(found.min()) >= 3
    assert float(found.max()) <= float(ramp.max())
    torch.testing.assert_close(fill(torch.where(hole, 0.0, 7.0), hole), torch.full((1, 1, *shape), 7.0))


def test_a_fill_follows_the_slope() -> None:
    """Closer to a ramp across a band of six than the mean of what is known is."""
    ramp = torch.arange(64.0).reshape(1, 1, 1, 64).expand(2, 1, 64, 64)
    hole = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    hole[..., 30:36] = True
    found = fill(ramp, hole)
    assert float((found - ramp)[hole].abs().max()) < 3


def test_where_nothing_is_known_a_fill_is_finite() -> None:
    assert fill(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)).isfinite().all()
