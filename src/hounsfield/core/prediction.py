"""What a model says about one case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.core.boxes import Boxes
from hounsfield.core.image import Image


@dataclass(frozen=True, eq=False)
class ClassScores:
    """probabilities: float64 (K,) in the plan's class order; sums to 1 unless `multilabel`."""

    probabilities: npt.NDArray[np.float64]
    multilabel: bool = False


Prediction = ClassScores | Image | Boxes
