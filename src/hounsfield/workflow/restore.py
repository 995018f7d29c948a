"""Restore: images without their noise, with their holes filled or in finer resolution, in the units and format they came in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

import hounsfield
from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image, Meta
from hounsfield.core.registry import nearest
from hounsfield.core.sample import Sample
from hounsfield.data.burned_text import text_mask
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.degrade import Noise, refine
from hounsfield.data.metal import metal_mask
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import DEFAULT, FORMATS, Choices
from hounsfield.tasks import restoration
from hounsfield.tasks.parts.noisy import Noisy, beyond
from hounsfield.workflow.console import SILENT, Console, first_few, track
from hounsfield.workflow.predict import Predictor, refuse_collisions
from hounsfield.workflow.results import author_of
from hounsfield.workflow.run import Run

FINDERS: Final = {"text": text_mask, "metal": metal_mask}


@dataclass(frozen=True)
class Wanted:
    """What is written beside the restored image: what was changed, and how far networks and mirrored views lie apart."""

    residual: bool = False
    uncertainty: bool = False


NOTHING: Final = Wanted()


@dataclass(frozen=True, eq=False)
class Restored:
    """image: in the type and units of the source, on its grid or the finer one that was learned. residual: float32, what was
    added to the source (of finer grids to its cubic interpolation). uncertainty: float32, the standard deviation over networks
    and mirrored views. Both in the source's units, None where they were not asked for. noise: how strong it was taken to be, as
    the plan's `task_options.noise` counts it; None of a run that added none to what it learned from."""

    image: Image
    residual: Image | None
    uncertainty: Image | None
    noise: float | None = None


def restore(
    run: Run | str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    mask: str | Path | None = None,
    find: str | None = None,
    noise: float | None = None,
    wanted: Wanted = NOTHING,
    choices: Choices = DEFAULT,
    overwrite: bool = False,
    device: str = "auto",
    console: Console = SILENT,
) -> list[Path]:
    """Restore every image of `inputs` (files, folders, datasets) into the folder `out`; returns what was written.

    mask: where the holes are, not 0 in them: a file for every image, or a folder with one of the same name for each. find:
    "text" or "metal", of which holes are made where it is seen; an image without stays as it is, and is named.
    noise: how strong it is, for a run that learned a range, in the unit of its `task_options.noise`; None: it is estimated of
    each image, and said.
    Each image is written as `<id>` with the ending of its own format where that can be written, else as .png or .nii.gz. NIfTI,
    PNG and TIFF files say by which network they were restored, and no more of what the source said of itself.
    Raises InputError BAD_OPTION (a run of another task; a mask that is lacking, of no use, empty or full; noise that was not
    learned), OUTPUT_COLLISION, OUTPUT_EXISTS before any work is done; GRID_MISMATCH, LOSSY_MASK, CHANNELS, VALUE_RANGE at the
    image that they concern.
    """
    opened = run if isinstance(run, Run) else Run(run)
    solver = _solver(opened)
    _check_holes(solver, mask, find)
    _check_noise(solver, noise)
    datasets = [open_dataset(Path(path), choices=choices, without=("dicom_studies",)) for path in inputs]
    samples = [sample for dataset in datasets for sample in dataset.samples]
    masks = _masks(mask, samples)
    endings = {sample.id: ending_of(sample, 2 if solver.options.pairs else 1) for sample in samples}
    folder = Path(out)
    names = [name for sample in samples for name in _names(sample.id, endings[sample.id], wanted)]
    refuse_collisions(samples, folder, names, overwrite)
    predictor = Predictor(opened, device)
    about = _about(opened)
    for note in (note for dataset in datasets for note in dataset.notes):
        console.say(f"  {note}")
    console.say(f"{len(samples)} images to {solver.options.repair} with {opened.plan.model}")
    written: list[Path] = []
    without: list[str] = []
    estimated: dict[str, float] = {}
    for sample in track(console, "restoring", samples):
        image = source_of(predictor, sample)
        hole = masks[sample.id]() if sample.id in masks else None if find is None else seen(image, find)
        if find is not None and hole is not None and not hole.array.any():
            without.append(sample.id)
            found, said = _unchanged(image, wanted), ""
        else:
            found, said = restore_one(predictor, image, hole, wanted, noise), about
        if noise is None and found.noise is not None:
            estimated[sample.id] = found.noise
        for name, made in zip(_names(sample.id, endings[sample.id], wanted), _images(found), strict=True):
            io.write(replace(made, meta=replace(made.meta, description=said)), folder / name, overwrite=True)
            written.append(folder / name)
    if without:
        console.say(f"  no {find} seen in {len(without)} of {len(samples)}, which stay as they are: {first_few(without)}")
    if solver.noise is not None and estimated:
        _say_noise(console, solver.noise, estimated)
    return written


