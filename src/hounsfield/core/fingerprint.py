"""What was measured on the training part, before anything was decided."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hounsfield.core.geometry import Space
from hounsfield.core.plan import Options


class Intensity(Options):
    """One channel over the training part: percentiles and moments of all voxels, in source units."""

    low: float  # 0.5th percentile
    median: float
    high: float  # 99.5th percentile
    mean: float
    std: float


class ClassFacts(Options):
    """One class in the training part. cases: that hold it. fraction: of voxels (segmentation) or of cases (classification)."""

    value: int
    name: str
    cases: int
    fraction: float


class Fingerprint(Options):
    """Facts of the training part alone; every tuple over axes is in canonical array order (d, h, w) or (h, w)."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    cases: int
    patients: int | None
    ndim: Literal[2, 3]
    space: Space
    channels: tuple[str, ...]
    modality: str | None
    dtype: str
    shape_min: tuple[int, ...]
    shape_median: tuple[int, ...]
    shape_max: tuple[int, ...]
    spacing_min: tuple[float, ...]
    spacing_median: tuple[float, ...]
    spacing_max: tuple[float, ...]
    intensity: tuple[Intensity, ...]
    classes: tuple[ClassFacts, ...]
    multilabel: bool = False
    empty_masks: int = 0

    @property
    def anisotropy(self) -> float:
        """Coarsest over finest median spacing: 1 for cubic voxels."""
        return max(self.spacing_median) / min(self.spacing_median)
