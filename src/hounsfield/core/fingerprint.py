"""What was measured on the training part, before anything was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, computed_field, model_validator

from hounsfield.core.geometry import Space
from hounsfield.core.plan import Options

DERIVED: Final = ("anisotropy", "fewest_cases", "all_constant")  # written for the reader, computed anew when read


class Spread(Options):
    """How a number above 0 varies. histogram: how many lie in each bin between neighbouring `edges`, of which the last bin
    holds both; bins are of equal width, of equal ratio where the numbers span a wide range, and where all are equal there is
    one of no width."""

    min: float
    median: float
    max: float
    histogram: tuple[int, ...]
    edges: tuple[float, ...]


class Intensity(Options):
    """One channel over a region of the training part, in source units.

    low, median, high: the 0.5th, 50th and 99.5th percentile, each the median of the cases' own. mean, std: of all voxels.
    histogram: shares (0 to 1) of all voxels in equal bins between the whole image's low and high, the same bins for every
    region; what lies beyond is in none. Drawn from each case's quantiles. () where low equals high.
    landmarks: (percentile, mean over the cases of where it lies between the case's own 0.5th, 0, and 99.5th, 1); of the
    whole image alone, () where no case varies.
    """

    low: float
    median: float
    high: float
    mean: float
    std: float
    histogram: tuple[float, ...] = ()
    landmarks: tuple[tuple[float, float], ...] = ()


class ClassFacts(Options):
    """One class in the training part.

    cases: that hold it. fraction: of voxels (segmentation), of boxes (detection) or of cases (classification).
    voxels: of its label, over the cases that hold it; volume: the same in mm³ (3D) or mm² (2D), None where no spacing is
    known. boxes: how many there are; box_sides: their side along each axis in voxels. None, 0 and () for other targets.
    """

    value: int
    name: str
    cases: int
    fraction: float
    voxels: Spread | None = None
    volume: Spread | None = None
    boxes: int = 0
    box_sides: tuple[Spread, ...] = ()


class Fingerprint(Options):
    """Facts of the training part alone; every tuple over axes is in canonical array order (d, h, w) or (h, w).

    patients: how many are known; None where none is. space, modality: None or "none" where they differ. dtype: the most
    frequent. shapes, spacings: per axis, over the cases. orientations: how many cases have each code, such as SAR; {} without
    a patient space.
    intensity: per channel over all voxels; intensity_foreground, intensity_background: under labels that are not 0, and under
    label 0; neither where the label is unknown; () without masks. voxels: of all cases; voxels_unknown: of these, those
    outside the valid masks. unknown_classes: the different sets of class indices that cases were not searched for.
    boxes: per case, over the cases that have some; None for other targets. empty_masks: without any
    labelled voxel; for boxes, cases without any. constant_images: cases in which no channel varies. exact_copies: cases whose
    image an earlier case has too. near_copies: cases that could go so that no two nearly alike are left, exact copies aside;
    at least so many, see data/duplicates.py. alike: mean correlation of a case's thumbnail with the mean of the others;
    alike_mirrored: the same with the case mirrored, per axis (plan/symmetry.py).
    """

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
    shapes: tuple[Spread, ...] = ()
    spacing_min: tuple[float, ...]
    spacing_median: tuple[float, ...]
    spacing_max: tuple[float, ...]
    spacings: tuple[Spread, ...] = ()
    orientations: dict[str, int] = Field(default={})
    voxels: int = 0
    voxels_unknown: int = 0
    intensity: tuple[Intensity, ...]
    intensity_foreground: tuple[Intensity, ...] = ()
    intensity_background: tuple[Intensity, ...] = ()
    classes: tuple[ClassFacts, ...]
    multilabel: bool = False
    unknown_classes: tuple[tuple[int, ...], ...] = ()
    boxes: Spread | None = None
    empty_masks: int = 0
    constant_images: int = 0
    exact_copies: int = 0
    near_copies: int = 0
    alike: float = 0.0
    alike_mirrored: tuple[float, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def anisotropy(self) -> float:
        """Coarsest over finest median spacing: 1 for cubic voxels."""
        return max(self.spacing_median) / min(self.spacing_median)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def fewest_cases(self) -> int | None:
        """Cases of the rarest class; None without classes."""
        return min((c.cases for c in self.classes), default=None)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def all_constant(self) -> bool:
        """Whether there is nothing to see in any image."""
        return self.constant_images == self.cases

    @model_validator(mode="before")
    @classmethod
    def _less_derived(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if k not in DERIVED} if isinstance(values, Mapping) else values
