"""Overlap against sklearn, MONAI and brute force; the empty policy; masks; the refusal to broadcast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from hounsfield.core.errors import InputError
from hounsfield.metrics import overlap
from hounsfield.metrics.overlap import Counts, confusion, count_labels, count_regions

Labels = npt.NDArray[np.integer]


def pair(seed: int, shape: tuple[int, ...], values: tuple[int, ...], dtype: type = np.uint8) -> tuple[Labels, Labels]:
    rng = np.random.default_rng(seed)
    return rng.choice(values, shape).astype(dtype), rng.choice(values, shape).astype(dtype)


def brute(prediction: Labels, truth: Labels, value: int) -> tuple[float, float]:
    p = set(map(tuple, np.argwhere(prediction == value).tolist()))
    t = set(map(tuple, np.argwhere(truth == value).tolist()))
    if not p and not t:
        return 1.0, 1.0
    return 2 * len(p & t) / (len(p) + len(t)), len(p & t) / len(p | t)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple),
    values=st.lists(st.integers(-3, 6), min_size=1, max_size=4, unique=True).map(tuple),
    dtype=st.sampled_from([np.int8, np.int16, np.int32, np.int64]),
)
def test_agrees_with_sets_of_voxels(seed: int, shape: tuple[int, ...], values: tuple[int, ...], dtype: type) -> None:
    prediction, truth = pair(seed, shape, (0, *values), dtype)
    counts = count_labels(prediction, truth, values)
    for k, value in enumerate(values):
        dice, iou = brute(prediction, truth, value)
        assert counts.dice[k] == pytest.approx(dice, abs=1e-15)
        assert counts.iou[k] == pytest.approx(iou, abs=1e-15)


def test_confusion_is_that_of_sklearn_whatever_the_type_and_memory_order() -> None:
    values = (7, 300, 2)
    prediction, truth = pair(1, (9, 10, 11), (0, 2, 5, 7, 300), np.int16)
    named = [np.where(np.isin(a, values), a, 0).ravel() for a in (truth, prediction)]
    expected = sk.confusion_matrix(*named, labels=[0, *values])
    for p, t in (
        (prediction, truth),
        (prediction.astype(np.int64), truth.astype(np.uint16)),
        (np.asfortranarray(prediction), truth[::1]),
    ):
        assert (confusion(p, t, values) == expected).all()
    flipped = confusion(prediction[::-1, :, ::-1].transpose(2, 0, 1), truth[::-1, :, ::-1].transpose(2, 0, 1), values)
    assert (flipped == expected).all()


def test_agrees_with_monai_where_monai_has_a_value() -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    prediction, truth = pair(2, (8, 9, 7), (0, 1, 2, 3))
    one_hot = [torch.from_numpy(np.stack([a == v for v in (1, 2, 3)])[None].astype(np.float32)) for a in (prediction, truth)]
    counts = count_labels(prediction, truth, (1, 2, 3))
    assert counts.dice == pytest.approx(monai.compute_dice(*one_hot)[0].numpy(), abs=1e-6)
    assert counts.iou == pytest.approx(monai.compute_iou(*one_hot)[0].numpy(), abs=1e-6)


def test_every_chunking_counts_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction, truth = pair(3, (13, 5, 4), (0, 1, 2))
    valid = pair(4, (13, 5, 4), (0, 1))[0]
    whole = confusion(prediction, truth, (1, 2), valid=valid)
    regions = count_regions(np.stack([prediction == 1]), np.stack([truth == 1]), valid=valid)
    monkeypatch.setattr(overlap, "CHUNK", 20)
    assert (confusion(prediction, truth, (1, 2), valid=valid) == whole).all()
    assert (count_regions(np.stack([prediction == 1]), np.stack([truth == 1]), valid=valid).both == regions.both).all()
    assert whole.sum() == valid.sum()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_properties(seed: int) -> None:
    prediction, truth = pair(seed, (6, 5), (0, 1, 2))
    counts, swapped = count_labels(prediction, truth, (1, 2)), count_labels(truth, prediction, (1, 2))
    assert (counts.dice == swapped.dice).all()  # symmetry
    assert ((counts.dice >= counts.iou) & (counts.iou >= 0) & (counts.dice <= 1)).all()
    assert counts.dice == pytest.approx(2 * counts.iou / (1 + counts.iou))
    order = np.random.default_rng(seed).permutation(30)
    shuffled = count_labels(prediction.ravel()[order].reshape(5, 6), truth.ravel()[order].reshape(5, 6), (2, 1))
    assert (shuffled.dice[::-1] == counts.dice).all()  # neither the voxels' nor the classes' order matters
    assert (count_labels(truth, truth, (1, 2)).dice == 1).all()
    regions = count_regions(*(np.stack([a == 1, a == 2]) for a in (prediction, truth)))
    assert (regions.dice == counts.dice).all()
    assert (regions.voxels == counts.voxels).all()


def test_empty_masks_have_one_policy_and_are_counted() -> None:
    full, empty = np.ones((2, 2), dtype=np.uint8), np.zeros((2, 2), dtype=np.uint8)
    cases = Counts.stack([count_labels(p, t, (1,)) for p, t in ((empty, empty), (full, empty), (empty, full), (full, full))])
    assert cases.dice.ravel().tolist() == [1, 0, 0, 1]
    assert cases.iou.ravel().tolist() == [1, 0, 0, 1]
    assert cases.empty_in_both.ravel().tolist() == [True, False, False, False]
    assert cases.empty_in_truth_only.ravel().tolist() == [False, True, False, False]
    assert cases.empty_in_prediction_only.ravel().tolist() == [False, False, True, False]
    assert cases.total().dice.tolist() == [2 * 4 / 16]


def test_what_is_not_valid_does_not_count() -> None:
    truth = np.array([[1, 1, 255, 0]], dtype=np.uint8)
    prediction = np.array([[1, 0, 1, 1]], dtype=np.uint8)
    assert count_labels(prediction, truth, (1,)).dice.tolist() == [2 / 5]
    assert count_labels(prediction, truth, (1,), ignore=255).dice.tolist() == [2 / 4]
    valid = np.array([[1, 0, 1, 1]], dtype=np.uint8)
    assert count_labels(prediction, truth, (1,), ignore=255, valid=valid).dice.tolist() == [2 / 3]
    channels = count_regions((prediction == 1)[None], (truth == 1)[None], valid=valid)
    assert channels.dice.tolist() == [2 / 4]
    per_channel = count_regions((prediction == 1)[None], (truth == 1)[None], valid=valid[None])
    assert per_channel.dice.tolist() == channels.dice.tolist()


def test_no_valid_voxel_is_no_measurement() -> None:
    mask = np.ones((2, 2), dtype=np.uint8)
    nothing = count_labels(mask, mask, (1,), valid=np.zeros_like(mask))
    assert math.isnan(nothing.dice[0])
    assert not nothing.empty_in_both[0]


def test_shapes_that_would_broadcast_are_refused() -> None:
    prediction, truth = np.ones((4, 5), dtype=np.uint8), np.ones((1, 5), dtype=np.uint8)
    with pytest.raises(InputError, match=r"prediction \(4, 5\), truth \(1, 5\)") as error:
        count_labels(prediction, truth, (1,))
    assert error.value.code == "GRID_MISMATCH"
    with pytest.raises(InputError, match=r"valid \(5,\)") as error:
        count_labels(prediction, prediction, (1,), valid=np.ones(5))
    assert error.value.code == "GRID_MISMATCH"
    with pytest.raises(InputError, match=r"truth \(2, 4, 5\)") as error:
        count_regions(np.ones((1, 4, 5), dtype=bool), np.ones((2, 4, 5), dtype=bool))
    assert error.value.code == "GRID_MISMATCH"


def test_labels_must_be_integers_and_values_distinct() -> None:
    mask = np.ones((2, 2), dtype=np.uint8)
    halves: Any = mask.astype(float)
    channels: Any = mask[None]
    with pytest.raises(InputError, match="labels of float64") as error:
        count_labels(halves, mask, (1,))
    assert error.value.code == "BAD_LABEL"
    with pytest.raises(InputError, match=r"values \[1, 1\]") as error:
        count_labels(mask, mask, (1, 1))
    assert error.value.code == "BAD_LABEL"
    with pytest.raises(InputError, match="channels of uint8") as error:
        count_regions(channels, channels)
    assert error.value.code == "BAD_LABEL"
