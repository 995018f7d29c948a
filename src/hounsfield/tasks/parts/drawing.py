"""Pictures of cases for reports: the slice that shows most, with outlines of truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.core.image import Image
from hounsfield.core.plan import Class

RGB = npt.NDArray[np.uint8]
TALLEST = 320  # pixels: smaller pictures are enlarged by whole factors


def picture(image: Image, at: int | None = None) -> RGB:
    """(H, W, 3) of a 2D image, or of the axial slice `at` (canonical index; the middle where None)."""
    return enlarge(_slice(image, at).preview())


def contours(image: Image, truth: Image | None, prediction: Image, classes: Sequence[Class]) -> RGB:
    """The slice that holds most truth (or prediction): left the image, right it with the truth filled and the prediction
    outlined, each class in its colour."""
    at = _fullest(truth if truth is not None else prediction)
    plain = enlarge(_slice(image, at).preview())
    marked = plain.astype(np.float32)
    for k, c in enumerate(classes):
        colour = np.array(c.colour, dtype=np.float32)
        if truth is not None:
            filled = _mask(truth, at, k, c.value, plain.shape)
            marked[filled] = 0.65 * marked[filled] + 0.35 * colour
        shown = _mask(prediction, at, k, c.value, plain.shape)
        edge = shown & ~ndimage.binary_erosion(shown, iterations=1)
        marked[edge] = colour
    return np.concatenate([plain, marked.clip(0, 255).astype(np.uint8)], axis=1)


def heat(image: Image, heatmap: Image, at: int | None = None) -> RGB:
    """The image beside itself under a heatmap (1, *grid) of the same grid, at the slice where the heatmap is strongest."""
    if image.ndim == 3 and at is None:
        canonical = heatmap.canonical().array[0]
        at = int(np.argmax(canonical.reshape(len(canonical), -1).max(axis=1)))
    plain = enlarge(_slice(image, at).preview())
    values = _slice(heatmap, at).array[0].astype(np.float32)
    top = float(values.max())
    strength = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    strength = enlarge(np.repeat((strength * 255).astype(np.uint8)[..., None], 3, axis=2), like=plain.shape)[..., 0] / 255.0
    colour = (
        np.stack([np.clip(2 * strength, 0, 1), np.clip(2 * strength - 0.6, 0, 1), np.clip(1 - 3 * strength, 0, 0.3)], -1) * 255
    )
    mixed = plain * (1 - 0.55 * strength[..., None]) + colour * 0.55 * strength[..., None]
    return np.concatenate([plain, mixed.clip(0, 255).astype(np.uint8)], axis=1)


def enlarge(rgb: RGB, like: tuple[int, ...] | None = None) -> RGB:
    """Whole-number enlargement so that small images can be seen, or to the shape of another picture by nearest pixels."""
    if like is not None:
        rows = (np.arange(like[0]) * rgb.shape[0] / like[0]).astype(int)
        columns = (np.arange(like[1]) * rgb.shape[1] / like[1]).astype(int)
        return rgb[rows][:, columns]
    factor = max(1, TALLEST // max(rgb.shape[:2]))
    return np.repeat(np.repeat(rgb, factor, axis=0), factor, axis=1)


def _slice(image: Image, at: int | None) -> Image:
    """The 2D image itself, or the axial slice as the eye expects it (anterior up, patient's right on the left)."""
    if image.ndim == 2:
        return image
    upright = image.canonical()
    middle = upright.array.shape[1] // 2 if at is None else at
    return Image(upright.array[:, middle : middle + 1], upright.geometry.crop((middle, 0, 0), (1, *upright.geometry.shape[1:])))


def _mask(labels: Image, at: int, k: int, value: int, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Class k on the drawn slice, at the picture's size."""
    flat = _slice(labels, at).array
    plane = flat[k] > 0 if flat.shape[0] > 1 else flat[0] == value
    if labels.ndim == 3:
        plane = plane[0, ::-1, ::-1]
        plane = plane[:, ::-1] if labels.geometry.space == "none" else plane
    return enlarge(np.repeat(plane.astype(np.uint8)[..., None], 3, axis=2), like=shape)[..., 0] > 0


def _fullest(labels: Image) -> int:
    """The axial slice (canonical index) with most foreground; 0 in 2D."""
    if labels.ndim == 2:
        return 0
    return int(
        np.argmax((labels.canonical().array != 0).any(axis=0).reshape(labels.canonical().array.shape[1], -1).sum(axis=1))
    )
