"""Calibration against sklearn, hand-made bins and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from hounsfield.core.errors import InputError
from hounsfield.metrics.calibration import brier, reliability


def test_brier_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random(50), rng.random(50) < 0.3
    assert brier(p[:, None], y[:, None]).mean() == pytest.approx(sk.brier_score_loss(y, p))
    many, truth = rng.dirichlet(np.ones(3), 50), rng.integers(0, 3, 50)
    assert brier(many, truth[:, None] == np.arange(3)).mean() == pytest.approx(
        sk.brier_score_loss(truth, many, labels=[0, 1, 2], scale_by_half=False)
    )


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), bins=st.integers(1, 20))
def test_bins_agree_with_sklearn_and_a_loop(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(60), rng.random(60) < 0.5
    curve = reliability(confidence, right, bins)
    assert curve.count.sum() == 60
    filled = curve.count > 0
    fraction, mean = calibration_curve(right, confidence, n_bins=bins)
    assert curve.right[filled] == pytest.approx(fraction)
    assert curve.confidence[filled] == pytest.approx(mean)
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert curve.ece == pytest.approx(total)
    assert 0 <= curve.ece <= 1


def test_edges_belong_to_the_lower_bin() -> None:
    curve = reliability(np.array([0.0, 0.5, 0.51, 1.0]), np.array([False, True, True, True]), bins=2)
    assert curve.count.tolist() == [2, 2]
    assert curve.right.tolist() == [0.5, 1.0]
    assert curve.ece == pytest.approx(0.5 * abs(0.25 - 0.5) + 0.5 * abs(0.755 - 1))


def test_nothing_to_bin_has_no_value() -> None:
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, dtype=bool)).ece)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"from -0\.5 to 1\.5") as error:
        brier(np.array([[-0.5, 1.5]]), np.array([[True, False]]))
    assert error.value.code == "BAD_LABEL"
    with pytest.raises(InputError, match=r"probabilities \(2,\), truth \(3,\)") as error:
        reliability(np.ones(2), np.ones(3, dtype=bool))
    assert error.value.code == "WRONG_DIMENSION"
