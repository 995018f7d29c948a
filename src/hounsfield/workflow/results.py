"""What a prediction is written as: the task's own files, and of DICOM images DICOM objects that refer to them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import hounsfield
from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.plan import Plan
from hounsfield.core.prediction import ClassScores, Prediction
from hounsfield.core.registry import nearest
from hounsfield.core.sample import Sample
from hounsfield.io.formats import DEFAULT, Choices, dicom
from hounsfield.io.results import maps, pictures, report, segmentation
from hounsfield.io.results.origin import Author, Origin
from hounsfield.io.results.origin import write as write_dicom
from hounsfield.metrics.size import size_of
from hounsfield.tasks import Solver, detection
from hounsfield.workflow import box_results
from hounsfield.workflow.image import TITLES

if TYPE_CHECKING:
    from hounsfield.workflow.run import Run

# What each task's predictions may become, its own files first: seg a segmentation, sr a report of measurements, scores or
# boxes, pm a map of probabilities, sc a picture. Of other tasks there are the own files alone.
KINDS: Final = {
    "segmentation": ("nifti", "seg", "sr", "pm", "sc"),
    "classification": ("table", "sr"),
    "detection": ("json", "nifti", "png", "coco", "sr", "sc"),
}
_DICOM: Final = ("seg", "sr", "pm", "sc")
_SHOWING: Final = ("pm", "sc")  # of these, what is made from the image once more
# Of the kinds that make a file for each case, their endings.
_ENDINGS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "segmentation": {"nifti": (".nii.gz", ".png")},
    "detection": box_results.FILES,
}
# Of those that make files for all cases, these.
_TABLES: Final = {
    "table": ("predictions.csv",),
    "json": ("predictions.json",),
    "files": ("predictions.csv", "predictions.json"),
    "coco": ("coco.json", "coco.images.json"),
}


class Predicts(Protocol):
    """What is used of the Predictor."""

    plan: Plan
    solver: Solver

    def read(self, case: Image | Sample) -> Image: ...

    def maps(self, case: Image | Sample) -> Image: ...


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


def is_own(kinds: Sequence[str], task: str) -> bool:
    """Whether the task's own files are among `kinds`."""
    return kinds_of(None, task)[0] in kinds


def endings(kinds: Sequence[str], task: str) -> tuple[str, ...]:
    """Endings of the files that a case may become."""
    own = _ENDINGS.get(task, {})
    return tuple(e for kind in kinds for e in ((f".{kind}.dcm",) if kind in _DICOM else own.get(kind, ())))


def tables(kinds: Sequence[str]) -> tuple[str, ...]:
    """Names of the files of all cases."""
    return tuple(name for kind in kinds for name in _TABLES.get(kind, ()))


def refuse_others(samples: Sequence[Sample], kinds: Sequence[str], plan: Plan) -> None:
    """Raises InputError MISSING_EXTRA where DICOM cannot be written; BAD_OPTION for DICOM results of an image that is not
    DICOM, for a map of probabilities of one without a place in the patient, and for boxes that a kind cannot hold."""
    wanted = [kind for kind in kinds if kind in _DICOM]
    if wanted:
        _refuse_dicom(samples, wanted)
    if plan.task == "detection":
        box_results.refuse(kinds, plan, [_place(sample) for sample in samples])


def _refuse_dicom(samples: Sequence[Sample], wanted: Sequence[str]) -> None:
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


def shows(kinds: Sequence[str], task: str) -> bool:
    """Whether something among `kinds` needs the image itself, once it is predicted."""
    return any(kind in _SHOWING or (task == "detection" and kind in box_results.FILES) for kind in kinds)


def write(
    kinds: Sequence[str],
    predictor: Predicts,
    author: Author,
    sample: Sample,
    case: Image | Sample,
    prediction: Prediction,
    folder: Path,
) -> list[Path]:
    """What is made of each case beside the task's own files: the DICOM objects among `kinds` as `<id>.<kind>.dcm` below
    `folder`, and of boxes label images and pictures. case: the sample, or its image where that was read.

    Raises InputError MISSING_TAG, BAD_HEADER.
    """
    made: list[Path] = []
    if isinstance(prediction, Boxes) and any(kind in box_results.FILES for kind in kinds):
        made = box_results.write(kinds, _detector(predictor), predictor.read(case), prediction, folder / sample.id)
    wanted = [kind for kind in kinds if kind in _DICOM]
    return [*made, *_dicom(wanted, predictor, author, sample, case, prediction, folder)] if wanted else made


def _dicom(
    wanted: Sequence[str],
    predictor: Predicts,
    author: Author,
    sample: Sample,
    case: Image | Sample,
    prediction: Prediction,
    folder: Path,
) -> list[Path]:
    path, choices = _place(sample)
    classes = predictor.plan.classes
    made = {}
    with io.unpacked(path) as place:
        origin = Origin(dicom.source(place, choices))
        mask = None
        if "seg" in wanted and isinstance(prediction, Image):
            made["seg"] = mask = segmentation.segmentation(origin, prediction, classes, author)
        if "sr" in wanted:
            found = _found(predictor, prediction)
            made["sr"] = report.report(origin, found, author, mask)
        if "pm" in wanted:
            made["pm"] = maps.probability_map(origin, predictor.maps(case), classes, author)
        if "sc" in wanted:
            picture = predictor.solver.draw(predictor.read(case), None, prediction)
            made["sc"] = pictures.secondary_capture(origin, picture, author)
    return [write_dicom(result, folder / f"{sample.id}.{kind}.dcm") for kind, result in made.items()]


def _detector(predictor: Predicts) -> detection.Solver:
    assert isinstance(predictor.solver, detection.Solver)
    return predictor.solver


def _found(predictor: Predicts, prediction: Prediction) -> Sequence[report.Found]:
    """Volume and diameter of every class of a mask, the score of every class, or every box."""
    classes = predictor.plan.classes
    if isinstance(prediction, Boxes):
        return box_results.reported(_detector(predictor), prediction)
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
