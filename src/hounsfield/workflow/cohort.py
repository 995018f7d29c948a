"""The data of a run in a report: classes part by part, and how intensities are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hounsfield.core.fingerprint import Fingerprint, Intensity
from hounsfield.core.plan import Plan
from hounsfield.workflow.timeline import percent


@dataclass(frozen=True)
class ClassLine:
    """cases: that show the class, for each part. share: of the training part's voxels (or cases), as text; bar: the same as per
    cent of the largest class."""

    name: str
    colour: tuple[int, ...]
    cases: tuple[int | str, ...]
    share: str
    bar: float


@dataclass(frozen=True)
class Spread:
    """One channel's values over the training part, as text, and drawn between low and high: median, and mean +- one standard
    deviation from `left` over `width`, all in per cent."""

    channel: str
    low: str
    middle: str
    high: str
    mean: str
    median: float
    left: float
    width: float


def class_lines(plan: Plan, record: Mapping[str, Any], facts: Fingerprint, parts: Sequence[str]) -> tuple[ClassLine, ...]:
    """A line for each class of the plan."""
    shares = {c.name: c.fraction for c in facts.classes}
    largest = max(shares.values(), default=0.0) or 1.0
    return tuple(
        ClassLine(
            c.name,
            c.colour,
            tuple(record["classes"].get(part, {}).get(c.name, "unknown") for part in parts),
            percent(shares[c.name]) if c.name in shares else "unknown",
            round(100 * shares.get(c.name, 0.0) / largest, 1),
        )
        for c in plan.classes
    )


def spreads(facts: Fingerprint) -> tuple[Spread, ...]:
    """A line for each channel."""
    return tuple(_spread(channel, values) for channel, values in zip(facts.channels, facts.intensity, strict=True))


def _spread(channel: str, values: Intensity) -> Spread:
    whole = values.high - values.low or 1.0

    def place(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - values.low) / whole)), 1)

    left, right = place(values.mean - values.std), place(values.mean + values.std)
    return Spread(
        channel,
        number(values.low),
        number(values.median),
        number(values.high),
        f"{number(values.mean)} ± {number(values.std)}",
        place(values.median),
        left,
        round(right - left, 1),
    )


def number(value: float) -> str:
    """Four digits and no power of ten where it can be helped: "0.1234", "-1,024", "24,990"."""
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3g}"
    digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
