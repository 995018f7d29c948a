"""What a prediction is written as: the task's own files, and of DICOM images DICOM objects that refer to them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import hounsfield
from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Class, Plan
from hounsfield.core.prediction import ClassScores, Prediction
from hounsfield.core.registry import nearest
from hounsfield.core.sample import Sample
from hounsfield.io.formats import DEFAULT, Choices, dicom
from hounsfield.io.results import maps, pictures, report, segmentation
from hounsfield.io.results.origin import Author, Origin
from hounsfield.io.results.origin import write as write_dicom
from hounsfield.metrics.size import size_of
from hounsfield.tasks import Solver
from hounsfield.workflow.image import TITLES

if TYPE_CHECKING:
    from hounsfield.workflow.run import Run

# What each task's predictions may become, its own files first: seg a segmentation, sr a report of measurements or scores, pm a
# map of probabilities, sc a picture. Of other tasks there are the own files alone.
KINDS: Final = {"segmentation": ("nifti", "seg", "sr", "pm", "sc"), "classification": ("table", "sr")}
_OWN: Final = ("nifti", "table", "files")
_OWN_ENDINGS: Final = (".nii.gz", ".png")


class Predicts(Protocol):
    """What is used of the Predictor."""

    plan: Plan
    solver: Solver

    def read(self, case: Sample) -> Image: ...

    def maps(self, case: Sample) -> Image: ...


def kinds_of(to: str | None, task: str) -> tuple[str, ...]:
    """The kinds that "seg,sr" names. Raises InputError BAD_OPTION for one that the task has not, naming the nearest."""
    offered = KINDS.get(task, ("files",))
    if to is None:
        return offered[:1]
    kinds = tuple(dict.fromkeys(word.strip() for word in to.split(",")))
    for kind in kinds:
        if kind not in offered:
            raise InputError(
                "BAD_OPTION",
                "--to",
                found=repr(kind),
                expected=f"some of {', '.join(offered)}, which {task} can write",
                fix=nearest(kind, offered),
            )
    return kinds


def is_own(kinds: Sequence[str]) -> bool:
    """Whether the task's own files are among `kinds`."""
    return any(kind in _OWN for kind in kinds)


def endings(kinds: Sequence[str]) -> tuple[str, ...]:
    """Endings of the files that a case may become."""
    return (*(_OWN_ENDINGS if is_own(kinds) else ()), *(f".{kind}.dcm" for kind in kinds if kind not in _OWN))


def refuse_others(samples: Sequence[Sample], kinds: Sequence[str]) -> None:
    """Raises InputError MISSING_EXTRA where DICOM cannot be written; BAD_OPTION for DICOM results of an image that is not
    DICOM, and for a map of probabilities of one without a place in the patient."""
    wanted = [kind for kind in kinds if kind not in _OWN]
    if not wanted:
        return
    if find_spec("highdicom") is None:
        raise InputError(
            "MISSING_EXTRA",
            f"--to {','.join(wanted)}",
            found="no package highdicom",
            expected="the extra dicom",
            fix="pip install 'hounsfield[dicom]'",
        )
    for sample in samples:
        path, choices = _place(sample)
        told = io.peek(path, choices)
        if told.format != "dicom":
            raise InputError(
                "BAD_OPTION",
                f"--to {','.join(wanted)}",
                found=f"{path}, {TITLES.get(told.format, told.format)}",
                expected="DICOM images, which DICOM results refer to",
                fix="leave the option out, or predict the DICOM series",
            )
        if "pm" in wanted and told.geometry.space != "patient":
            raise InputError(
                "BAD_OPTION",
                "--to pm",
                found=f"{path}, which has no position",
                expected="images in the patient",
                fix="leave pm out",
            )


def author_of(run: Run) -> Author:
    """The run's model as results name it."""
    digest = hashlib.sha256()
    for member in run.members:
        with (member / "weights.safetensors").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Author(f"{run.plan.task} with {run.plan.network}", hounsfield.__version__, digest.hexdigest()[:16])


def write(
    kinds: Sequence[str], predictor: Predicts, author: Author, sample: Sample, prediction: Prediction, folder: Path
) -> list[Path]:
    """The DICOM objects among `kinds` as `<id>.<kind>.dcm` below `folder`. Raises InputError MISSING_TAG, BAD_HEADER."""
    wanted = [kind for kind in kinds if kind not in _OWN]
    if not wanted:
        return []
    path, choices = _place(sample)
    classes = predictor.plan.classes
    made = {}
    with io.unpacked(path) as place:
        origin = Origin(dicom.source(place, choices))
        mask = None
        if "seg" in wanted and isinstance(prediction, Image):
            made["seg"] = mask = segmentation.segmentation(origin, prediction, classes, author)
        if "sr" in wanted:
            made["sr"] = report.report(origin, _found(prediction, classes), author, mask)
        if "pm" in wanted:
            made["pm"] = maps.probability_map(origin, predictor.maps(sample), classes, author)
        if "sc" in wanted:
            picture = predictor.solver.draw(predictor.read(sample), None, prediction)
            made["sc"] = pictures.secondary_capture(origin, picture, author)
    return [write_dicom(result, folder / f"{sample.id}.{kind}.dcm") for kind, result in made.items()]


def _found(prediction: Prediction, classes: Sequence[Class]) -> Sequence[report.Measured | report.Scored]:
    """Volume and diameter of every class of a mask, or the score of every class."""
    if isinstance(prediction, ClassScores):
        return [report.Scored(c, float(p)) for c, p in zip(classes, prediction.probabilities, strict=True)]
    assert isinstance(prediction, Image)
    steps = prediction.geometry.affine[:3, : prediction.ndim]
    several = prediction.channels > 1
    regions = (prediction.array[k] > 0 if several else prediction.array[0] == c.value for k, c in enumerate(classes))
    sizes = [size_of(region, steps) for region in regions]
    return [report.Measured(c, size.content, size.diameter) for c, size in zip(classes, sizes, strict=True)]


def _place(sample: Sample) -> tuple[Path, Choices]:
    """Where the first image of a case lies, whose grid the prediction has, and how it is read."""
    first = sample.images[0]
    return first.path, getattr(first, "choices", DEFAULT)
