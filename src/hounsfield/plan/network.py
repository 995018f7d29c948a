"""The network that a plan asks for, with whatever its task trains beside it."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from hounsfield.core.plan import Plan
from hounsfield.models import MODELS
from hounsfield.tasks import TASKS, Posing


def network(plan: Plan) -> nn.Module:
    """With fresh weights. Raises InputError UNSUPPORTED_PAIR for what the model cannot do."""
    return _network(plan, [])


def inner(whole: nn.Module, names: Collection[str]) -> nn.Module:
    """The model of the plan within what its task trains: the outermost part whose weights have these names."""
    wanted = set(names)
    return next(part for part in whole.modules() if set(part.state_dict()) == wanted)


def ends(plan: Plan) -> tuple[dict[str, tuple[int, ...]], frozenset[str], frozenset[str]]:
    """Shapes of the weights of the plan's model by name; names of those that follow the number of input channels, and of those
    that follow the number of outputs. Nothing is allocated."""
    model, asked = MODELS.load(plan.model), list[tuple[int, int]]()
    with torch.device("meta"):
        _network(plan, asked)
        inputs, outputs = asked[0]
        own, wider, longer = (
            model.build(plan.model_options, inputs + more, outputs + most, plan.ndim).state_dict()
            for more, most in ((0, 0), (1, 0), (0, 1))
        )

    def differing(other: dict[str, Tensor]) -> frozenset[str]:
        return frozenset(name for name, value in own.items() if other[name].shape != value.shape)

    return {name: tuple(value.shape) for name, value in own.items()}, differing(wider), differing(longer)


def _network(plan: Plan, asked: list[tuple[int, int]]) -> nn.Module:
    """asked: is told the channels in and out of the model."""
    solver, member = TASKS.load(plan.task).Solver(plan), MODELS.load(plan.model)

    def build(inputs: int, outputs: int) -> nn.Module:
        asked.append((inputs, outputs))
        return member.build(plan.model_options, inputs, outputs, plan.ndim)

    return solver.network(build) if isinstance(solver, Posing) else build(len(plan.channels), solver.out_channels)