def restore_one(
    predictor: Predictor,
    image: Image,
    mask: Image | None = None,
    wanted: Wanted = NOTHING,
    noise: float | None = None,
) -> Restored:
    """One image; mask: not 0 in its holes, on its grid; noise: as of `restore`. Raises as `restore`."""
    solver = predictor.solver
    assert isinstance(solver, restoration.Solver)
    given = image if mask is None else with_hole(image, mask)
    strength = solver.strength(image) if noise is None else noise
    if strength is not None:
        given = Noisy(given.array, given.geometry, given.meta, noise=strength)
    apart: Image | None = None
    if wanted.uncertainty:
        made, apart = predictor.spread(given)
    else:
        prediction = predictor(given)
        assert isinstance(prediction, Image)
        made = prediction
    return Restored(made, _residual(solver, image, made) if wanted.residual else None, apart, strength)


def source_of(predictor: Predictor, sample: Sample) -> Image:
    """The sample's image. Raises InputError CHANNELS, also for a grey picture where colours were learned: it would come back
    in colours."""
    solver = predictor.solver
    assert isinstance(solver, restoration.Solver)
    image, expected = read_case(sample), solver.channels
    if image.channels < expected:
        raise InputError(
            "CHANNELS",
            sample.images[0].path,
            found=f"{image.channels} channel{'s' * (image.channels != 1)}",
            expected=f"{expected}, as the run learned from",
            fix="use a run that was trained on such images",
        )
    return image if image.channels == expected else predictor.read(sample)


def seen(image: Image, what: str) -> Image:
    """A mask of burned-in "text" or of "metal" on the image's grid, perhaps empty. Raises InputError VALUE_RANGE."""
    return Image(FINDERS[what](image.array)[None], image.geometry, Meta("mask"))


def with_hole(image: Image, mask: Image) -> Image:
    """The image with one channel more, 1 in the holes, in its own type. Raises InputError GRID_MISMATCH, LOSSY_MASK,
    BAD_OPTION (an empty or full mask)."""
    if mask.geometry.ndim != image.ndim or not mask.geometry.same_grid(image.geometry):
        raise InputError(
            "GRID_MISMATCH",
            "--mask",
            found=f"a mask of {mask.geometry.shape} with affine {np.round(mask.geometry.affine, 3).tolist()}",
            expected=f"the image's {image.geometry.shape} with affine {np.round(image.geometry.affine, 3).tolist()}",
            fix="draw the mask on the image",
        )
    if mask.meta.lossy:
        raise InputError(
            "LOSSY_MASK",
            "--mask",
            found="a lossy picture, whose borders are smeared",
            expected="0 outside the holes",
            fix="save the mask as .png",
        )
    hole: npt.NDArray[np.bool_] = (mask.array != 0).any(axis=0)
    if not hole.any() or hole.all():
        raise InputError(
            "BAD_OPTION",
            "--mask",
            found="a mask of every voxel" if hole.any() else "a mask without a voxel",
            expected="holes, and what is known around them",
            fix="mark the holes with another value than 0",
        )
    return Image(np.concatenate([image.array, hole[None].astype(image.array.dtype)]), image.geometry, image.meta)


def ending_of(sample: Sample, alike: int = 1) -> str:
    """Of the file that a restored sample becomes: that of its first file where its format can be written and holds channels of
    several files, else .png for pictures, .nii.gz for all others. alike: how many of its files are of one image."""
    name = sample.images[0].path.name.lower()
    every = [suffix for member in FORMATS.all().values() for suffix in getattr(member, "WRITES", ())]
    own = max((suffix for suffix in every if name.endswith(suffix)), key=len, default="")
    picture = own in (".png", ".bmp", ".tif", ".tiff") or name.endswith((".jpg", ".jpeg", ".gif"))
    if len(sample.images) > alike and (picture or own == ".npy"):
        return ".nii.gz"
    return own or (".png" if picture else ".nii.gz")


def _solver(run: Run) -> restoration.Solver:
    if run.plan.task != "restoration":
        raise InputError(
            "BAD_OPTION",
            run.root,
            found=f"a run of {run.plan.task}",
            expected="one of restoration",
            fix="use hounsfield predict, or train with --task restoration",
        )
    solver = run.solver
    assert isinstance(solver, restoration.Solver)
    return solver


def _check_holes(solver: restoration.Solver, mask: str | Path | None, find: str | None) -> None:
    if find is not None and find not in FINDERS:
        raise InputError("BAD_OPTION", "--find", found=repr(find), expected=" or ".join(FINDERS), fix=nearest(find, FINDERS))
    given = [name for name, value in (("--mask", mask), ("--find", find)) if value is not None]
    if len(given) == (1 if solver.holes else 0):
        return
    raise InputError(
        "BAD_OPTION",
        given[0] if given else "--mask",
        found=(" and ".join(given) + f", with a run that learned to {solver.options.repair}") if given else "none",
        expected="one of them" if solver.holes and given else "where the holes are" if solver.holes else "neither",
        fix="leave it out" if given else "--mask FILE, or a folder with a mask of each image's name, or --find text",
    )


