"""The segmentation task from masks to files: exclusive classes and regions, 2D and 3D, the source's own values."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan
from hounsfield.core.sample import LazyImage, Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import IGNORE, PARTIAL, Prepared, place, prepare
from hounsfield.models import unet
from hounsfield.tasks import segmentation
from hounsfield.tasks.parts import losses
from hounsfield.tasks.segmentation import Metrics, Options, Solver

Array = npt.NDArray[Any]
VALUES = (128, 255)  # of the source's masks


class Held:
    """An image in memory."""

    def __init__(self, array: Array, geometry: Geometry | None = None) -> None:
        self.image = Image(array, geometry or Geometry.none(array.shape[1:]))
        self.path, self.key = Path("mask.png"), "mask"

    def __call__(self) -> Image:
        return self.image


def plan(ndim: int = 2, values: tuple[int, ...] = VALUES, regions: bool = False, **changes: Any) -> Plan:
    return Plan(
        task="segmentation",
        model="unet",
        ndim=ndim,
        classes=tuple(Class(value=v, name=f"v{v}") for v in values),
        channels=("x",),
        grid=Grid(),
        normalise=(Normalise(scope="dataset", low=-1e6, high=1e6),),
        patch=(8,) * ndim,
        task_options=Options(regions=regions, ignore_value=changes.pop("ignore", None), unknown=changes.pop("unknown", ())),
        model_options=unet.Options(width=2, strides=((2,),)),
        **changes,
    )


class Lookup(nn.Module):
    """Scores that say the value of each voxel: certain of output k where the (normalised) voxel is k."""

    def __init__(self, outputs: int, regions: bool = False) -> None:
        super().__init__()
        self.outputs, self.regions = outputs, regions
        self.sharp = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        code = x[:, :1].round().long()
        if self.regions:  # bit k of the voxel
            return self.sharp * torch.cat([(code >> k & 1) * 2.0 - 1 for k in range(self.outputs)], dim=1)
        return self.sharp * torch.cat([(code == k).float() for k in range(self.outputs)], dim=1)


def geometry(ndim: int, kind: str) -> Geometry:
    if kind == "none":
        return Geometry.none((9, 11, 10)[:ndim])
    affine = np.zeros((4, ndim + 1))
    affine[[0, 1, 2], list(range(ndim))[::-1] + [ndim - 1] * (3 - ndim)] = (-1.5, 0.7, 2.0)
    if ndim == 2:
        affine = np.array([[0.0, -0.8, 4], [-0.8, 0, 5], [0, 0, 6], [0, 0, 1]])
    else:
        affine[:, ndim] = (10, -20, 30, 1)
    return Geometry((9, 11, 10)[:ndim], affine)


CASES = [(2, "none"), (2, "patient"), (3, "patient"), (3, "none")]


@pytest.mark.parametrize(("ndim", "kind"), CASES)
@pytest.mark.parametrize("values", [VALUES, (1, 2), (3, 40000)])
def test_from_the_source_s_values_to_a_file_in_the_source_s_values(
    ndim: int, kind: str, values: tuple[int, ...], tmp_path: Path
) -> None:
    """Image -> windows -> labels -> file -> the same labels on the same grid."""
    grid = geometry(ndim, kind)
    how = plan(ndim, values)
    solver = Solver(how)
    codes = np.random.default_rng(0).integers(0, 3, (1, *grid.shape)).astype(np.int16)
    expected = np.array([0, *values])[codes]
    prepared = prepare(Image(codes, grid), how.grid, how.normalise)
    prediction = solver.decode(solver.infer([Lookup(3)], prepared.tensor[None]), prepared)
    np.testing.assert_array_equal(prediction.array, expected)
    assert prediction.geometry == grid
    path = solver.write(prediction, Sample("site a/scan.1", ()), tmp_path)
    assert path == tmp_path / "site a" / ("scan.1.png" if (ndim, kind) == (2, "none") else "scan.1.nii.gz")
    back = io.read(path)
    np.testing.assert_array_equal(back.array, expected)
    if kind == "patient":
        assert back.geometry.same_grid(grid)
    assert solver.finish([(Sample("a", ()), prediction)], tmp_path) is None


@pytest.mark.parametrize("ndim", [2, 3])
def test_regions_overlap_in_the_file_too(ndim: int, tmp_path: Path) -> None:
    grid = geometry(ndim, "patient")
    how = plan(ndim, (1, 2, 3), regions=True)
    solver = Solver(how)
    assert solver.out_channels == 3
    codes = np.random.default_rng(0).integers(0, 8, (1, *grid.shape))
    prepared = prepare(Image(codes, grid), how.grid, how.normalise)
    prediction = solver.decode(solver.infer([Lookup(3, regions=True)], prepared.tensor[None]), prepared)
    expected = np.concatenate([codes >> k & 1 for k in range(3)])
    np.testing.assert_array_equal(prediction.array, expected)
    path = solver.write(prediction, Sample("a", ()), tmp_path)
    assert path.name == "a.nii.gz"
    np.testing.assert_array_equal(io.read(path).array, expected)


def test_encoding_knows_values_the_ignored_one_and_the_valid_mask() -> None:
    mask = np.array([[[0, 128, 255, 99], [7, 128, 255, 255]]])
    valid = np.array([[[1, 1, 1, 1], [1, 1, 1, 0]]])
    sample = Sample("a", (), target=Held(mask), valid_mask=Held(valid))
    where = place(Held(mask)(), Grid())
    assert Solver(plan(ignore=99)).encode(sample, where).tolist() == [[[0, 1, 2, IGNORE], [0, 1, 2, IGNORE]]]
    assert Solver(plan()).encode(sample, where).tolist() == [[[0, 1, 2, 0], [0, 1, 2, IGNORE]]]


def test_encoding_knows_what_a_sample_was_not_searched_for() -> None:
    mask = np.array([[[0, 128, 0, 0]]])
    valid = np.array([[[1, 1, 1, 0]]])
    sample = Sample("a", (), target=Held(mask), valid_mask=Held(valid), known_classes=(0,))
    where = place(Held(mask)(), Grid())
    solver = Solver(plan(unknown=((0,), (1,))))
    assert solver.encode(sample, where).tolist() == [[[PARTIAL + 1, 1, PARTIAL + 1, IGNORE]]]
    assert solver.encode(replace(sample, known_classes=(0, 1)), where).tolist() == [[[0, 1, 0, IGNORE]]]
    with pytest.raises(InputError, match="a case not searched for v255") as caught:
        Solver(plan()).encode(sample, where)
    assert caught.value.code == "BAD_PLAN"
    overlapping = replace(sample, target=Held(np.concatenate([mask > 0, mask > 0]).astype(np.uint8)), valid_mask=None)
    encoded = Solver(plan(regions=True)).encode(overlapping, place(Held(mask)(), Grid()))
    assert encoded.tolist() == [[[0, 1, 0, 0]], [[IGNORE] * 4]]


def test_a_class_that_a_case_was_not_searched_for_has_no_figure_there() -> None:
    truth, found = np.array([[[128, 0, 0, 0]]]), np.array([[[128, 128, 255, 255]]])
    classes = (Class(value=128, name="a"), Class(value=255, name="b"))
    metrics = Metrics(classes, None)
    predicted = Image(found, Geometry.none((1, 4)))
    partly, wholly = (Sample("x", (), target=Held(truth), known_classes=k) for k in ((0,), None))
    row = metrics.case(partly, predicted)
    assert row["dice_a"] == row["dice"] == pytest.approx(2 / 3)
    assert math.isnan(float(row["dice_b"]))
    assert metrics.case(wholly, predicted)["dice_b"] == 0
    summary = metrics.summary([row, metrics.case(wholly, predicted)], [None, None])
    assert summary["dice_b"].value == 0
    assert summary["dice_b"].n == 1
    assert summary["dice"].value == pytest.approx((2 / 3 + 1 / 3) / 2)


@pytest.mark.parametrize("which", ["target", "valid_mask"])
def test_a_mask_on_another_grid_is_refused(which: str) -> None:
    shapes = {"target": (4, 5), "valid_mask": (4, 5), which: (5, 4)}
    sample = Sample("a/b", (), **{k: Held(np.ones((1, *s), dtype=np.uint8)) for k, s in shapes.items()})  # type: ignore[arg-type]
    where = place(Held(np.zeros((1, 4, 5)))(), Grid())
    with pytest.raises(InputError, match=r"^GRID_MISMATCH a/b: found a mask of \(5, 4\) .* expected the image's \(4, 5\)"):
        Solver(plan()).encode(sample, where)


@pytest.mark.parametrize("regions", [False, True])
def test_a_step_is_the_loss_of_the_network_s_output(regions: bool) -> None:
    how = plan(regions=regions)
    solver, model = Solver(how), unet.build(unet.Options(width=2, strides=((2,),)), 1, 2 if regions else 3, 2)
    target = torch.randint(0, 2, (2, 2 if regions else 1, 8, 8)).to(torch.uint8)
    batch = Batch(torch.randn(2, 1, 8, 8), target, ("a", "b"))
    assert solver.players(model) == {"model": model}
    ((player, loss_fn),) = solver.steps(model, batch)
    outputs = model(batch.image)
    loss = losses.region_overlap if regions else losses.exclusive_overlap
    expected = losses.deep(loss, outputs, target if regions else target[:, 0], 1.0)
    assert player == "model"
    assert loss_fn().item() == pytest.approx(expected.item(), abs=1e-6)


class Sided(nn.Module):
    """Believes in class 1 on the left half of its window, whatever it sees."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 3, *x.shape[2:])
        out[:, 1, ..., : x.shape[-1] // 2] = self.logit
        return out


def blended(solver: Solver, models: list[nn.Module], shape: tuple[int, ...]) -> Tensor:
    with torch.inference_mode():
        ((start, first, values),) = solver.infer(models, torch.zeros(1, 1, *shape))
    assert (start, first) == (0, 0)
    return values


def test_an_ensemble_and_its_mirror_images_are_averaged() -> None:
    one, other = Sided(1.0), Sided(3.0)
    straight = Solver(plan())
    each = [blended(straight, [m], (8, 8)) for m in (one, other)]
    p = float(torch.tensor([0.0, 1.0, 0.0]).softmax(0)[1])
    assert each[0][1, 0].tolist() == pytest.approx([p] * 4 + [1 / 3] * 4)
    assert torch.allclose(blended(straight, [one, other], (8, 8)), (each[0] + each[1]) / 2, atol=1e-6)
    mirrored = Solver(plan(augment=Augment(mirror=(0, 1)), inference=Inference(mirror=True)))
    assert torch.allclose(blended(mirrored, [one], (8, 8)), (each[0] + each[0].flip(2)) / 2, atol=1e-6)


def test_the_score_is_the_log_odds_where_the_class_is_seen() -> None:
    """log p - log(1 - p), whatever is added to all logits."""
    solver = Solver(plan())
    logits = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 3

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return logits + x

    score = solver.score(Fixed(), torch.zeros(2, 1, 6, 6), 0)
    p = logits.double().softmax(1)[:, 1]
    seen = torch.where(p > 0.5, p, 0.0)
    expected = ((p.log() - (1 - p).log()) * seen).sum((1, 2)) / seen.sum((1, 2))
    assert torch.allclose(score, expected.float(), atol=1e-4)
    assert torch.allclose(solver.score(Fixed(), torch.full((2, 1, 6, 6), 5.0), 0), score, atol=1e-4)
    logits[:, 1] -= 50  # seen nowhere
    assert (solver.score(Fixed(), torch.zeros(2, 1, 6, 6), 0) < -20).all()
    regions = Solver(plan(regions=True)).score(Fixed(), torch.zeros(2, 1, 6, 6), 2)
    q = logits[:, 2].sigmoid()
    expected = (logits[:, 2] * torch.where(q > 0.5, q, 0)).sum((1, 2)) / torch.where(q > 0.5, q, 0).sum((1, 2))
    assert torch.allclose(regions, expected, atol=1e-4)


def test_a_score_has_a_gradient() -> None:
    solver, model = Solver(plan()), unet.build(unet.Options(width=2, strides=((2,),)), 1, 3, 2).eval()
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(solver.score(model, x, 1).sum(), x)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


def measured(
    truth: Array, prediction: Array, regions: bool = False, ignore: int | None = None, valid: Array | None = None
) -> Any:
    solver = Solver(plan(regions=regions, ignore=ignore))
    sample = Sample("a", (), target=Held(truth), valid_mask=None if valid is None else Held(valid))
    return solver.metrics().case(sample, Image(prediction, Geometry.none(prediction.shape[1:])))


def test_dice_and_iou_of_a_case() -> None:
    truth, prediction = np.zeros((2, 1, 4, 4), dtype=np.uint8)
    truth[0, :2], prediction[0, 1:3] = 128, 128
    truth[0, 3, :2] = 255
    row = measured(truth, prediction)
    assert (row["dice_v128"], row["iou_v128"]) == (pytest.approx(0.5), pytest.approx(1 / 3))
    assert (row["voxels_v128"], row["predicted_v128"]) == (8, 8)
    assert (row["dice_v255"], row["voxels_v255"], row["predicted_v255"]) == (0, 2, 0)
    assert row["dice"] == pytest.approx(0.25)
    assert Metrics(plan().classes, None).worth(row) == row["dice"]


def test_empty_masks_are_perfect_together_and_worst_alone() -> None:
    empty, full = np.zeros((1, 3, 3), dtype=np.uint8), np.full((1, 3, 3), 128, dtype=np.uint8)
    assert measured(empty, empty)["dice"] == 1
    assert measured(full, empty)["dice_v128"] == 0
    assert measured(empty, full)["dice_v128"] == 0


def test_what_is_ignored_or_invalid_is_not_measured() -> None:
    truth = np.array([[[128, 99, 0, 128]]], dtype=np.uint8)
    prediction = np.array([[[128, 128, 128, 0]]], dtype=np.uint8)
    assert measured(truth, prediction)["dice_v128"] == pytest.approx(2 / 5)
    assert measured(truth, prediction, ignore=99)["dice_v128"] == pytest.approx(2 / 4)
    valid = np.array([[[1, 1, 0, 0]]], dtype=np.uint8)
    assert measured(truth, prediction, ignore=99, valid=valid)["dice_v128"] == 1


def test_regions_are_measured_one_by_one() -> None:
    truth = np.array([[[1, 1, 0]], [[0, 1, 1]]], dtype=np.uint8)
    prediction = np.array([[[1, 1, 0]], [[1, 1, 0]]], dtype=np.uint8)
    row = measured(truth, prediction, regions=True)
    assert (row["dice_v128"], row["dice_v255"]) == (1, 0.5)


def test_a_truth_on_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match=r"^GRID_MISMATCH a: found a mask of \(3, 3\)"):
        measured(np.zeros((1, 3, 3), dtype=np.uint8), np.zeros((1, 3, 4), dtype=np.uint8))


