"""Text in pixels: letters of several sizes, inks and places are seen; anatomy, noise and single marks are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from hounsfield.data.burned_text import characters, text_mask
from hounsfield.data.phantoms import grey, phantom

Array = npt.NDArray[Any]


def tissue(seed: int, *shape: int) -> Array:
    """(1, H, W) soft blobs between 20 and 170."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 6)
    scaled: Array = (20 + 150 * (field - field.min()) / np.ptp(field)).astype(np.uint8)
    return scaled[None]


def write(array: Array, text: str, at: tuple[int, int], size: int = 14, ink: Any = 255) -> Array:
    picture = Pillow.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1))
    font: Any = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text(at, text, fill=ink, font=font)
    out = np.asarray(picture)
    return out[None] if out.ndim == 2 else np.moveaxis(out, -1, 0)


def dark(*shape: int) -> Array:
    out = tissue(0, *shape)
    out[:, :40], out[:, -40:] = 4, 4
    return out


@pytest.mark.parametrize("size", [10, 12, 14, 18])
@pytest.mark.parametrize("at", [(8, 8), (120, 8), (8, 232)])
def test_a_line_of_text_at_a_border_is_seen(size: int, at: tuple[int, int]) -> None:
    assert characters(dark(256, 256)) == 0
    assert characters(write(dark(256, 256), "MILLER ANNA 1970", at, size)) >= 4


def test_text_is_seen_in_colour_in_16_bits_and_dark_on_light() -> None:
    plain = dark(256, 256)
    colour = np.repeat(plain, 3, axis=0)
    assert characters(write(colour, "PATIENT 4711", (8, 8), ink=(255, 255, 0))) >= 4
    lettered = write(plain, "PATIENT 4711", (8, 8))
    assert characters(lettered.astype(np.uint16) * 200) >= 4
    assert characters(lettered.astype(np.float32) * 3.5 - 1000) >= 4
    assert characters(255 - lettered) >= 4


def test_what_is_no_text_is_not_seen() -> None:
    draw = np.random.default_rng(0)
    assert characters(draw.integers(0, 256, (1, 200, 200), dtype=np.uint8)) == 0
    assert characters((draw.random((1, 200, 200)) > 0.99).astype(np.uint8)) == 0
    assert characters(np.full((1, 100, 100), 7)) == 0
    assert characters(write(dark(256, 256), "R", (8, 8), 18)) == 0  # a marker of the side
    assert characters(write(dark(40, 40), "TEXT", (2, 2), 10)) == 0  # too small to read
    assert characters(np.zeros((1, 9, 80, 80), np.uint8)) == 0  # a volume


@pytest.mark.parametrize("seed", range(6))
def test_anatomy_is_not_text(seed: int) -> None:
    image = grey(phantom(seed, size=(256, 256)).image)
    assert characters(image.array) == 0


def test_a_line_in_the_middle_of_the_picture_is_no_overlay() -> None:
    array = np.full((1, 256, 256), 10, np.uint8)
    array[0, 0, 0] = 255
    assert characters(write(array, "MILLER", (100, 118))) == 0


@pytest.mark.parametrize("at", [(8, 8), (120, 8), (8, 232)])
def test_a_mask_covers_the_letters_and_little_else(at: tuple[int, int]) -> None:
    plain = dark(256, 256)
    lettered = write(plain, "MILLER ANNA 1970", at)
    changed = (lettered != plain)[0]
    mask = text_mask(lettered)
    assert mask[changed].mean() > 0.97
    assert mask.sum() < 3 * np.ptp(np.argwhere(changed)[:, 0]) * np.ptp(np.argwhere(changed)[:, 1])
    assert not text_mask(plain).any()
    assert text_mask(np.zeros((1, 5, 80, 80))).shape == (5, 80, 80)
