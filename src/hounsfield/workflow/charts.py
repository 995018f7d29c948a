"""Charts of a report: the curves of a training, and distributions as paths."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from hounsfield.core.plan import Class
from hounsfield.tasks import Curve
from hounsfield.workflow.run import Run
from hounsfield.workflow.svg import Axes, Floats, Ints, chart

POINTS: Final = 240  # of a drawn curve: more steps are drawn together, as their mean within their range
BINS: Final = 40  # of a distribution strip

Log = list[dict[str, Any]]


@dataclass(frozen=True)
class Chart:
    """svg: an <svg> element for use inside HTML. about: what it shows, also for those who do not see it."""

    title: str
    about: str
    svg: str


def read_log(member: Path) -> Log:
    """The lines of a member's `metrics.jsonl`, less a last one that was cut off."""
    path = member / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def read_logs(run: Run) -> dict[str, Log]:
    """The log of every member that took a step, by the name of its folder: those of fold 0 first."""
    folders = sorted((run.root / "members").glob("*"), key=lambda p: [int(n) if n.isdigit() else -1 for n in p.name.split("-")])
    return {folder.name: log for folder in folders if (log := read_log(folder))}


def curves(logs: Mapping[str, Log], headline: str, final: float = math.nan) -> tuple[Chart, ...]:
    """Loss, looks at held-out cases and learning rate over the steps; a line for each member; none before any step.

    headline: name of the figure that was looked at. final: its value on the whole part after training, NaN where there is none.
    """
    if not logs:
        return ()
    charts = [_losses(logs), _looks(logs, headline, final), _rates(logs)]
    return tuple(made for made in charts if made is not None)


def decision_curves(drawn: Sequence[Curve], classes: Sequence[Class]) -> tuple[Chart, ...]:
    """Curves of a task over its decisions, each class in its colour; none that has no line."""
    charts = []
    for curve in drawn:
        axes = Axes((curve.least, curve.most), (0.0, 1.0))
        marks = []
        for k, x, y in curve.lines:
            keep = thinned(len(x))
            marks.append(axes.line(x[keep], y[keep], f"rgb{classes[k].colour}", about=classes[k].name))
        if marks:
            charts.append(Chart(curve.title, curve.about, chart(axes, marks, curve.below, curve.beside)))
    return tuple(charts)


