"""CT phantoms of the upper abdomen, healthy or with liver lesions: an image with the truth for every task, and its cause.

They need no download and no permission, and everything about them is known: every voxel's tissue, every lesion, the image
without noise, and what the same patient looks like without the lesions. `phantom(7, lesion=True)` and
`phantom(7, lesion=False)` are the same patient, noise included, and differ only at the lesions.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield import io
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Class
from hounsfield.core.registry import nearest
from hounsfield.data import _anatomy as anatomy
from hounsfield.data._canvas import FAR, Canvas, Waves

Floats = npt.NDArray[np.float64]

NAMES: Final = ("healthy", "lesion")  # the classes of `Phantom.label`
ORGANS: Final = (
    Class(value=anatomy.LIVER, name="liver", colour=(196, 108, 62)),
    Class(value=anatomy.SPLEEN, name="spleen", colour=(150, 86, 170)),
    Class(value=anatomy.KIDNEY, name="kidney", colour=(228, 178, 60)),
    Class(value=anatomy.BONE, name="bone", colour=(232, 226, 200)),
    Class(value=anatomy.VESSEL, name="vessel", colour=(70, 130, 220)),
    Class(value=anatomy.LESION, name="lesion", colour=(236, 50, 70)),
)
SIZES: Final = {2: (96, 96), 3: (32, 64, 64)}
SMALLEST: Final = 16  # voxels along an axis: below it the organs are smaller than a voxel
LARGEST: Final = 1 << 24  # voxels in all: some 4 GB while painting
EXTENT: Final = 224.0  # mm, height of a volume
WINDOW: Final = (-160.0, 240.0)  # HU that become 0 and 255 in an 8-bit picture: the usual abdominal window
BLUR: Final = 0.5  # voxels, the scanner's point spread (standard deviation)
GRAIN: Final = 0.6  # voxels, the correlation of its noise
TASKS: Final = ("classification", "segmentation", "detection", "generation", "restoration")


@dataclass(frozen=True, eq=False)
class Phantom:
    """One patient. Images are (1, D, H, W) on a grid (S, P, L) as CT series come, or (1, H, W), one of its axial slices,
    patient's right on the left.

    image: int16 HU, with noise and shading. clean: the same without noise and shading. organs: uint8, values of ORGANS, 0
    elsewhere. cause: uint8, 1 where a lesion is: why the label is 1 (border and blur carry it up to three voxels further).
    boxes: round every connected part of `cause`, label 0. label: index into NAMES, 1 exactly where there is a lesion.
    """

    seed: int
    image: Image
    clean: Image
    organs: Image
    cause: Image
    boxes: Boxes
    label: int


def phantom(seed: int, ndim: int = 2, size: tuple[int, ...] | None = None, lesion: bool | None = None) -> Phantom:
    """The patient of this seed on `size` voxels (default SIZES[ndim]), with or without lesions (None: the seed decides).
    seed: 0 or more.

    The same on every call and machine, up to the last bits of the arithmetic. Anatomy does not depend on size, lesions do:
    they are placed where the slice or volume shows liver. Voxels in mm: about 360 / size in plane, 224 / size along the body.
    Raises InputError BAD_OPTION.
    """
    size = _checked(ndim, SIZES.get(ndim, ()) if size is None else tuple(size))
    # A stream for every part of the patient: what one draws never shifts another.
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)]
    patient, texture, organs, lesions, scanner = streams
    half_width, height, diseased = patient.uniform(150, 182), patient.uniform(-2, 48), bool(patient.random() < 0.5)
    width = 2.16 * half_width
    axes = [_centres(n, width) for n in size[-2:]]
    z = np.array([height]) if ndim == 2 else _centres(size[0], EXTENT)
    canvas = Canvas.blank(z, axes[0], axes[1], texture)
    anatomy.render(canvas, organs, half_width)
    if diseased if lesion is None else lesion:
        _add_lesions(canvas, lesions)

    blur = (0.0 if ndim == 2 else BLUR, BLUR, BLUR)
    clean = ndimage.gaussian_filter(canvas.hu, blur, mode="nearest")
    image = clean + _scanner(canvas, scanner, half_width)
    geometry = _geometry(size, z, axes)
    labels = canvas.labels.reshape(size)
    cause = (labels == anatomy.LESION).astype(np.uint8)
    return Phantom(
        seed=seed,
        image=_image(image.reshape(size), geometry),
        clean=_image(clean.reshape(size), geometry),
        organs=Image(labels[None], geometry),
        cause=Image(cause[None], geometry),
        boxes=Boxes.around(cause, (1,)),
        label=int(cause.any()),
    )


def grey(image: Image) -> Image:
    """A CT image as the 8-bit picture of WINDOW, on the same grid."""
    low, high = WINDOW
    values = np.clip((image.array.astype(np.float64) - low) / (high - low), 0, 1) * 255
    return Image(np.round(values).astype(np.uint8), image.geometry, image.meta)


def write_dataset(folder: str | Path, task: str, ndim: int = 2, n: int = 100, seed: int = 0) -> None:
    """Write n patients, every second one with lesions, as the new dataset `folder`: 8-bit PNG in 2D, NIfTI in HU in 3D.

    classification: healthy/ and lesion/. segmentation: nnU-Net's layout with ORGANS; detection: the same with the lesions
    alone. generation: images/. restoration: images/ without noise, which the task degrades itself.
    The folder appears when it is complete. Raises InputError BAD_OPTION, OUTPUT_EXISTS.
    """
    folder = Path(folder)
    if task not in TASKS:
        raise InputError("BAD_OPTION", f"task {task!r}", found="no such task", expected="a task", fix=nearest(task, TASKS))
    if n < 2:
        raise InputError("BAD_OPTION", "phantoms", found=f"{n} patients", expected="2 or more", fix="ask for more")
    if folder.exists():
        fix = "choose another name, or remove it"
        raise InputError("OUTPUT_EXISTS", folder, found="an existing path", expected="a new folder", fix=fix)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        for k in range(n):
            number = int(np.random.SeedSequence((seed, k)).generate_state(1)[0])
            _write_case(beside, task, f"patient-{k:04d}", phantom(number, ndim, lesion=k % 2 == 1))
        if task in ("segmentation", "detection"):
            (beside / "dataset.json").write_text(_description(task, ndim, n), encoding="utf-8")
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_case(root: Path, task: str, name: str, case: Phantom) -> None:
    ending = _ending(case.image.ndim)
    image = case.clean if task == "restoration" else case.image
    places = {"classification": f"{NAMES[case.label]}/{name}", "generation": f"images/{name}", "restoration": f"images/{name}"}
    files = {places.get(task, f"imagesTr/{name}_0000"): grey(image) if image.ndim == 2 else image}
    if task in ("segmentation", "detection"):
        files[f"labelsTr/{name}"] = case.organs if task == "segmentation" else case.cause
    for place, content in files.items():
        path = root / f"{place}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        io.write(content, path)


def _description(task: str, ndim: int, n: int) -> str:
    """dataset.json of nnU-Net's raw format."""
    labels = {c.name: c.value for c in ORGANS} if task == "segmentation" else {"lesion": 1}
    values = {
        "name": "CT phantoms of the upper abdomen",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **labels},
        "numTraining": n,
        "file_ending": _ending(ndim),
    }
    return json.dumps(values, indent=2) + "\n"


