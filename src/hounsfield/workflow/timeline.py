"""Where the time of a run went: its stages against the budget, and what each training step waited for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from hounsfield.workflow.charts import Log, thinned
from hounsfield.workflow.run import Run, read_json
from hounsfield.workflow.svg import Axes, Floats, chart

STAGES: Final = {
    "read": "reading and auditing the data",
    "prepare": "preparing cases",
    "measure": "measuring the machine's pace",
    "evaluate test": "evaluating the test part",
    "evaluate val": "evaluating the validation part",
    "evaluate folds": "evaluating out of fold",
    "report": "writing the report",
}
POINTS: Final = 120  # along the chart of steps
# What a step's time divides into, from below: name, and colour of the page.
PARTS: Final = (("waiting for data", "second"), ("augmentation", "third"), ("the step itself", "accent"))


@dataclass(frozen=True)
class Stage:
    """left, width: per cent of the drawn span. kind: "train", "evaluate", ..., for the colour. seconds: as text."""

    name: str
    kind: str
    left: float
    width: float
    seconds: str
    share: str


@dataclass(frozen=True)
class Budget:
    """The stages of a run in order of their beginning. about: how much of the budget they took, in words. mark: where the
    budget ends, per cent of the drawn span; None without a budget. end: of the drawn span, as text."""

    stages: tuple[Stage, ...]
    about: str
    mark: float | None
    end: str


@dataclass(frozen=True)
class Share:
    """One part of the steps' time: ink is its colour of the page."""

    name: str
    ink: str
    share: str
    each: str


@dataclass(frozen=True)
class Steps:
    """How the time of the training steps divides. about: in words; svg: over the course of the training."""

    about: str
    svg: str
    shares: tuple[Share, ...]


def budget(run: Run) -> Budget | None:
    """From `timeline.json`; None where a run has none, or no stage of it ended. Raises InputError BAD_PLAN (no JSON)."""
    path = run.root / "timeline.json"
    found: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    ended = [s for s in found.get("stages", ()) if s.get("start") is not None and s.get("end") is not None]
    stages = sorted(ended, key=lambda s: float(s["start"]))
    if not stages:
        return None
    promised = found.get("budget")
    end = max(float(s["end"]) for s in stages)
    span = max(end, promised or 0.0, 1e-9)
    members = len({s["name"] for s in stages if str(s["name"]).startswith("train ")})
    drawn = tuple(_stage(str(s["name"]), float(s["start"]), float(s["end"]), span, members) for s in stages)
    return Budget(drawn, _used(stages, end, promised), 100 * promised / span if promised else None, seconds_text(span))


def steps(logs: Mapping[str, Log]) -> Steps | None:
    """From the logs of all members, one after the other; None where they do not say what a step waited for."""
    told = {name: parts for name, log in logs.items() if len(parts := _parts(log))}
    if not told:
        return None
    every = np.concatenate(list(told.values()))  # (steps, 3) seconds
    total = float(every.sum())
    if total <= 0:
        return None
    shares = every.sum(axis=0) / total
    wait, augment, step = (percent(s) for s in shares)
    about = (
        f"The step waited {wait} of the time for data; {augment} went into augmentation and {step} into the step itself "
        f"(forward, backward, update). A step took {seconds_text(total / len(every))} on average."
    )
    each = every.mean(axis=0)
    table = tuple(
        Share(name, ink, percent(share), seconds_text(float(s)))
        for (name, ink), share, s in zip(PARTS, shares, each, strict=True)
    )
    return Steps(about, _areas(every, [len(parts) for parts in told.values()]), table[::-1])


def seconds_text(seconds: float) -> str:
    """ "0.2 ms", "8 ms", "3.1 s", "42 s", "4 min 47 s", "5 min", "2 h 05 min"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.{0 if seconds >= 0.00095 or seconds == 0 else 1}f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    large, small, word, part = (
        (whole // 60, whole % 60, "min", "s") if whole < 7200 else (*divmod(round(seconds / 60), 60), "h", "min")
    )
    return f"{large} {word} {small:02d} {part}" if small else f"{large} {word}"


def percent(share: float) -> str:
    """ "0%", "0.3%", "42%": a digit after the point below ten."""
    return f"{100 * share:.0f}%" if share >= 0.0995 or share == 0 else "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"


def _stage(name: str, start: float, end: float, span: float, members: int) -> Stage:
    kind, _, which = name.partition(" ")
    words = STAGES.get(name, name)
    if kind == "train":
        words = f"training member {which}" if members > 1 else "training"
    took = max(0.0, end - start)
    return Stage(words, kind, 100 * start / span, 100 * took / span, seconds_text(took), percent(took / span))


def _used(stages: Sequence[Mapping[str, Any]], end: float, promised: float | None) -> str:
    training = sum(float(s["end"]) - float(s["start"]) for s in stages if str(s["name"]).startswith("train "))
    share = f", {percent(training / end)} of it training" if training and end else ""
    used = f"Everything before this report took {seconds_text(end)}{share}"
    if not promised:
        return f"{used}. There was no limit of time."
    over = f", {seconds_text(end - promised)} too long" if end > promised else ""
    return f"{used}: {percent(end / promised)} of the budget of {seconds_text(promised)}{over}."


def _parts(log: Log) -> Floats:
    """(steps, 3): seconds waiting, augmenting and in the step itself, of those steps that say so."""
    rows = []
    for before, row in pairwise([{"seconds": 0.0}, *log]):
        wait, augment = row.get("wait"), row.get("augment")
        if wait is not None and augment is not None and math.isfinite(wait + augment):
            # Logged seconds are rounded: of very short steps the parts may exceed the whole.
            rest = max(0.0, float(row["seconds"]) - float(before["seconds"]) - wait - augment)
            rows.append((float(wait), float(augment), rest))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _areas(parts: Floats, lengths: Sequence[int]) -> str:
    """Stacked areas of (steps, 3) seconds a step; a thin line where the next member begins."""
    starts = thinned(len(parts), POINTS)
    means = np.add.reduceat(parts, starts, axis=0) / np.diff(starts, append=len(parts))[:, None]
    edges = np.append(starts, len(parts)).astype(np.float64)
    at = np.repeat(edges, 2)[1:-1]  # each group as a flat piece, so that a single slow step is as wide as it was
    tops = np.concatenate([np.zeros((len(means), 1)), np.cumsum(means, axis=1)], axis=1)
    tall = tops[:, -1]
    # A first step that set up kernels would press the rest flat.
    top = float(np.quantile(tall, 0.97)) * 1.25 if len(tall) > 20 else float(tall.max()) * 1.08
    small = top < 0.2
    axes = Axes((0.0, float(len(parts))), (0.0, max(top, 1e-6) * (1000 if small else 1)))
    scaled = tops * (1000 if small else 1)
    marks = [
        axes.band(at, np.repeat(scaled[:, k], 2), np.repeat(scaled[:, k + 1], 2), ink, about=name)
        for k, (name, ink) in enumerate(PARTS)
    ]
    marks += [axes.upright(float(x)) for x in np.cumsum(lengths)[:-1]]
    return chart(axes, marks, "step", "ms a step" if small else "s a step")