def strip(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> str:
    """How `values` spread over [low, high], as `bars` draws it."""
    finite = [v for v in values if math.isfinite(v)]
    counts, _ = np.histogram(np.clip(finite, low, high), bins=BINS, range=(low, high))
    return bars(counts.tolist())


def bars(counts: Sequence[float]) -> str:
    """Counts as an SVG path in a box of 100 x 20: a bar for each that is not 0, the highest 20 tall."""
    wide, most = 100 / max(1, len(counts)), max(counts, default=0)
    # A bar that stands for a single case among thousands must still be seen.
    shown = [(k * wide, max(1.2, 20 * n / most)) for k, n in enumerate(counts) if n > 0]
    return "".join(f"M{x:.2f} 20v{-t:.2f}h{wide * 0.84:.2f}v{t:.2f}z" for x, t in shown)


def thinned(count: int, most: int = POINTS) -> Ints:
    """Where the groups begin when `count` neighbours are drawn together as `most` points at most."""
    group = np.arange(count) * min(most, count) // count
    return np.flatnonzero(np.diff(group, prepend=-1))


def _losses(logs: Mapping[str, Log]) -> Chart | None:
    columns = {name: _columns(log, "loss") for name, log in logs.items()}
    columns = {name: (step, loss) for name, (step, loss) in columns.items() if len(loss)}
    if not columns:
        return None
    every = np.concatenate([loss for _, loss in columns.values()])
    # The first steps of a fresh network would press the rest of the curve flat.
    top = float(np.quantile(every, 0.98)) if len(every) > 50 else float(every.max())
    low = min(0.0, float(every.min()))
    axes = Axes(_steps(logs), (low, max(top * 1.08, low + 1e-6)))
    marks = []
    for name, (step, loss) in columns.items():
        starts = thinned(len(loss))
        at = step[starts]
        if len(columns) == 1:  # the ranges of several members would hide one another
            lowest, highest = np.minimum.reduceat(loss, starts), np.maximum.reduceat(loss, starts)
            raw = len(starts) == len(loss)
            marks.append(axes.line(at, loss, width=0.8, opacity=0.4) if raw else axes.band(at, lowest, highest, opacity=0.22))
        means = np.add.reduceat(loss, starts) / np.diff(starts, append=len(loss))
        marks.append(axes.line(at, _smooth(means), opacity=_opacity(columns), about=_named(name, columns)))
    return Chart("Training loss", f"ends at {_range([loss[-1] for _, loss in columns.values()])}", chart(axes, marks, "step"))


def _looks(logs: Mapping[str, Log], headline: str, final: float) -> Chart | None:
    looks = {name: _columns(log, "value") for name, log in logs.items()}
    looks = {name: line for name, line in looks.items() if len(line[0])}
    if not looks:
        return None
    every = np.concatenate([value for _, value in looks.values()] + [np.array([final] if math.isfinite(final) else [])])
    # Figures lie in [0, 1] for the most part; their chart is not blown up to less than a tenth of it.
    spread = max(0.1, float(np.ptp(every)) * 1.3)
    middle = float(every.max() + every.min()) / 2
    low, high = middle - spread / 2, middle + spread / 2
    if every.min() >= 0 and every.max() <= 1:  # a share has no axis beyond
        low, high = max(0.0, low), min(1.0, high)
    axes = Axes(_steps(logs), (low, high))
    marks = []
    for name, (step, value) in looks.items():
        marks += [axes.line(step, value, opacity=_opacity(looks), about=_named(name, looks)), axes.dots(step, value)]
    whole = ""
    if math.isfinite(final):
        marks.append(axes.diamond(axes.x[1], final, about=f"{final:.3f}"))
        whole = f"; {final:.3f} on all held-out cases after training (diamond)"
    one = len(looks) == 1
    seen = (
        ", ".join(f"{v:.3f}" for v in next(iter(looks.values()))[1])
        if one
        else f"last {_range([v[-1] for _, v in looks.values()])}"
    )
    about = f"on a few held-out cases during training: {seen}{whole}"
    return Chart(f"{headline} while training", about, chart(axes, marks, "step"))


def _rates(logs: Mapping[str, Log]) -> Chart | None:
    columns = {name: _columns(log, "lr") for name, log in logs.items()}
    peak = max((float(rate.max()) for _, rate in columns.values() if len(rate)), default=0.0)
    if peak <= 0:
        return None
    axes = Axes(_steps(logs), (0.0, peak * 1.08))
    marks = [
        axes.line(s[t], r[t], opacity=_opacity(columns), about=_named(n, columns))
        for n, (s, r) in columns.items()
        if len(r)
        for t in (thinned(len(r)),)
    ]
    last = [float(rate[-1]) for _, rate in columns.values() if len(rate)]
    return Chart("Learning rate", f"peak {peak:.2g}, ends at {max(last):.2g}", chart(axes, marks, "step"))


def _steps(logs: Mapping[str, Log]) -> tuple[float, float]:
    return 0.0, float(max(log[-1]["step"] for log in logs.values()))


def _range(values: Sequence[float]) -> str:
    """ "0.412", or of several members "0.391 to 0.450"."""
    low, high = min(values), max(values)
    return f"{low:.3f}" if len(values) == 1 else f"{low:.3f} to {high:.3f}"


def _opacity(lines: Mapping[str, object]) -> float:
    return 1.0 if len(lines) == 1 else 0.65


def _named(name: str, lines: Mapping[str, object]) -> str:
    return f"member {name}" if len(lines) > 1 else ""


def _columns(log: Log, name: str) -> tuple[Floats, Floats]:
    """(steps, values) of a log, only where the value is finite."""
    rows = [(row["step"], row[name]) for row in log if _finite(row.get(name))]
    table = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _smooth(values: Floats) -> Floats:
    """A running mean over a twentieth of the curve; at the ends over what there is."""
    reach = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
