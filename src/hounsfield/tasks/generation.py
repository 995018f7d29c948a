"""Generation: new images like those of a set, of one of its classes, or from a mask, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core import plan as core
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.augment import generator
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Batch
from hounsfield.data.prepare import Placement, Prepared, grid_mismatch, prepare_labels
from hounsfield.metrics import bootstrap
from hounsfield.tasks import RGB, Curve, Row
from hounsfield.tasks.parts import drawing
from hounsfield.tasks.parts.adversarial import BOUNDS, logistic, relativistic
from hounsfield.tasks.parts.matching import matching

KIND = "generator"
MODEL = "gan"
# Of a critic's gradients, by dimensions. In volumes more voxels tell a generated image from a real one, each by less: at 1 the
# loss of the critic of 32x48x32 voxels was 0.1 from step 100 on, and what was drawn was one smooth image (docs/results.md).
PENALTY = {2: 1.0, 3: 200.0}
TOGETHER = 16  # images that are drawn at a time
FEWEST = 2  # images that are a set
# Figures that are means over the real images, and their column.
OF_REAL = {"recall": "recalled", "coverage": "covered"}


class Options(core.Options):
    """penalty: of the gradients of a relativistic critic, the larger the steadier and the slower. masks: each image is drawn
    from a mask, whose classes are the plan's; else it is of one of the plan's classes, or of none."""

    penalty: float = Field(default=1.0, ge=0)
    masks: bool = False


def targets(dataset: Dataset) -> None:
    """Raises InputError TOO_FEW for fewer images than are a set."""
    if len(dataset) < FEWEST:
        raise InputError(
            "TOO_FEW",
            dataset.root,
            found=f"{len(dataset)} image",
            expected=f"at least {FEWEST}, and hundreds for images worth having",
            fix="add images",
        )


def rules(fingerprint: Fingerprint) -> core.Decision:
    """The penalty. Raises InputError TOO_FEW where no image shows anything."""
    if fingerprint.all_constant:
        raise InputError(
            "TOO_FEW",
            "images",
            found=f"{fingerprint.cases} images, all of them constant",
            expected="images with something to see",
            fix="check how they were exported",
        )
    value = PENALTY[fingerprint.ndim]
    return core.Decision({"penalty": value}, {"penalty": f"in {fingerprint.ndim}D neither adversary outruns the other with it"})


class Solver:
    """See hounsfield.tasks.Solver; it also draws images."""

    bounds = BOUNDS

    def __init__(self, plan: core.Plan) -> None:
        assert isinstance(plan.task_options, Options)
        self.plan = plan
        self.options = plan.task_options
        self.out_channels = len(plan.classes)

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[Any]:
        """A class index (), 0 without classes; or a mask as segmentation encodes it, uint8 (R, *grid). Raises InputError
        GRID_MISMATCH where it lies on another grid than its image."""
        if not self.options.masks:
            return np.array(sample.target if isinstance(sample.target, int) else 0, dtype=np.int64)
        assert callable(sample.target)
        mask = sample.target()
        if not mask.geometry.same_grid(placement.source):
            raise grid_mismatch(sample.id, mask.geometry, placement.source)
        encoded: npt.NDArray[np.uint8] = prepare_labels(mask, placement, self.plan.classes).numpy()
        return encoded

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        made: Any = model
        if made.objective == "flow":
            return {"model": model}
        return {"discriminator": made.discriminator, "generator": made.generator}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        made: Any = model
        asked = self.asked(batch.target)
        if made.objective == "flow":
            return matching(made, batch.image, asked)
        if made.objective == "relativistic":
            return relativistic(made, batch.image, asked, self.options.penalty)
        return logistic(made, batch.image, asked)

    def asked(self, target: Tensor) -> Tensor | None:
        """What is asked of a generator by targets (N, ...) as `encode` makes them: (N, K, *grid) of 0 and 1, a plane for each
        class of the plan; None without classes."""
        count = self.out_channels
        if not count:
            return None
        if target.ndim == 1:
            planes = F.one_hot(target, count).float()
            return planes.reshape(len(target), count, *[1] * self.plan.ndim).expand(-1, -1, *self.plan.patch)
        if target.shape[1] > 1:
            return (target == 1).float()
        return torch.cat([target == k + 1 for k in range(count)], dim=1).float()

    def blank(self, size: int) -> Tensor:
        """So many targets of the first class, or with nothing in the mask."""
        if self.options.masks:
            return torch.zeros(size, 1, *self.plan.patch, dtype=torch.uint8)
        return torch.zeros(size, dtype=torch.int64)

    def generate(self, models: Sequence[nn.Module], numbers: Sequence[int], target: Tensor, seed: int) -> Tensor:
        """Images (N, C, *grid) in [-1, 1], on the CPU. numbers: of the images in the stream of `seed`: each is drawn from both
        alone, by one of the models in turn. target: (N, ...) what they shall be, as `encode` makes it."""
        noise = [self.noise(models[0], seed, number) for number in numbers]
        return self.drawn(models, noise, numbers, target)

    def noise(self, model: nn.Module, seed: int, number: int) -> Tensor:
        """What image `number` of the stream of `seed` is drawn from: standard normal, in the model's own shape."""
        shape = cast(Any, model).noise_shape
        return torch.randn(shape, generator=generator("cpu", seed, number))

    def drawn(self, models: Sequence[nn.Module], noise: Sequence[Tensor], numbers: Sequence[int], target: Tensor) -> Tensor:
        """What the models, in turn by `numbers`, draw from this noise; see `generate`. Raises InputError NOT_FINITE."""
        device = next(models[0].parameters()).device
        found: dict[int, Tensor] = {}
        for which, model in enumerate(models):
            mine = [k for k, number in enumerate(numbers) if number % len(models) == which]
            for start in range(0, len(mine), TOGETHER):
                some = mine[start : start + TOGETHER]
                with torch.inference_mode():
                    asked = self.asked(target[some].to(device))
                    images = model(torch.stack([noise[k] for k in some]).to(device), asked)
                found |= dict(zip(some, images.float().cpu(), strict=True))
        whole = torch.stack([found[k] for k in range(len(numbers))])
        if not torch.isfinite(whole).all():
            raise InputError(
                "NOT_FINITE",
                f"model {self.plan.model}",
                found="generated values that are not finite",
                expected="images",
                fix="train it again, at a lower rate",
            )
        return whole

    def image(self, values: Tensor, geometry: Geometry, dtype: str) -> Image:
        """Values (C, *grid) in [-1, 1] as an image in the source's units, of its type where that is one of whole numbers."""
        units, kind = self._units(values).numpy(), np.dtype(dtype)
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            return Image(np.clip(np.rint(units), limits.min, limits.max).astype(kind), geometry, Meta("synthetic"))
        return Image(units.astype(np.float32), geometry, Meta("synthetic"))

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Tensor:
        """(C, *grid) in [-1, 1]: the first image of the plan's seed, whatever x is. Each model draws one, so that this takes as
        long as for other tasks."""
        return self.generate(models, range(len(models)), self.blank(len(models)), self.plan.seed)[0]

    def decode(self, raw: Tensor, prepared: Prepared) -> Image:
        """On the source grid, in the source's units."""
        return prepared.back_image(self._units(raw))

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """How real the discriminator takes x for. Raises InputError UNSUPPORTED_PAIR for a model without one."""
        judge = getattr(model, "discriminator", None)
        if judge is None:
            raise InputError(
                "UNSUPPORTED_PAIR",
                f"model {self.plan.model}",
                found="a generator without a discriminator",
                expected="something that judges an image",
                fix="explain a gan",
            )
        told = self.blank(len(x)) if self.options.masks else torch.full((len(x),), target)
        logits: Tensor = judge(x, self.asked(told.to(x.device))).float()
        return logits

    def metrics(self) -> Metrics:
        return Metrics()

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction) -> RGB:
        assert isinstance(prediction, Image)
        return drawing.picture(prediction)

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path | None:
        return None

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path | None:
        return None

    def _units(self, values: Tensor) -> Tensor:
        """The way back of the plan's normalisation."""
        channels = self.plan.normalise
        std, mean = torch.tensor([how.std for how in channels]), torch.tensor([how.mean for how in channels])
        column = (-1, *[1] * (values.ndim - 1))
        return values.cpu() * std.reshape(column) + mean.reshape(column)


class Metrics:
    """Of a real image by itself there is little to say; what is said of sets is in `tasks/parts/sets.py`."""

    headline = "kid"

    def case(self, sample: Sample, prediction: Prediction) -> Row:
        return {}

    def worth(self, row: Row) -> float:
        """How near to a real image something was generated."""
        return -float(row["nearest"])

    def curves(self, rows: Sequence[Row]) -> Sequence[Curve]:
        return ()

    def summary(self, rows: Sequence[Row], patients: Sequence[str | None]) -> Mapping[str, bootstrap.Interval]:
        """What rests on real images one by one."""
        return {name: bootstrap.mean([float(r[key]) for r in rows], patients) for name, key in OF_REAL.items()}
