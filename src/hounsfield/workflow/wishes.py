"""What each image that is to be drawn shall be: of no class, of a class, or from a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry, Space
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Class
from hounsfield.core.registry import nearest
from hounsfield.core.sample import LazyImage
from hounsfield.data.prepare import place, prepare_labels
from hounsfield.data.readers import open_dataset
from hounsfield.tasks import TASKS
from hounsfield.workflow.prepare import grid_spacing
from hounsfield.workflow.run import Run, draws_from_masks


@dataclass(frozen=True, eq=False)
class Wish:
    """One image. label: its class, None without; target: as the task encodes it; geometry: that it is drawn on; mask: from
    which it is drawn, in the source's values on that grid, None without."""

    label: str | None
    target: npt.NDArray[Any]
    geometry: Geometry
    mask: Image | None = None


def wishes(run: Run, label: str | None, masks: str | Path | None) -> Callable[[int], Wish]:
    """What image number k shall be. label: the class; None: of a run with classes all in turn. masks: a dataset whose masks are
    taken in turn, or a folder of masks; None: of a run that draws from masks those of its own training part.

    Raises InputError UNSUPPORTED_PAIR for a run of another task, BAD_OPTION for a class or masks that it has not, BAD_LABEL
    for masks with other values, and what reading them raises.
    """
    if TASKS.load(run.plan.task).KIND != "generator":
        raise InputError(
            "UNSUPPORTED_PAIR",
            run.root,
            found=f"a run of {run.plan.task}",
            expected="one of generation",
            fix="train one with hounsfield train DATA --task generation",
        )
    from_masks = draws_from_masks(run.plan)
    names = [] if from_masks else [c.name for c in run.plan.classes]
    if label is not None and label not in names:
        raise InputError(
            "BAD_OPTION",
            f"--class {label}",
            found="no such class" if names else "a run that draws from masks" if from_masks else "a run without classes",
            expected=f"one of {', '.join(names)}" if names else "no class",
            fix=nearest(label, names) if names else "leave --class out",
        )
    if masks is not None and not from_masks:
        raise InputError(
            "BAD_OPTION",
            "--masks",
            found="a run that does not draw from masks",
            expected="one that was trained with --set task_options.masks=true",
            fix="leave --masks out",
        )
    if from_masks:
        return _from_masks(run, _masks(run, masks))
    geometry = geometry_of(run)
    chosen = range(len(names)) if label is None else [names.index(label)]
    told = [Wish(names[k], np.array(k), geometry) for k in chosen] or [Wish(None, np.array(0), geometry)]
    return lambda number: told[number % len(told)]


def geometry_of(run: Run) -> Geometry:
    """The grid that a run draws on: of the median extent of what it learned from."""
    facts, size = run.fingerprint, run.plan.grid.size
    assert size is not None
    if facts.space == "none":
        return Geometry.none(size)
    return Geometry.from_spacing(size, grid_spacing(run.plan, facts), space=cast(Space, facts.space))


def _masks(run: Run, masks: str | Path | None) -> Sequence[LazyImage]:
    """Masks of a dataset, or images that are masks."""
    dataset = run.dataset().select(run.split.train) if masks is None else open_dataset(Path(masks))
    return [sample.target if callable(sample.target) else sample.images[0] for sample in dataset.samples]


def _from_masks(run: Run, masks: Sequence[LazyImage]) -> Callable[[int], Wish]:
    plan = run.plan
    values = np.array([0, *(c.value for c in plan.classes)])

    def of(number: int) -> Wish:
        lazy = masks[number % len(masks)]
        mask = lazy()
        _refuse_values(lazy.path, mask, plan.classes)
        where = place(mask, plan.grid)
        target = prepare_labels(mask, where, plan.classes).numpy()
        drawn = values[target] if len(target) == 1 else target
        kind = np.uint8 if drawn.max() <= np.iinfo(np.uint8).max else np.int32
        return Wish(None, target, where.geometry, Image(drawn.astype(kind), where.geometry, Meta("synthetic")))

    return of


def _refuse_values(path: Path, mask: Image, classes: Sequence[Class]) -> None:
    """Raises InputError BAD_LABEL for values that are no class; WRONG_DIMENSION is raised by `place`."""
    known = {0, *(c.value for c in classes)} if mask.channels == 1 else {0, 1}
    odd = sorted({float(v) for v in np.unique(mask.array)} - known)
    if odd or mask.channels not in (1, len(classes)):
        raise InputError(
            "BAD_LABEL",
            path,
            found=f"{mask.channels} channels with the values {', '.join(f'{v:g}' for v in odd[:5]) or 'of a mask'}",
            expected=f"a mask of {', '.join(f'{c.name} ({c.value})' for c in classes)}",
            fix="give masks with the values that the run learned from",
        )
