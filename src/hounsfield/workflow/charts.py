"""Charts of a report: curves as inline SVG in the page's own colours, distributions as paths."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hounsfield.workflow.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

POINTS: Final = 400  # of a drawn curve: more steps are drawn together, as their mean within their range
BINS: Final = 40  # of a distribution strip
# What matplotlib draws in these colours takes the page's own, so that a chart follows light, dark and print.
INKS: Final = {"#010101": "var(--text)", "#020202": "var(--faint)", "#030303": "var(--accent)", "#040404": "var(--second)"}


@dataclass(frozen=True)
class Chart:
    """svg: an <svg> element for use inside HTML. about: what it shows, for those who do not see it."""

    title: str
    about: str
    svg: str


def read_log(member: Path) -> list[dict[str, Any]]:
    """The lines of a member's `metrics.jsonl`, less a last one that was cut off."""
    path = member / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def curves(run: Run, headline: str, final: float = math.nan) -> tuple[Chart, ...]:
    """Loss, looks at the validation part and learning rate over the steps; a line for each member; none before any step.

    headline: name of the figure that was looked at. final: its value on the whole validation part after training, NaN where
    there is none.
    """
    logs = [log for member in sorted((run.root / "members").glob("*")) if (log := read_log(member))]
    if not logs:
        return ()
    last = logs[0][-1]
    end = last["step"]
    charts = [_chart("Training loss", f"ends at {last['loss']:.3f}", end, lambda axes: _losses(axes, logs))]
    looks = [[(row["step"], row["value"]) for row in log if _finite(row["value"])] for log in logs]
    if any(looks):
        seen = ", ".join(f"{value:.3f}" for _, value in looks[0])
        whole = f"; {final:.3f} on the whole part after training (diamond)" if math.isfinite(final) else ""
        charts.append(
            _chart(
                f"{headline} on the validation part",
                f"on a few cases during training: {seen}{whole}",
                end,
                lambda axes: _looks(axes, looks, end, final),
            )
        )
    peak = max(row["lr"] for row in logs[0])
    charts.append(
        _chart(
            "Learning rate",
            f"peak {peak:.2g}, ends at {last['lr']:.2g}",
            end,
            lambda axes: [axes.plot(*_columns(log, "lr"), color="#030303", linewidth=1.2) for log in logs],
        )
    )
    return tuple(charts)


def strip(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> str:
    """How `values` spread over [low, high], as an SVG path in a box of 100 x 20: a bar per bin, the highest 20 tall."""
    finite = [v for v in values if math.isfinite(v)]
    counts, _ = np.histogram(np.clip(finite, low, high), bins=BINS, range=(low, high))
    wide = 100 / BINS
    tall = 20 * counts / max(1, counts.max())
    # A bar that stands for a single case among thousands must still be seen.
    bars = [(k * wide, max(1.2, float(t))) for k, (n, t) in enumerate(zip(counts, tall, strict=True)) if n]
    return "".join(f"M{x:.2f} 20v{-t:.2f}h{wide * 0.84:.2f}v{t:.2f}z" for x, t in bars)


def _losses(axes: Axes, logs: Sequence[list[dict[str, Any]]]) -> None:
    columns = [_columns(log, "loss") for log in logs]
    for step, loss in columns:
        _loss(axes, step, loss)
    every = np.concatenate([loss for _, loss in columns])
    # The first steps of a fresh network would press the rest of the curve flat.
    top = float(np.quantile(every, 0.98)) if len(every) > 50 else float(every.max())
    axes.set_ylim(min(0.0, float(every.min())), max(top * 1.08, 1e-6))


def _loss(axes: Axes, step: Floats, loss: Floats) -> None:
    group = np.arange(len(loss)) * min(POINTS, len(loss)) // len(loss)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    at = step[starts]
    if len(starts) < len(loss):
        axes.fill_between(
            at, np.minimum.reduceat(loss, starts), np.maximum.reduceat(loss, starts), color="#030303", alpha=0.22, linewidth=0
        )
    else:
        axes.plot(step, loss, color="#030303", alpha=0.35, linewidth=0.7)
    means = np.add.reduceat(loss, starts) / np.diff(starts, append=len(loss))
    axes.plot(at, _smooth(means), color="#030303", linewidth=1.2)


def _looks(axes: Axes, looks: list[list[tuple[int, float]]], end: int, final: float) -> None:
    for line in looks:
        if line:
            axes.plot(*zip(*line, strict=True), color="#030303", linewidth=1.2, marker="o", markersize=3.5)
    if math.isfinite(final):
        axes.plot([end], [final], color="#040404", marker="D", markersize=4.5, linestyle="none", clip_on=False)
    axes.margins(y=0.15)


def _chart(title: str, about: str, end: int, draw: Callable[[Axes], object]) -> Chart:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9, "path.simplify": True}):
        figure = Figure(figsize=(3.6, 2.1), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color("#020202")
        axes.grid(axis="y", color="#020202", linewidth=0.5)
        axes.tick_params(length=0, labelcolor="#010101")
        axes.locator_params(nbins=5)
        axes.set_xlabel("step", color="#010101")
        axes.set_xlim(0, end)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return Chart(title, about, _inline(out.getvalue()))


def _inline(svg: str) -> str:
    """An SVG file as an element inside HTML: no header, no fixed size, no names that clash, the page's colours and letters."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<svg[^>]*?viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for ink, name in INKS.items():
        svg = svg.replace(ink, name)
    return svg


def _columns(log: list[dict[str, Any]], name: str) -> tuple[Floats, Floats]:
    """(steps, values) of a log, only where the value is finite."""
    rows = [(row["step"], row[name]) for row in log if _finite(row[name])]
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
