"""Detection figures against pycocotools and closed forms."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.metrics.detection import MOST, Found, average_precision, froc, iou, match, sensitivity, threshold_at

Array = npt.NDArray[Any]
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def random_boxes(draw: np.random.Generator, count: int, ndim: int = 2) -> Array:
    low = draw.integers(0, 40, (count, ndim))
    return np.concatenate([low, low + draw.integers(1, 25, (count, ndim))], axis=1).astype(float)


def found_by(truths: list[Array], boxes: list[Array], scores: list[Array], threshold: float) -> Found:
    each = []
    for t, b, s in zip(truths, boxes, scores, strict=True):
        order = np.argsort(-s, kind="mergesort")[:MOST]
        each.append((s[order], match(iou(b[order], t), threshold) >= 0, len(t)))
    return Found.of(each)


def coco(truths: list[Array], boxes: list[Array], scores: list[Array]) -> tuple[float, float]:
    """mAP over 0.5 to 0.95, and at 0.5, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(which: list[Array]) -> list[dict[str, Any]]:
        return [
            {"image_id": k, "category_id": 1, "bbox": [b[1], b[0], b[3] - b[1], b[2] - b[0]], "area": 1.0, "iscrowd": 0}
            for k, own in enumerate(which, start=1)
            for b in own.tolist()
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": k + 1} for k in range(len(truths))],
            "categories": [{"id": 1}],
            "annotations": [{**row, "id": n + 1} for n, row in enumerate(rows(truths))],
        }
        truth.createIndex()
        detections = [{**row, "score": float(s)} for row, s in zip(rows(boxes), np.concatenate(scores), strict=True)]
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    return float(precision.mean()), float(precision[0].mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_average_precision_is_coco_s(seed: int, images: int, coarse: bool) -> None:
    draw = np.random.default_rng(seed)
    truths = [random_boxes(draw, int(draw.integers(0, 6))) for _ in range(images)]
    if not sum(map(len, truths)):
        truths[0] = random_boxes(draw, 2)
    boxes = []
    for own in truths:
        jittered = own + draw.integers(-2, 3, own.shape)
        jittered[:, 2:] = np.maximum(jittered[:, 2:], jittered[:, :2] + 1)
        boxes.append(np.concatenate([jittered, random_boxes(draw, int(draw.integers(0, 5)))]))
    boxes[0] = np.concatenate([boxes[0], random_boxes(draw, 1)])
    scores = [np.round(draw.random(len(b)), 1 if coarse else 6) for b in boxes]
    every, half = coco(truths, boxes, scores)
    ones = np.ones((1, images))
    ours = [float(average_precision(found_by(truths, boxes, scores, t), ones)[0]) for t in THRESHOLDS]
    assert np.mean(ours) == pytest.approx(every, abs=1e-6)
    assert ours[0] == pytest.approx(half, abs=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_overlap_is_counted_voxel_by_voxel(ndim: int) -> None:
    draw = np.random.default_rng(ndim)
    one, other = random_boxes(draw, 5, ndim), random_boxes(draw, 7, ndim)

    def voxels(box: Array) -> set[tuple[int, ...]]:
        sides = [range(int(a), int(b)) for a, b in zip(box[:ndim], box[ndim:], strict=True)]
        return {tuple(int(i) for i in index) for index in np.stack(np.meshgrid(*sides), -1).reshape(-1, ndim)}

    for a, row in zip(one, iou(one, other), strict=True):
        for b, value in zip(other, row, strict=True):
            assert value == pytest.approx(len(voxels(a) & voxels(b)) / len(voxels(a) | voxels(b)))


def test_a_weight_is_as_many_copies() -> None:
    draw = np.random.default_rng(3)
    truths = [random_boxes(draw, 3) for _ in range(4)]
    boxes = [np.concatenate([t[:2], random_boxes(draw, 3)]) for t in truths]
    scores = [draw.random(len(b)) for b in boxes]
    times = [2, 0, 1, 3]
    several = [k for k, n in enumerate(times) for _ in range(n)]
    copies = found_by([truths[k] for k in several], [boxes[k] for k in several], [scores[k] for k in several], 0.5)
    once = found_by(truths, boxes, scores, 0.5)
    weights = np.array([times], dtype=float)
    ones = np.ones((1, len(several)))
    # Equal scores of copies enter one after another, which the precision envelope does not see.
    assert average_precision(once, weights)[0] == pytest.approx(average_precision(copies, ones)[0], abs=1e-9)
    np.testing.assert_allclose(froc(once, weights), froc(copies, ones), atol=1e-9)


def test_froc_in_closed_form() -> None:
    """Two images, three truths; hits at 0.9 and 0.6, false alarms at 0.8, 0.7 and 0.5."""
    found = Found.of(
        [(np.array([0.9, 0.8]), np.array([True, False]), 2), (np.array([0.7, 0.6, 0.5]), np.array([0, 1, 0], bool), 1)]
    )
    values = froc(found, np.ones((1, 2)), (0.0, 0.5, 0.75, 1.0, 1.5, 8.0))[0]
    np.testing.assert_allclose(values, [1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert threshold_at(found, 1.0) == 0.6
    assert threshold_at(found, 0.0) == 0.9
    wrong = Found.of([(np.array([0.9]), np.array([False]), 1)])
    assert threshold_at(wrong, 0.5) == np.inf


def test_nothing_to_find_has_no_value_and_nothing_found_is_zero() -> None:
    empty = Found.of([(np.array([0.9]), np.array([False]), 0)])
    assert np.isnan(average_precision(empty, np.ones((1, 1)))).all()
    assert np.isnan(froc(empty, np.ones((1, 1)))).all()
    missed = Found.of([(np.zeros(0), np.zeros(0, bool), 2)])
    assert average_precision(missed, np.ones((1, 1)))[0] == 0
    assert (froc(missed, np.ones((1, 1))) == 0).all()
    assert np.isnan(sensitivity(np.zeros(0), 0.5, np.ones((1, 0))))[0]
    assert sensitivity(np.array([0.9, 0.4, -np.inf]), 0.5, np.array([[1.0, 1.0, 2.0]]))[0] == 0.25


def test_a_truth_is_found_once_by_the_best_scored() -> None:
    truth = np.array([[0.0, 0, 10, 10]])
    boxes = np.array([[0.0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]])
    assert match(iou(boxes, truth), 0.5).tolist() == [0, -1, -1]
    assert match(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]
