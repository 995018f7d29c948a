"""Whether a plan leaves images as they are, so that they can be the truth of a restoration."""

from __future__ import annotations

from hounsfield.core import plan as core
from hounsfield.core.errors import InputError
from hounsfield.data.degrade import Resolution


def check(plan: core.Plan, resolution: Resolution, *, finer: bool, pairs: bool) -> None:
    """finer: whether the resolution is raised. pairs: whether the channels are two acquisitions. Raises InputError BAD_PLAN."""
    axes, factor = resolution.along(plan.ndim), resolution.factor
    uneven = [p for k, p in enumerate(plan.patch) if k in axes and p % factor]
    whole = [-(-p // factor) * factor if k in axes else p for k, p in enumerate(plan.patch)]
    for key, wrong, found, expected, fix in (
        ("grid", plan.grid != core.Grid(), "voxels or sizes that the images do not have", "null: each image as it is", "null"),
        (
            "normalise",
            any(how.scope == "histogram" for how in plan.normalise),
            "scope histogram, which bends the values",
            "case or dataset",
            '--set normalise.0.scope="case"',
        ),
        (
            "task_options.resolution.axes",
            max(axes) >= plan.ndim or len(set(axes)) < len(axes),
            f"{list(axes)} in {plan.ndim}D",
            f"different axes from 0 to {plan.ndim - 1}",
            "name each axis once",
        ),
        (
            "patch",
            finer and bool(uneven),
            f"{list(plan.patch)}",
            f"multiples of {factor} along the axes {list(axes)}",
            f"--set patch={whole}",
        ),
        (
            "task_options.pairs",
            pairs and len(plan.channels) % 2 == 1,
            f"{len(plan.channels)} channel{'s' * (len(plan.channels) > 1)}",
            "two acquisitions of every image, such as the columns image_first and image_second of a manifest",
            "add the second one, or learn from single ones with --set task_options.blind=true",
        ),
    ):
        if wrong:
            raise InputError("BAD_PLAN", key, found=found, expected=expected, fix=fix)
