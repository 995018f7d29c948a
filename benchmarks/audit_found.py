"""What the audit finds of planted faults in real pictures: `python benchmarks/audit_found.py DATA [--sides 28 64 256]`.

DATA is any set that `inspect` reads; of volumes the middle slices are taken. Prints one JSON document: for each side the near
copies found of 20 pictures that were changed a little, the pairs of pictures that are listed though nothing was planted, and at
full size the pictures in which a line of text is seen, of 25 that were lettered and of all as they are.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.data.burned_text import characters
from hounsfield.data.channels import read_case
from hounsfield.data.duplicates import within
from hounsfield.data.facts import measure
from hounsfield.data.readers import open_dataset

Array = npt.NDArray[np.uint8]
CHANGED, LETTERED = 20, 25
TEXT = "DOE JANE 1961"


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture (H, W) in memory that looks like a lazy file."""

    name: str
    array: Array = field(repr=False)

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def key(self) -> str:
        return self.name

    def __call__(self) -> Image:
        return Image(self.array[None], Geometry.none(self.array.shape))


def zoomed(a: Array) -> Array:
    middle = (np.array(a.shape) - 1) / 2
    out = ndimage.affine_transform(a.astype(float), np.eye(2) / 1.01, middle - middle / 1.01, order=1)
    return np.asarray(out.round().clip(0, 255), dtype=np.uint8)


def resized(a: Array) -> Array:
    return np.asarray(
        Pillow.fromarray(a).resize((a.shape[1] + max(1, a.shape[1] // 100), a.shape[0] + max(1, a.shape[0] // 100)))
    )


def compressed(a: Array) -> Array:
    out = io.BytesIO()
    Pillow.fromarray(a).save(out, "jpeg", quality=75)
    return np.asarray(Pillow.open(out))


CHANGES: dict[str, Callable[[Array], Array]] = {
    "2% brighter": lambda a: (a * 1.02).clip(0, 255).astype(np.uint8),
    "zoomed by 1%": zoomed,
    "resized by 1%": resized,
    "JPEG 75": compressed,
    "mirrored": lambda a: np.ascontiguousarray(a[:, ::-1]),
    "noise of 2": lambda a: (a + np.random.default_rng(0).normal(0, 2, a.shape)).clip(0, 255).astype(np.uint8),
}


def pictures(data: Path) -> dict[str, Array]:
    found = {}
    for sample in open_dataset(data).samples:
        array = read_case(sample).array.mean(axis=0)
        if array.ndim == 3:
            array = array[len(array) // 2]
            low, high = np.percentile(array, (0.5, 99.5))
            array = (array - low) / (high - low) * 255
        found[sample.id] = array.clip(0, 255).astype(np.uint8)
    return found


def alike(arrays: dict[str, Array]) -> int:
    """How many pairs are listed."""
    samples = {name: Sample(name, (Shown(name, array),)) for name, array in arrays.items()}
    return len(within(samples, {name: measure(s) for name, s in samples.items()}, dict.fromkeys(samples, "train")))


def some(names: list[str], number: int) -> list[str]:
    return names[:: max(1, len(names) // number)][:number]


def lettered(array: Array, points: int, ground: bool) -> Array:
    picture = Pillow.fromarray(array)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(points)
    if ground:
        left, top, right, bottom = pen.textbbox((6, 4), TEXT, font=font)
        pen.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=0)
    pen.text((6, 4), TEXT, fill=255, font=font)
    return np.asarray(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[28, 64, 256])
    given = parser.parse_args()
    base = pictures(given.data)
    told: dict[str, Any] = {"data": given.data.name, "pictures": len(base), "near": {}, "text": {}}
    for side in given.sides:
        shrink = {True: Pillow.Resampling.BOX, False: Pillow.Resampling.BICUBIC}
        sized = {k: np.asarray(Pillow.fromarray(a).resize((side, side), shrink[min(a.shape) > side])) for k, a in base.items()}
        chosen = some(sorted(sized), CHANGED)
        found = {name: sum(alike({"a": sized[k], "b": change(sized[k])}) for k in chosen) for name, change in CHANGES.items()}
        told["near"][side] = {**found, "made": len(chosen), "listed without a plant": alike(sized)}
    chosen = some(sorted(base), LETTERED)
    for points in (10, 12, 18):
        for ground in (True, False):
            name = f"{points} points, {'on a black label' if ground else 'on the picture'}"
            told["text"][name] = sum(characters(lettered(base[k], points, ground)[None]) > 0 for k in chosen)
    told["text"] |= {"made": len(chosen), "seen without a plant": sum(characters(a[None]) > 0 for a in base.values())}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
