"""Laws of learning: exact ones are recovered, the line is NumPy's, intervals cover what they say, and nothing is made up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hounsfield.core.errors import InputError
from hounsfield.metrics.laws import Estimate, Law, Noise, compared, fit, fitted

CASES = np.array([12.0, 25.0, 50.0, 100.0, 200.0])


@given(st.floats(1e-3, 10), st.floats(0, 2))
def test_a_law_without_noise_is_recovered(a: float, b: float) -> None:
    law = fit(CASES, Law(a, b)(CASES))
    assert law.a == pytest.approx(a, rel=1e-6)
    assert law.b == pytest.approx(b, abs=1e-6)
    assert law.c == 0


@pytest.mark.parametrize(("a", "b", "c"), [(1.0, 0.5, 0.05), (0.7, 0.35, 0.02), (3.0, 1.2, 0.1), (0.4, 0.8, 0.3)])
def test_a_law_with_a_floor_is_recovered(a: float, b: float, c: float) -> None:
    law = fit(CASES, Law(a, b, c)(CASES), floor=True)
    assert (law.a, law.b, law.c) == pytest.approx((a, b, c), rel=1e-6)


def test_the_line_is_numpys() -> None:
    errors = Law(0.8, 0.4)(CASES) * np.exp(np.random.default_rng(3).normal(0, 0.1, len(CASES)))
    slope, level = np.polyfit(np.log(CASES), np.log(errors), 1)
    law = fit(CASES, errors)
    assert law.b == pytest.approx(-slope)
    assert law.a == pytest.approx(math.exp(level))


def test_errors_that_rise_give_a_level_law_at_their_geometric_mean() -> None:
    law = fit(CASES, [0.1, 0.12, 0.14, 0.16, 0.2])
    assert law.b == 0
    assert law.a == pytest.approx(stats.gmean([0.1, 0.12, 0.14, 0.16, 0.2]))


@settings(max_examples=30)
@given(st.lists(st.floats(1e-4, 1), min_size=5, max_size=5), st.booleans())
def test_no_law_rises_and_its_floor_lies_below_every_error(errors: list[float], floor: bool) -> None:
    law = fit(CASES, errors, floor=floor)
    assert law.a > 0
    assert law.b >= 0
    assert 0 <= law.c <= min(errors) * (1 + 1e-9)
    along = law(np.geomspace(1, 1e6, 50))
    assert (np.diff(along) <= 1e-12).all()


def test_a_floor_fits_no_worse_than_none() -> None:
    errors = Law(1.0, 0.7, 0.1)(CASES) * np.array([1.1, 0.95, 1.02, 0.97, 1.03])
    apart = [float((np.log(fit(CASES, errors, floor=floor)(CASES) / errors) ** 2).sum()) for floor in (False, True)]
    assert apart[1] < apart[0]


def test_intervals_cover_a_further_training_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    true, sd, names = Law(0.9, 0.4), 0.15, np.repeat([15.0, 30.0, 60.0], 2)
    hits = exponents = 0
    studies = 400
    for seed in range(studies):
        errors = true(names) * np.exp(rng.normal(0, sd, len(names)))
        noise = Noise.of({n: errors[names == n].tolist() for n in np.unique(names)})
        found = fitted(names, errors, np.tile(errors, (500, 1)), noise, seed=seed)
        told = found.training(120.0)
        hits += told.low <= float(true(120.0)) * math.exp(rng.normal(0, sd)) <= told.high
        exponents += found.exponent.low <= true.b <= found.exponent.high
    assert 0.92 <= hits / studies <= 0.98
    assert 0.92 <= exponents / studies <= 0.98


def test_what_moves_all_errors_of_the_same_patients_moves_the_law_and_not_its_exponent() -> None:
    errors = Law(0.5, 0.3)(CASES)
    factors = np.exp(np.random.default_rng(1).normal(0, 0.2, 2000))
    found = fitted(CASES, errors, errors * factors[:, None])
    assert found.exponent.low == pytest.approx(0.3)
    assert found.exponent.high == pytest.approx(0.3)
    told = found.training(400.0)
    low, high = np.quantile(factors, [0.025, 0.975])
    assert told.value == pytest.approx(0.5 * 400**-0.3)
    assert (told.low, told.high) == pytest.approx((told.value * low, told.value * high))
    twice = found.ratio(200.0, 2.0)
    assert (twice.value, twice.low, twice.high) == pytest.approx((2**-0.3,) * 3)


def test_a_law_with_a_floor_has_intervals_too() -> None:
    errors = Law(1.0, 0.6, 0.05)(CASES)
    found = fitted(CASES, errors, errors * np.linspace(0.9, 1.1, 41)[:, None], floor=True)
    assert found.exponent.low == pytest.approx(0.6, rel=1e-4)
    assert found.training(400.0).high == pytest.approx(float(Law(1.0, 0.6, 0.05)(400.0)) * 1.095, rel=1e-3)
    assert found.ratio(200.0, 1000.0).value == pytest.approx(float(found.law(200_000.0) / found.law(200.0)))


def test_the_drawn_curve_is_that_of_single_trainings() -> None:
    errors = Law(0.5, 0.3)(CASES)
    found = fitted(CASES, errors, errors * np.linspace(0.8, 1.2, 101)[:, None], Noise(0.1, 3))
    value, low, high = found.curve(np.array([50.0, 400.0]))
    told = found.training(400.0)
    assert (value[1], low[1], high[1]) == (told.value, told.low, told.high)


@pytest.mark.parametrize(("wrong", "known"), [(0, True), (9, True), (11, False), (100, False)])
def test_replicates_without_an_error_above_0_are_left_out_up_to_a_tenth(wrong: int, known: bool) -> None:
    errors = Law(0.5, 0.3)(CASES)
    draws = np.tile(errors, (100, 1))
    draws[:wrong, 2] = [0.0, math.nan][wrong % 2]
    found = fitted(CASES, errors, draws)
    assert found.exponent.known is known
    assert found.training(400.0).known is known
    assert found.training(400.0).value == pytest.approx(0.5 * 400**-0.3)


def test_without_replicates_there_is_a_law_and_no_interval() -> None:
    found = fitted(CASES, Law(0.5, 0.3)(CASES), np.zeros((0, 5)), Noise(0.1, 3))
    assert found.exponent.text() == "0.3"
    assert found.exponent.to_json() == {"value": pytest.approx(0.3), "low": None, "high": None}


def test_noise_is_what_trainings_that_should_be_alike_differ_by() -> None:
    noise = Noise.of({"half": [0.2, 0.2 * math.e], "quarter": [0.3, 0.3], "whole": [0.1]})
    assert noise is not None
    assert noise.sd == pytest.approx(math.sqrt(0.5 / 2))
    assert noise.freedom == 2
    assert Noise.of({"half": [0.2], "whole": [0.1]}) is None


def test_few_repeats_give_students_distribution() -> None:
    rng = np.random.default_rng(0)
    deviations = Noise(2.0, 3).spreads(200_000, rng) * rng.standard_normal(200_000)
    assert np.quantile(deviations, 0.975) == pytest.approx(2 * stats.t.ppf(0.975, 3), rel=0.02)


def test_two_trainings_are_compared_on_the_same_patients() -> None:
    draws = np.exp(np.random.default_rng(0).normal(-2, 0.5, 2000))
    told = compared((0.2, 1.5 * draws), (0.1, draws), None)
    assert (told.value, told.low, told.high) == pytest.approx((2, 1.5, 1.5))
    unsure = compared((0.2, 1.5 * draws), (0.1, draws), Noise(0.3, 3))
    assert unsure.low < 1 < unsure.high
    assert not compared((0.2, np.zeros(9)), (0.0, np.zeros(9)), None).known


def test_three_digits_count() -> None:
    assert Estimate(0.12345, 0.1, 0.20004).text() == "0.123 [0.1, 0.2]"
    assert Estimate(0.00012345).text() == "0.000123"


@pytest.mark.parametrize(
    ("cases", "errors", "floor", "words"),
    [
        ([10], [0.1], False, r"TOO_FEW law: found 1 numbers of cases, expected at least 2"),
        ([10, 10], [0.1, 0.2], False, r"TOO_FEW law: found 1 numbers"),
        ([10, 20], [0.1, 0.2], True, r"TOO_FEW law: found 2 numbers of cases, expected at least 3"),
        ([10, 20], [0.1, 0.0], False, r"VALUE_RANGE law: found errors from 0 to 0.1, expected errors above 0"),
        ([10, 20], [0.1, math.nan], False, r"VALUE_RANGE"),
    ],
)
def test_what_is_no_law_is_refused(cases: list[float], errors: list[float], floor: bool, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(cases, errors, floor=floor)
