"""The network of a plan, and what its task trains beside it."""

from __future__ import annotations

import pytest
import torch
from tests.plan.test_rules import facts, plan

from hounsfield.plan.memory import predict
from hounsfield.plan.network import network
from hounsfield.plan.sizes import parameters


def test_a_task_decides_on_inputs_and_on_what_is_beside() -> None:
    usual = plan(facts(), "segmentation")
    assert network(usual)(torch.zeros(1, 1, *usual.patch)).shape[1] == 2
    made = plan(facts(classes=()), "restoration").override({"task_options.repair": "inpaint"}, "")
    alone = network(made).eval()
    assert alone(torch.zeros(1, 2, *made.patch)).shape == (1, 1, *made.patch)
    both = made.override({"task_options.adversarial": 0.1}, "")
    assert {name.split(".")[0] for name, _ in network(both).named_parameters()} == {"generator", "discriminator"}
    assert parameters(both) > parameters(made)


@pytest.mark.parametrize("repair", ["denoise", "inpaint", "upscale"])
@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_memory_is_predicted_for_every_player(repair: str, adversarial: float) -> None:
    """A trace that ended early would see the weights alone."""
    made = plan(facts(classes=()), "restoration").override({"task_options.repair": repair}, "")
    found = predict(made.override({"task_options.adversarial": adversarial}, ""), "cpu")
    kept = predict(plan(facts(), "segmentation"), "cpu").activations
    assert found.activations > 0.5 * kept
