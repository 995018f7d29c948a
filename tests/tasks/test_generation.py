"""The task of drawing: two players or one, images that depend on seed and number alone, and values in units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class, Grid, Normalise, Plan
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import place, prepare
from hounsfield.models import MODELS
from hounsfield.tasks import generation

TINY = {"dcgan": {"width": 4}, "gan": {"width": 8}, "flow": {"width": 8, "evaluations": 2}}


def plan(model: str = "gan", classes: int = 0, **changes: Any) -> Plan:
    member = MODELS.load(model)
    options = {**member.rules((16, 16), (1.0, 1.0)).changes, **TINY[model]}
    values: dict[str, Any] = {
        "task": "generation",
        "model": model,
        "ndim": 2,
        "classes": tuple(Class(value=k, name=f"c{k}") for k in range(classes)),
        "channels": ("x",),
        "grid": Grid(size=(16, 16)),
        "normalise": (Normalise(scope="dataset", low=0, high=255, mean=127.5, std=127.5),),
        "patch": (16, 16),
        "task_options": generation.Options(),
        "model_options": member.Options.parse(options, "test"),
        **changes,
    }
    return Plan(**values)


def nothing(count: int) -> Tensor:
    """Targets without classes."""
    return torch.zeros(count, dtype=torch.int64)


def build(how: Plan, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    solver = generation.Solver(how)
    return MODELS.load(how.model).build(how.model_options, 1, solver.out_channels, 2).eval()


@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("classes", [0, 2])
def test_a_round_of_steps_moves_each_player_by_its_own_loss(model: str, classes: int) -> None:
    how = plan(model, classes)
    solver, network = generation.Solver(how), build(how).train()
    batch = Batch(torch.rand(4, 1, 16, 16) * 2 - 1, torch.tensor([0, 1, 0, 1]) % max(1, classes), ("",) * 4)
    players = solver.players(network)
    assert list(players) == (["model"] if model == "flow" else ["discriminator", "generator"])
    turns = []
    for player, loss in solver.steps(network, batch):
        network.zero_grad()
        value = loss()
        assert value.shape == ()
        torch.autograd.backward(value)
        moved = {
            n for n, part in players.items() if any(p.grad is not None and bool((p.grad != 0).any()) for p in part.parameters())
        }
        assert moved == {player}
        turns.append(player)
    assert turns == list(players)


def test_an_image_depends_on_seed_and_number_alone() -> None:
    how = plan()
    solver, models = generation.Solver(how), [build(how)]
    some = solver.generate(models, range(20), nothing(20), 5)
    assert some.shape == (20, 1, 16, 16)
    torch.testing.assert_close(solver.generate(models, [17, 3], nothing(2), 5), some[[17, 3]], atol=1e-5, rtol=0)
    assert torch.equal(solver.generate(models, range(20), nothing(20), 5), some)
    assert not torch.allclose(solver.generate(models, range(20), nothing(20), 6), some)
    assert not torch.allclose(some[0], some[1])
    before = torch.get_rng_state()
    solver.generate(models, [0], nothing(1), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_several_networks_draw_in_turn() -> None:
    how = plan()
    solver, models = generation.Solver(how), [build(how, 0), build(how, 1)]
    both = solver.generate(models, range(4), nothing(4), 5)
    for which, model in enumerate(models):
        alone = solver.generate([model], range(4), nothing(4), 5)
        torch.testing.assert_close(both[which::2], alone[which::2])


def test_classes_are_drawn_as_they_are_asked_for() -> None:
    how = plan("dcgan", 2)
    solver, models = generation.Solver(how), [build(how)]
    first, second = (solver.generate(models, [4], torch.tensor([k]), 0) for k in (0, 1))
    assert not torch.allclose(first, second)
    torch.testing.assert_close(solver.generate(models, [9, 4], torch.tensor([0, 1]), 0)[1:], second, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_values_come_back_in_units_and_type(dtype: str) -> None:
    solver = generation.Solver(plan())
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0]).reshape(1, 2, 2)
    image = solver.image(values, Geometry.none((2, 2)), dtype)
    assert image.array.dtype == np.dtype(dtype)
    exact = [0, 127.5, 191.25, 255]
    assert image.array.ravel().tolist() == (exact if dtype == "float32" else [0, 128, 191, 255])


def test_whole_numbers_stay_within_their_type() -> None:
    wide = (Normalise(scope="dataset", low=-1000, high=1000, mean=0, std=1000),)
    image = generation.Solver(plan(normalise=wide)).image(torch.tensor([[[-1.0, 1.0]]]), Geometry.none((1, 2)), "uint8")
    assert image.array.ravel().tolist() == [0, 255]


def test_real_images_make_the_round_trip_through_the_plan() -> None:
    how = plan()
    array = np.random.default_rng(0).integers(0, 256, (1, 16, 16)).astype(np.uint8)
    tensor = prepare(Image(array, Geometry.none((16, 16))), how.grid, how.normalise).tensor
    again = generation.Solver(how).image(tensor, Geometry.none((16, 16)), "uint8")
    np.testing.assert_array_equal(again.array, array)


def test_targets_are_classes_or_nothing() -> None:
    solver = generation.Solver(plan(classes=2))
    where = place(Image(np.zeros((1, 16, 16)), Geometry.none((16, 16))), Grid(size=(16, 16)))
    assert solver.encode(Sample("a", (), target=1), where).tolist() == 1
    assert solver.encode(Sample("a", ()), where).tolist() == 0


def test_a_single_image_is_no_set(tmp_path: Path) -> None:
    one = Dataset((Sample("a", ()),), (), ("x",), None, "images", "one", tmp_path)
    with pytest.raises(InputError, match=r"TOO_FEW .*: found 1 image, expected at least 2"):
        generation.targets(one)
    generation.targets(Dataset((Sample("a", ()), Sample("b", ())), (), ("x",), None, "images", "two", tmp_path))


def test_a_discriminator_scores_and_a_flow_does_not() -> None:
    how = plan(classes=2)
    solver, network = generation.Solver(how), build(how)
    x = torch.randn(3, 1, 16, 16)
    judge: Any = network
    told = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1).expand(3, 2, 16, 16)
    expected: Tensor = judge.discriminator(x, told)
    torch.testing.assert_close(solver.score(network, x, 1), expected)
    flow = plan("flow")
    with pytest.raises(InputError, match="UNSUPPORTED_PAIR model flow"):
        generation.Solver(flow).score(build(flow), x, 0)


def test_figures_of_real_images_are_means_over_them() -> None:
    rows = [{"nearest": 1.0, "covered": 1.0, "recalled": 0.0}, {"nearest": 3.0, "covered": 0.0, "recalled": 0.0}]
    metrics = generation.Solver(plan()).metrics()
    found = metrics.summary(rows, ["p", "q"])
    assert (found["coverage"].value, found["recall"].value) == (0.5, 0.0)
    assert metrics.worth(rows[0]) > metrics.worth(rows[1])


class Held:
    """A lazy mask."""

    def __init__(self, image: Image) -> None:
        self.path, self.key, self.image = Path("m.png"), "m", image

    def __call__(self) -> Image:
        return self.image


def from_masks(model: str = "dcgan") -> Plan:
    classes = (Class(value=3, name="a"), Class(value=255, name="b"))
    how = plan(model, 2, task_options=generation.Options(masks=True))
    return how.model_copy(update={"classes": classes})


def test_masks_become_a_plane_for_each_class() -> None:
    solver = generation.Solver(from_masks())
    array = np.zeros((1, 32, 32), dtype=np.uint8)
    array[0, :16, :16], array[0, 20:, 20:] = 3, 255
    mask = Image(array, Geometry.none((32, 32)))
    encoded = solver.encode(Sample("a", (), target=Held(mask)), place(mask, Grid(size=(16, 16))))
    assert encoded.shape == (1, 16, 16)
    asked = solver.asked(torch.from_numpy(encoded)[None])
    assert asked is not None
    assert asked.shape == (1, 2, 16, 16)
    assert (asked[0, 0, :8, :8] == 1).all()
    assert (asked[0, 1, 10:, 10:] == 1).all()
    assert float(asked.sum()) == 64 + 36


def test_regions_that_overlap_are_planes_as_they_are() -> None:
    solver = generation.Solver(from_masks())
    target = torch.zeros(1, 2, 16, 16, dtype=torch.uint8)
    target[0, 0, :4], target[0, 1, 2:6] = 1, 1
    asked = solver.asked(target)
    assert asked is not None
    assert torch.equal(asked, target.float())


def test_a_mask_on_another_grid_is_refused() -> None:
    solver = generation.Solver(from_masks())
    image = Image(np.zeros((1, 32, 32)), Geometry.none((32, 32)))
    mask = Held(Image(np.zeros((1, 9, 9), dtype=np.uint8), Geometry.none((9, 9))))
    with pytest.raises(InputError, match=r"GRID_MISMATCH a: found a mask of \(9, 9\)"):
        solver.encode(Sample("a", (), target=mask), place(image, Grid(size=(16, 16))))


@pytest.mark.parametrize("model", TINY)
def test_another_mask_gives_another_image(model: str) -> None:
    how = from_masks(model)
    solver, models = generation.Solver(how), [build(how)]
    if model == "flow":
        for weight in models[0].parameters():  # many of which are zero at first
            torch.nn.init.normal_(weight, std=0.2)
    target = solver.blank(2)
    target[1, 0, :4, :4] = 1
    one, other = solver.generate([models[0]], [5, 5], target, 0)
    assert not torch.allclose(one, other)
