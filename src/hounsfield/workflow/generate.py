"""Draw new images from a trained generator: files in source units, a contact sheet, strips between images, and a record."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from math import acos, sin
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor

import hounsfield
from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry, Space
from hounsfield.core.image import Image, Meta
from hounsfield.core.registry import nearest
from hounsfield.tasks import RGB, TASKS
from hounsfield.tasks.generation import Solver
from hounsfield.tasks.parts.drawing import mosaic
from hounsfield.workflow.console import SILENT, Console
from hounsfield.workflow.device import choose_device, memory_guard
from hounsfield.workflow.prepare import grid_spacing
from hounsfield.workflow.results import author_of
from hounsfield.workflow.run import Run, write_json

MOST: Final = 1_000_000
SHEET: Final = 64  # images of the contact sheet at most,
ACROSS: Final = 8  # in a row
PAIRS: Final = 4  # of images between which the strip goes,
BETWEEN: Final = 8  # in so many steps
TOGETHER: Final = 64  # images in memory at a time


def generate(
    run: Run | str | Path,
    count: int,
    out: str | Path,
    *,
    label: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    console: Console = SILENT,
) -> list[Path]:
    """Draw `count` images into the new folder `out`; returns their files.

    label: the class to draw; None: of a run with classes all of them in turn, below a folder of each. The same run, seed and
    device give the same images. Raises InputError UNSUPPORTED_PAIR for a run of another task, BAD_OPTION for a count or class
    that cannot be, OUTPUT_EXISTS.
    """
    opened = run if isinstance(run, Run) else Run(run)
    folder = Path(out)
    labels = _labels(opened, count, label)
    _refuse_existing(folder, overwrite)
    where = choose_device(device)
    with memory_guard("generate", "draw on the CPU with --device cpu"):
        return _Drawing(opened, seed, where).into(folder, labels, console)


class _Drawing:
    """A run that draws from the stream of `seed`."""

    def __init__(self, run: Run, seed: int, device: torch.device) -> None:
        self.run, self.seed = run, seed
        self.models = run.models(device)
        self.solver = cast(Solver, run.solver)
        self.geometry = geometry_of(run)
        self.weights = author_of(run).weights[:12]
        self.classes = [c.name for c in run.plan.classes]

    def into(self, folder: Path, labels: Sequence[int], console: Console) -> list[Path]:
        """labels: a class index for each image; of a run without classes as many zeros."""
        beside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)  # of a start that was killed
        beside.mkdir(parents=True)
        try:
            files, shown = self._images(beside, labels, console)
            self._sheets(beside, labels, shown)
            write_json(beside / "generation.json", self._about(files, labels))
            if folder.exists():
                shutil.rmtree(folder)
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return [folder / name for name in files]

    def _images(self, beside: Path, labels: Sequence[int], console: Console) -> tuple[list[str], list[Image]]:
        """The names of the files, and the first images."""
        ending = self._ending()
        files: list[str] = []
        shown: list[Image] = []
        with console.bar("drawing") as bar:
            for start in range(0, len(labels), TOGETHER):
                numbers = range(start, min(start + TOGETHER, len(labels)))
                told = [labels[k] for k in numbers] if self.classes else None
                for number, values in zip(numbers, self.solver.generate(self.models, numbers, told, self.seed), strict=True):
                    name = f"images/{self._folder(labels[number])}synthetic-{number:06d}{ending}"
                    image = self._signed(values, number)
                    (beside / name).parent.mkdir(parents=True, exist_ok=True)
                    io.write(image, beside / name)
                    files.append(name)
                    if len(shown) < SHEET:
                        shown.append(image)
                bar(numbers.stop, len(labels))
        return files, shown

    def _sheets(self, beside: Path, labels: Sequence[int], shown: Sequence[Image]) -> None:
        """`contact-sheet.png` of the first images, and `interpolation.png`: rows from one image to the next."""
        save_picture([image.preview() for image in shown], ACROSS, beside / "contact-sheet.png", self._description("images"))
        numbers = list(range(min(len(labels), 2 * PAIRS)))
        numbers = numbers[: len(numbers) // 2 * 2] or numbers * 2
        noise = [self.solver.noise(self.models[0], self.seed, number) for number in numbers]
        between: list[Tensor] = []
        told: list[int] = []
        for k in range(0, len(numbers), 2):
            steps = [between_two(noise[k], noise[k + 1], part / (BETWEEN - 1)) for part in range(BETWEEN)]
            between += steps
            told += [labels[numbers[k // 2]]] * BETWEEN  # one class a row: between classes there is nothing
        values = self.solver.drawn(self.models, between, [0] * len(between), told if self.classes else None)
        rows = [self._signed(v, 0).preview() for v in values]
        save_picture(rows, BETWEEN, beside / "interpolation.png", self._description("images between images"))

    def _signed(self, values: Tensor, number: int) -> Image:
        image = self.solver.image(values, self.geometry, self.run.fingerprint.dtype)
        return replace(image, meta=replace(image.meta, description=self._description(f"image {number}")))

    def _description(self, what: str) -> str:
        """Short enough for a NIfTI header."""
        plan = self.run.plan
        return f"synthetic: hounsfield {hounsfield.__version__}, {plan.model} {self.weights}, seed {self.seed}, {what}"

    def _ending(self) -> str:
        """Of files that hold the values: .png or .tif for pictures without a place, else .nii.gz."""
        facts, kind = self.run.fingerprint, np.dtype(self.run.fingerprint.dtype)
        if facts.ndim == 3 or facts.space != "none" or len(facts.channels) not in (1, 3):
            return ".nii.gz"
        if kind == np.uint8:
            return ".png"
        tif = len(facts.channels) == 1 and kind in (np.uint16, np.int32, np.float32)
        return ".tif" if tif else ".nii.gz"

    def _folder(self, label: int) -> str:
        return f"{self.classes[label].replace('/', '_')}/" if self.classes else ""

    def _about(self, files: Sequence[str], labels: Sequence[int]) -> dict[str, Any]:
        classes = [self.classes[label] for label in labels] if self.classes else [None] * len(files)
        return {
            "synthetic": True,
            "hounsfield": hounsfield.__version__,
            "run": self.run.root.resolve().name,
            "model": self.run.plan.model,
            "weights": self.weights,
            "seed": self.seed,
            "images": [{"file": name, "class": of} for name, of in zip(files, classes, strict=True)],
        }


def geometry_of(run: Run) -> Geometry:
    """The grid that a run draws on: of the median extent of what it learned from."""
    facts, size = run.fingerprint, run.plan.grid.size
    assert size is not None
    if facts.space == "none":
        return Geometry.none(size)
    return Geometry.from_spacing(size, grid_spacing(run.plan, facts), space=cast(Space, facts.space))


def between_two(one: Tensor, other: Tensor, part: float) -> Tensor:
    """Noise on the great circle from `one` to `other`, as far from 0 as noise is (Shoemake, SIGGRAPH 1985)."""
    cosine = float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))
    angle = acos(max(-1.0, min(1.0, cosine)))
    if sin(angle) < 1e-4:  # one direction, or opposite ones, between which there is no one way
        return torch.lerp(one, other, part)
    return (sin((1 - part) * angle) * one + sin(part * angle) * other) / sin(angle)


def save_picture(tiles: Sequence[RGB], across: int, path: Path, description: str) -> None:
    """Tiles (H, W, 3) side by side, as a PNG that says what it shows."""
    array = np.ascontiguousarray(mosaic(tiles, across).transpose(2, 0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = Meta("synthetic", description=description)
    io.write(Image(array, Geometry.none(array.shape[1:]), meta), path, overwrite=True)


def _labels(run: Run, count: int, label: str | None) -> list[int]:
    """A class index for each image. Raises InputError UNSUPPORTED_PAIR, BAD_OPTION."""
    if TASKS.load(run.plan.task).KIND != "generator":
        raise InputError(
            "UNSUPPORTED_PAIR",
            run.root,
            found=f"a run of {run.plan.task}",
            expected="one of generation",
            fix="train one with hounsfield train DATA --task generation",
        )
    if not 1 <= count <= MOST:
        raise InputError("BAD_OPTION", "--count", found=str(count), expected=f"1 to {MOST:,} images", fix="--count 100")
    names = [c.name for c in run.plan.classes]
    if label is None:
        return [k % len(names) for k in range(count)] if names else [0] * count
    if label not in names:
        raise InputError(
            "BAD_OPTION",
            f"--class {label}",
            found="no such class" if names else "a run without classes",
            expected=f"one of {', '.join(names)}" if names else "no class",
            fix=nearest(label, names) if names else "leave --class out",
        )
    return [names.index(label)] * count


def _refuse_existing(folder: Path, overwrite: bool) -> None:
    """Raises InputError OUTPUT_EXISTS where `folder` holds anything that may not be replaced: never what was not drawn here."""
    holds = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    drawn = (folder / "generation.json").is_file()
    if holds and not (overwrite and drawn):
        raise InputError(
            "OUTPUT_EXISTS",
            folder,
            found="generated images" if drawn else "a path that holds something else",
            expected="a new or empty folder",
            fix="choose another, or --overwrite" if drawn else "choose another",
        )
