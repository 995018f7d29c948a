"""The pretraining task: what is hidden, what a perfect and an idle network make of it, and which networks it takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.plan.test_rules import facts
from tests.plan.test_rules import plan as decided
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Grid, Normalise, Plan
from hounsfield.core.sample import Sample
from hounsfield.data.loader import Batch
from hounsfield.models import MODELS, resnet, unet, vit
from hounsfield.models.parts.masked import MaskedFeatures, MaskedMap, MaskedTokens
from hounsfield.tasks import Posing, pretraining
from hounsfield.tasks.pretraining import Options, Solver, parts

CPU = torch.device("cpu")
MADE: dict[str, Any] = {
    "unet": unet.Options(width=4, strides=((2,),), deep_supervision=False),
    "resnet": resnet.Options(width=8, depth=(1, 1)),
    "vit": vit.Options(width=32, depth=1, patch=(4,)),
}


def plan(model: str = "unet", ndim: int = 2, channels: int = 1, **options: Any) -> Plan:
    size = (16, 24, 16)[:ndim]
    return Plan(
        task="pretraining",
        model=model,
        ndim=ndim,
        classes=(),
        channels=tuple(f"c{k}" for k in range(channels)),
        grid=Grid() if model == "unet" else Grid(size=size),
        normalise=(Normalise(scope="dataset", low=0, high=255, mean=100, std=50),) * channels,
        patch=size,
        task_options=Options(**options),
        model_options=MADE[model],
    )


def built(solver: Solver) -> nn.Module:
    made = solver.plan
    member = MODELS.load(made.model)
    return solver.network(lambda i, o: member.build(made.model_options, i, o, made.ndim))


class Knows(nn.Module):
    """A network that fills in what it is told."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        return cast(Tensor, self.one * self.answer(x))


def image(shape: tuple[int, ...], channels: int = 1) -> Image:
    array = np.random.default_rng(1).integers(0, 256, (channels, *shape)).astype(np.uint8)
    return Image(array, Geometry.none(shape))


def examined(solver: Solver, given: Image, *models: nn.Module) -> Image:
    prepared = solver.prepare(solver.pose(given, Sample("a", ())), CPU)
    with torch.inference_mode():
        return solver.decode(solver.infer([m.eval() for m in models], prepared.tensor[None]), prepared)


@pytest.mark.parametrize(
    ("model", "kind", "share", "cell"),
    [("unet", MaskedMap, 0.6, (2, 4)), ("resnet", MaskedFeatures, 0.6, (2, 4)), ("vit", MaskedTokens, 0.75, (4, 4))],
)
def test_each_network_fills_in_its_own_way(model: str, kind: type, share: float, cell: tuple[int, ...]) -> None:
    solver = Solver(plan(model))
    assert isinstance(solver, Posing)
    assert isinstance(built(solver), kind)
    assert (solver.share, solver.cell) == (share, cell)


def test_a_network_without_maps_or_patches_is_refused() -> None:
    made = plan("resnet").model_copy(update={"model": "lenet", "model_options": MODELS.load("lenet").Options()})
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR --model lenet.*fix: --model resnet or --model vit"):
        built(Solver(made))


@pytest.mark.parametrize(
    ("model", "options", "line"),
    [
        (
            "unet",
            {"cell": (4, 4, 4)},
            r"\[4, 4, 4\] for unet in 2D, expected 1 or 2 numbers; fix: --set task_options.cell=\[2,4\]",
        ),
        ("vit", {"cell": (8,)}, r"\[8\] for vit in 2D, expected its patches of \[4, 4\]"),
    ],
)
def test_cells_that_do_not_fit_are_refused(model: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"BAD_PLAN task_options.cell: found {line}"):
        Solver(plan(model, **options))


@pytest.mark.parametrize("model", MADE)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_network_takes_a_step_that_its_seed_decides(model: str, ndim: int) -> None:
    solver = Solver(plan(model, ndim, channels=2))
    torch.manual_seed(0)
    whole = built(solver).train()
    batch = Batch(torch.randn(2, 2, *solver.plan.patch), solver.blank(2), ("a", "b"))
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        ((player, loss),) = solver.steps(whole, batch)
        losses.append(float(loss().detach()))
    assert player == "model"
    assert losses[0] == losses[1] != losses[2]


def test_the_loss_is_the_mean_squared_difference_where_it_is_hidden() -> None:
    solver = Solver(plan(channels=2))
    batch = Batch(torch.randn(3, 2, 16, 24), solver.blank(3), ("a", "b", "c"))
    ((_, loss),) = solver.steps(Knows(lambda x: batch.image + 0.5), batch)
    assert float(loss().detach()) == pytest.approx(0.25, rel=1e-5)
    seen: list[Tensor] = []

    class Looks(Knows):
        def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
            seen.append(hidden)
            return torch.where(hidden, batch.image, batch.image + 9)

    ((_, loss),) = solver.steps(Looks(None), batch)
    assert float(loss().detach()) == 0
    assert float(seen[0].float().mean()) == pytest.approx(29 / 48, abs=1e-6)  # 0.6 of 8 times 6 cells


