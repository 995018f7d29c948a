"""Trainings as a ladder makes them, without training: errors on a law, or off it by factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hounsfield.metrics.laws import Estimate, Law
from hounsfield.workflow.ladders.conclusions import conclude
from hounsfield.workflow.ladders.ladder import Ladder, Size
from hounsfield.workflow.ladders.study import About, Study, Training

ABOUT = About("scans", "segmentation", "dense", "dice", "patients", "unet", (40, 40), 40)
LADDER = Ladder(180.0, None, ("whole",), (Size("base", 25_100_000, 1.9, 2210.0),))
FACTORS = np.exp(np.random.default_rng(0).normal(0, 0.05, 2000))  # what other patients change, for all trainings alike
PARTS = {"whole": 96, "half": 48, "quarter": 24, "eighth": 12}


def training(name: str, error: float, n: int = 96, size: str | None = None, parameters: int = 1_900_000) -> Training:
    draws = error * FACTORS
    low, high = np.quantile(draws, [0.025, 0.975])
    return Training(name, size, n, 2 * n, parameters, 1000, 0.15, Estimate(error, float(low), float(high)), draws)


def parts(law: Law, off: dict[str, float] | None = None, again: float | None = 1.05) -> list[Training]:
    """Trainings on the law, some of them off it by a factor; each part a second time, off by `again`."""
    first = [training(name, float(law(n)) * (off or {}).get(name, 1.0), n) for name, n in PARTS.items()]
    if again is None:
        return first
    return [*first, *(training(f"{t.name}-again", t.error.value * again, t.n) for t in first[1:])]


def told(trained: Sequence[Training], **about: Any) -> Study:
    return conclude(replace(ABOUT, **about), trained, LADDER)


def sizes(tiny: float, planned: float, small: float, again: float | None = None) -> Study:
    first = parts(Law(planned * 96**0.4, 0.4), again=again)
    return told([*first, training("tiny", tiny, 96, "tiny", 1_000_000), training("small", small, 96, "small", 5_000_000)])
