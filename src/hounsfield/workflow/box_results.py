"""What boxes become beside the list of all: label images, pictures, what a DICOM report says of them, and COCO's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Plan
from hounsfield.core.prediction import Prediction
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.readers import coco
from hounsfield.io.formats import Choices, dicom
from hounsfield.io.results.report import Boxed, Counted, Found
from hounsfield.tasks.detection import Solver
from hounsfield.tasks.parts.box_files import write_coco, write_labels

Place = tuple[Path, Choices]  # of an image, and how it is read
# Endings of what `write` makes of a case.
FILES: dict[str, tuple[str, ...]] = {"nifti": (".nii.gz", ".boxes.json"), "png": (".png",)}


def refuse(kinds: Sequence[str], plan: Plan, places: Sequence[Place]) -> None:
    """Raises InputError BAD_OPTION for COCO's results of volumes, and for a report on slices that are not the source's own."""
    if "coco" in kinds and plan.ndim == 3:
        raise InputError(
            "BAD_OPTION",
            "--to coco",
            found="a detector of volumes",
            expected="pictures, which COCO's boxes lie in",
            fix="write --to json or nifti",
        )
    for path, choices in places:
        if "sr" in kinds and (choices.allow_gaps or choices.fix_tilt):
            with io.unpacked(path) as place:
                resampled = dicom.source(place, choices).resampled
            if resampled:
                raise InputError(
                    "BAD_OPTION",
                    "--to sr",
                    found=f"{path}, whose slices are resampled or interpolated",
                    expected="slices of the source, on which a report draws boxes",
                    fix="write --to json or nifti",
                )


def write(kinds: Sequence[str], solver: Solver, image: Image, prediction: Boxes, stem: Path) -> list[Path]:
    """The label image with its table and the picture of one case, `stem` with the endings of FILES. Raises ResourceError
    DISK_FULL."""
    written = []
    if "nifti" in kinds:
        sure = solver.sure(prediction)
        written += write_labels(sure, image.geometry, solver.plan.classes, solver.options.sure, stem)
    if "png" in kinds:
        picture = solver.draw(image, None, prediction).transpose(2, 0, 1)
        path = stem.with_name(f"{stem.name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        io.write(Image(picture, Geometry.none(picture.shape[1:])), path, overwrite=True)
        written.append(path)
    return written


def reported(solver: Solver, prediction: Boxes) -> list[Found]:
    """What a report says: how many boxes of each class are scored well enough, and each of them."""
    sure = solver.sure(prediction)
    assert sure.scores is not None
    classes, n = solver.plan.classes, sure.ndim
    counts = [int((sure.labels == k).sum()) for k in range(len(classes))]
    found: list[Found] = [Counted(c, number, solver.options.sure) for c, number in zip(classes, counts, strict=True)]
    rows = zip(sure.corners.tolist(), sure.voxels.tolist(), sure.labels.tolist(), sure.scores.tolist(), strict=True)
    for number, (corners, voxels, label, score) in enumerate(rows, start=1):
        slices = (voxels[0], voxels[n]) if n == 3 else (0, 1)
        place = (slices, (corners[n - 2], corners[2 * n - 2]), (corners[n - 1], corners[2 * n - 1]))
        found.append(Boxed(classes[label], f"{classes[label].name[:50]} {number}", place, score))
    return found


def numbers(datasets: Sequence[Dataset], samples: Sequence[Sample]) -> dict[str, int]:
    """Ids of the images by sample id: those of COCO's files where all datasets are COCO's, else from 1 on in order.

    Raises InputError BAD_OPTION where two images have one id, as files of several parts may.
    """
    found = {sample.id: k for k, sample in enumerate(samples, start=1)}
    if all(dataset.reader == "coco" for dataset in datasets):
        given = {name: number for dataset in datasets for name, number in coco.image_ids(dataset.root).items()}
        found = {sample.id: given[sample.id] for sample in samples}
    first: dict[int, str] = {}
    for name, number in found.items():
        if first.setdefault(number, name) != name:
            raise InputError(
                "BAD_OPTION",
                "--to coco",
                found=f"the image id {number} for {first[number]!r} and for {name!r}",
                expected="an id of its own for each image",
                fix="choose one part with --split, or name one annotation file",
            )
    return found


def finish(plan: Plan, ids: Mapping[str, int], found: Sequence[tuple[Sample, Prediction]], folder: Path) -> list[Path]:
    """COCO's results of all cases; see `write_coco`. ids: of the images, by sample id."""
    rows = []
    for sample, prediction in found:
        assert isinstance(prediction, Boxes)
        lazy = sample.images[0]
        shape = lazy.peek().geometry.shape if isinstance(lazy, ImageFile) else lazy().geometry.shape
        rows.append((ids[sample.id], lazy.path.name, shape, prediction))
    return write_coco(rows, plan.classes, folder)
