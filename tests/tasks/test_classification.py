"""The classification task from labels to a table: one class of several, or any of several with some of them unknown."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan
from hounsfield.core.prediction import ClassScores
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import place, prepare
from hounsfield.models import lenet
from hounsfield.tasks import classification
from hounsfield.tasks.classification import Metrics, Options, Solver

NAMES = ("healthy", "cyst", "tumour")
CLASSES = tuple(Class(value=k, name=n) for k, n in enumerate(NAMES))


def plan(ndim: int = 2, classes: int = 3, options: Options | None = None, **changes: Any) -> Plan:
    return Plan(
        task="classification",
        model="lenet",
        ndim=ndim,
        classes=CLASSES[:classes],
        channels=("x",),
        grid=Grid(size=(8,) * ndim),
        normalise=(Normalise(scope="dataset", low=-9, high=9),),
        patch=(8,) * ndim,
        task_options=options or Options(),
        model_options=lenet.Options(),
        **changes,
    )


ANY = Options(multilabel=True, smoothing=0.0)


class Linear(nn.Module):
    """Logits from the first voxels of the image."""

    def __init__(self, gain: float = 1.0, outputs: int = 3) -> None:
        super().__init__()
        self.gain, self.outputs = nn.Parameter(torch.tensor(gain)), outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x.flatten(1)[:, : self.outputs]


def where() -> Any:
    return place(Image(np.zeros((1, 8, 8)), Geometry.none((8, 8))), Grid())


def test_encoding() -> None:
    encoded = Solver(plan()).encode(Sample("a", (), target=2), where())
    assert (encoded.shape, encoded.dtype.name, int(encoded)) == ((), "int64", 2)
    solver = Solver(plan(options=ANY))
    assert solver.encode(Sample("a", (), target=(0, 2)), where()).tolist() == [1, 0, 1]
    assert solver.encode(Sample("a", (), target=()), where()).tolist() == [0, 0, 0]
    assert solver.encode(Sample("a", (), target=(2,), known_classes=(0, 2)), where()).tolist() == [0, -1, 1]
    assert solver.encode(Sample("a", (), target=(1,), known_classes=()), where()).tolist() == [-1, 1, -1]


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 2.0)])
def test_a_step_with_exclusive_classes(weights: tuple[float, ...]) -> None:
    solver = Solver(plan(options=Options(smoothing=0.1, weights=weights)))
    batch = Batch(torch.randn(4, 1, 8, 8), torch.tensor([0, 2, 1, 2]), tuple("abcd"))
    ((player, loss_fn),) = solver.steps(Linear(), batch)
    log_p = batch.image.flatten(1)[:, :3].log_softmax(1)
    w = torch.tensor(weights or (1.0, 1.0, 1.0))
    smooth = 0.9 * F.one_hot(batch.target, 3) + 0.1 / 3
    expected = -(smooth * log_p * w).sum() / w[batch.target].sum()
    assert player == "model"
    assert loss_fn().item() == pytest.approx(expected.item(), abs=1e-5)


def test_an_unknown_class_teaches_nothing() -> None:
    solver = Solver(plan(options=ANY))
    image = torch.randn(2, 1, 8, 8)
    target = torch.tensor([[1, -1, 0], [-1, -1, -1]])
    ((_, loss_fn),) = solver.steps(model := Linear(), Batch(image, target, ("a", "b")))
    logits = image.flatten(1)[:, :3]
    known = F.binary_cross_entropy_with_logits(logits[0, [0, 2]], torch.tensor([1.0, 0.0]))
    assert loss_fn().item() == pytest.approx(known.item(), abs=1e-6)
    ((_, loss_fn),) = solver.steps(model, Batch(image, torch.full((2, 3), -1), ("a", "b")))
    loss_fn().backward()  # type: ignore[no-untyped-call]
    assert loss_fn().item() == 0
    assert float(model.gain.grad) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("ndim", [2, 3])
def test_probabilities_of_an_ensemble(ndim: int) -> None:
    how = plan(ndim)
    solver = Solver(how)
    prepared = prepare(
        Image(np.random.default_rng(0).normal(size=(1, *[8] * ndim)), Geometry.none((8,) * ndim)), how.grid, how.normalise
    )
    scores = solver.decode(solver.infer([Linear(), Linear(3.0)], prepared.tensor[None]), prepared)
    logits = prepared.tensor.flatten()[:3].double()
    expected = (logits.softmax(0) + (3 * logits).softmax(0)) / 2
    assert scores.probabilities.dtype == np.float64
    assert scores.probabilities.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert not scores.multilabel


def test_probabilities_of_mirror_images_and_of_any_class() -> None:
    x = torch.arange(64.0).reshape(1, 1, 8, 8) / 30
    how = plan(augment=Augment(mirror=(0, 1)), inference=Inference(mirror=True))
    views = [x, x.flip(2), x.flip(3), x.flip(2, 3)]
    expected = torch.stack([v.flatten()[:3].softmax(0) for v in views]).mean(0)
    assert torch.allclose(Solver(how).infer([Linear()], x), expected)
    any_of = Solver(plan(options=ANY))
    assert torch.allclose(any_of.infer([Linear()], x), x.flatten()[:3].sigmoid())
    assert torch.equal(any_of.score(Linear(2.0), x, 1), 2 * x[:, 0, 0, 1])


def scores(*probabilities: float, multilabel: bool = False) -> ClassScores:
    return ClassScores(np.array(probabilities), multilabel)


def test_a_case() -> None:
    metrics = Metrics(CLASSES, multilabel=False)
    row = metrics.case(Sample("a", (), target=1), scores(0.2, 0.3, 0.5))
    assert dict(row) == {
        "truth": "cyst",
        "prediction": "tumour",
        "unknown": "",
        "p_healthy": 0.2,
        "p_cyst": 0.3,
        "p_tumour": 0.5,
    }
    assert metrics.worth(row) == pytest.approx(0.3)
    any_of = Metrics(CLASSES, multilabel=True)
    row = any_of.case(Sample("a", (), target=(2, 0), known_classes=(0,)), scores(0.9, 0.7, 0.6, multilabel=True))
    assert (row["truth"], row["prediction"], row["unknown"]) == ("healthy|tumour", "healthy|cyst|tumour", "cyst")
    assert any_of.worth(row) == pytest.approx(0.6)
    assert any_of.case(Sample("a", (), target=()), scores(0.1, 0.2, 0.3))["truth"] == ""


def exclusive_rows(n: int = 60, classes: int = 3) -> tuple[Metrics, list[Any], Any, Any]:
    draw = np.random.default_rng(0)
    truth = draw.integers(0, classes, n)
    p = draw.dirichlet([1.0] * classes, n) + 0.5 * np.eye(classes)[truth]
    p /= p.sum(axis=1, keepdims=True)
    metrics = Metrics(CLASSES[:classes], multilabel=False)
    rows = [metrics.case(Sample("a", (), target=int(t)), ClassScores(q)) for t, q in zip(truth, p, strict=True)]
    return metrics, rows, truth, p


def test_figures_of_several_classes_against_sklearn() -> None:
    metrics, rows, truth, p = exclusive_rows()
    summary = metrics.summary(rows, [f"{k // 2}" for k in range(60)])
    chosen = p.argmax(axis=1)
    expected = {
        "auroc": sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"),
        "accuracy": sk.accuracy_score(truth, chosen),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, chosen),
        "sensitivity": sk.recall_score(truth, chosen, average="macro"),
        "specificity": np.mean([sk.recall_score(truth != k, chosen != k) for k in range(3)]),
        "average_precision": np.mean([sk.average_precision_score(truth == k, p[:, k]) for k in range(3)]),
    }
    assert {k: i.value for k, i in summary.items()} == pytest.approx(expected)
    assert all(i.low < i.value < i.high and i.clusters == 30 for i in summary.values())


def test_figures_of_two_classes_speak_of_the_second() -> None:
    metrics, rows, truth, p = exclusive_rows(classes=2)
    summary = metrics.summary(rows, [None] * 60)
    chosen = p.argmax(axis=1)
    assert summary["auroc"].value == pytest.approx(sk.roc_auc_score(truth, p[:, 1]))
    assert summary["sensitivity"].value == pytest.approx(sk.recall_score(truth, chosen))
    assert summary["specificity"].value == pytest.approx(sk.recall_score(truth, chosen, pos_label=0))
    assert summary["balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(truth, chosen))
    assert summary["average_precision"].value == pytest.approx(sk.average_precision_score(truth, p[:, 1]))
    assert "patient unknown" in summary["auroc"].note


def test_what_is_unknown_is_not_measured() -> None:
    """Each class on the cases where it is known, against sklearn; the whole case on its known classes."""
    draw = np.random.default_rng(1)
    truth, known, p = draw.random((80, 3)) < 0.4, draw.random((80, 3)) < 0.7, draw.random((80, 3))
    truth &= known
    p = np.clip(p + 0.3 * truth, 0, 1)
    metrics = Metrics(CLASSES, multilabel=True)
    rows = []
    for t, k, q in zip(truth, known, p, strict=True):
        sample = Sample("a", (), target=tuple(np.flatnonzero(t).tolist()), known_classes=tuple(np.flatnonzero(k).tolist()))
        rows.append(metrics.case(sample, ClassScores(q, True)))
    summary = metrics.summary(rows, [None] * 80)

    def each(measure: Any) -> float:
        return float(np.mean([measure(truth[known[:, k], k], p[known[:, k], k]) for k in range(3)]))

    assert summary["auroc"].value == pytest.approx(each(sk.roc_auc_score))
    assert summary["average_precision"].value == pytest.approx(each(sk.average_precision_score))
    assert summary["sensitivity"].value == pytest.approx(each(lambda t, q: sk.recall_score(t, q > 0.5)))
    assert summary["specificity"].value == pytest.approx(each(lambda t, q: sk.recall_score(~t, q <= 0.5)))
    whole = [((q > 0.5) == t)[k].all() for t, k, q in zip(truth, known, p, strict=True) if k.any()]
    assert summary["accuracy"].value == pytest.approx(np.mean(whole))
    assert summary["accuracy"].n == len(whole) < 80


def test_nothing_known_has_no_worth() -> None:
    metrics = Metrics(CLASSES, multilabel=True)
    assert math.isnan(metrics.worth(metrics.case(Sample("a", (), target=(), known_classes=()), scores(0.1, 0.2, 0.3))))


def test_a_class_without_cases_is_said() -> None:
    metrics = Metrics(CLASSES, multilabel=False)
    rows = [metrics.case(Sample("a", (), target=t), scores(0.5, 0.3, 0.2)) for t in (0, 1, 1)]
    figure = metrics.summary(rows, ["p", "q", "r"])["auroc"]
    assert math.isnan(figure.value)
    assert figure.note.startswith("no case of tumour")


def test_many_classes_are_measured_with_fewer_replicates_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, rows, _, _ = exclusive_rows(200)
    every = metrics.summary(rows, [None] * 200)
    monkeypatch.setattr(classification, "WEIGHED", 200 * 3 * 150)
    fewer = metrics.summary(rows, [None] * 200)
    assert {k: i.value for k, i in fewer.items()} == {k: i.value for k, i in every.items()}
    assert "150 replicates for 3 classes" in fewer["auroc"].note
    assert fewer["auroc"].low == pytest.approx(every["auroc"].low, abs=0.02)


def test_classes_without_cases_are_not_all_listed() -> None:
    metrics = Metrics([Class(value=i, name=f"c{i}") for i in range(40)], False)
    even = np.full(40, 1 / 40)
    rows = [metrics.case(Sample(str(i), (), target=i % 2), ClassScores(even)) for i in range(10)]
    note = metrics.summary(rows, [None] * 10)["auroc"].note
    assert "33 more classes alike" in note
    assert len(note) < 500


def test_more_classes_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(InputError, match=r"BAD_LABEL .*1,001 classes, 0.0 cases each, expected at most 1,000"):
        classification.targets(replace(dataset(0, 1, 2), classes=tuple(Class(value=k, name=str(k)) for k in range(1001))))


def test_one_table_for_all(tmp_path: Path) -> None:
    solver = Solver(plan())
    assert solver.write(scores(0.1, 0.2, 0.7), Sample("a", ()), tmp_path) is None
    cases = {"site a/1": scores(0.1, 0.2, 0.7), 'b, "2"': scores(1 / 3, 1 / 3, 1 / 3)}
    path = solver.finish([(Sample(name, ()), found) for name, found in cases.items()], tmp_path / "new" / "out")
    assert path == tmp_path / "new" / "out" / "predictions.csv"
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table == [
        ["id", *NAMES],
        ["site a/1", "0.100000", "0.200000", "0.700000"],
        ['b, "2"', "0.333333", "0.333333", "0.333333"],
    ]


def test_a_drawing() -> None:
    image = Image(np.random.default_rng(0).integers(0, 255, (1, 8, 8), dtype=np.uint8), Geometry.none((8, 8)))
    assert Solver(plan()).draw(image, None, scores(0.1, 0.2, 0.7)).shape == (320, 320, 3)


def dataset(*targets: Any, classes: int = 3, multilabel: bool = False) -> Dataset:
    samples = tuple(Sample(f"{k}", (), target=t) for k, t in enumerate(targets))
    return Dataset(samples, CLASSES[:classes], ("x",), "classification", "test", "", Path("data"), multilabel=multilabel)


def test_targets_that_fit() -> None:
    classification.targets(dataset(0, 1))
    classification.targets(dataset((), (0,), classes=1, multilabel=True))
    with pytest.raises(InputError, match=r"^BAD_LABEL data: found 1 samples without a class \(first: 1\)"):
        classification.targets(dataset(0, None))
    with pytest.raises(InputError, match=r"^ONE_CLASS data: found one class, healthy, expected at least two"):
        classification.targets(dataset(0, 0, classes=1))


@pytest.mark.parametrize(
    ("counts", "multilabel", "weighted"), [((90, 10), False, True), ((60, 40), False, False), ((90, 10), True, False)]
)
def test_rules_weight_rare_classes(counts: tuple[int, int], multilabel: bool, weighted: bool) -> None:
    facts = Fingerprint(
        cases=100,
        patients=None,
        ndim=2,
        space="none",
        channels=("x",),
        modality=None,
        dtype="uint8",
        shape_min=(4, 4),
        shape_median=(4, 4),
        shape_max=(4, 4),
        spacing_min=(1, 1),
        spacing_median=(1, 1),
        spacing_max=(1, 1),
        intensity=(),
        classes=tuple(
            ClassFacts(value=k, name=n, cases=c, fraction=c / 100)
            for k, (n, c) in enumerate(zip(NAMES[:2], counts, strict=True))
        ),
        multilabel=multilabel,
    )
    decision = classification.rules(facts)
    options = Options.parse(decision.changes, "rules")
    assert options.multilabel is multilabel
    assert bool(options.weights) is weighted
    if weighted:  # root of inverse frequency, mean 1
        assert options.weights == pytest.approx((0.5, 1.5), abs=1e-3)
        assert "9.0 times" in decision.reasons["weights"]
