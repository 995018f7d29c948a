"""What held-out cases cost in time, and how many of them a budget holds."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence

import torch

from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.tasks.parts.windows import starts
from hounsfield.workflow.predict import Predictor

REPEATS, REPEATING = 5, 1.0  # times, and seconds, for which a quick case is predicted again
MEASURED_WHOLE = 8  # windows up to which a case is simply predicted and timed


def seconds_a_case(predictor: Predictor, samples: Sequence[Sample]) -> float:
    """Reading, predicting and scoring the first of `samples`, 0 without any; of a case of many windows, one window is timed
    and the rest reckoned."""
    if not samples:
        return 0.0
    begun = time.monotonic()
    prepared = predictor.prepare(predictor.pose(samples[0]))
    read = time.monotonic() - begun
    count = _windows(predictor.plan, prepared.tensor.shape[1:])
    if count <= MEASURED_WHOLE:
        metrics = predictor.solver.metrics()
        times: list[float] = []
        while len(times) < 2 or (len(times) <= REPEATS and sum(times) < REPEATING):
            begun = time.monotonic()
            metrics.case(samples[0], predictor.examine(samples[0]))
            times.append(time.monotonic() - begun)
        return statistics.median(times[1:])  # the first call also sets up kernels
    window = prepared.tensor[(None, slice(None), *(slice(0, p) for p in predictor.plan.patch))]
    with torch.inference_mode():
        for _ in range(2):
            begun = time.monotonic()
            raw = predictor.solver.infer(predictor.models, window)
            if isinstance(raw, Iterator):  # dense tasks work as they are read
                deque(raw, maxlen=0)
    # As long again for the way back to the source grid, the truth and the score as for reading.
    return 2 * read + count * (time.monotonic() - begun)


def fitting(samples: Sequence[Sample], each: float, seconds: float) -> Sequence[Sample]:
    """As many of `samples`, evenly spaced and at least one, as take `seconds` at `each` seconds a case."""
    held = min(float(len(samples)), seconds / max(each, 1e-9))
    return evenly(samples, max(1, int(held))) if samples else samples


def evenly(samples: Sequence[Sample], count: int) -> Sequence[Sample]:
    """So many of `samples`, evenly spaced."""
    return [samples[k * len(samples) // count] for k in range(count)]


def _windows(plan: Plan, size: Sequence[int]) -> int:
    """Windows that a case of the model grid takes; a model of whole images takes one."""
    if plan.grid.size is not None:
        return 1
    return math.prod(len(starts(s, p, plan.inference.overlap)) for s, p in zip(size, plan.patch, strict=True))