def _ending(ndim: int) -> str:
    return ".png" if ndim == 2 else ".nii.gz"


def _add_lesions(c: Canvas, rng: np.random.Generator) -> None:
    """One to three metastases in the liver: darker than it, darkest inside, with an irregular border."""
    contrast = rng.uniform(38, 62)
    for _ in range(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])):
        radius = rng.uniform(10, 22)
        # A place where most of it fits; where the liver is too thin for that, its deepest voxel.
        depth = np.where(c.labels == anatomy.LIVER, -c.liver, -FAR)
        places = np.flatnonzero(depth > min(0.7 * radius, float(depth.max()) - 1e-6))
        at = np.unravel_index(places[rng.integers(len(places))], depth.shape)
        centre = (float(c.x[at]), float(c.y[at]), float(c.z[at]))
        stretch = rng.uniform(0.8, 1.25, 3)
        border = Waves(rng, 0.9 * radius, 2.2 * radius)
        reach = 1.6 * radius
        p = c.part(
            (centre[0] - reach, centre[1] - reach, centre[2] - reach), (centre[0] + reach, centre[1] + reach, centre[2] + reach)
        )
        radii = (radius * stretch[0], radius * stretch[1], radius * stretch[2])
        z, y, x = (np.array(axis) for axis in p.axes)
        round_it = p.ellipsoid(centre, radii)
        ragged = round_it + 0.16 * radius * border.at(z, y, x) * np.clip(round_it / radius + 1, 0, 1)
        tissue = p.hu - contrast * (1 + 0.35 * np.clip(-round_it / radius, 0, 1)) + 5 * p.fine
        p.paint(ragged, tissue, anatomy.LESION, only=anatomy.LIVER)


