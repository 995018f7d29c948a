"""Ranking and threshold measures against sklearn and brute force, with ties, weights and missing classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from hounsfield.core.errors import InputError
from hounsfield.metrics import ranking
from hounsfield.metrics.ranking import Outcomes, auroc, average_precision, per_class, undefined

Floats = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def case(seed: int, levels: int) -> tuple[Floats, npt.NDArray[np.bool_], Floats]:
    """Scores on `levels` distinct values (many ties), both classes present, and weights of 3 bootstrap replicates."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    positive = rng.random(n) < 0.4
    positive[:2] = (True, False)
    weights = rng.integers(0, 4, (3, n)).astype(np.float64)
    weights[:, :2] += 1
    return rng.integers(0, levels, n) / levels, positive, weights


@settings(deadline=None, max_examples=60)
@given(seed=seeds, levels=st.sampled_from([1, 3, 10, 10**6]))
def test_binary_measures_agree_with_sklearn_in_ties_and_weights(seed: int, levels: int) -> None:
    scores, positive, weights = case(seed, levels)
    assert auroc(scores, positive) == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    assert average_precision(scores, positive) == pytest.approx(sk.average_precision_score(positive, scores), abs=1e-12)
    for row, area, precision in zip(
        weights, auroc(scores, positive, weights), average_precision(scores, positive, weights), strict=True
    ):
        # Weights mean repeated cases: sklearn gets the repeated cases.
        repeat = row.astype(int)
        y, s = np.repeat(positive, repeat), np.repeat(scores, repeat)
        assert area == pytest.approx(sk.roc_auc_score(y, s), abs=1e-12)
        assert precision == pytest.approx(sk.average_precision_score(y, s), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_auroc_is_the_part_of_pairs_in_order(seed: int) -> None:
    scores, positive, _ = case(seed, 5)
    gaps = scores[positive][:, None] - scores[~positive][None]
    assert auroc(scores, positive) == ((gaps > 0).sum() + (gaps == 0).sum() / 2) / gaps.size
    assert auroc(scores, positive) == pytest.approx(1 - auroc(-scores, positive), abs=1e-12)
    assert auroc(np.exp(3 * scores), positive) == auroc(scores, positive)  # only the order counts
    order = np.random.default_rng(seed).permutation(len(scores))
    assert auroc(scores[order], positive[order]) == auroc(scores, positive)


def test_classes_against_the_rest() -> None:
    rng = np.random.default_rng(5)
    scores = rng.dirichlet(np.ones(4), 60)
    truth = rng.integers(0, 4, 60)
    expected = sk.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert per_class(auroc, scores, truth).mean() == pytest.approx(expected, abs=1e-12)
    several = rng.random((60, 4)) < 0.3
    found = per_class(average_precision, scores, several)
    assert found == pytest.approx(sk.average_precision_score(several, scores, average=None), abs=1e-12)
    weights = rng.integers(0, 3, (7, 60)).astype(np.float64)
    assert per_class(auroc, scores, truth, weights).shape == (7, 4)


def test_an_absent_class_has_no_value_and_says_why() -> None:
    scores = np.array([[0.2, 0.8, 0.0], [0.7, 0.1, 0.2], [0.4, 0.5, 0.1]])
    truth = np.array([1, 0, 0])
    values = per_class(auroc, scores, truth)
    assert values[:2].tolist() == [1.0, 1.0]
    assert np.isnan(values[2])
    assert np.isnan(values.mean())  # never the mean of the others
    assert undefined(truth, ("cyst", "tumour", "scar")) == "no case of scar"
    assert undefined(np.array([1, 1]), ("cyst", "tumour")) == "no case of cyst; every case is tumour"
    assert undefined(np.array([0, 1]), ("cyst", "tumour")) == ""
    assert undefined(np.zeros(0, dtype=np.int64), ("cyst", "tumour")) == "no case"
    assert np.isnan(auroc(np.zeros(0), np.zeros(0, dtype=bool)))
    assert np.isnan(average_precision(np.array([0.3]), np.array([False])))
    # A replicate that drew one class alone has no value, the others keep theirs.
    weights = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    assert np.isnan(auroc(scores[:, 1], truth == 1, weights)).tolist() == [False, True]


@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_decisions_agree_with_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = np.r_[:3, rng.integers(0, 3, 20)], np.r_[:3, rng.integers(0, 3, 20)]
    weights = rng.integers(1, 4, (2, 23)).astype(np.float64)
    matrix = ranking.confusion(predicted, truth, 3, weights)
    for m, w in zip(matrix, weights, strict=True):
        assert (m == sk.confusion_matrix(truth, predicted, sample_weight=w)).all()
        assert ranking.accuracy(m) == pytest.approx(sk.accuracy_score(truth, predicted, sample_weight=w))
        balanced = sk.balanced_accuracy_score(truth, predicted, sample_weight=w)
        assert ranking.balanced_accuracy(m) == pytest.approx(balanced)
    outcomes = Outcomes.one_vs_rest(matrix)
    assert outcomes.f1.shape == (2, 3)
    for row, w in enumerate(weights):
        arguments = {"average": None, "sample_weight": w}
        assert outcomes.f1[row] == pytest.approx(sk.f1_score(truth, predicted, **arguments))
        assert outcomes.sensitivity[row] == pytest.approx(sk.recall_score(truth, predicted, **arguments))
        assert outcomes.precision[row] == pytest.approx(sk.precision_score(truth, predicted, **arguments))
        others = [sk.recall_score(truth != k, predicted != k, sample_weight=w) for k in range(3)]
        assert outcomes.specificity[row] == pytest.approx(others)
        assert outcomes.balanced_accuracy[row] == pytest.approx((outcomes.sensitivity[row] + others) / 2)


def test_decisions_on_several_labels() -> None:
    rng = np.random.default_rng(8)
    truth, predicted = rng.random((30, 3)) < 0.4, rng.random((30, 3)) < 0.4
    outcomes = Outcomes.of(predicted, truth)
    expected = sk.multilabel_confusion_matrix(truth, predicted)
    found = [outcomes.true_negative, outcomes.false_positive, outcomes.false_negative, outcomes.true_positive]
    assert (np.stack(found, -1) == expected.reshape(3, 4)).all()
    assert outcomes.accuracy == pytest.approx((truth == predicted).mean(axis=0))


def test_measures_without_a_denominator_are_nan() -> None:
    outcomes = Outcomes.one_vs_rest(ranking.confusion(np.array([0, 0]), np.array([0, 0]), 2))
    assert np.isnan(outcomes.specificity).tolist() == [True, False]
    assert np.isnan(outcomes.sensitivity).tolist() == [False, True]
    assert np.isnan(outcomes.f1).tolist() == [False, True]
    assert np.isnan(ranking.balanced_accuracy(ranking.confusion(np.array([0, 0]), np.array([0, 0]), 2)))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="1 not finite") as error:
        auroc(np.array([0.1, np.nan]), np.array([True, False]))
    assert error.value.code == "BAD_LABEL"
    with pytest.raises(InputError, match="class index 2") as error:
        ranking.confusion(np.array([0, 1]), np.array([0, 2]), 2)
    assert error.value.code == "BAD_LABEL"
    with pytest.raises(InputError, match="2 cases in each") as error:
        auroc(np.array([0.1, 0.2]), np.array([True, False]), np.ones((4, 3)))
    assert error.value.code == "WRONG_DIMENSION"
    with pytest.raises(InputError) as error:
        ranking.confusion(np.array([0, 1]), np.array([0]), 2)
    assert error.value.code == "WRONG_DIMENSION"
