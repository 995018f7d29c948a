"""A step is traced without memory: operations are those of torch's counter, and maps computed again are counted once."""

from __future__ import annotations

import pytest
import torch
from tests.plan.test_memory import changed
from tests.plan.test_rules import facts, plan
from torch.utils.flop_counter import FlopCounterMode

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts
from hounsfield.core.plan import Plan
from hounsfield.models import MODELS
from hounsfield.models.parts.attention import MultiHeadAttention
from hounsfield.models.parts.blocks import recompute
from hounsfield.plan.memory import predict
from hounsfield.plan.trace import flops, traced
from hounsfield.tasks import TASKS


def small(task: str, model: str, **changes: object) -> Plan:
    return changed(plan(facts(), task, model), **changes)


@pytest.mark.parametrize(("task", "model", "width"), [("segmentation", "unet", 8), ("classification", "resnet", 8)])
def test_operations_are_those_of_torch_s_own_counter(task: str, model: str, width: int) -> None:
    made = small(task, model, model_options__width=width)
    outputs = TASKS.load(task).Solver(made).out_channels
    with torch.device("meta"):
        network = MODELS.load(model).build(made.model_options, 1, outputs, 3).train()
        counter = FlopCounterMode(display=False)
        with counter:
            network(torch.zeros(made.training.batch, 1, *made.patch))
    assert traced(made, "cpu").flops == counter.get_total_flops()


def test_attention_counts_as_two_products() -> None:
    made = small("classification", "vit", model_options__width=64)
    network = MODELS.load("vit").build(made.model_options, 1, 2, 3)
    layers = sum(isinstance(m, MultiHeadAttention) for m in network.modules())
    more = changed(made, model_options__registers=4 + 16)
    patches = 1
    for side, cut in zip(made.patch, MODELS.load("vit").stride(made.model_options, 3), strict=True):
        patches *= side // cut
    few, many = patches + 4, patches + 20
    each = 12 * 64 * 64 * 2 * 16  # of 16 tokens more: queries, keys, values, what is told, and both layers
    attended = 4 * 64 * (many**2 - few**2)
    grown = traced(more, "cpu").flops - traced(made, "cpu").flops
    assert grown == layers * made.training.batch * (each + attended)


def test_a_step_is_three_passes_of_every_part_and_four_where_maps_are_computed_again() -> None:
    made = small("segmentation", "unet", model_options__width=8)
    one = traced(made, "cpu").flops
    assert flops(made) == 3 * one
    assert flops(changed(made, training__accumulate=4)) == 12 * one
    assert flops(changed(made, training__recompute=True)) == 4 * one


@pytest.mark.parametrize(
    ("task", "model", "width"), [("segmentation", "unet", 8), ("classification", "vit", 32), ("classification", "resnet", 8)]
)
def test_what_is_kept_where_units_are_computed_again_is_what_autograd_then_keeps(task: str, model: str, width: int) -> None:
    made = small(task, model, model_options__width=width)
    found = traced(made, "cpu")
    assert found.recomputed is not None
    assert found.recomputed < found.activations
    outputs = TASKS.load(task).Solver(made).out_channels
    network = MODELS.load(model).build(made.model_options, 1, outputs, 3).train()
    recompute(network)
    own = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        if value.untyped_storage().data_ptr() not in own:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        out = network(torch.randn(made.training.batch, 1, *made.patch))
    assert sum(kept.values()) < found.recomputed  # beside what units are given, and the largest of them as it is computed again
    del out


def test_a_network_without_units_cannot_be_computed_again() -> None:
    flat = facts(
        ndim=2, space="none", classes=tuple(ClassFacts(value=k, name=f"c{k}", cases=50, fraction=0.5) for k in range(2)),
        **{f"shape_{key}": (64, 64) for key in ("min", "median", "max")},
        **{f"spacing_{key}": (1.0, 1.0) for key in ("min", "median", "max")},
    )  # fmt: skip
    made = plan(flat, "classification", "lenet")
    assert traced(made, "cpu").recomputed is None
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR --set training.recompute: found lenet, .*recompute=false"):
        predict(changed(made, training__recompute=True), "cpu")
