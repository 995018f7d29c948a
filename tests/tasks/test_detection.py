"""The detection task from boxes to files: targets, windows, mirrored views, metrics with intervals, the source's pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import place, prepare
from hounsfield.models import fcos
from hounsfield.tasks import detection
from hounsfield.tasks.detection import Options, Solver
from hounsfield.tasks.parts.box_metrics import Metrics

CLASSES = (Class(value=1, name="dim"), Class(value=2, name="bright"))


def plan(ndim: int = 2, patch: int = 32, **changes: Any) -> Plan:
    return Plan(
        task="detection",
        model="fcos",
        ndim=ndim,
        classes=CLASSES,
        channels=("x",),
        grid=changes.pop("grid", Grid()),
        normalise=(Normalise(scope="dataset", low=-1e6, high=1e6),),
        patch=(patch,) * ndim,
        task_options=Options(),
        model_options=fcos.Options(width=16, strides=((2,), (2,)), finest=2),
        **changes,
    )


class Sees(nn.Module):
    """A detector that knows: at every voxel of value k > 0, the middle of a thing, class k - 1 and a box of 2 voxels a side."""

    def __init__(self, score: float = 4.0) -> None:
        super().__init__()
        self.high = nn.Parameter(torch.tensor(score))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        n = x.ndim - 2
        logits = torch.where(
            x.round().repeat(1, 2, *[1] * n) == torch.tensor([1.0, 2.0]).reshape(1, 2, *[1] * n), self.high, -20.0
        )
        return (torch.cat([logits, torch.full((len(x), 2 * n, *x.shape[2:]), 1.5)], dim=1),)


def things(shape: tuple[int, ...], at: list[tuple[int, ...]], values: list[int]) -> np.ndarray[Any, Any]:
    array = np.zeros((1, *shape), dtype=np.float32)
    for index, value in zip(at, values, strict=True):
        array[(0, *index)] = value
    return array


def boxes(*rows: tuple[float, ...], labels: list[int], scores: list[float] | None = None) -> Boxes:
    corners = np.array(rows, dtype=float).reshape(len(rows), -1 if rows else 4)
    return Boxes(corners, np.array(labels), None if scores is None else np.array(scores))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("mirror", [(), (0,), (0, 1)])
def test_every_thing_is_found_once_where_it_is(ndim: int, mirror: tuple[int, ...]) -> None:
    """Over windows that overlap, mirrored views and two networks, in a volume larger and smaller than a window."""
    how = plan(ndim, 16, augment=Augment(mirror=mirror), inference=Inference(mirror=bool(mirror)))
    solver = Solver(how)
    shape = (40, 23, 9)[:ndim]
    every = [(5, 5, 2), (7, 14, 2), (8, 22, 8), (16, 8, 0), (39, 0, 4), (23, 15, 4)]
    at: list[tuple[int, ...]] = [index[:ndim] for index in every]
    values = [1, 2, 1, 2, 1, 1]
    image = Image(things(shape, at, values), Geometry.none(shape))
    prepared = prepare(image, how.grid, how.normalise)
    with torch.inference_mode():
        found = solver.decode(solver.infer([Sees().eval(), Sees().eval()], prepared.tensor[None]), prepared)
    assert found.scores is not None
    limit = np.array(shape)
    expected = sorted(
        [*np.clip(np.array(i) - 1.0, 0, limit).tolist(), *np.clip(np.array(i) + 2.0, 0, limit).tolist(), v - 1]
        for i, v in zip(at, values, strict=True)
    )
    rows = sorted([*c, label] for c, label in zip(found.corners.tolist(), found.labels.tolist(), strict=True))
    np.testing.assert_allclose(rows, expected, atol=1e-3)
    np.testing.assert_allclose(found.scores, torch.tensor(4.0).sigmoid().item(), atol=1e-5)


def test_boxes_come_back_to_the_source_s_pixels(tmp_path: Path) -> None:
    """Through a resized grid and turned axes, into x and y."""
    affine = np.array([[0.0, -0.5, 0], [-0.5, 0, 0], [0, 0, 0], [0, 0, 1]])
    grid = Geometry((64, 96), affine)
    how = plan(grid=Grid(size=(32, 32)))
    solver = Solver(how)
    truth = boxes((10, 30, 20, 60), labels=[1])
    sample = Sample("a/b.c", (ImageFile(Path("data/a/b.c.png")),), target=truth)
    placement = place(Image(np.zeros((1, 64, 96)), grid), how.grid)
    rows = solver.encode(sample, placement)
    assert rows.dtype == np.float32
    prepared = prepare(Image(np.zeros((1, 64, 96)), grid), how.grid, how.normalise)
    back = prepared.back_boxes(Boxes(rows[:, :-1].astype(float), rows[:, -1].astype(int), np.array([0.75])))
    np.testing.assert_allclose(back.corners, truth.corners, atol=1e-4)
    path = solver.finish([(sample, back)], tmp_path)
    assert json.loads(path.read_text()) == [
        {"image": "b.c.png", "id": "a/b.c", "boxes": [[30, 10, 60, 20]], "scores": [0.75], "labels": ["bright"]}
    ]


def test_what_a_sample_was_not_searched_for_teaches_nothing() -> None:
    solver = Solver(plan())
    placement = place(Image(np.zeros((1, 32, 32)), Geometry.none((32, 32))), Grid())
    rows = solver.encode(Sample("a", (), target=boxes((1, 1, 9, 9), labels=[0]), known_classes=(0,)), placement)
    assert rows.tolist() == [[1, 1, 9, 9, 0], [0, 0, 0, 0, -3]]
    torch.manual_seed(0)
    model = fcos.build(fcos.Options(width=16, strides=((2,), (2,)), finest=2), 1, 2, 2)
    ((_, loss),) = solver.steps(model, Batch(torch.randn(1, 1, 32, 32), torch.from_numpy(rows)[None], ("a",)))
    loss().backward()  # type: ignore[no-untyped-call]
    gradient = dict(model.named_parameters())["head.class_scores.weight"].grad
    assert gradient is not None
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).any()


def test_figures_of_a_perfect_and_of_a_blind_detector() -> None:
    truths = [boxes((0, 0, 4, 4), (10, 10, 14, 18), labels=[0, 1]), boxes(labels=[]), boxes((5, 5, 9, 9), labels=[0])]
    samples = [Sample(str(k), (), target=t) for k, t in enumerate(truths)]
    metrics = Metrics(CLASSES, 2)
    perfect = [metrics.case(s, Boxes(t.corners, t.labels, np.full(len(t), 0.9))) for s, t in zip(samples, truths, strict=True)]
    figures = metrics.summary(perfect, [None] * 3)
    for name in ("map50", "map", "map10", "froc", "sensitivity_at_1", "image_auroc", "map50_dim", "map50_bright"):
        assert figures[name].value == pytest.approx(1), name
    assert [metrics.worth(r) for r in perfect] == [1, 1, 1]
    blind = [metrics.case(s, Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))) for s in samples]
    figures = metrics.summary(blind, [None] * 3)
    assert figures["map50"].value == figures["froc"].value == 0
    assert figures["image_auroc"].value == 0.5
    assert [metrics.worth(r) for r in blind] == [0, 1, 0]


def test_counts_of_a_case_and_a_class_that_no_image_holds() -> None:
    sample = Sample("a", (), target=boxes((0, 0, 10, 10), (20, 20, 30, 30), labels=[0, 0]))
    found = boxes((0, 0, 10, 8), (50, 50, 60, 60), (20, 20, 30, 30), labels=[0, 0, 0], scores=[0.9, 0.7, 0.3])
    row = Metrics(CLASSES, 2).case(sample, found)
    assert (row["found"], row["missed"], row["false"]) == (1, 1, 1)
    assert row["f1"] == 0.5
    assert row["hits_dim"] == f"{2**8 - 1} 0 {2**11 - 1}"  # of an overlap of 0.8 all thresholds up to it
    figures = Metrics(CLASSES, 2).summary([row], [None])
    assert figures["map50_dim"].value == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-9)
    assert figures["map50"].value == figures["map50_dim"].value
    assert "no box of bright" in figures["map50"].note


def test_small_ones_are_told_from_large_ones() -> None:
    draw = np.random.default_rng(0)
    rows = []
    metrics = Metrics(CLASSES[:1], 2)
    for k in range(12):
        side = (3, 10, 30)[k % 3]
        low = draw.integers(0, 50, 2)
        truth = boxes((*low, *(low + side)), labels=[0])
        corners = truth.corners if side > 3 else truth.corners + 40
        rows.append(metrics.case(Sample(str(k), (), target=truth), Boxes(corners, truth.labels, np.array([0.8]))))
    figures = metrics.summary(rows, [None] * 12)
    assert (figures["sensitivity_small"].value, figures["sensitivity_medium"].value, figures["sensitivity_large"].value) == (
        0,
        1,
        1,
    )
    assert "mean sides of 3 to 3 voxels" in figures["sensitivity_small"].note


def test_labels_that_are_no_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"BAD_LABEL .*2 samples without a list of boxes"):
        detection.targets(Dataset((Sample("a", (), target=0), Sample("b", ())), CLASSES, ("x",), None, "t", "", tmp_path))
    empty = Dataset((Sample("a", (), target=boxes(labels=[])),), CLASSES, ("x",), "detection", "t", "", tmp_path)
    with pytest.raises(InputError, match=r"NO_FOREGROUND .*1 images without any box"):
        detection.targets(empty)
