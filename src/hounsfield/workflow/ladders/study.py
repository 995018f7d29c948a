"""What a ladder of trainings tells: the law of errors, its check, what more data and other sizes would bring, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hounsfield.metrics.bootstrap import FEW_PATIENTS
from hounsfield.metrics.laws import Estimate, Fitted, Floats, Noise
from hounsfield.plan.budget import ENOUGH
from hounsfield.workflow.cover import millions
from hounsfield.workflow.ladders.ladder import AGAIN, Ladder
from hounsfield.workflow.tables import title
from hounsfield.workflow.timeline import seconds_text

if TYPE_CHECKING:
    from rich.console import RenderableType

MORE: Final = (2, 4)  # times the training part that are reckoned
LEAST: Final = 1e-3  # part of the error that twice as many cases take away where it is said to fall


@dataclass(frozen=True, eq=False)
class Training:
    """One rung, trained and measured. n: patients, or cases where no patient is known, that it learned from. error: on the
    validation part; draws: (R,) the same on other patients. step: seconds."""

    name: str
    size: str | None
    n: int
    cases: int
    parameters: int
    steps: int
    step: float
    error: Estimate
    draws: Floats

    def to_json(self) -> dict[str, Any]:
        own = {"run": f"runs/{self.name}", "size": self.size, "n": self.n, "cases": self.cases, "parameters": self.parameters}
        return {**own, "steps": self.steps, "seconds_per_step": self.step, "error": self.error.to_json()}


@dataclass(frozen=True)
class Check:
    """The whole training part, predicted from the smaller ones alone. n, predicted, measured: as of a Training."""

    n: int
    predicted: Estimate
    measured: float

    @property
    def inside(self) -> bool | None:
        """None where the prediction has no interval."""
        return self.predicted.low <= self.measured <= self.predicted.high if self.predicted.known else None

    def to_json(self) -> dict[str, Any]:
        return {"n": self.n, "predicted": self.predicted.to_json(), "measured": self.measured, "inside": self.inside}


@dataclass(frozen=True)
class More:
    """times: as many as the whole training part. n: patients or cases. error: that a training on them would have. ratio: of the
    law's error on them to that on the whole training part."""

    times: int
    n: int
    error: Estimate
    ratio: Estimate

    def to_json(self) -> dict[str, Any]:
        return {"times": self.times, "n": self.n, "error": self.error.to_json(), "ratio": self.ratio.to_json()}


@dataclass(frozen=True)
class About:
    """data: name of the folder. kind: of the task. metric: its headline figure. unit: "patients" or "cases". held: validation
    cases that all trainings were measured on, and patients among them; val: all validation cases."""

    data: str
    task: str
    kind: str
    metric: str
    unit: str
    network: str
    held: tuple[int, int]
    val: int

    @property
    def error(self) -> str:
        """ "1 - Dice"."""
        return "10^(-PSNR / 10)" if self.metric == "psnr" else f"1 - {title(self.metric)}"


