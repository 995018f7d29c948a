"""How close restored images come to the clean ones, beside how close what was given was: PSNR, SSIM, absolute error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.image import Image
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.metrics import bootstrap, restoration
from hounsfield.tasks import Curve, Row

Floats = npt.NDArray[np.float32]
MEASURES = ("psnr", "ssim", "ms_ssim", "mae")
SAME = 100.0  # dB that stand for equal images, whose PSNR is infinite
BLIND = "the images are noisy themselves: these figures compare with their noise, and say how much was changed"
PAIRS = "the truth is a second acquisition, noisy itself: without any noise left the gain would be 3 dB"


@dataclass(frozen=True, eq=False)
class Riddle:
    """What was posed, and its answer. truth, given: (C, *spatial) float32 in the source's units on one grid, `given` being what
    the network starts from; hole: (*spatial) where alone the answer counts, None for everywhere. noise: how strong the noise is
    that was added, None where none was."""

    truth: Floats
    given: Floats
    hole: npt.NDArray[np.bool_] | None
    noise: float | None = None


class Metrics:
    """PSNR (dB), SSIM, MS-SSIM and mean absolute error (source units) of what was made, and `_given` of what was given, in the
    holes alone where there are some; of each case also the `noise` that was added.

    pose: the riddle of a sample. scale: lowest and highest value that all but the error refer to, None for each case's own.
    note: what is said of every figure.
    """

    headline = "psnr"

    def __init__(self, pose: Callable[[Sample], Riddle], scale: tuple[float, float] | None, note: str = "") -> None:
        self.pose = pose
        self.scale = scale
        self.note = note

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        assert isinstance(prediction, Image)
        riddle = self.pose(sample)
        made = measure(riddle.truth, prediction.canonical().array, riddle.hole, self.scale)
        given = measure(riddle.truth, riddle.given, riddle.hole, self.scale)
        noise = {} if riddle.noise is None else {"noise": riddle.noise}
        told = {f"{name}_given": value for name, value in given.items()}
        return {**made, **told, "gain": made["psnr"] - given["psnr"], **noise}

    def worth(self, row: Row) -> float:
        return float(row["psnr"])

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        return ()

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, bootstrap.Interval]:
        names = [*MEASURES, "gain", *(f"{name}_given" for name in MEASURES)]
        found = {name: bootstrap.mean([float(r[name]) for r in rows], patients) for name in names}
        return {name: interval.noted(self.note) for name, interval in found.items()}


def measure(
    truth: Floats, made: npt.NDArray[np.generic], hole: npt.NDArray[np.bool_] | None, scale: tuple[float, float] | None
) -> dict[str, float]:
    """MEASURES of one image (C, *spatial) against its truth, in the hole where there is one. Values count from the lower end of
    the scale, as SSIM wants it."""
    low, high = (float(truth.min()), float(truth.max())) if scale is None else scale
    peak = high - low if high > low else 1.0
    a, b = truth - np.float32(low), made.astype(np.float32) - np.float32(low)
    found = restoration.psnr(a, b, peak, hole)
    return {
        "psnr": found if math.isfinite(found) else SAME,
        "ssim": restoration.ssim(a, b, peak, hole),
        "ms_ssim": restoration.ms_ssim(a, b, peak, hole),
        "mae": restoration.mae(a, b, hole),
    }
