"""Draw new images from a trained generator: files in source units, a contact sheet, strips between images, and a record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
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
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.tasks import RGB
from hounsfield.tasks.generation import Solver
from hounsfield.tasks.parts.drawing import mosaic
from hounsfield.workflow.console import SILENT, Console
from hounsfield.workflow.device import choose_device, memory_guard
from hounsfield.workflow.results import author_of
from hounsfield.workflow.run import Run, write_json
from hounsfield.workflow.wishes import Wish, wishes

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
    masks: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    device: str = "auto",
    console: Console = SILENT,
) -> list[Path]:
    """Draw `count` images into the new folder `out`; returns their files.

    label: the class to draw; None: of a run with classes all in turn, below a folder of each. masks: of a run that draws
    from masks, a dataset or a folder of them, taken in turn; None: those of its training part. The same run, seed and device
    give the same images. Raises InputError BAD_OPTION for a count that cannot be, OUTPUT_EXISTS, and what `wishes` raises.
    """
    opened = run if isinstance(run, Run) else Run(run)
    folder = Path(out)
    wish = wishes(opened, label, masks)
    if not 1 <= count <= MOST:
        raise InputError("BAD_OPTION", "--count", found=str(count), expected=f"1 to {MOST:,} images", fix="--count 100")
    _refuse_existing(folder, overwrite)
    where = choose_device(device)
    with memory_guard("generate", "draw on the CPU with --device cpu"):
        return _Drawing(opened, seed, where, wish).into(folder, count, console)


class _Drawing:
    """A run that draws from the stream of `seed` what is wished."""

    def __init__(self, run: Run, seed: int, device: torch.device, wish: Callable[[int], Wish]) -> None:
        self.run, self.seed, self.wish = run, seed, wish
        self.models = run.models(device)
        self.solver = cast(Solver, run.solver)
        self.weights = author_of(run).weights[:12]

    def into(self, folder: Path, count: int, console: Console) -> list[Path]:
        beside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)  # of a start that was killed
        beside.mkdir(parents=True)
        try:
            images, shown = self._images(beside, count, console)
            self._sheets(beside, shown)
            write_json(beside / "generation.json", self._about(images))
            if folder.exists():
                shutil.rmtree(folder)
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return [folder / str(image["file"]) for image in images]

    def _images(self, beside: Path, count: int, console: Console) -> tuple[list[dict[str, str | None]], list[Image]]:
        """What is said of every image, and the first of them."""
        told: list[dict[str, str | None]] = []
        shown: list[Image] = []
        with console.bar("drawing") as bar:
            for start in range(0, count, TOGETHER):
                numbers = range(start, min(start + TOGETHER, count))
                wished = [self.wish(number) for number in numbers]
                values = self.solver.generate(self.models, numbers, _targets(wished), self.seed)
                for number, wish, drawn in zip(numbers, wished, values, strict=True):
                    image = self._signed(drawn, wish.geometry, number)
                    told.append(self._write(beside, number, wish, image))
                    shown += [image] if len(shown) < SHEET else []
                bar(numbers.stop, count)
        return told, shown

    def _write(self, beside: Path, number: int, wish: Wish, image: Image) -> dict[str, str | None]:
        """The image, and the mask that it was drawn from, below `beside`; what is said of them."""
        ending = self._ending()
        folder = "" if wish.label is None else f"{wish.label.replace('/', '_')}/"
        told: dict[str, str | None] = {"file": f"images/{folder}synthetic-{number:06d}{ending}", "class": wish.label}
        parts = {"file": image}
        if wish.mask is not None:
            flat = ending != ".nii.gz" and wish.mask.channels == 1 and wish.mask.array.dtype == np.uint8
            told["mask"] = f"masks/synthetic-{number:06d}{'.png' if flat else '.nii.gz'}"
            parts["mask"] = wish.mask
        for key, content in parts.items():
            path = beside / str(told[key])
            path.parent.mkdir(parents=True, exist_ok=True)
            io.write(content, path)
        return told

    def _sheets(self, beside: Path, shown: Sequence[Image]) -> None:
        """`contact-sheet.png` of the first images, and `interpolation.png`: rows from one image to the next."""
        save_picture([image.preview() for image in shown], ACROSS, beside / "contact-sheet.png", self._description("images"))
        numbers = list(range(min(len(shown), 2 * PAIRS)))
        numbers = numbers[: len(numbers) // 2 * 2] or numbers * 2
        noise = [self.solver.noise(self.models[0], self.seed, number) for number in numbers]
        between: list[Tensor] = []
        wished: list[Wish] = []
        for k in range(0, len(numbers), 2):
            between += [between_two(noise[k], noise[k + 1], part / (BETWEEN - 1)) for part in range(BETWEEN)]
            wished += [self.wish(numbers[k // 2])] * BETWEEN  # the same in a row: between classes, or masks, there is nothing
        values = self.solver.drawn(self.models, between, [0] * len(between), _targets(wished))
        rows = [self._signed(v, wish.geometry, 0).preview() for v, wish in zip(values, wished, strict=True)]
        save_picture(rows, BETWEEN, beside / "interpolation.png", self._description("images between images"))

    def _signed(self, values: Tensor, geometry: Geometry, number: int) -> Image:
        image = self.solver.image(values, geometry, self.run.fingerprint.dtype)
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

    def _about(self, images: Sequence[dict[str, str | None]]) -> dict[str, Any]:
        return {
            "synthetic": True,
            "hounsfield": hounsfield.__version__,
            "run": self.run.root.resolve().name,
            "model": self.run.plan.model,
            "weights": self.weights,
            "seed": self.seed,
            "images": list(images),
        }


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


def _targets(wished: Sequence[Wish]) -> Tensor:
    """(N, ...) as the task encodes them."""
    return torch.from_numpy(np.stack([wish.target for wish in wished]))


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