def test_the_summary_is_the_mean_over_cases() -> None:
    metrics = Metrics(plan().classes, None)
    keys = ("dice", "iou", "dice_v128", "iou_v128", "dice_v255", "iou_v255")
    rows = [dict.fromkeys(keys, v) for v in (0.2, 0.4, 0.9)]
    summary = metrics.summary(rows, ["p", "q", None])
    assert set(summary) == set(keys)
    assert {round(i.value, 6) for i in summary.values()} == {0.5}
    assert summary["dice"].n == 3
    assert metrics.headline in summary


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_drawing(truth: bool, ndim: int) -> None:
    grid = geometry(ndim, "patient")
    labels = np.zeros((1, *grid.shape), dtype=np.uint8)
    labels[0][(slice(2, 6),) * ndim] = 255
    sample = Sample("a", (), target=cast(LazyImage, Held(labels, grid))) if truth else None
    image = Image(np.random.default_rng(0).normal(size=labels.shape), grid)
    rgb = Solver(plan(ndim)).draw(image, sample, Image(labels, grid, Meta("prediction")))
    assert rgb.dtype == np.uint8
    left, right = np.split(rgb, 2, axis=1)
    assert (left != right).any()


def dataset(*targets: Any, classes: int = 2) -> Dataset:
    samples = tuple(Sample(f"{k}", (), target=t) for k, t in enumerate(targets))
    names = tuple(Class(value=k + 1, name=f"{k}") for k in range(classes))
    return Dataset(samples, names, ("x",), "segmentation", "test", "", Path("data"))


