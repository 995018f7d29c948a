"""The network that a plan asks for, with whatever its task trains beside it."""

from __future__ import annotations

from torch import nn

from hounsfield.core.plan import Plan
from hounsfield.models import MODELS
from hounsfield.tasks import TASKS, Posing


def network(plan: Plan) -> nn.Module:
    """With fresh weights. Raises InputError UNSUPPORTED_PAIR for what the model cannot do."""
    solver, member = TASKS.load(plan.task).Solver(plan), MODELS.load(plan.model)

    def build(inputs: int, outputs: int) -> nn.Module:
        return member.build(plan.model_options, inputs, outputs, plan.ndim)

    return solver.network(build) if isinstance(solver, Posing) else build(len(plan.channels), solver.out_channels)
