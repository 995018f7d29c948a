"""Pretraining: parts of unlabelled images are hidden and filled in again, so that a network knows images before labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hounsfield.core import plan as core
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.image import Image, Meta
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data import prepare as grids
from hounsfield.data.augment import generator
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import Placement, Prepared
from hounsfield.metrics import bootstrap
from hounsfield.models import MODELS
from hounsfield.models.parts.masked import MaskedFeatures, MaskedMap, MaskedTokens, hide
from hounsfield.models.parts.tokens import Encoder
from hounsfield.tasks import RGB, Curve, Row
from hounsfield.tasks.parts import drawing
from hounsfield.tasks.parts.unlabelled import refuse_constant
from hounsfield.tasks.parts.windows import Slab, slabs

KIND = "masked"
OUTPUTS = ("dense", "vector")
MODEL = "unet"
TRUTH = "view"
KEY = (
    "From left to right: what was shown, what was made of it, the truth, and what is left of the difference (grey where there"
    " is none, black or white where it is a quarter of the grey scale), at the slice where most is left."
)
SHARE = {"tokens": 0.75, "grid": 0.6}  # that He et al. and Xie et al. found to serve
CELLS = 8  # hidden cells a side of a window, of at most as many voxels:
LARGEST = {2: 32, 3: 16}  # 32 in pictures, as Xie et al. have it
HELD = 0  # seed of the places that are hidden of held-out cases


class Options(core.Options):
    """share: of the cells that are hidden; null: 0.75 of the patches of a plain vision transformer, 0.6 for other networks.
    cell: voxels a side of a cell, per axis, or one number for all; null: the patch of a plain vision transformer, for others
    the power of two that is nearest to an eighth of the window, at most 32, in volumes 16."""

    share: float | None = Field(default=None, gt=0, lt=1)
    cell: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)


def targets(dataset: Dataset) -> None:
    """Images are all that it takes."""


def rules(fingerprint: Fingerprint) -> core.Decision:
    """Nothing to decide. Raises InputError TOO_FEW for constant images."""
    refuse_constant(fingerprint)
    return core.Decision({})


class Solver:
    """See hounsfield.tasks.Solver and Posing; what the network is posed is drawn within `steps` and `infer`. Raises InputError
    BAD_PLAN for a cell of another number of axes, or of a vision transformer for one that is not its patch."""

    def __init__(self, plan: core.Plan) -> None:
        assert isinstance(plan.task_options, Options)
        self.plan = plan
        self.out_channels = self.channels = len(plan.channels)
        model = MODELS.load(plan.model)
        self.tokens = getattr(model, "PATCHES", False)
        stride = model.stride(plan.model_options, plan.ndim)
        usual = stride if self.tokens else tuple(_cell(n, LARGEST[plan.ndim]) for n in plan.patch)
        given = plan.task_options.cell or usual
        self.cell = given * plan.ndim if len(given) == 1 else given
        if len(self.cell) != plan.ndim or (self.tokens and self.cell != stride):
            raise InputError(
                "BAD_PLAN",
                "task_options.cell",
                found=f"{list(given)} for {plan.network} in {plan.ndim}D",
                expected=f"its patches of {list(stride)}" if self.tokens else f"1 or {plan.ndim} numbers",
                fix=f"--set task_options.cell={list(usual)}".replace(", ", ","),
            )
        self.share = plan.task_options.share or SHARE["tokens" if self.tokens else "grid"]

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[np.float32]:
        """(1,): nothing but the image is needed."""
        return np.zeros(1, dtype=np.float32)

    def blank(self, size: int) -> Tensor:
        return torch.zeros(size, 1)

    def network(self, build: Callable[[int, int], nn.Module]) -> nn.Module:
        """The plan's model as `network` of what fills in. Raises InputError UNSUPPORTED_PAIR for a classifier that neither
        takes patches nor has maps."""
        made = build(self.channels, self.channels)
        if MODELS.load(self.plan.model).OUTPUT == "dense":
            return MaskedMap(made, self.channels, self.plan.ndim)
        if self.tokens and isinstance(made.encoder, Encoder):
            return MaskedTokens(made, self.channels, self.share)
        if hasattr(made, "maps"):
            return MaskedFeatures(made, self.channels, self.plan.patch)
        raise InputError(
            "UNSUPPORTED_PAIR",
            f"--model {self.plan.network}",
            found="a classifier that shows no map of what it sees",
            expected="a network of maps, such as unet or resnet, or a vision transformer",
            fix="--model resnet or --model vit",
        )

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        return {"model": model}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        """The mean squared difference in the hidden places."""
        x = batch.image

        def loss() -> Tensor:
            with x.device:
                hidden = hide(len(x), x.shape[2:], self.cell, self.share)
            apart: Tensor = (model(x, hidden).float() - x).square() * hidden
            return apart.sum() / (hidden.sum() * self.channels)

        yield "model", loss

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Iterable[Slab]:
        """(C, *grid) normalised, what is made of x where it is hidden; the mean of the members."""
        device = next(models[0].parameters()).device
        shown = torch.cat([x[0], self._hidden(x.shape[2:]).to(x)[0]])

        def fill(window: Tensor) -> Tensor:
            own, hidden = window[:, :-1], window[:, -1:] > 0
            return torch.stack([model(own, hidden).float() for model in models]).mean(dim=0)

        return slabs(fill, shown, self.plan.patch, self.plan.inference.overlap, self.channels, device)

    def decode(self, raw: Iterable[Slab], prepared: Prepared) -> Image:
        """(2 C + 1, *grid) on the model grid, normalised, float32: what was made in the hidden places and is there in others,
        what is there, and 1 where it was hidden."""
        truth = prepared.tensor.cpu()
        hidden = self._hidden(truth.shape[1:])[0]
        made = truth.clone()
        for start, first, values in raw:
            rows = (slice(None), slice(start, start + values.shape[1]), slice(first, first + values.shape[2]))
            made[rows] = torch.where(hidden[rows], values.cpu(), made[rows])
        return Image(torch.cat([made, truth, hidden.float()]).numpy(), prepared.placement.geometry, Meta("prediction"))

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """How well the hidden places are told, as the negative squared difference."""
        hidden = self._hidden(x.shape[2:]).to(x.device)
        apart: Tensor = (model(x, hidden.expand(len(x), *hidden.shape[1:])).float() - x).square() * hidden
        return -apart.flatten(1).sum(dim=1) / (hidden.sum() * self.channels)

    def pose(self, image: Image, sample: Sample) -> Image:
        """The image itself: `infer` hides of every image of one size the same places, whatever the run."""
        return image

    def prepare(self, image: Image, device: torch.device) -> Prepared:
        """Raises InputError CHANNELS."""
        return grids.prepare(image, self.plan.grid, self.plan.normalise, device)

    def metrics(self) -> Metrics:
        return Metrics()

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction) -> RGB:
        assert isinstance(prediction, Image)
        made, truth, hidden = parts(prediction)
        shown = np.where(hidden, np.float32(0), truth)
        return drawing.side_by_side(Image(made, prediction.geometry, prediction.meta), shown, truth)

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path | None:
        """Nothing: what is filled in is of no use."""
        return None

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path | None:
        return None

    def _hidden(self, size: Sequence[int]) -> Tensor:
        """(1, 1, *size) bool on the CPU, always the same."""
        return hide(1, size, self.cell, self.share, generator("cpu", HELD))


class Metrics:
    """`explained`: the part of the variance of the hidden voxels that is told from the others: 0 for their mean, 1 where all is
    told, -1 at worst; none of a case whose hidden voxels are all equal."""

    headline = "explained"

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        assert isinstance(prediction, Image)
        made, truth, hidden = parts(prediction)
        there = np.broadcast_to(hidden, truth.shape)
        variance = float(truth[there].var(dtype=np.float64))
        error = float(np.square(made[there] - truth[there], dtype=np.float64).mean())
        return {"explained": max(-1.0, 1 - error / variance) if variance > 1e-12 else math.nan}

    def worth(self, row: Row) -> float:
        return float(row["explained"])

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        return ()

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, bootstrap.Interval]:
        return {"explained": bootstrap.mean([float(row["explained"]) for row in rows], patients)}


def parts(prediction: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Of what `Solver.decode` gives: what was made and what is there, (C, *grid) each, and where it was hidden, (1, *grid)."""
    count = prediction.channels // 2
    array = prediction.array
    return array[:count], array[count : 2 * count], array[2 * count :] > 0


def _cell(side: int, most: int) -> int:
    """The power of two nearest to an eighth of the side."""
    return min(most, 1 << max(0, round(math.log2(side / CELLS))))