def _scanner(c: Canvas, rng: np.random.Generator, half_width: float) -> Floats:
    """Cupping, a slow drift, and correlated noise that grows to the middle of the body, in HU."""
    z, y, x = (np.array(axis) for axis in c.axes)
    depth = np.clip(1.1 - (x / half_width) ** 2 - ((y[:, None]) / (0.72 * half_width)) ** 2, 0, None)
    shading = rng.uniform(3, 9) * Waves(rng, 180, 500, 8).at(z, y, x) - rng.uniform(0, 10) * depth
    noise = rng.standard_normal(c.hu.shape)
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / GRAIN) ** 2)
    kernel /= np.sqrt((kernel**2).sum())  # keeps the variance at 1
    for axis in (1, 2):
        noise = ndimage.correlate1d(noise, kernel, axis=axis, mode="wrap")
    return np.asarray(shading + rng.uniform(9, 16) * (0.6 + 0.5 * depth) * noise)


def _centres(n: int, extent: float) -> Floats:
    """Centres in mm of n voxels that fill `extent` about 0."""
    return np.asarray((np.arange(n) - (n - 1) / 2) * (extent / n), dtype=np.float64)


def _geometry(size: tuple[int, ...], z: Floats, axes: Sequence[Floats]) -> Geometry:
    """Rows run to the back, columns to the patient's left, slices up: the affine of an axial CT series."""
    y, x = axes
    affine = np.zeros((4, 4))
    affine[2, 0] = z[1] - z[0] if len(z) > 1 else 1.0
    affine[1, 1] = y[0] - y[1]
    affine[0, 2] = x[0] - x[1]
    affine[:, 3] = (-x[0], -y[0], z[0], 1)
    return Geometry(size, affine if len(size) == 3 else affine[:, 1:])


def _image(hu: Floats, geometry: Geometry) -> Image:
    stored = np.round(np.clip(hu, -1024, 3071)).astype(np.int16)  # the range of a CT scanner
    return Image(stored[None], geometry, Meta(format="phantom", modality="CT", channels=("CT",)))


def _checked(ndim: int, size: tuple[int, ...]) -> tuple[int, ...]:
    if ndim not in SIZES or len(size) != ndim or min(size) < SMALLEST or math.prod(size) > LARGEST:
        raise InputError(
            "BAD_OPTION",
            "phantom",
            found=f"size {size} in {ndim} dimensions",
            expected=f"2 or 3 axes of at least {SMALLEST} voxels, {LARGEST} in all at most",
            fix="choose another size",
        )
    return size
