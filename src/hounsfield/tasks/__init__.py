"""Tasks, one file each: a task owns targets, forward, loss, inference, decoding, metrics, drawing and writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.image import Image
from hounsfield.core.plan import Decision, Options, Plan
from hounsfield.core.prediction import Prediction
from hounsfield.core.registry import Folder
from hounsfield.core.sample import Sample
from hounsfield.metrics.bootstrap import Interval

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from hounsfield.data.dataset import Dataset
    from hounsfield.data.loader import Batch
    from hounsfield.data.prepare import Placement, Prepared

RGB = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Row = Mapping[str, float | str]  # one case of the per-case table


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve over decisions. below, beside: names of its axes. about: what it shows. lines: (class index, x, y), both (P,), y
    in [0, 1] and x from `least` to `most`."""

    title: str
    below: str
    beside: str
    about: str
    lines: tuple[tuple[int, Floats, Floats], ...]
    most: float = 1.0
    least: float = 0.0


class Metrics(Protocol):
    """How predictions are measured. headline: the name of the one figure that stands for the rest."""

    headline: str

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        """One case against its truth: the columns that `summary` needs, and what a reader wants to see."""

    def worth(self, row: Row) -> float:
        """How good one case is, for ordering cases from worst to best."""

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, Interval]:
        """Figures with 95% intervals by patient. patients: of each row, None where unknown."""

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        """What a report draws beside the figures; () for nothing."""


class Solver(Protocol):
    """A task for one plan. bounds (optional): by player, between which its loss stays while all learn; beyond them for long the
    training stops."""

    out_channels: int

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[Any]:
        """The training target: dense tasks uint8 (R, *grid) with IGNORE; else what `steps` wants, without batch axis."""

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The parts of the model that are optimised in turn, by name."""

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        """(player, loss function) in the order of optimisation; each loss runs after the previous player's step."""

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Any:
        """Raw output for one case x (1, C, *grid): windows, test-time augmentation, mean over the ensemble."""

    def decode(self, raw: Any, prepared: Prepared) -> Prediction:
        """Raw output -> a prediction on the source grid, in the source's values."""

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """(B,) what an explanation explains: the evidence for class index `target` on the window x."""

    def metrics(self) -> Metrics: ...

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction) -> RGB:
        """(H, W, 3): the case with its prediction, and beside it its truth where `sample` has one."""

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path | None:
        """The prediction's file below `folder`, named by the sample; None where `finish` writes one table for all."""

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path | None:
        """What is written once for all cases for which `write` wrote nothing."""


@runtime_checkable
class Blank(Protocol):
    """What a solver has beside whose targets do not follow from its kind."""

    def blank(self, size: int) -> Tensor:
        """The targets of a batch of this size, as `encode` gives them, on the current device; their values say nothing."""


@runtime_checkable
class Posing(Blank, Protocol):
    """What a solver has beside, all of it or none, that does not give its network the case as it is: the network is posed a
    riddle, and the case itself is the answer. channels: of what a user gives."""

    channels: int

    def network(self, build: Callable[[int, int], nn.Module]) -> nn.Module:
        """What is trained; build: the plan's model with so many input and output channels."""

    def pose(self, image: Image, sample: Sample) -> Image:
        """What the network is given of a case when it is measured; always the same for the same sample."""

    def prepare(self, image: Image, device: torch.device) -> Prepared:
        """What was posed, or what a user gives, on the model grid."""


class Task(Protocol):
    """What a file in this folder defines.

    KIND: "vector", "dense", "boxes", "generator" or "masked", by which budgets are made. MODEL: the default model's name.
    OUTPUTS (optional): of the models that fit; KIND alone where it does not say.
    TRUTH (optional): "labels", the default; "image": the images themselves are what is learned, labels are left aside, and no
        image is resampled, cut off at its brightest or recoloured; "view": what the network is shown of them is learned,
        labels are left aside, and augmentation moves, but does not recolour. KEY (optional): how a drawn case is to be read.
    targets: checks the dataset's labels for this task; InputError BAD_LABEL, ONE_CLASS, NO_FOREGROUND.
    rules: the task's own decisions on the fingerprint. Solver: built with a plan.
    """

    KIND: str
    MODEL: str
    Options: type[Options]

    @staticmethod
    def targets(dataset: Dataset) -> None: ...

    @staticmethod
    def rules(fingerprint: Fingerprint) -> Decision: ...

    @staticmethod
    def Solver(plan: Plan) -> Solver: ...  # noqa: N802


def outputs(task: Task) -> tuple[str, ...]:
    """The outputs of the models that fit."""
    own: tuple[str, ...] = getattr(task, "OUTPUTS", (task.KIND,))
    return own


TASKS: Folder[Task] = Folder("hounsfield.tasks", "task", ("KIND", "MODEL", "Options", "targets", "rules", "Solver"))
