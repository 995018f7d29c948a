"""Restoration: noise taken away, holes filled, resolution raised; learned from clean images alone, in 2D and 3D."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hounsfield import io
from hounsfield.core import plan as core
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.image import Image
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.augment import generator
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import Dataset
from hounsfield.data.degrade import Holes, Noise, Resolution, add_noise, coarsen, fill, make_holes, refine, strengths
from hounsfield.data.loader import Batch
from hounsfield.data.noise_level import estimate
from hounsfield.data.prepare import Placement, Prepared, units
from hounsfield.models.parts.patchgan import Adversaries, PatchCritic
from hounsfield.tasks import RGB
from hounsfield.tasks.parts import as_they_are, drawing
from hounsfield.tasks.parts.adversarial import frozen
from hounsfield.tasks.parts.blind import blind_spots
from hounsfield.tasks.parts.fidelity import BLIND, PAIRS, Metrics, Riddle
from hounsfield.tasks.parts.given import Given, beyond_range, composed, divisible, placed, without_hole
from hounsfield.tasks.parts.losses import structural
from hounsfield.tasks.parts.noisy import USUAL, Noisy, noised, tell, usual
from hounsfield.tasks.parts.pairs import acquisitions, of_both, separate
from hounsfield.tasks.parts.unlabelled import refuse_constant
from hounsfield.tasks.parts.windows import Slab, flips, slabs

KIND = "dense"
MODEL = "unet"
TRUTH = "image"
KEY = (
    "From left to right: what was given, what was made of it, the truth, what is left of the difference (grey where there is"
    " none, black or white where it is a quarter of the grey scale), at the slice where most is left; and, where networks or"
    " mirrored views can disagree, how far they lie apart (black where they agree, white from a tenth of the grey scale on)."
)
THICK = 1.5  # times the finest side from which slices are thick, and resolution is raised across them alone
ROOM = 1.0  # times the range that was learned that values may lie beyond it, as noise does
TOLD = 1e-3  # loss of a critic below which it tells all patches apart, and its verdict teaches nothing


class Options(core.Options):
    """repair: what is undone: noise as `noise` says, holes as `holes` says, coarse voxels as `resolution` says. All of it is
    done to clean images in training and evaluation; in use only `resolution` matters, and where the holes are is given.
    Where the strength of the noise is a range, the network is told it: what nobody states is estimated from the image.
    scale: lowest and highest value that PSNR and SSIM refer to; null: each case's own.
    structure: weight of 1 - SSIM beside the mean absolute error. adversarial: weight of a critic of patches beside both.
    blind: the images are noisy themselves, and every voxel is learned from its neighbours (noise2void), which takes away what
        is independent from voxel to voxel; `noise` is then of no use.
    pairs: every image was acquired twice, and the channels of the first acquisition stand before those of the second: each is
        learned from the other (noise2noise), which takes away what is independent between them. In use one is given.
    """

    repair: Literal["denoise", "inpaint", "upscale"] = "denoise"
    noise: Noise = Noise()
    holes: Holes = Holes()
    resolution: Resolution = Resolution()
    scale: tuple[float, float] | None = None
    structure: float = Field(default=0.1, ge=0)
    adversarial: float = Field(default=0.0, ge=0)
    blind: bool = False
    pairs: bool = False

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.blind and self.pairs:
            raise ValueError("blind and pairs, two ways to learn from noisy images")
        if self.noisy and (self.repair != "denoise" or self.adversarial > 0):
            name = "blind" if self.blind else "pairs"
            raise ValueError(f"{name}, which learns nothing but the noise of the images themselves")
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)}, which is to rise")
        return self

    @property
    def noisy(self) -> bool:
        """Whether the images are learned from as noisy as they are."""
        return self.blind or self.pairs


def targets(dataset: Dataset) -> None:
    """Images are all that it takes."""


def rules(fingerprint: Fingerprint) -> core.Decision:
    """Noise in proportion to the values, and whether slices are thick. Raises InputError TOO_FEW for constant images."""
    refuse_constant(fingerprint)
    low = min(i.low for i in fingerprint.intensity)
    span = max(max(i.high for i in fingerprint.intensity) - low, 1e-6)
    sides = fingerprint.spacing_median
    thick = int(np.argmax(sides)) if fingerprint.ndim == 3 and max(sides) > THICK * min(sides) else None
    picture = fingerprint.dtype == "uint8" and fingerprint.space == "none"
    scale = (0.0, 255.0) if picture else (low, low + span) if fingerprint.modality == "CT" else None
    return core.Decision(
        {"noise": usual(low, span), "resolution": {"axes": () if thick is None else (thick,)}, "scale": scale},
        {
            "noise": f"values span {span:g}: {USUAL}; the network is told how strong the noise is",
            "resolution": f"voxels {max(sides) / min(sides):.1f} times as long as wide"
            + ("" if thick is None else f": finer along axis {thick} alone"),
            "scale": "8-bit pictures" if picture else "values mean the same in every case" if scale else "each case by itself",
        },
    )


class Solver:
    """See hounsfield.tasks.Solver and Posing. Raises InputError BAD_PLAN for a plan that changes the images."""

    bounds: Mapping[str, tuple[float, float]] = {"discriminator": (TOLD, float("inf"))}

    def __init__(self, plan: core.Plan) -> None:
        assert isinstance(plan.task_options, Options)
        self.plan = plan
        self.options = plan.task_options
        self.out_channels = self.channels = len(plan.channels) // (2 if self.options.pairs else 1)
        added = self.options.repair == "denoise" and not self.options.noisy
        self.noise = self.options.noise if added else None  # what images are given in training and evaluation
        finer = self.options.repair == "upscale"
        as_they_are.check(plan, self.options.resolution, finer=finer, pairs=self.options.pairs)

    @property
    def holes(self) -> bool:
        return self.options.repair == "inpaint"

    @property
    def told(self) -> bool:
        """Whether the network is told how strong the noise is."""
        return self.noise is not None and self.noise.varies

    def encode(self, sample: Sample, placement: Placement) -> npt.NDArray[np.float32]:
        """(2 C,) mean and deviation of each channel of the case, by which it was normalised: they lead back to its units."""
        how = self.plan.normalise
        if all(channel.scope == "dataset" for channel in how):
            return np.array([(channel.mean, channel.std) for channel in how], dtype=np.float32).ravel()
        array = placement.crop(read_case(sample, len(how)).array)
        return np.array(units(array, how), dtype=np.float32).ravel()

    def blank(self, size: int) -> Tensor:
        return torch.ones(size, 2 * len(self.plan.channels))

    def network(self, build: Callable[[int, int], nn.Module]) -> nn.Module:
        """The plan's model, with a channel more that tells where the holes are, or how strong the noise is; with a critic where
        there is one."""
        inputs = self.channels + self.holes + self.told
        made = build(inputs, self.channels)
        if self.options.adversarial == 0:
            return made
        return Adversaries(made, PatchCritic(inputs + self.channels, self.plan.patch))

    def players(self, model: nn.Module) -> Mapping[str, nn.Module]:
        if self.options.adversarial == 0:
            return {"model": model}
        return {"generator": cast(nn.Module, model.generator), "discriminator": cast(nn.Module, model.discriminator)}

    def steps(self, model: nn.Module, batch: Batch) -> Iterable[tuple[str, Callable[[], Tensor]]]:
        with torch.no_grad():
            given, truth, asked = self._posed(batch)
        made: list[Tensor] = []

        def critic(image: Tensor) -> Tensor:
            score: Tensor = cast(nn.Module, model.discriminator)(torch.cat([given, image], dim=1))
            return score.float()

        def repair() -> Tensor:
            out = self._made(model, given)
            if asked is not None:
                out = torch.where(asked, out, truth)
            # Of noisy truths the mean square has its least at their mean, which is what is wanted.
            wrong = (out - truth).square() if self.options.noisy else (out - truth).abs()
            loss = wrong.mean() if asked is None else wrong.sum() / (asked.sum() * self.channels).clamp_min(1)
            if self.options.structure > 0 and not self.options.noisy:
                loss = loss + self.options.structure * structural(out, truth)
            if self.options.adversarial > 0:
                made[:] = [out.detach()]
                with frozen(cast(nn.Module, model.discriminator)):
                    loss = loss + self.options.adversarial * (critic(out) - 1).square().mean()
            return loss

        def judge() -> Tensor:
            # Least squares, whose gradients do not die where the critic is sure (Mao et al., ICCV 2017).
            return ((critic(truth) - 1).square().mean() + critic(made[0]).square().mean()) / 2

        if self.options.adversarial == 0:
            yield "model", repair
        else:
            yield "generator", repair
            yield "discriminator", judge

    def infer(self, models: Sequence[nn.Module], x: Tensor) -> Iterator[Slab]:
        """What is to be added to x, (C, *grid) normalised; the mean of members and mirrored views."""
        return self._slabs(models, x, ())

    def can_disagree(self, members: int) -> bool:
        """Whether there are several networks, or an axis to mirror."""
        return members > 1 or bool(self.plan.augment.mirror)

    def infer_spread(self, models: Sequence[nn.Module], x: Tensor, most: int | None = None) -> Iterator[Slab]:
        """(2 C, *grid): what `infer` gives, then the standard deviation over members and views: those of the plan, and `most`
        at most (None: all) of the others that are mirrored along axes of the augmentation. Raises InputError BAD_OPTION where
        there is one view alone."""
        mirrored = self.plan.inference.model_copy(update={"mirror": True})
        own, every = (flips(self.plan.model_copy(update={"inference": how})) for how in (self.plan.inference, mirrored))
        if not self.can_disagree(len(models)):
            raise InputError(
                "BAD_OPTION",
                "--uncertainty",
                found="one network, and no axis to mirror",
                expected="several that can disagree",
                fix="train again with --seeds 3",
            )
        return self._slabs(models, x, [axes for axes in every if axes not in own][:most], spread=True)

    def decode(self, raw: Iterable[Slab], prepared: Prepared) -> Image:
        """The image that was given, restored, on its own grid or, of higher resolution, on the finer one of the same extent."""
        assert isinstance(prepared, Given)
        return composed(raw, prepared)[0]

    def score(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """How much is changed."""
        changed: Tensor = (self._made(model, x) - x[:, : self.channels]).abs().flatten(1).mean(dim=1)
        return changed

    def pose(self, image: Image, sample: Sample) -> Image:
        """The case degraded, float32 along its canonical axes, of inpainting with one channel more, 1 in the holes, where
        the others have the mean of what is known. The sample's id is the seed, so that every run is given the same."""
        upright, options = image.canonical(), self.options
        x = torch.from_numpy(np.array(upright.array, dtype=np.float32, order="C"))[None]
        draw = _draw_of(sample)
        grid = upright.geometry
        if self.holes:
            hole = make_holes(1, x.shape[2:], options.holes, draw)
            x = torch.cat([without_hole(x, hole), hole.float()], dim=1)
        elif options.repair == "upscale":
            x = coarsen(divisible(x, options.resolution), options.resolution)
            along = options.resolution.along(self.plan.ndim)
            kept = tuple(n * (options.resolution.factor if k in along else 1) for k, n in enumerate(x.shape[2:]))
            grid = grid.crop((0,) * grid.ndim, kept).resize(x.shape[2:])
        elif options.pairs:
            x = x[:, : self.channels]
        elif self.noise is not None:
            x = add_noise(x, self.noise, draw)
        return Image(x[0].numpy(), grid, image.meta)

    def prepare(self, image: Image, device: torch.device) -> Given:
        """image: (C, *spatial), of inpainting (C + 1, ...), not 0 in the holes, of pairs also (2 C, ...). Raises InputError
        CHANNELS, VALUE_RANGE, BAD_OPTION where no hole is given."""
        how = self.plan.normalise[: self.channels]
        if self.options.pairs and image.channels == 2 * self.channels:
            first, second = (Image(half, image.geometry, image.meta) for half in np.split(image.array, 2))
            beyond_range(second.array, how, ROOM)
            return of_both(self.prepare(first, device), second)
        if image.channels != self.channels + self.holes:
            no_hole = self.holes and image.channels == self.channels
            raise InputError(
                "BAD_OPTION" if no_hole else "CHANNELS",
                "image",
                found="no mask of the holes" if no_hole else f"{image.channels - self.holes} channels",
                expected="one on the grid of the image" if no_hole else f"{self.channels}, as the plan has",
                fix="hounsfield restore RUN INPUT --mask MASK" if no_hole else "give the channels that were learned from",
            )
        given = placed(image, self.channels, how, self._finer(), device)
        beyond_range(given.image.array, how, ROOM)
        strength = self.strength(image) if self.told else None
        return given if strength is None else tell(given, self.options.noise, strength)

    def strength(self, image: Image) -> float | None:
        """How strong the noise of an image (C, *spatial) is known to be, else seems to be; None where none is learned."""
        if self.noise is None or isinstance(image, Noisy):
            return image.noise if isinstance(image, Noisy) else None
        return estimate(image.array, self.noise)

    def riddle(self, sample: Sample) -> Riddle:
        """The sample as it is posed, and its truth."""
        image = read_case(sample, len(self.plan.channels))
        posed = self.pose(image, sample)
        given, hole = torch.from_numpy(posed.array[: self.channels])[None], None
        if self.holes:
            hole = posed.array[-1] != 0
            given = fill(given, torch.from_numpy(hole)[None, None])
        elif self._finer() is not None:
            given = refine(given, self.options.resolution)
        # Of two acquisitions the second.
        truth = image.canonical().array[(slice(-self.channels, None), *(slice(n) for n in given.shape[2:]))]
        noise = None if self.noise is None else float(strengths(self.noise, 1, _draw_of(sample)))
        return Riddle(truth.astype(np.float32), given[0].numpy(), hole, noise)

    def metrics(self) -> Metrics:
        note = BLIND if self.options.blind else PAIRS if self.options.pairs else ""
        return Metrics(self.riddle, self.options.scale, note)

    def draw(self, image: Image, sample: Sample | None, prediction: Prediction, spread: Image | None = None) -> RGB:
        """spread: of the prediction, on its grid."""
        assert isinstance(prediction, Image)
        x = torch.from_numpy(np.array(image.canonical().array[: self.channels], dtype=np.float32, order="C"))[None]
        given = (x if self._finer() is None else refine(x, self.options.resolution))[0].numpy()
        truth = None if sample is None else self.riddle(sample).truth
        across = self.options.resolution.along(self.plan.ndim) if self._finer() is not None else ()
        apart = None if spread is None else spread.canonical().array
        return drawing.side_by_side(prediction.canonical(), given, truth, across, apart)

    def write(self, prediction: Prediction, sample: Sample, folder: Path) -> Path:
        """`<id>.png` for pictures whose values a PNG holds, else `<id>.nii.gz`, in the source's values."""
        assert isinstance(prediction, Image)
        flat = prediction.ndim == 2 and prediction.geometry.space == "none"
        kinds = {1: ("uint8", "uint16"), 3: ("uint8",)}.get(prediction.channels, ())
        path = folder / f"{sample.id}{'.png' if flat and prediction.array.dtype.name in kinds else '.nii.gz'}"
        io.write(prediction, path, overwrite=True)
        return path

    def finish(self, predictions: Sequence[tuple[Sample, Prediction]], folder: Path) -> Path | None:
        return None

    def _finer(self) -> Resolution | None:
        return self.options.resolution if self.options.repair == "upscale" else None

    def _posed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Given (B, C or C + 1, *patch), truth (B, C, *patch), and where (B, 1, *patch) it is asked for; normalised."""
        clean, options = batch.image, self.options
        if options.blind:
            given, asked = blind_spots(clean)
            return given, clean, asked
        if options.pairs:
            return *acquisitions(clean, batch.target), None
        if self.holes:
            hole = make_holes(len(clean), clean.shape[2:], options.holes, None, clean.device)
            return torch.cat([fill(clean, hole), hole.float()], dim=1), clean, hole
        if options.repair == "upscale":
            return refine(coarsen(clean, options.resolution), options.resolution), clean, None
        assert self.noise is not None
        return *noised(clean, batch.target, self.noise, [how.scope == "case" for how in self.plan.normalise]), None

    def _made(self, model: nn.Module, given: Tensor) -> Tensor:
        """(B, C, *patch) float32: what was given, and what the network adds to it."""
        out = model(given)
        change: Tensor = out if isinstance(out, Tensor) else out[0]
        return given[:, : self.channels].float() + change.float()

    def _slabs(
        self, models: Sequence[nn.Module], x: Tensor, more: Sequence[tuple[int, ...]], spread: bool = False
    ) -> Iterator[Slab]:
        """The mean of the plan's own views, and the spread of these and `more`."""
        device, own = next(models[0].parameters()).device, flips(self.plan)

        def change(window: Tensor) -> Tensor:
            given = separate(window, self.channels) if self.options.pairs else window
            views = torch.stack([_view(model, axes, given) for axes in (*own, *more) for model in models])
            views = views.mean(dim=1, keepdim=True)  # over acquisitions
            mean = views[: len(own) * len(models)].mean(dim=0)
            return torch.cat([mean, views.std(dim=0, correction=0)], dim=1) if spread else mean

        outputs, finer = self.channels * (2 if spread else 1), self._finer()
        # As in training, a window begins where a coarse voxel does.
        along = () if finer is None else finer.along(self.plan.ndim)
        of = [self.options.resolution.factor if k in along else 1 for k in range(self.plan.ndim)]
        return slabs(change, x[0], self.plan.patch, self.plan.inference.overlap, outputs, device, of)


def _draw_of(sample: Sample) -> torch.Generator:
    """Of what is done to a held-out case."""
    return generator("cpu", zlib.crc32(sample.id.encode()))


def _view(model: nn.Module, axes: tuple[int, ...], window: Tensor) -> Tensor:
    """What the network says of the window mirrored along `axes`, mirrored back."""
    if not axes:  # a flip along no axis is a copy
        return cast(Tensor, model(window)).float()
    return cast(Tensor, model(window.flip(axes))).float().flip(axes)
