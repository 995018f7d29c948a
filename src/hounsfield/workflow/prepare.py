"""Every training case on the model grid, in the cache, before the first step."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.data.cache import Cache, Entry, default_cache, hold_small
from hounsfield.data.channels import read_case
from hounsfield.data.facts import CaseFacts
from hounsfield.data.prepare import CPU, place, prepare
from hounsfield.tasks import TASKS, Solver
from hounsfield.workflow.console import Console, first_few


def prepare_all(
    plan: Plan, samples: Sequence[Sample], facts: Mapping[str, CaseFacts], device: torch.device, console: Console
) -> dict[str, Entry]:
    """Every sample prepared in the cache, in threads, resampled on a CUDA `device` where there is one."""
    cache = default_cache()
    solver = TASKS.load(plan.task).Solver(plan)
    of_dataset = {"low", "high", "mean", "std", "landmarks"}
    scaling = (n.model_dump_json(exclude=of_dataset if n.scope == "case" else None) for n in plan.normalise)
    settings = "".join((*(p.model_dump_json() for p in (plan.grid, plan.task_options, *plan.classes)), *scaling))
    where = device if device.type == "cuda" else CPU
    keys = {s.id: Cache.key(settings, plan.task, *_parts(s)) for s in samples}
    cache.make_room({keys[s.id]: _entry_bytes(plan, facts[s.id]) for s in samples})

    def one(sample: Sample) -> tuple[str, Entry]:
        return sample.id, cache.get(keys[sample.id], sample.id, lambda: _prepare_one(plan, solver, sample, where))

    entries: dict[str, Entry] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, console.bar("preparing cases") as bar:
        for name, entry in pool.map(one, samples):
            entries[name] = entry
            bar(len(entries), len(samples))
    hold_small(entries.values())
    if cache.rebuilt:
        console.say(f"  cache: {len(cache.rebuilt)} damaged entries rebuilt ({first_few(sorted(cache.rebuilt))})")
    return entries


def _parts(sample: Sample) -> list[str]:
    """What a prepared case is made of."""
    target = sample.target.key if callable(sample.target) else repr(sample.target)
    return [
        f"{target} of {sample.known_classes}",
        sample.valid_mask.key if sample.valid_mask else "",
        *(image.key for image in sample.images),
    ]


def _entry_bytes(plan: Plan, case: CaseFacts) -> int:
    """Upper bound of a case in the cache: its model voxels, uncompressed, in 16 bits a channel and 8 for the target."""
    if plan.grid.size is not None:
        voxels = float(np.prod(plan.grid.size))
    else:
        voxels = float(np.prod(case.shape))
        if plan.grid.spacing is not None and case.space != "none":
            voxels *= float(np.prod(case.spacing)) / float(np.prod(plan.grid.spacing))
    return math.ceil(voxels * (2 * len(plan.channels) + 1))


def _prepare_one(
    plan: Plan, solver: Solver, sample: Sample, device: torch.device
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    image = read_case(sample, len(plan.channels))
    target = solver.encode(sample, place(image, plan.grid))
    return prepare(image, plan.grid, plan.normalise, device).tensor.cpu().numpy(), target


def grid_spacing(plan: Plan, facts: Fingerprint) -> tuple[float, ...]:
    """Voxel sides of the model grid."""
    if plan.grid.size is not None:
        sides = zip(facts.spacing_median, facts.shape_median, plan.grid.size, strict=True)
        return tuple(s * n / m for s, n, m in sides)
    return plan.grid.spacing or tuple(facts.spacing_median)
