"""Plans of generators: one size, values that lead back to units, the network's own optimiser, and no change of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.plan.test_rules import facts, plan

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint, Intensity
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Members, Plan
from hounsfield.data.prepare import prepare
from hounsfield.models import MODELS
from hounsfield.plan import memory
from hounsfield.plan.rules import check
from hounsfield.plan.sizes import sized


def pictures(**changes: Any) -> Fingerprint:
    flat = {
        "ndim": 2,
        "space": "none",
        "dtype": "uint8",
        "spacing_min": (1, 1),
        "spacing_median": (1, 1),
        "spacing_max": (1, 1),
    }
    side = dict.fromkeys(("shape_min", "shape_median", "shape_max"), (256, 256))
    return facts(**{**flat, **side, "classes": (), **changes})


def drawn(found: Fingerprint, model: str | None = None, device: str = "cpu") -> Plan:
    return plan(found, "generation", model, device)


def test_large_pictures_are_reduced_to_what_the_device_can_draw() -> None:
    assert drawn(pictures()).grid.size == (64, 64)
    assert drawn(pictures(), device="cuda").grid.size == (128, 128)
    wide = pictures(shape_median=(100, 400))
    assert drawn(wide).grid.size == (16, 64)
    assert drawn(pictures(shape_median=(28, 30))).grid.size == (28, 30)


def test_volumes_keep_their_proportions_in_whole_steps() -> None:
    made = drawn(facts(shape_median=(36, 50, 35), classes=()))
    assert made.grid.size == made.patch == made.model_options.model_dump()["size"] == (32, 48, 32)
    assert made.ndim == 3


def test_critics_of_volumes_are_held_back_more() -> None:
    flat, solid = drawn(pictures()), drawn(facts(shape_median=(36, 50, 35), classes=()))
    assert (flat.task_options.model_dump()["penalty"], solid.task_options.model_dump()["penalty"]) == (1, 200)
    assert "3D" in solid.reasons["task_options.penalty"]


def test_mixed_sizes_are_said() -> None:
    assert (
        "all from 90×100 to 300×256 are brought to it"
        in drawn(pictures(shape_min=(90, 100), shape_max=(300, 256))).reasons["grid.size"]
    )
    assert "brought" not in drawn(pictures()).reasons["grid.size"]


def test_pictures_map_from_0_to_255() -> None:
    (how,) = drawn(pictures()).normalise
    assert (how.scope, how.low, how.high, how.mean, how.std) == ("dataset", 0, 255, 127.5, 127.5)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_values_become_minus_one_to_one_and_lead_back_to_units(modality: str) -> None:
    """Of a CT as they are, of an MR each scan's own percentiles onto the usual ones."""
    spread = Intensity(low=-200.0, median=10, high=600.0, mean=50, std=100)
    made = drawn(facts(modality=modality, intensity=(spread,), classes=()))
    scale = 1.0 if modality == "CT" else 3.0
    values = np.linspace(-200 * scale, 600 * scale, 20 * 24 * 20).reshape(1, 20, 24, 20).astype(np.float32)
    tensor = prepare(Image(values, Geometry.none((20, 24, 20))), made.grid, made.normalise).tensor
    assert float(tensor.min()) >= -1
    assert float(tensor.max()) <= 1
    (how,) = made.normalise
    back = tensor * how.std + how.mean
    assert float(back.min()) == pytest.approx(-200, abs=10)
    assert float(back.max()) == pytest.approx(600, abs=10)
    assert float(back.mean()) == pytest.approx(200, abs=5)


def test_nothing_changes_the_images() -> None:
    made = drawn(pictures())
    assert made.augment.probability == 0
    assert made.augment.mirror == ()
    assert not made.inference.mirror


@pytest.mark.parametrize("model", ["dcgan", "flow", "gan"])
def test_the_network_decides_on_its_optimiser_with_reasons(model: str) -> None:
    made = drawn(pictures(), model)
    own = MODELS.load(model).training()  # type: ignore[attr-defined]
    dumped = made.training.model_dump()
    for key, value in own.changes.items():
        assert dumped[key] == value, key
        assert key in ("warmup", "clip", "weight_decay") or made.reasons[f"training.{key}"] == own.reasons[key]
    assert made.training.batch == 32
    assert drawn(pictures(cases=9), model).training.batch == 9


def test_another_size_of_the_network_is_refused() -> None:
    made = drawn(pictures()).override({"model_options.size": [32, 64]}, "test")
    with pytest.raises(InputError, match=r"BAD_PLAN model_options.size: .*fix: --set model_options.size=\[64,64\]"):
        check(made)
    check(drawn(pictures()).override({"model_options.size": [64]}, "test"))


def test_folds_are_refused() -> None:
    made = drawn(pictures()).model_copy(update={"members": Members(folds=3)})
    with pytest.raises(InputError, match="BAD_PLAN --folds: found 3 folds of a generator"):
        check(made)


def test_images_that_show_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="TOO_FEW images: found 100 images, all of them constant"):
        drawn(pictures(constant_images=100))
    drawn(pictures(constant_images=99))


def test_a_size_by_a_word_has_about_as_many_parameters() -> None:
    made = sized(drawn(pictures()), "tiny")
    count = sum(p.numel() for p in MODELS.load("gan").build(made.model_options, 1, 0, 2).parameters())
    assert 0.6e6 < count < 1.5e6


@pytest.mark.parametrize("model", ["dcgan", "flow", "gan"])
def test_memory_is_predicted_by_the_player_that_keeps_most(model: str) -> None:
    """Of tensors without storage, gradients of gradients among them: nearly as much as a real step holds at once."""
    made = drawn(pictures(shape_median=(32, 32)), model).override({"model_options.width": 16}, "test")
    found = memory.predict(made, "cpu")
    image = 32 * 32 * 32 * 4
    assert found.activations > 20 * image
    doubled = memory.predict(made.override({"training.batch": 64}, "test"), "cpu")
    assert doubled.activations == pytest.approx(2 * found.activations, rel=0.1)


def test_too_little_memory_takes_a_smaller_batch_and_width_but_no_other_size() -> None:
    made = drawn(pictures())
    needed = memory.predict(made, "cpu").total
    smaller = [dict(changes) for changes, _ in memory._smaller(made, lambda *keys: True)]
    assert needed > 0
    assert not any("patch" in changes for changes in smaller)
    assert any("model_options.width" in changes for changes in smaller)
    assert torch.is_grad_enabled()
