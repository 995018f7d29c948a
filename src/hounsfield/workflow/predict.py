"""The one Predictor: file -> image -> model grid -> task -> source grid; training, evaluation and serving use it too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Plan
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.channels import fitted, read_case
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.prepare import CPU, Prepared, prepare
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.tasks import TASKS, Posing, restoration, segmentation
from hounsfield.tasks.parts.given import Given, composed
from hounsfield.workflow import box_results, results
from hounsfield.workflow.console import SILENT, Console, track
from hounsfield.workflow.device import choose_device, memory_guard
from hounsfield.workflow.run import Run

P = TypeVar("P")
# Kinds of tasks that predict nothing, and what their runs are for.
OTHERS = {
    "generator": ("a run that draws images", "draw with hounsfield generate RUN"),
    "masked": ("a run that was pretrained alone", "train on labels with hounsfield train DATA --init RUN"),
}


class Predictor:
    """A trained run, ready to predict: `Predictor("runs/lungs")("scan.nii.gz")`.

    device: "auto", "cpu", "cuda", "mps". Raises InputError NOT_A_RUN, BAD_WEIGHTS, BAD_OPTION.
    """

    def __init__(self, run: Run | str | Path, device: str = "auto") -> None:
        opened = run if isinstance(run, Run) else Run(run)
        self._set(opened.plan, opened.models(choose_device(device)))

    @classmethod
    def of(cls, plan: Plan, models: Sequence[nn.Module]) -> Predictor:
        """From models at hand, on the device where they are."""
        self = cls.__new__(cls)
        self._set(plan, models)
        return self

    def _set(self, plan: Plan, models: Sequence[nn.Module]) -> None:
        self.plan = plan
        self.models = list(models)
        self.solver = TASKS.load(plan.task).Solver(plan)

    def __call__(self, case: Image | Sample | str | Path) -> Prediction:
        """The prediction on the source's own grid, in the source's values. Raises InputError for what cannot be read."""
        return self._decoded(case, self.solver.infer, self.solver.decode)

    def maps(self, case: Image | Sample | str | Path) -> Image:
        """Of a segmentation the classes' probabilities, (K, *grid) on the source's own grid, times 255 as uint8."""
        assert isinstance(self.solver, segmentation.Solver)
        return self._decoded(case, self.solver.infer, self.solver.maps)

    def spread(self, case: Image | Sample | str | Path, most: int | None = None) -> tuple[Image, Image]:
        """Of a restoration the image, and beside it how far networks and mirrored views lie apart: float32, the standard
        deviation in the source's units. most: mirrored views beside those of the plan, None for all. Raises InputError
        BAD_OPTION where there is one view alone."""
        assert isinstance(self.solver, restoration.Solver)

        def decode(raw: Any, prepared: Prepared) -> tuple[Image, Image]:
            assert isinstance(prepared, Given)
            image, apart = composed(raw, prepared)
            assert apart is not None
            return image, apart

        return self._decoded(case, partial(self.solver.infer_spread, most=most), decode)

    def _decoded(
        self,
        case: Image | Sample | str | Path,
        infer: Callable[[Sequence[nn.Module], Tensor], Any],
        decode: Callable[[Any, Prepared], P],
    ) -> P:
        prepared = self.prepare(self.read(case))
        with (
            torch.inference_mode(),
            memory_guard("predict", "use a smaller window with --set patch=... at training, or another machine"),
        ):
            return decode(infer(self.models, prepared.tensor[None]), prepared)

    def examine(self, sample: Sample) -> Prediction:
        """What is measured of a sample: the prediction of it, or of what the task poses in its place."""
        return self(self.pose(sample)) if isinstance(self.solver, Posing) else self(sample)

    def pose(self, sample: Sample) -> Image:
        """What the network is given of a sample when it is measured: its image, or what the task makes of it."""
        if isinstance(self.solver, Posing):
            return self.solver.pose(read_case(sample, len(self.plan.channels)), sample)
        return self.read(sample)

    def read(self, case: Image | Sample | str | Path) -> Image:
        """All channels of a case that somebody gives: those that are learned from, or that the task wants of a user."""
        if isinstance(case, Image):
            return case
        if not isinstance(case, Sample):
            path = Path(case)
            case = Sample(path.name, (ImageFile(path),))
        image, every = read_case(case), len(self.plan.channels)
        if image.channels == every or not isinstance(self.solver, Posing):
            return fitted(image, every, case)
        return fitted(image, self.solver.channels, case)

    def prepare(self, image: Image) -> Prepared:
        """The image on the model grid. Raises InputError WRONG_DIMENSION, CHANNELS, and what the task raises."""
        if image.ndim != self.plan.ndim:
            raise InputError(
                "WRONG_DIMENSION",
                "image",
                found=f"{image.ndim} spatial axes {image.geometry.shape}",
                expected=f"{self.plan.ndim} axes, as the plan has",
                fix="choose a slice or a volume",
            )
        device = next(self.models[0].parameters()).device
        where = device if device.type == "cuda" else CPU
        if isinstance(self.solver, Posing):
            return self.solver.prepare(image, where)
        return prepare(image, self.plan.grid, self.plan.normalise, where)


def predict(
    run: Run | str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    to: str | None = None,
    split: str | None = None,
    choices: Choices = DEFAULT,
    overwrite: bool = False,
    device: str = "auto",
    console: Console = SILENT,
) -> list[Path]:
    """Predict every case of `inputs` (files, folders, datasets) into the folder `out`; returns what was written.

    to: what is written, with commas between: see `results.KINDS`; None: the first of those of the run's task.
    split: only the cases of this part ("train", "val", "test"), as the dataset gives it, or as the run drew it.
    choices: how inputs are read that leave one.
    Raises InputError OUTPUT_COLLISION, OUTPUT_EXISTS, BAD_OPTION (DICOM results of images that are not DICOM), MISSING_EXTRA
    before any work is done; UNSUPPORTED_PAIR for a run that predicts nothing.
    """
    opened = run if isinstance(run, Run) else Run(run)
    if (kind := TASKS.load(opened.plan.task).KIND) in OTHERS:
        found, fix = OTHERS[kind]
        raise InputError("UNSUPPORTED_PAIR", opened.root, found=found, expected="one that says something of images", fix=fix)
    kinds = results.kinds_of(to, opened.plan.task)
    # Whether a DICOM series has a label does not matter here, unless a part of a labelled dataset is meant; nor what boxes are
    # worth.
    without = ("dicom_studies",) if split is None else ()
    reading = choices.model_copy(update={"drop_invalid": True})
    datasets = [open_dataset(Path(path), choices=reading, without=without) for path in inputs]
    samples = [s for dataset in datasets for s in cases_of(dataset, opened, split)]
    folder = Path(out)
    results.refuse_others(samples, kinds, opened.plan)
    ids = box_results.numbers(datasets, samples) if "coco" in kinds else {}
    endings = results.endings(kinds, opened.plan.task)
    names = [*results.tables(kinds), *(f"{s.id}{ending}" for s in samples for ending in endings)]
    refuse_collisions(samples, folder, names, overwrite)
    predictor = Predictor(opened, device)
    for note in (note for dataset in datasets for note in dataset.notes):
        console.say(f"  {note}")
    where = next(predictor.models[0].parameters()).device
    console.say(f"{len(samples)} cases, {opened.plan.task} with {opened.plan.network} on {where}")
    author = results.author_of(opened)
    table: list[tuple[Sample, Prediction]] = []
    written: list[Path] = []
    own, shown = results.is_own(kinds, opened.plan.task), results.shows(kinds, opened.plan.task)
    for sample in track(console, "predicting", samples):
        case = predictor.read(sample) if shown else sample  # kept only where it is needed again
        prediction = predictor(case)
        for note in prediction.meta.notes if isinstance(prediction, Image) else ():
            console.say(f"  {sample.id}: {note}")
        written += results.write(kinds, predictor, author, sample, case, prediction, folder)
        path = predictor.solver.write(prediction, sample, folder) if own else None
        if path is not None:
            written.append(path)
        elif own or ids:
            table.append((sample, prediction))
    last = predictor.solver.finish(table, folder) if own else None
    written += [last] if last is not None else []
    if ids:
        written += box_results.finish(predictor.plan, ids, table, folder)
    return written


def cases_of(dataset: Dataset, run: Run, split: str | None) -> tuple[Sample, ...]:
    """The samples of one part: as the run's own split says for the data it was trained on, else as the dataset does.

    Raises InputError BAD_OPTION where there is no such part.
    """
    if split is None:
        return dataset.samples
    if split not in ("train", "val", "test"):
        raise InputError("BAD_OPTION", "--split", found=repr(split), expected="train, val or test", fix="name one of them")
    if Path(run.record.get("data", "")).resolve() == dataset.root.resolve():
        chosen: Iterable[str] = getattr(run.split, split)
        samples = dataset.select(list(chosen)).samples if chosen else ()
    else:
        samples = tuple(s for s in dataset.samples if s.split == split)
    if not samples:
        raise InputError(
            "BAD_OPTION",
            "--split",
            found=f"no {split} part in {dataset.root.name}",
            expected="a part that exists",
            fix="leave --split out",
        )
    return samples


def refuse_collisions(samples: Sequence[Sample], folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """names: of the files that may be written below `folder`. Raises InputError OUTPUT_COLLISION (two inputs of one name, an
    input that would be overwritten), OUTPUT_EXISTS."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in seen:
            raise InputError(
                "OUTPUT_COLLISION",
                folder,
                found=f"{seen[sample.id].images[0].path} and {sample.images[0].path}, both named {sample.id!r}",
                expected="one output for each input",
                fix="predict them into different folders",
            )
        seen[sample.id] = sample
    there = [name for name in names if (folder / name).exists()]
    inputs = {lazy.path.resolve() for sample in samples for lazy in sample.images}
    own = [name for name in there if (folder / name).resolve() in inputs]
    if own:
        raise InputError(
            "OUTPUT_COLLISION",
            folder / own[0],
            found="an input where its prediction would be written",
            expected="inputs and outputs apart",
            fix="choose another folder",
        )
    if there and not overwrite:
        raise InputError(
            "OUTPUT_EXISTS",
            folder / there[0],
            found="a file of this name",
            expected="none",
            fix="choose an empty folder, or --overwrite",
        )
