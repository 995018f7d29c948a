"""Decide: from a fingerprint to a plan, every value with a one-line reason that names the number behind it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint, Intensity, Spread
from hounsfield.core.plan import Augment, Class, Decision, Grid, Inference, Normalise, Options, Plan, Training
from hounsfield.models import MODELS, Model
from hounsfield.plan import generation_rules
from hounsfield.plan.image_rules import of_images, of_views, own_grid, without_norm
from hounsfield.plan.symmetry import NO_LAYOUT, Likeness
from hounsfield.tasks import TASKS, outputs

ANISOTROPIC = 3.0  # spacing ratio above which an axis is not treated like the others (Isensee et al. 2021)
# Voxels of the largest window and of a step, by kind of device: more voxels a step mean fewer steps in the same time.
# Vessels in 11 fundus photographs, three minutes on two cores: Dice 0.805 from windows of 256x256 by twos (1,626 steps), 0.790
# by fours (435), 0.801 from windows of 512x544 by twos (519).
WINDOW_VOXELS = {"cpu": {2: 2**16, 3: 2**18}, "cuda": {2: 2**20, 3: 2**21}}
STEP_VOXELS = {"cpu": {2: 2**17, 3: 2**18}, "cuda": {2: 2**22, 3: 2**22}}
LEAST_BATCH = {
    "dense": {2: 2, 3: 2},
    "vector": {2: 16, 3: 4},
    "boxes": {2: 4, 3: 2},
}  # a label for a whole image is a noisy gradient
# Of each random change. Hippocampus, 2,600 steps: Dice 0.8904 at 0.2, 0.8896 at 0.5. Breast ultrasound in a minute: AUROC 0.06
# less without changes (docs/results.md).
PROBABILITY = {"dense": 0.2, "vector": 0.5, "boxes": 0.5}
RATE = {"dense": (3e-3, 1e-2), "vector": (2e-3, 5e-2), "boxes": (2e-3, 1e-2)}  # peak of the cycle, and weight decay
TRIED_RATE = {
    "dense": "; a third of it gave 0.053 Dice less on hippocampi in a minute",
    "vector": "; a third of it gave the same AUROC within 0.02 on breast ultrasound",
    "boxes": "",
}
# Likeness of the cases below which no direction is special: things that are found by themselves share the light that falls on
# them (0.39 on blood cells), not a layout.
LAYOUT = {"dense": NO_LAYOUT, "vector": NO_LAYOUT, "boxes": 0.5}
SEEN = 12.0  # voxels that the smallest tenth of the boxes is wide, where the image has them
ALIKE = 1.25  # times that proportions of pictures may differ for all to be brought to one size
FOREGROUND = 0.33  # of the windows that do not hold a whole image are centred on a class
EMPTY = 0.5  # at most, of what a step sees, from cases without any box
WHOLE = 0.95  # of the median image in a window: then there is nothing to centre
MOST_FINER = 8.0  # times that a coarse axis is resampled finer
MOST_VIEWS = 4  # mirrored views of a prediction
SIDED = re.compile(r"(?i)\b(left|right|[lr])\b")  # in a class's name
FEW = 5  # cases below which nothing is said of the symmetry of a body part
# Images of 28 a side are learned better at 56: cross-validated AUROC on breast ultrasound, two ResNets of width 16 and 300
# steps, 0.899 in place of 0.878 (and of 0.887 after 800).
LEAST_IMAGE = {2: 56, 3: 1}
LARGEST_IMAGE = {2: 224, 3: 64}  # sides to which whole-image models resize


def decide(
    facts: Fingerprint,
    classes: tuple[Class, ...],
    task: str,
    model: str | None,
    seed: int,
    device: str,
    like: Options | None = None,
) -> Plan:
    """The plan before any budget, which then chooses width, precision and steps. device: "cpu" or an accelerator's type. like:
    the options of the model, where weights are at hand for it."""
    member = TASKS.load(task)
    name, _, inner = (model or member.MODEL).partition(":")
    truth = getattr(member, "TRUTH", "labels")
    images = truth == "image"
    reasons: dict[str, str] = {"model": f"the default for {task}" if model is None else "chosen with --model"}
    network = MODELS.load(name)
    fitting = outputs(member)
    kind = network.OUTPUT if network.OUTPUT in fitting else fitting[0]
    if int(np.prod(facts.shape_max)) <= 1:
        raise InputError(
            "WRONG_DIMENSION",
            "images",
            found=f"shapes of {_by(facts.shape_max)}",
            expected="more than one voxel to tell apart",
            fix="check how they were exported",
        )
    if kind == "generator":
        return generation_rules.decide(facts, classes, task, model, seed, device)
    grid = own_grid(reasons) if images else _grid(facts, kind, device, reasons)
    patch = grid.size if grid.size is not None else _patch(facts, grid, device, reasons)
    decision = member.rules(facts)
    reasons.update({f"task_options.{k}": v for k, v in decision.reasons.items()})
    if like is not None:
        options, reasons["model_options"] = like, "--init: those of the network whose weights they are"
    else:
        shape = network.rules(patch, _voxel(facts, grid), _smallest(facts, grid))
        shape = without_norm(shape, network.Options) if images else shape
        reasons.update({f"model_options.{k}": v for k, v in shape.reasons.items()})
        own = {**shape.changes, **_named(network.Options, name, inner, reasons)}
        options = network.Options.parse(own, "model rules")
    multiple = network.stride(options, facts.ndim)
    patch = tuple(_multiple(p, n, m) for p, n, m in zip(patch, _shape(facts, grid), multiple, strict=True))
    if grid.size is not None:
        grid = grid.model_copy(update={"size": patch})
    made = Plan(
        task=task,
        model=name,
        ndim=facts.ndim,
        classes=classes,
        channels=facts.channels,
        grid=grid,
        normalise=_normalise(facts, reasons),
        patch=patch,
        augment=(augment := _augment(facts, patch, grid, kind, reasons)),
        training=_own(network, _training(facts, patch, grid, kind, device, reasons), reasons),
        inference=_inference(augment, grid.size is not None, reasons),
        task_options=member.Options.parse(decision.changes, "task rules"),
        model_options=options,
        seed=seed,
        reasons=reasons,
    )
    if truth == "view":
        return of_views(made)
    return of_images(made, facts) if images else made


def _named(options: type[Options], model: str, name: str, reasons: dict[str, str]) -> dict[str, str]:
    """What `--model MODEL:NAME` says beside the model. Raises InputError BAD_OPTION for a model that is one network alone."""
    if not name:
        return {}
    if "name" not in options.model_fields:
        raise InputError(
            "BAD_OPTION", f"--model {model}:{name}", found=f"a name behind {model}", expected="none", fix=f"--model {model}"
        )
    reasons["model_options.name"] = "chosen with --model"
    return {"name": name}


def check(plan: Plan) -> None:
    """Raises InputError UNSUPPORTED_PAIR for a network that cannot do it, BAD_PLAN for values that exclude each other, or as
    `generation_rules.check` does."""
    check_pair(plan.task, plan.model)
    if TASKS.load(plan.task).KIND == "generator":
        generation_rules.check(plan)
    multiple = MODELS.load(plan.model).stride(plan.model_options, plan.ndim)
    if any(p % m for p, m in zip(plan.patch, multiple, strict=True)):
        nearest = str([max(m, round(p / m) * m) for p, m in zip(plan.patch, multiple, strict=True)]).replace(" ", "")
        whole = "" if plan.grid.size is None else f" --set grid.size={nearest}"
        raise InputError(
            "BAD_PLAN",
            "patch",
            found=f"{list(plan.patch)} beside the strides of the network",
            expected=f"multiples of {list(multiple)}",
            fix=f"--set patch={nearest}{whole}",
        )


def check_pair(task: str, model: str) -> None:
    """Raises InputError UNSUPPORTED_PAIR for a model that gives what the task cannot use, UNKNOWN_MEMBER."""
    member, network = TASKS.load(task), MODELS.load(model)
    if network.OUTPUT not in outputs(member):
        raise InputError(
            "UNSUPPORTED_PAIR",
            f"--model {model}",
            found=f"a {network.OUTPUT} output",
            expected=f"a {' or '.join(outputs(member))} output for {task}",
            fix=f"--model {member.MODEL}",
        )


def _training(
    facts: Fingerprint, patch: tuple[int, ...], grid: Grid, kind: str, device: str, reasons: dict[str, str]
) -> Training:
    whole = kind == "vector"
    step = STEP_VOXELS["cpu" if device == "cpu" else "cuda"][facts.ndim]
    least = LEAST_BATCH[kind][facts.ndim]
    voxels = int(np.prod(patch))
    batch = min(max(least, step // voxels), 32, max(2, facts.cases // 8))
    reasons["training.batch"] = f"{voxels:,} voxels a window, about {step:,} a step, {facts.cases} cases"
    rate, decay = RATE[kind]
    reasons["training.lr"] = "AdamW on one cycle" + TRIED_RATE[kind]
    reasons["training.ema"] = "the rate anneals to nothing: an average of the last weights changed figures by -0.002"
    reasons["training.weight_decay"] = "whole images: a label for each" if whole else "labels all over the image"
    if whole:
        return Training(batch=batch, lr=rate, weight_decay=decay, foreground=0.0)
    held = facts.shape_median if grid.size is None else grid.size
    seen = np.prod([min(1.0, p / n) for p, n in zip(patch, held, strict=True)])
    of = "boxes" if kind == "boxes" else "voxels"
    empty = EMPTY if kind == "boxes" and facts.empty_masks > EMPTY * facts.cases else None
    if empty is not None:
        there = f"{facts.empty_masks} of {facts.cases} cases have no box"
        reasons["training.empty"] = f"{there}: more than half of a step would show what is not there"
    rarest = f"; the rarest class is {min(c.fraction for c in facts.classes):.2%} of the {of}" if facts.classes else ""
    whole_image = bool(seen > WHOLE)
    share = "no window centred on a class" if whole_image else "a third of the windows centred on a class"
    reasons["training.foreground"] = f"{share}: one holds {seen:.0%} of the median image{rarest}"
    return Training(batch=batch, lr=rate, weight_decay=decay, foreground=0.0 if whole_image else FOREGROUND, empty=empty)


def _own(network: Model, usual: Training, reasons: dict[str, str]) -> Training:
    """With what the network decides by itself."""
    if not hasattr(network, "training"):
        return usual
    own: Decision = network.training()
    reasons.update({f"training.{key}": why for key, why in own.reasons.items()})
    return Training.parse({**usual.model_dump(), **own.changes}, "model rules")


def _inference(augment: Augment, whole: bool, reasons: dict[str, str]) -> Inference:
    views = 2 ** len(augment.mirror)
    mirror = 1 < views <= MOST_VIEWS
    reasons["inference.mirror"] = (
        f"the mean of {views} mirrored views that the training knows"
        if mirror
        else "no mirror image is possible"
        if views == 1
        else f"{views} views would cost more than they bring"
    )
    if not whole:
        reasons["inference.overlap"] = "half a window: every voxel is seen near the middle of one"
    return Inference(mirror=mirror)


def _voxel(facts: Fingerprint, grid: Grid) -> tuple[float, ...]:
    """Side lengths of a model voxel, in mm or px."""
    if grid.size is not None:
        return tuple(s * n / m for s, n, m in zip(facts.spacing_median, facts.shape_median, grid.size, strict=True))
    return grid.spacing or facts.spacing_median


def _smallest(facts: Fingerprint, grid: Grid) -> tuple[float, ...] | None:
    """The side that a tenth of the boxes stays below, per axis in voxels of the model grid; None without boxes."""
    sides = [c.box_sides for c in facts.classes if c.box_sides]
    if not sides:
        return None
    least = [min(_tenth(spreads[k]) for spreads in sides) for k in range(facts.ndim)]
    voxel = _voxel(facts, grid)
    return tuple(n * a / b for n, a, b in zip(least, facts.spacing_median, voxel, strict=True))


def _tenth(spread: Spread) -> float:
    """The number that a tenth of those counted stays below, evenly spread within each bin."""
    counts = np.cumsum((0, *spread.histogram))
    return float(np.interp(0.1 * counts[-1], counts, spread.edges)) if counts[-1] else spread.min


def _picture_grid(facts: Fingerprint, device: str, reasons: dict[str, str]) -> Grid | None:
    """One size for all pictures of nearly the same proportions: as many voxels as a step holds, and more where the small boxes
    would else be lost; None where proportions differ."""
    low, high = facts.shape_min, facts.shape_max
    if max(high[0] * low[1], high[1] * low[0]) > ALIKE * min(high[0] * high[1], facts.shape_median[0] * facts.shape_median[1]):
        return None
    shape, limit = facts.shape_median, STEP_VOXELS["cpu" if device == "cpu" else "cuda"][2]
    smallest = _smallest(facts, Grid()) or (SEEN, SEEN)
    scale = min(1.0, max((limit / (shape[0] * shape[1])) ** 0.5, SEEN / min(smallest)))
    size = tuple(max(1, round(n * scale)) for n in shape)
    wide = f"the smallest tenth of the boxes is then {min(smallest) * scale:.0f} wide"
    reasons["grid.size"] = f"median shape {_by(shape)}, about {limit:,} voxels; {wide}"
    return Grid(size=size)


def _grid(facts: Fingerprint, kind: str, device: str, reasons: dict[str, str]) -> Grid:
    if kind == "boxes" and facts.ndim == 2 and (grid := _picture_grid(facts, device, reasons)) is not None:
        return grid
    if kind == "vector":
        longest, largest, least = max(facts.shape_median), LARGEST_IMAGE[facts.ndim], LEAST_IMAGE[facts.ndim]
        scale = min(1.0, largest / longest) if longest >= least else float(round(least / longest))
        size = tuple(max(1, round(n * scale)) for n in facts.shape_median)
        enlarged = f", enlarged towards {least}" if scale > 1 else ""
        reasons["grid.size"] = f"median shape {_by(facts.shape_median)}, sides of at most {largest}{enlarged}"
        return Grid(size=size)
    if facts.space == "none":
        reasons["grid.spacing"] = "no spacing known: pixels as they come"
        return Grid(spacing=None)
    spacing = list(facts.spacing_median)
    coarse = int(np.argmax(spacing))
    if facts.anisotropy > ANISOTROPIC and facts.spacing_min[coarse] < spacing[coarse]:
        spacing[coarse] = max(facts.spacing_min[coarse], ANISOTROPIC * min(spacing), spacing[coarse] / MOST_FINER)
        reasons["grid.spacing"] = f"median spacing, finer along the coarse axis ({facts.anisotropy:.1f} times the finest)"
    else:
        reasons["grid.spacing"] = f"median spacing {_by(facts.spacing_median, 3)} mm"
    return Grid(spacing=tuple(float(f"{s:.6g}") for s in spacing))


def _patch(facts: Fingerprint, grid: Grid, device: str, reasons: dict[str, str]) -> tuple[int, ...]:
    """The median image, cut to the largest window with equal physical sides."""
    voxel = grid.spacing or facts.spacing_median
    shape = _shape(facts, grid)
    limit = WINDOW_VOXELS["cpu" if device == "cpu" else "cuda"][facts.ndim]
    patch = np.array(shape)
    while np.prod(patch) > limit:
        patch[int(np.argmax(patch * np.array(voxel)))] *= 0.97
    reasons["patch"] = f"median shape {_by(shape)} on the model grid, at most {limit:,} voxels"
    return tuple(max(1, round(float(p))) for p in patch)


def _shape(facts: Fingerprint, grid: Grid) -> list[float]:
    """The median image on the model grid, in voxels."""
    voxel = grid.spacing or facts.spacing_median
    return [n * a / b for n, a, b in zip(facts.shape_median, facts.spacing_median, voxel, strict=True)]


def _multiple(patch: int, image: float, of: int) -> int:
    """The multiple of `of` that holds the image where the window does, else the nearest to the window."""
    return -(-patch // of) * of if patch >= round(image) else max(of, round(patch / of) * of)


def _normalise(facts: Fingerprint, reasons: dict[str, str]) -> tuple[Normalise, ...]:
    picture = facts.dtype == "uint8" and facts.space == "none"
    absolute = facts.modality == "CT" or picture
    reasons["normalise"] = (
        f"{facts.modality or facts.dtype}: values mean the same in every case"
        if absolute
        else "values differ from scan to scan: each case by itself"
    )
    if not absolute:
        return tuple(_each_case(i) for i in facts.intensity)
    return tuple(
        Normalise(scope="dataset", low=i.low, high=max(i.high, i.low + 1e-3), mean=i.mean, std=max(i.std, 1e-3))
        for i in facts.intensity
    )


def _each_case(intensity: Intensity) -> Normalise:
    """With the standard histogram of the training part at hand, for who sets the scope to "histogram"."""
    if not intensity.landmarks:
        return Normalise(scope="case")
    levels, values = np.array(intensity.landmarks).T
    # Evenly spread between the landmarks, and on the ends beyond them.
    shares, middles = np.diff(levels) / 100, (values[1:] + values[:-1]) / 2
    mean = float(shares @ middles + (1 - levels[-1] / 100) * values[-1] + levels[0] / 100 * values[0])
    square = shares @ (middles**2 + np.diff(values) ** 2 / 12) + (1 - levels[-1] / 100) * values[-1] ** 2
    std = float(max(square - mean**2, 1e-6)) ** 0.5
    return Normalise(scope="case", low=0.0, high=1.0, mean=round(mean, 6), std=round(std, 6), landmarks=intensity.landmarks)


def _augment(facts: Fingerprint, patch: tuple[int, ...], grid: Grid, kind: str, reasons: dict[str, str]) -> Augment:
    whole = kind == "vector"
    turn = 15.0
    rotation: tuple[float, ...] = (turn,)
    voxel = _voxel(facts, grid)
    if facts.ndim == 3:
        flat = max(voxel) > ANISOTROPIC * min(voxel)
        rotation = (turn, 0.0, 0.0) if flat else (turn, turn, turn)
        where = "in the plane alone" if flat else "about every axis"
        reasons["augment.rotation"] = f"voxels {max(voxel) / min(voxel):.1f} times as long as wide: {where}"
    mirror = _mirror(facts, kind, reasons)
    probability = PROBABILITY[kind]
    labels = (
        f"{facts.cases} labels"
        if whole
        else f"{sum(c.boxes for c in facts.classes):,} boxes"
        if kind == "boxes"
        else f"{facts.voxels or facts.cases * int(np.prod(facts.shape_median)):,} labelled voxels"
    )
    reasons["augment.probability"] = f"{labels}: {'many, which need less change' if kind == 'dense' else 'few'}"
    return Augment(
        probability=probability, rotation=rotation, mirror=mirror, elastic=1.0 if kind == "dense" else 0.0, low_resolution=1.5
    )


def _mirror(facts: Fingerprint, kind: str, reasons: dict[str, str]) -> tuple[int, ...]:
    """The axes along which a mirror image could be, as measured; never left-right where a class names a side."""
    last = facts.ndim - 1  # left-right in patients; a picture without a patient space has it as its width
    sided = [c.name for c in facts.classes if SIDED.search(c.name.replace("_", " "))]
    if facts.cases < FEW or not facts.alike_mirrored:
        allowed, why = {last}, f"left and right alone, as {facts.cases} cases do not tell"
    else:
        found = Likeness(facts.alike, facts.alike_mirrored)
        allowed = {axis for axis in range(facts.ndim) if found.allows(axis, LAYOUT[kind])}
        each = ", ".join(f"{value:.2f}" for value in facts.alike_mirrored)
        why = f"cases correlate by {facts.alike:.2f} with the mean of the others, mirrored along each axis by {each}"
    if sided:
        allowed -= {last}
        why = f"{sided[0]!r} names a side; {why}"
    reasons["augment.mirror"] = why
    return tuple(sorted(allowed))


def _by(values: Any, digits: int = 0) -> str:
    return "×".join(f"{v:.{digits}f}" if digits else f"{round(v)}" for v in values)