@dataclass(frozen=True, eq=False)
class Study:
    """parts: trainings on parts of the training patients, the whole first. sizes: on the whole, from few to many parameters,
    the planned network among them; () where no other was trained. lacking: why there is no law, "" where there is one."""

    about: About
    ladder: Ladder
    parts: tuple[Training, ...]
    sizes: tuple[Training, ...]
    check: Check | None
    law: Fitted | None
    noise: Noise | None
    more: tuple[More, ...]
    best: Training | None
    recommended: Training | None
    lacking: str = ""

    @property
    def whole(self) -> Training:
        return self.parts[0]

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All, each once."""
        return (*self.parts, *(t for t in self.sizes if t.size is not None))

    @property
    def length(self) -> str:
        """Of each size: "3 min", "2,000 steps"."""
        return f"{self.whole.steps:,} steps" if self.ladder.seconds is None else seconds_text(self.ladder.seconds)

    @property
    def falls(self) -> bool | None:
        """Whether twice as many cases are seen to lower the error; None where nothing says."""
        return None if not self.more or not self.more[0].ratio.known else self.more[0].ratio.high < 1 - LEAST

    def to_json(self) -> dict[str, Any]:
        about, law, noise = self.about, self.law, self.noise
        return {
            "schema": 1,
            "data": about.data,
            "task": about.task,
            "metric": about.metric,
            "error": about.error,
            "unit": about.unit,
            "network": about.network,
            "val": {"cases": about.held[0], about.unit: about.held[1]},
            "seconds_per_training": self.ladder.seconds,
            "trainings": [t.to_json() for t in self.trainings],
            "check": self.check.to_json() if self.check else None,
            "law": None
            if law is None
            else {
                "a": law.law.a,
                "b": law.law.b,
                "c": law.law.c,
                "exponent": law.exponent.to_json(),
                "falls": self.falls,
                "noise": None if noise is None else {"sd": noise.sd, "freedom": noise.freedom},
            },
            "more": [more.to_json() for more in self.more],
            "recommended": self.recommended and f"runs/{self.recommended.name}",
            "sizes": [
                {"size": s.word, "parameters": s.parameters, "seconds_per_step": s.step, "budget": s.enough}
                for s in self.ladder.sizes
            ],
            "said": list(self.said()),
        }

    def said(self) -> Iterator[str]:
        """The answers in sentences, in the order of the questions."""
        yield from self._of_data()
        yield from self._of_sizes()
        yield from self._of_intervals()

    def _of_data(self) -> Iterator[str]:
        if self.lacking:
            yield f"no law: {self.lacking}"
        if self.check is not None:
            smaller = sorted(t.n for t in self.parts[1:] if not t.name.endswith(AGAIN))
            told = self.check.predicted.text()
            verdict = {True: "inside the interval", False: "outside the interval: take what follows as a direction at most"}
            yield (
                f"check: from {_listed(smaller)} {self.about.unit} the law predicts an error of {told} on "
                f"{self.check.n}; measured {self.check.measured:.3g}"
                + (f", {verdict[self.check.inside]}" if self.check.inside is not None else "")
            )
        if self.law is None:
            return
        law = self.law.law
        floor = f" + {law.c:.3g}" if law.c else ""
        yield f"law: error = {law.a:.3g} n^-{law.b:.3g}{floor}, n {self.about.unit}; exponent {self.law.exponent.text()}"
        if self.falls is False:
            yield (
                f"more data of this kind would not be seen to help in trainings of {self.whole.steps:,} steps: "
                f"the interval holds that twice the {self.about.unit} change nothing"
            )
        for more in self.more:
            yield (
                f"{more.times} times the {self.about.unit} ({more.n}): an error of {more.error.text()}, "
                f"{more.ratio.text()} times the law's on {self.whole.n}"
            )
        wanted = ENOUGH[self.about.kind]
        if self.whole.steps < wanted:
            yield (
                f"the trainings were short, {self.whole.steps:,} of the {wanted:,} steps that networks want: "
                f"with a longer --budget more {self.about.unit} may bring more"
            )

    def _of_sizes(self) -> Iterator[str]:
        if self.recommended is not None and self.best is not None:
            least = f"of {len(self.sizes)} sizes in {self.length} each, {_named(self.best)} has the least error"
            if self.recommended is self.best:
                than = "is the smallest" if self.best is self.sizes[0] else "is clearly better than any smaller one"
                yield f"{least} and {than}: {_asked(self.recommended)}"
            else:
                yield f"{least}, {_named(self.recommended)} is not clearly worse and smaller: {_asked(self.recommended)}"
        for size in self.ladder.sizes:
            count, steps = millions(size.parameters), ENOUGH[self.about.kind]
            yield (
                f"{size.word} ({count} parameters): {size.step:.3g} s a step; "
                f"train --budget {_budget(size.enough)} makes the {steps:,} steps from which on its width pays"
            )

    def _of_intervals(self) -> Iterator[str]:
        if self.law is None or not self.law.exponent.known:
            return
        noise = self.noise
        if noise is None:
            yield "the intervals cover other patients, not other trainings: none was made twice"
        else:
            yield (
                f"the intervals cover other patients and other trainings: {noise.freedom} that were made twice "
                f"differ by about {noise.sd:.0%} of the error"
            )
        if self.about.held[0] < self.about.val:
            yield f"measured on {self.about.held[0]} of {self.about.val} validation cases: the budget held no more"
        if self.about.held[1] < FEW_PATIENTS:
            yield f"only {self.about.held[1]} validation {self.about.unit}: the intervals are likely too narrow"


def _named(training: Training) -> str:
    name = training.size or "the size that train chooses"
    return f"{name} ({millions(training.parameters)} parameters)"


def _asked(training: Training) -> str:
    """What to ask train for."""
    return f"train with --size {training.size}" if training.size else "train without --size"


def _budget(seconds: float) -> str:
    """ "50s", "40m", "3h", rounded up."""
    for unit, letter in ((3600, "h"), (60, "m")):
        if seconds > 2 * unit:
            return f"{math.ceil(seconds / unit)}{letter}"
    return f"{math.ceil(seconds)}s"


def _listed(numbers: Sequence[int]) -> str:
    """ "12, 24 and 48"."""
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def show(found: Study) -> RenderableType:
    """The study for a terminal: every training, then the answers."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("training", found.about.unit, "parameters", "steps", f"error ({found.about.error})"):
        table.add_column(heading, justify="left" if heading == "training" else "right", no_wrap=True)
    for t in found.trainings:
        table.add_row(t.name, f"{t.n:,}", millions(t.parameters), f"{t.steps:,}", t.error.text())
    return Group(table, Text(), *(Text(line) for line in found.said()))