def _check_noise(solver: restoration.Solver, noise: float | None) -> None:
    """Raises InputError BAD_OPTION for a run that does not ask how strong the noise is, or did not learn such noise."""
    if noise is None:
        return
    how = solver.options.noise
    (low, high), key = how.limits, f"noise.{how.key}"
    if not solver.told:
        learned = f"to {solver.options.repair}" if solver.noise is None else f"one strength, {key} = {low:g}"
        learned = "from noisy images" if solver.options.noisy else learned
        raise InputError(
            "BAD_OPTION",
            "--noise",
            found=f"{noise:g}, with a run that learned {learned}",
            expected="a run that learned a range of strengths",
            fix="leave it out, or train with --set task_options.noise.sigma=[LOWEST,HIGHEST]",
        )
    if not low <= noise <= high:
        raise InputError(
            "BAD_OPTION",
            "--noise",
            found=f"{noise:g}",
            expected=f"{key} of {low:g} to {high:g}, as the run learned",
            fix=f"train on such noise with --set task_options.{key}=[LOWEST,HIGHEST]",
        )


def _say_noise(console: Console, how: Noise, estimated: Mapping[str, float]) -> None:
    """How strong the noise of each image was taken to be, by id, and where the run did not learn such noise."""
    low, high = min(estimated.values()), max(estimated.values())
    console.say(f"  noise.{how.key} estimated at {low:.3g}" + (f" to {high:.3g}" if high > low else ""))
    far = {name: said for name, strength in estimated.items() if (said := beyond(how, strength))}
    if far:
        first = next(iter(far.values()))
        console.say(f"  beyond what was learned in {len(far)} of {len(estimated)}: {first_few(far)} ({first})")


def _about(run: Run) -> str:
    """Short enough for a NIfTI header."""
    solver, weights = _solver(run), author_of(run).weights[:12]
    return f"restored: hounsfield {hounsfield.__version__}, {solver.options.repair} with {run.plan.model} {weights}"


def _unchanged(image: Image, wanted: Wanted) -> Restored:
    none = Image(np.zeros(image.array.shape, np.float32), image.geometry, Meta("residual", spaces=image.meta.spaces))
    return Restored(image, none if wanted.residual else None, none if wanted.uncertainty else None)


def _masks(mask: str | Path | None, samples: Sequence[Sample]) -> Mapping[str, ImageFile]:
    """The mask of each sample. Raises InputError NOT_FOUND, UNPAIRED."""
    if mask is None:
        return {}
    path = Path(mask)
    if not path.is_dir():
        io.peek(path)
        return {sample.id: ImageFile(path) for sample in samples}
    there: Dataset = open_dataset(path, reader="images")
    own = {s.id: ImageFile(s.images[0].path) for s in there.samples}
    lacking = [s.id for s in samples if s.id not in own]
    if lacking:
        raise InputError(
            "UNPAIRED",
            path,
            found=f"no mask for {len(lacking)} of {len(samples)} images (first: {lacking[0]})",
            expected="a mask with the name of each image",
            fix="add them",
        )
    return own


def _names(name: str, ending: str, wanted: Wanted) -> list[str]:
    """Files of one image below the output folder, in the order of `_images`."""
    real = ".tif" if ending in (".png", ".bmp", ".tif", ".tiff") else ".nii.gz"
    kinds = [("residual", wanted.residual), ("uncertainty", wanted.uncertainty)]
    return [f"{name}{ending}", *(f"{name}.{kind}{real}" for kind, asked in kinds if asked)]


def _images(found: Restored) -> Iterator[Image]:
    """The images to write; of colours the maps are the mean over the channels, as no picture holds them otherwise."""
    yield found.image
    for image in (found.residual, found.uncertainty):
        if image is not None:
            colours = image.ndim == 2 and image.channels > 1
            yield Image(image.array.mean(axis=0, keepdims=True), image.geometry, image.meta) if colours else image


def _residual(solver: restoration.Solver, image: Image, made: Image) -> Image:
    # Of two acquisitions their mean.
    start = image.array.astype(np.float32).reshape(-1, made.channels, *image.geometry.shape).mean(axis=0)
    if made.geometry.shape != image.geometry.shape:
        upright = image.canonical()
        fine = refine(torch.from_numpy(np.array(upright.array, np.float32, order="C"))[None], solver.options.resolution)[0]
        axes, flips = image.geometry.canonical_axes()
        back = fine.numpy()[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
        start = back.transpose(0, *(int(k) + 1 for k in np.argsort(axes)))
    return Image(made.array.astype(np.float32) - start, made.geometry, Meta("residual", spaces=image.meta.spaces))
