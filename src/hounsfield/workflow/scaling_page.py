"""The page of a scaling study: the answers first, then the charts and trainings behind them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

import hounsfield
from hounsfield.workflow.charts import Chart
from hounsfield.workflow.cover import millions
from hounsfield.workflow.ladders.study import MORE, Study, Training
from hounsfield.workflow.page import render
from hounsfield.workflow.run import write_text
from hounsfield.workflow.svg import Axes, chart
from hounsfield.workflow.tables import title

POINTS: Final = 60  # of a drawn law
ROOM: Final = 1.15  # times the drawn numbers, that axes reach beyond them


def write_page(found: Study, path: Path) -> None:
    """One file without scripts or network, by rename."""
    write_text(path, render("scaling.html.jinja", _content(found)))


def _content(found: Study) -> dict[str, Any]:
    return {
        "version": hounsfield.__version__,
        "today": f"{date.today():%d %B %Y}".lstrip("0"),
        "found": found,
        "verdict": _verdict(found),
        "said": list(found.said()),
        "charts": [_by_cases(found), *([_by_size(found)] if found.sizes else [])],
        "rows": [(t.name, f"{t.n:,}", millions(t.parameters), f"{t.steps:,}", t.error.text()) for t in found.trainings],
        "figure": title(found.about.metric),
    }


def _verdict(found: Study) -> tuple[str, str]:
    """The answer to whether more data would help, in a few words, and the state that colours it."""
    if found.falls is None:
        return "Whether more data would help cannot be told", "warning"
    if not found.falls:
        return f"More {found.about.unit} of this kind would not be seen to help", "warning"
    if found.check is not None and found.check.inside is False:
        return f"More {found.about.unit} would help, by how much is unsure", "warning"
    twice = found.more[0].ratio
    return f"Twice the {found.about.unit} would take {1 - twice.value:.0%} off the error", "good"


def _by_cases(found: Study) -> Chart:
    """Errors over numbers of cases, the law with its interval, and what was predicted of the whole."""
    parts = found.parts
    x = (min(t.n for t in parts) / ROOM, (MORE[-1] if found.law else 1) * found.whole.n * ROOM)
    at = np.geomspace(*x, POINTS)
    marks: list[str] = []
    axes = Axes(x, _range(parts, [more.error.value for more in found.more]), logarithmic=True)
    about = f"errors on the validation part, with 95% intervals, over the {found.about.unit} that were learned from"
    if found.law is not None:
        value, low, high = found.law.curve(at)
        if np.isfinite(low).all():
            marks.append(axes.band(at, low, high, opacity=0.16, about="where a training is expected, 95%"))
        marks.append(axes.line(at, value, about="the law"))
        about += "; the line is the law of all trainings, the band where one more would lie"
    if found.check is not None and found.check.predicted.known:
        own = found.check
        ends = np.array([own.predicted.low, own.predicted.high])
        told = f"predicted from the smaller parts: {own.predicted.text()}"
        marks.append(axes.line(np.array([own.n, own.n]), ends, "second", width=7, opacity=0.4, about=told))
        about += "; the broad bar is what the smaller parts alone predict of the whole, the diamond what it measured: "
        about += "inside" if own.inside else "outside"
    marks += _marked(axes, parts[1:], [float(t.n) for t in parts[1:]])
    marks += _marked(axes, parts[:1], [float(found.whole.n)], diamond=True)
    return Chart("More data", about, chart(axes, marks, f"training {found.about.unit}", f"error ({found.about.error})"))


def _by_size(found: Study) -> Chart:
    """Errors over millions of parameters, at equal time; the recommended size is a diamond."""
    x = [t.parameters / 1e6 for t in found.sizes]
    axes = Axes((min(x) / ROOM, max(x) * ROOM), _range(found.sizes, []), logarithmic=True)
    marks: list[str] = []
    for training, size in zip(found.sizes, x, strict=True):
        marks += _marked(axes, [training], [size], diamond=training is found.recommended)
    about = "error of each size, trained on the whole training part for the same time; the diamond is the one to take"
    return Chart("Size of the network", about, chart(axes, marks, "million parameters", f"error ({found.about.error})"))


def _marked(axes: Axes, trainings: Sequence[Training], x: Sequence[float], *, diamond: bool = False) -> list[str]:
    """A mark for each training with an error above 0, over the line of its interval."""
    marks = []
    for training, at in zip(trainings, x, strict=True):
        error = training.error
        if not error.value > 0:
            continue
        if error.known:
            ends = np.array([max(error.low, axes.y[0]), error.high])
            marks.append(axes.line(np.array([at, at]), ends, width=1, opacity=0.7))
        told = f"{training.name}: {error.text()}"
        marks.append(
            axes.diamond(at, error.value, about=told)
            if diamond
            else axes.dots(np.array([at]), np.array([error.value]), about=told)
        )
    return marks


def _range(trainings: Sequence[Training], more: Sequence[float]) -> tuple[float, float]:
    """Of an axis that holds the errors above 0 and most of their intervals."""
    errors = [t.error for t in trainings if t.error.value > 0]
    values = [*more, *(e.value for e in errors), *(e.low for e in errors if e.low > 0), *(e.high for e in errors if e.known)]
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    least = min([e.value for e in errors], default=low) / 10  # an interval that reaches towards 0 has no end on this axis
    return max(low, least) / ROOM, high * ROOM
