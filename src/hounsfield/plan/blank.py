"""Batches as a task encodes them, whose values say nothing: what a step is traced and measured on."""

from __future__ import annotations

import torch

from hounsfield.core.plan import Plan
from hounsfield.data.loader import Batch
from hounsfield.tasks import TASKS, Blank, Solver

BOXES = 32  # of an image, for the target's size


def target_bytes(plan: Plan, solver: Solver, voxels: int) -> int:
    """Bytes of one sample's target."""
    if isinstance(solver, Blank):
        return solver.blank(1).nbytes
    outputs = solver.out_channels
    kind = TASKS.load(plan.task).KIND
    if kind == "vector":
        return 8 * outputs
    if kind == "boxes":
        return 4 * BOXES * (2 * plan.ndim + 1)
    return voxels * (outputs if getattr(plan.task_options, "regions", False) else 1)


def blank_batch(plan: Plan, solver: Solver, size: int) -> Batch:
    """`size` samples as the task encodes them."""
    options, outputs = plan.task_options, solver.out_channels
    image = torch.zeros(size, len(plan.channels), *plan.patch)
    kind = TASKS.load(plan.task).KIND
    if isinstance(solver, Blank):
        target = solver.blank(size)
    elif kind == "boxes":
        target = torch.zeros(size, BOXES, 2 * plan.ndim + 1)
    elif kind == "vector":
        target = torch.zeros((size, outputs) if getattr(options, "multilabel", False) else (size,), dtype=torch.int64)
    else:
        regions = outputs if getattr(options, "regions", False) else 1
        target = torch.zeros(size, regions, *plan.patch, dtype=torch.uint8)
    return Batch(image, target, ("",) * size)
