"""The plan of a generator: what it draws is whole images of one size, in values that lead back to the source's units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint, Intensity
from hounsfield.core.plan import Augment, Class, Decision, Grid, Inference, Normalise, Plan, Training
from hounsfield.models import MODELS
from hounsfield.models.parts.growth import of_axes
from hounsfield.tasks import TASKS

LARGEST = {"cpu": {2: 64, 3: 48}, "cuda": {2: 128, 3: 64}}  # sides of what is drawn, by kind of device
STEP = 8  # voxels: sides that are reduced divide by it, as the steps of networks do
BATCH = {2: 32, 3: 8}
RATE = 2e-4  # where the network has none of its own
PICTURE = (0.0, 255.0)
ENDS = (0.5, 99.5)  # percentiles of an image that become -1 and 1 where values differ from scan to scan


def decide(facts: Fingerprint, classes: tuple[Class, ...], task: str, model: str | None, seed: int, device: str) -> Plan:
    """As `rules.decide`, for a task whose kind is "generator"."""
    member = TASKS.load(task)
    name = model or member.MODEL
    network = MODELS.load(name)
    reasons = {"model": f"the default for {task}" if model is None else "chosen with --model"}
    size = _size(facts, device, reasons)
    voxel = tuple(s * n / m for s, n, m in zip(facts.spacing_median, facts.shape_median, size, strict=True))
    own = member.rules(facts)
    shape = network.rules(size, voxel)
    training = network.training() if hasattr(network, "training") else Decision({})
    batch = min(BATCH[facts.ndim], max(2, facts.cases))
    reasons["training.batch"] = f"{BATCH[facts.ndim]} images, of {facts.cases}"
    reasons["augment"] = "none: what is changed would be learned, and drawn"
    for group, decision in (("task_options", own), ("model_options", shape), ("training", training)):
        reasons |= {f"{group}.{key}": why for key, why in decision.reasons.items()}
    how: Mapping[str, Any] = {"lr": RATE, "weight_decay": 0.0, "foreground": 0.0, **training.changes, "batch": batch}
    return Plan(
        task=task,
        model=name,
        ndim=facts.ndim,
        classes=classes,
        channels=facts.channels,
        grid=Grid(size=size),
        normalise=_normalise(facts, reasons),
        patch=size,
        augment=Augment(probability=0.0),
        training=Training.parse(how, "model rules"),
        inference=Inference(),
        task_options=member.Options.parse(own.changes, "task rules"),
        model_options=network.Options.parse(shape.changes, "model rules"),
        seed=seed,
        reasons=reasons,
    )


def check(plan: Plan) -> None:
    """Raises InputError BAD_PLAN for a network of another size than the images, and for folds."""
    size = of_axes(getattr(plan.model_options, "size", plan.patch), plan.ndim)
    if size != plan.patch:
        raise InputError(
            "BAD_PLAN",
            "model_options.size",
            found=f"{list(size)} beside images of {list(plan.patch)}",
            expected="one size",
            fix=f"--set model_options.size=[{','.join(map(str, plan.patch))}]",
        )
    if plan.members.folds > 1:
        raise InputError(
            "BAD_PLAN",
            "--folds",
            found=f"{plan.members.folds} folds of a generator",
            expected="none: its images are compared with one held-out part",
            fix="leave --folds out, or --seeds to draw from several networks in turn",
        )


def _size(facts: Fingerprint, device: str, reasons: dict[str, str]) -> tuple[int, ...]:
    """The median image; where it is larger than what is drawn, in its proportions, by whole steps."""
    shape, most = facts.shape_median, LARGEST["cpu" if device == "cpu" else "cuda"][facts.ndim]
    scale = most / max(shape)
    size = tuple(max(STEP, round(n * scale / STEP) * STEP) for n in shape) if scale < 1 else tuple(shape)
    mixed = facts.shape_min != facts.shape_max
    stretched = f"; all from {_by(facts.shape_min)} to {_by(facts.shape_max)} are brought to it" if mixed else ""
    reasons["grid.size"] = f"median shape {_by(shape)}, sides of at most {most}{stretched}"
    return size


def _normalise(facts: Fingerprint, reasons: dict[str, str]) -> tuple[Normalise, ...]:
    """Values onto [-1, 1]; mean + std * value is the way back, into the source's units."""
    picture = facts.dtype == "uint8" and facts.space == "none"
    absolute = facts.modality == "CT" or picture
    what = facts.modality or facts.dtype
    reasons["normalise"] = (
        f"{what}: 0 to 255 become -1 to 1"
        if picture
        else f"{what}: the middle 99% of the values become -1 to 1, and back"
        if absolute
        else "values differ from scan to scan: the middle 99% of each become -1 to 1, and back the usual ones of all"
    )
    return tuple(_span(PICTURE if picture else _ends(i), absolute) for i in facts.intensity)


def _ends(intensity: Intensity) -> tuple[float, float]:
    return intensity.low, max(intensity.high, intensity.low + 1e-3)


def _span(ends: tuple[float, float], absolute: bool) -> Normalise:
    low, high = ends
    values = {"low": low, "high": high, "mean": (low + high) / 2, "std": (high - low) / 2}
    if absolute:
        return Normalise.parse({"scope": "dataset", **values}, "rules")
    landmarks = tuple(zip(ENDS, ends, strict=True))
    return Normalise.parse({"scope": "histogram", "landmarks": landmarks, **values}, "rules")


def _by(values: tuple[int, ...]) -> str:
    return "×".join(map(str, values))
