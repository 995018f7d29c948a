"""Timing side by side: contenders take turns, so that whatever slows the machine slows all of them.

Also what every benchmark says of itself: rows of a table, with the ratio of each peer's median to ours.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

OURS = "Hounsfield"
MOST_TURNS = 200
FEWEST_TURNS = 5
TOGETHER = "pip install -c constraints.txt -e '.[dev,bench]'"


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median, the least, the most, and how many calls were timed."""

    median: float
    least: float
    most: float
    turns: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        return cls(statistics.median(seconds), min(seconds), max(seconds), len(seconds))

    def text(self) -> str:
        """Milliseconds."""
        return f"{1e3 * self.median:.4g} ms [{1e3 * self.least:.4g}, {1e3 * self.most:.4g}]"


@dataclass(frozen=True)
class Row:
    """One contender in one case. what: exactly what it ran. figures: further numbers by name, such as peak memory."""

    name: str
    timing: Timing
    what: str
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One case. about: what all contenders were given. unit: what one timed call is. rows: ours first. least: the ratio that is
    required of a peer's median to ours, by the peer's name."""

    title: str
    about: str
    unit: str
    rows: tuple[Row, ...]
    least: Mapping[str, float] = field(default_factory=dict)

    def ratio(self, row: Row) -> float:
        """How many times as long as ours it takes."""
        return row.timing.median / self.rows[0].timing.median

    def missed(self) -> list[str]:
        """What is required and was not reached."""
        ratios = {row.name: self.ratio(row) for row in self.rows}
        return [
            f"{self.title}: {name} takes {ratios[name]:.2f} times as long, required {least:g}"
            for name, least in self.least.items()
            if ratios[name] < least
        ]

    def lines(self) -> list[str]:
        """Markdown."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        out = [f"### {self.title}", "", f"{self.about} One call: {self.unit}.", ""]
        out += [
            "| | median [min, max] | times ours | calls |" + "".join(f" {name} |" for name in names),
            "|---|---|---|---|" + "---|" * len(names),
        ]
        for row in self.rows:
            further = "".join(f" {row.figures.get(name, '')} |" for name in names)
            ratio = "1" if row is self.rows[0] else f"{self.ratio(row):.2f}"
            out.append(f"| {row.name} | {row.timing.text()} | {ratio} | {row.timing.turns} |{further}")
        return [*out, "", *(f"- {row.name}: {row.what}." for row in self.rows), ""]


def side_by_side(contenders: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Timing]:
    """Every contender once unmeasured, then all in turn until `seconds` are over.

    Each round starts with another contender, so that none always follows the same one into warm caches.
    """
    names = list(contenders)
    for call in contenders.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in names}
    ends = time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    try:
        for turn in range(MOST_TURNS):
            if turn >= FEWEST_TURNS and time.perf_counter() > ends:
                break
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                begun = time.perf_counter()
                contenders[name]()
                taken[name].append(time.perf_counter() - begun)
    finally:
        gc.enable()
    return {name: Timing.of(values) for name, values in taken.items()}


def peer(module: str) -> Any:
    """A module of the `bench` extra. Raises SystemExit that names the extra where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise SystemExit(f"{module} is not installed ({error}); it belongs to the extra 'bench': {TOGETHER}") from error


def by(shape: Iterable[int]) -> str:
    """(40, 56) -> "40×56"."""
    return "×".join(map(str, shape))


def alone(measure: Callable[[], list[Table]]) -> None:
    """One capability's tables on the standard output."""
    for table in measure():
        sys.stdout.write("\n".join(table.lines()) + "\n")