@pytest.mark.parametrize(("model", "shape"), [("unet", (40, 61)), ("unet", (9, 50)), ("vit", (33, 47)), ("resnet", (33, 47))])
def test_the_same_places_of_a_case_are_always_hidden_and_alone_filled(model: str, shape: tuple[int, int]) -> None:
    given = image(shape)
    found = examined(Solver(plan(model)), given, Knows(lambda x: x * 0 + 7))
    again = examined(Solver(plan(model)), given, Knows(lambda x: x * 0 + 7))
    np.testing.assert_array_equal(found.array, again.array)
    made, truth, hidden = parts(found)
    assert found.geometry.shape == (shape if model == "unet" else (16, 24))
    np.testing.assert_allclose(made[hidden], 7, rtol=1e-5)
    np.testing.assert_array_equal(made[~hidden], truth[~hidden])
    share = 0.75 if model == "vit" else 0.6
    assert abs(float(hidden.mean()) - share) < 0.15
    if model == "unet":
        np.testing.assert_allclose(truth[0] * 50 + 100, given.array[0], atol=1e-3)


def test_a_perfect_answer_explains_all_and_the_mean_nothing() -> None:
    solver, given = Solver(plan("vit")), image((16, 24))
    metrics = solver.metrics()
    prepared = solver.prepare(given, CPU)
    _, truth, hidden = parts(examined(solver, given, Knows(lambda x: x)))
    mean = float(truth[hidden].mean())
    for answer, expected in (
        (prepared.tensor[None], 1.0),
        (torch.full((1, 1, 16, 24), mean), 0.0),
        (prepared.tensor[None] + 99, -1.0),
    ):
        row = metrics.case(Sample("a", ()), examined(solver, given, Knows(lambda x, answer=answer: answer)))
        assert float(row["explained"]) == pytest.approx(expected, abs=1e-4)
    flat = Image(np.full((1, 16, 24), 9, np.uint8), Geometry.none((16, 24)))
    assert math.isnan(float(metrics.case(Sample("a", ()), examined(solver, flat, Knows(lambda x: x)))["explained"]))
    (figure,) = metrics.summary([{"explained": 0.5}, {"explained": 0.7}], [None, None]).values()
    assert figure.value == pytest.approx(0.6)


def test_members_are_averaged_and_nothing_is_written(tmp_path: Path) -> None:
    solver, given = Solver(plan()), image((16, 24))
    found = examined(solver, given, Knows(lambda x: x * 0), Knows(lambda x: x * 0 + 1))
    made, _, hidden = parts(found)
    np.testing.assert_allclose(made[hidden], 0.5, rtol=1e-5)
    assert solver.write(found, Sample("a", ()), tmp_path) is None
    assert solver.finish([], tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_told_better_scores_higher() -> None:
    solver = Solver(plan())
    x = torch.randn(2, 1, 16, 24)
    good, bad = (solver.score(Knows(lambda x, by=by: x + by), x, 0) for by in (0.1, 1.0))
    torch.testing.assert_close(good, torch.full((2,), -0.01))
    assert (good > bad).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_pictures_show_what_was_shown_made_and_left(ndim: int) -> None:
    solver, given = Solver(plan(ndim=ndim)), image((16, 24, 16)[:ndim])
    found = examined(solver, given, Knows(lambda x: x))
    panels = np.split(solver.draw(given, None, found), 4, axis=1)
    np.testing.assert_array_equal(panels[1], panels[2])
    assert not np.array_equal(panels[0], panels[1])
    assert set(np.unique(panels[3])) <= {127, 128}


@pytest.mark.parametrize(("model", "grid"), [("unet", None), ("resnet", (56, 56)), ("vit", (56, 56))])
def test_plans_look_at_images_as_what_follows_will(model: str, grid: tuple[int, ...] | None) -> None:
    flat: dict[str, Any] = {"ndim": 2, "space": "none", "dtype": "uint8", "classes": ()}
    flat |= {f"shape_{k}": (28, 28) for k in ("min", "median", "max")} | {
        f"spacing_{k}": (1.0, 1.0) for k in ("min", "median", "max")
    }
    made = decided(facts(**flat), "pretraining", model)
    assert made.grid.size == grid
    assert made.augment.probability == 1
    assert made.augment.scale > 0
    still = ("elastic", "noise", "blur", "gamma", "contrast", "brightness", "low_resolution")
    assert not any(getattr(made.augment, key) for key in still)
    assert made.training.weight_decay == 0.05
    assert made.training.players["model"].betas == (0.9, 0.95)
    assert made.training.foreground == 0


def test_constant_images_teach_nothing() -> None:
    with pytest.raises(InputError, match=r"TOO_FEW images: found 100 images, in each of which all voxels are equal"):
        pretraining.rules(facts(constant_images=100))
