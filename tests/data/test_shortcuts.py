"""Attributes that tell a class: the statistics against SciPy and scikit-learn, and what is said of planted ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact
from sklearn.metrics import balanced_accuracy_score

from hounsfield.data.shortcuts import balanced_accuracy, cramers_v, permutation_p, shortcuts

TABLES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=6).map(np.array)


@given(TABLES)
def test_v_without_its_correction_is_that_of_the_chi_square(counts: np.ndarray) -> None:
    n, rows = int(counts.sum()), len(counts)
    plain = chi2_contingency(counts, correction=False).statistic / n
    corrected = max(0.0, plain - (rows - 1) / (n - 1))
    least = min(rows - (rows - 1) ** 2 / (n - 1), 2 - 1 / (n - 1)) - 1
    expected = min(1.0, (corrected / least) ** 0.5) if least > 0 else 0.0
    assert cramers_v(counts) == pytest.approx(expected)


def test_v_is_1_of_what_tells_all_and_0_of_what_tells_nothing() -> None:
    assert cramers_v(np.array([[50, 0], [0, 50]])) == pytest.approx(1)
    assert cramers_v(np.array([[25, 25], [25, 25]])) == 0


@given(TABLES)
def test_accuracy_is_that_of_a_rule_that_never_saw_the_case(counts: np.ndarray) -> None:
    truth, told = [], []
    for value, row in enumerate(counts):
        for label in (0, 1):
            without = counts.astype(float).copy()
            without[value, label] -= 1
            shares = without[value] / np.maximum(1, without.sum(axis=0))
            truth += [label] * row[label]
            told += [label if shares[label] > shares[1 - label] else 1 - label] * row[label]
    assert balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(truth, told))


@pytest.mark.parametrize("counts", [[[9, 2], [3, 10]], [[12, 8], [9, 11]], [[20, 3], [15, 12]]])
def test_p_is_the_exact_one(counts: list[list[int]]) -> None:
    # Fisher's test orders tables by probability, here by chi-square: for two values they mostly agree.
    exact = fisher_exact(counts).pvalue
    assert permutation_p(np.array(counts)) == pytest.approx(exact, rel=0.15, abs=0.003)


def labelled(n: int, seed: int = 0) -> tuple[dict[str, list[bool]], list[str]]:
    sick = np.random.default_rng(seed).permutation(np.arange(n) % 2 == 0)
    return {"sick": sick.tolist()}, [f"p{k}" for k in range(n)]


def test_a_site_that_tells_the_class_is_listed_with_its_rule() -> None:
    labels, groups = labelled(60)
    site = ["A" if sick else "B" for sick in labels["sick"]]
    site[0], site[1] = "A", "B"
    (found,) = shortcuts(labels, {"site": site, "noise": (["x", "y", "z"] * 20)}, groups)
    assert (found.attribute, found.label, found.strong, found.units) == ("site", "sick", True, 60)
    assert found.p <= 0.001
    assert found.rule.startswith("A ")
    assert str(found).startswith("site tells sick: A ")


def test_cases_that_were_not_searched_for_a_class_are_not_without_it() -> None:
    """Where one site never looked, the site tells nothing: of the other's cases every second has the class."""
    site = ["A"] * 40 + ["B"] * 40
    groups = [f"p{k}" for k in range(80)]
    has: list[bool | None] = [k % 2 == 0 for k in range(40)]
    (found,) = shortcuts({"sick": [*has, *[False] * 40]}, {"site": site}, groups)
    assert found.attribute == "site"
    assert shortcuts({"sick": [*has, *[None] * 40]}, {"site": site}, groups) == []


def test_chance_is_not_listed() -> None:
    draw = np.random.default_rng(1)
    for seed in range(40):
        labels, groups = labelled(50, seed)
        columns = {f"column {k}": draw.choice(["a", "b", "c", "d"], 50).tolist() for k in range(6)}
        columns["age"] = [str(v) for v in draw.integers(20, 90, 50)]
        assert shortcuts(labels, columns, groups) == []


def test_one_patients_film_proves_nothing() -> None:
    labels = {"sick": [True] * 100 + [False] * 100}
    scanner = ["one"] * 100 + ["two"] * 100
    assert shortcuts(labels, {"scanner": scanner}, ["p"] * 100 + ["q"] * 100) == []
    assert len(shortcuts(labels, {"scanner": scanner}, [str(k) for k in range(200)])) == 1


def test_too_few_cases_say_nothing() -> None:
    labels = {"sick": [True] * 7 + [False] * 7}
    assert shortcuts(labels, {"site": ["A"] * 7 + ["B"] * 7}, [str(k) for k in range(14)]) == []


def test_numbers_are_compared_by_quarters_and_names_of_single_cases_not_at_all() -> None:
    labels, groups = labelled(80)
    dose = [str((2.0 if sick else 1.0) + k / 1000) for k, sick in enumerate(labels["sick"])]
    names = [f"scan {k}" for k in range(80)]
    (found,) = shortcuts(labels, {"dose": dose, "name": names}, groups)
    assert found.attribute == "dose"
    assert " to " in found.rule


def test_a_missing_value_can_tell_too() -> None:
    labels, groups = labelled(60)
    known = ["" if sick else "yes" for sick in labels["sick"]]
    (found,) = shortcuts(labels, {"consent": known}, groups)
    assert "unknown 30 of 30" in found.rule
