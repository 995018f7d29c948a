"""Figures of restored images: against the definitions, in holes alone, and finite where there is no error."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.tasks.parts.fidelity import BLIND, SAME, Metrics, Riddle, measure

TRUTH = np.random.default_rng(0).normal(40, 20, (1, 24, 20)).astype(np.float32)


def test_the_scale_is_the_one_given_or_the_case_s_own() -> None:
    made = TRUTH + 2
    assert measure(TRUTH, made, None, (0.0, 200.0))["psnr"] == pytest.approx(20 * np.log10(200 / 2), abs=1e-4)
    assert measure(TRUTH, made, None, None)["psnr"] == pytest.approx(20 * np.log10(float(np.ptp(TRUTH)) / 2), abs=1e-4)
    assert measure(TRUTH, made, None, None)["mae"] == pytest.approx(2, abs=1e-4)


def test_holes_alone_count() -> None:
    hole = np.zeros((24, 20), dtype=bool)
    hole[4:9, 5:12] = True
    made = TRUTH + np.where(hole, 3.0, 90.0).astype(np.float32)
    assert measure(TRUTH, made, hole, (0.0, 100.0))["mae"] == pytest.approx(3, abs=1e-4)


def test_equal_and_constant_images_have_finite_figures() -> None:
    flat = np.full((1, 8, 8), 7.0, np.float32)
    for truth in (TRUTH, flat):
        found = measure(truth, truth, None, None)
        assert (found["psnr"], found["mae"]) == (SAME, 0)
        assert found["ssim"] == pytest.approx(1)
        assert found["ms_ssim"] == pytest.approx(1)


def test_rows_stand_beside_what_was_given_and_the_best_is_the_closest() -> None:
    riddle = Riddle(TRUTH, TRUTH + 10, None)
    metrics = Metrics(lambda _: riddle, (0.0, 100.0))
    sample = Sample("a", ())
    grid = Geometry.none((24, 20))
    near, far = (metrics.case(sample, Image(TRUTH + d, grid)) for d in (1, 20))
    assert near["gain"] == pytest.approx(20, abs=1e-3)
    assert float(far["gain"]) < 0
    assert metrics.worth(near) > metrics.worth(far)
    figures = metrics.summary([near, far], [None, None])
    assert figures["psnr"].value == pytest.approx((float(near["psnr"]) + float(far["psnr"])) / 2)
    noted = Metrics(lambda _: riddle, None, BLIND).summary([near, far], ["p", "q"])
    assert all(BLIND in interval.note for interval in noted.values())
    assert metrics.curves([near]) == ()
