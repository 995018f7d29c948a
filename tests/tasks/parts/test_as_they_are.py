"""Plans under which images are not what they were are refused, each by the key that says so."""

from __future__ import annotations

from typing import Any

import pytest
from tests.tasks.test_restoration import plan

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Grid
from hounsfield.data.degrade import Resolution
from hounsfield.tasks.parts.as_they_are import check


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_plan_that_changes_nothing_passes(ndim: int) -> None:
    check(plan(ndim), Resolution(), finer=True, pairs=False)
    check(plan(ndim, channels=2, patch=(15,) * ndim), Resolution(), finer=False, pairs=True)
    check(plan(ndim, patch=(15, *(16,) * (ndim - 1))), Resolution(axes=(1,), factor=4), finer=True, pairs=False)


@pytest.mark.parametrize(
    ("changes", "resolution", "asked", "line"),
    [
        ({"grid": Grid(size=(16, 16))}, {}, {}, "BAD_PLAN grid: found voxels or sizes that the images do not have"),
        ({}, {"axes": (0, 0)}, {}, r"BAD_PLAN task_options.resolution.axes: found \[0, 0\] in 2D"),
        ({"patch": (16, 15)}, {}, {"finer": True}, r"BAD_PLAN patch: found \[16, 15\].*--set patch=\[16, 16\]"),
        ({"channels": 3}, {}, {"pairs": True}, "BAD_PLAN task_options.pairs: found 3 channels, expected two acquisitions"),
    ],
)
def test_a_plan_that_does_is_refused(
    changes: dict[str, Any], resolution: dict[str, Any], asked: dict[str, bool], line: str
) -> None:
    how = plan(channels=changes.pop("channels", 1)).model_copy(update=changes)
    with pytest.raises(InputError, match=line):
        check(how, Resolution(**resolution), **{"finer": False, "pairs": False, **asked})
