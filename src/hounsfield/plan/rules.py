"""Decide: from a fingerprint to a plan, every value with a one-line reason that names the number behind it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan, Training
from hounsfield.models import MODELS
from hounsfield.tasks import TASKS

ANISOTROPIC = 3.0  # spacing ratio above which an axis is not treated like the others (Isensee et al. 2021)
# Voxels of the largest window and of a step, by kind of device: more voxels a step mean fewer steps in the same time.
WINDOW_VOXELS = {"cpu": {2: 2**18, 3: 2**18}, "cuda": {2: 2**20, 3: 2**21}}
STEP_VOXELS = {"cpu": 2**18, "cuda": 2**22}
LARGEST_IMAGE = {2: 224, 3: 64}  # sides to which whole-image models resize


def decide(facts: Fingerprint, classes: tuple[Class, ...], task: str, model: str | None, seed: int, device: str) -> Plan:
    """The plan before any budget, which then chooses width, precision and steps. device: "cpu" or an accelerator's type."""
    member = TASKS.load(task)
    name = model or member.MODEL
    reasons: dict[str, str] = {"model": f"the default for {task}" if model is None else "chosen with --model"}
    whole = member.KIND == "vector"
    grid = _grid(facts, whole, reasons)
    patch = grid.size if grid.size is not None else _patch(facts, grid, device, reasons)
    decision = member.rules(facts)
    reasons.update({f"task_options.{k}": v for k, v in decision.reasons.items()})
    network = MODELS.load(name)
    shape = network.rules(patch, _voxel(facts, grid))
    reasons.update({f"model_options.{k}": v for k, v in shape.reasons.items()})
    options = network.Options.parse(shape.changes, "model rules")
    if not whole:
        multiple = network.stride(options, facts.ndim)
        patch = tuple(-(-p // m) * m for p, m in zip(patch, multiple, strict=True))
    return Plan(
        task=task,
        model=name,
        ndim=facts.ndim,
        classes=classes,
        channels=facts.channels,
        grid=grid,
        normalise=_normalise(facts, reasons),
        patch=patch,
        augment=_augment(facts, patch, grid, whole, reasons),
        training=_training(facts, patch, whole, device, reasons),
        inference=Inference(),
        task_options=member.Options.parse(decision.changes, "task rules"),
        model_options=options,
        seed=seed,
        reasons=reasons,
    )


def _training(facts: Fingerprint, patch: tuple[int, ...], whole: bool, device: str, reasons: dict[str, str]) -> Training:
    step = STEP_VOXELS["cpu" if device == "cpu" else "cuda"]
    voxels = int(np.prod(patch))
    batch = int(np.clip(step // voxels, 2, min(32, max(2, facts.cases // 8))))
    reasons["training.batch"] = f"{voxels:,} voxels a window, about {step:,} a step, {facts.cases} cases"
    return Training(batch=batch, lr=2e-3 if whole else 3e-3, weight_decay=5e-2 if whole else 1e-2)


def _voxel(facts: Fingerprint, grid: Grid) -> tuple[float, ...]:
    """Side lengths of a model voxel, in mm or px."""
    if grid.size is not None:
        return tuple(s * n / m for s, n, m in zip(facts.spacing_median, facts.shape_median, grid.size, strict=True))
    return grid.spacing or facts.spacing_median


def _grid(facts: Fingerprint, whole: bool, reasons: dict[str, str]) -> Grid:
    if whole:
        largest = LARGEST_IMAGE[facts.ndim]
        scale = min(1.0, largest / max(facts.shape_median))
        size = tuple(max(1, round(n * scale)) for n in facts.shape_median)
        reasons["grid.size"] = f"median shape {_by(facts.shape_median)}, sides of at most {largest}"
        return Grid(size=size)
    if facts.space == "none":
        reasons["grid.spacing"] = "no spacing known: pixels as they come"
        return Grid(spacing=None)
    spacing = list(facts.spacing_median)
    coarse = int(np.argmax(spacing))
    if facts.anisotropy > ANISOTROPIC and facts.spacing_min[coarse] < spacing[coarse]:
        spacing[coarse] = max(facts.spacing_min[coarse], ANISOTROPIC * min(spacing))
        reasons["grid.spacing"] = f"median spacing, finer along the coarse axis ({facts.anisotropy:.1f} times the finest)"
    else:
        reasons["grid.spacing"] = f"median spacing {_by(facts.spacing_median, 3)} mm"
    return Grid(spacing=tuple(round(s, 4) for s in spacing))


def _patch(facts: Fingerprint, grid: Grid, device: str, reasons: dict[str, str]) -> tuple[int, ...]:
    """The median image, cut to the largest window with equal physical sides."""
    voxel = grid.spacing or facts.spacing_median
    shape = [n * a / b for n, a, b in zip(facts.shape_median, facts.spacing_median, voxel, strict=True)]
    limit = WINDOW_VOXELS["cpu" if device == "cpu" else "cuda"][facts.ndim]
    patch = np.array(shape)
    while np.prod(patch) > limit:
        patch[int(np.argmax(patch * np.array(voxel)))] *= 0.97
    reasons["patch"] = f"median shape {_by(shape)} on the model grid, at most {limit:,} voxels"
    return tuple(max(1, round(float(p))) for p in patch)


def _normalise(facts: Fingerprint, reasons: dict[str, str]) -> tuple[Normalise, ...]:
    picture = facts.dtype == "uint8" and facts.space == "none"
    absolute = facts.modality == "CT" or picture
    reasons["normalise"] = (
        f"{facts.modality or facts.dtype}: values mean the same in every case"
        if absolute
        else "values differ from scan to scan: each case by itself"
    )
    if not absolute:
        return tuple(Normalise(scope="case") for _ in facts.channels)
    return tuple(
        Normalise(scope="dataset", low=i.low, high=max(i.high, i.low + 1e-3), mean=i.mean, std=max(i.std, 1e-3))
        for i in facts.intensity
    )


def _augment(facts: Fingerprint, patch: tuple[int, ...], grid: Grid, whole: bool, reasons: dict[str, str]) -> Augment:
    turn = 15.0
    rotation: tuple[float, ...] = (turn,)
    voxel = _voxel(facts, grid)
    if facts.ndim == 3:
        flat = max(voxel) > ANISOTROPIC * min(voxel)
        rotation = (turn, 0.0, 0.0) if flat else (turn, turn, turn)
        where = "in the plane alone" if flat else "about every axis"
        reasons["augment.rotation"] = f"voxels {max(voxel) / min(voxel):.1f} times as long as wide: {where}"
    # The last canonical axis is left-right in patients; a picture without a patient space has it as its width.
    sided = [c.name for c in facts.classes if re.search(r"(?i)\b(left|right|[lr])\b", c.name.replace("_", " "))]
    mirror = () if sided else (facts.ndim - 1,)
    reasons["augment.mirror"] = f"{sided[0]!r} names a side" if sided else "left and right alone: no class names a side"
    return Augment(rotation=rotation, mirror=mirror, elastic=0.0 if whole else 1.0, low_resolution=1.5)


def _by(values: Any, digits: int = 0) -> str:
    return "×".join(f"{v:.{digits}f}" if digits else f"{round(v)}" for v in values)