def test_targets_that_fit() -> None:
    mask = Held(np.zeros((1, 2, 2)))
    segmentation.targets(dataset(mask, mask))
    segmentation.targets(dataset(mask, classes=223))
    with pytest.raises(InputError, match=r"^BAD_LABEL data: found 1 samples without a mask \(first: 1\), expected a mask"):
        segmentation.targets(dataset(mask, 3))
    with pytest.raises(InputError, match=r"^BAD_LABEL data: found no class in any mask"):
        segmentation.targets(dataset(mask, classes=0))
    with pytest.raises(InputError, match=r"^BAD_LABEL data: found 224 classes.*expected at most 223 classes"):
        segmentation.targets(dataset(mask, classes=224))


def test_the_most_classes_a_target_can_number() -> None:
    """223 classes: none of them is taken for what is unknown."""
    how = plan(values=tuple(range(1, 224)))
    mask = np.arange(256).reshape(1, 16, 16)
    encoded = Solver(how).encode(Sample("a", (), target=Held(mask)), place(Held(mask)(), Grid()))
    assert encoded.ravel().tolist() == [*range(224), *[0] * 32]
    assert (encoded < PARTIAL).all()


def facts(multilabel: bool) -> Fingerprint:
    return Fingerprint(
        cases=5,
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
        classes=(ClassFacts(value=1, name="a", cases=3, fraction=0.02), ClassFacts(value=2, name="b", cases=5, fraction=0.5)),
        multilabel=multilabel,
    )


@pytest.mark.parametrize("multilabel", [False, True])
def test_rules_say_why(multilabel: bool) -> None:
    decision = segmentation.rules(facts(multilabel))
    assert Options.parse(decision.changes, "rules").regions is multilabel
    assert "2.00% of voxels" in decision.reasons["dice"]


def test_labels_come_back_through_a_coarser_grid_with_the_valid_values_alone() -> None:
    """Certain labels, halved and back: values of the source, and the large parts where they were."""
    how = plan(values=(10, 20))
    labels = np.zeros((1, 16, 16), dtype=np.uint8)
    labels[0, 4:12, 4:12], labels[0, 4:12, 10:12] = 10, 20
    image = Image(labels, Geometry.none((16, 16)))
    where = place(image, Grid(size=(8, 8)))
    encoded = Solver(how).encode(Sample("a", (), target=Held(labels)), where)
    certain = torch.nn.functional.one_hot(torch.from_numpy(encoded[0]).long(), 3).movedim(-1, 0).float()
    back = Solver(how).decode([(0, 0, certain)], Prepared(certain, replace(where)))
    assert set(np.unique(back.array)) == {0, 10, 20}
    assert (back.array == labels).mean() > 0.9
