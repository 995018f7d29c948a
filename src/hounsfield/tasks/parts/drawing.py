"""Pictures of cases for reports: the slice that shows most, with outlines of truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.core.image import Image
from hounsfield.core.plan import Class

T = TypeVar("T", bound=np.generic)
RGB = npt.NDArray[np.uint8]
TALLEST = 320  # pixels: smaller pictures are enlarged by whole factors
TILE = 128  # pixels: of pictures side by side
GAP = 2  # pixels between them


def picture(image: Image, at: int | None = None) -> RGB:
    """(H, W, 3) of a 2D image, or of the axial slice `at` (canonical index; the middle where None)."""
    return enlarge(_slice(image, at).preview())


def contours(image: Image, truth: Image | None, prediction: Image, classes: Sequence[Class]) -> RGB:
    """The slice that holds most truth (or prediction): left the image, right it with the truth filled and the prediction
    outlined, each class in its colour."""
    at = _fullest(truth if truth is not None and (truth.array != 0).any() else prediction)
    plain = enlarge(_slice(image, at).preview())
    marked = plain.astype(np.float32) if truth is None else filled(image, truth, classes, at).astype(np.float32)
    for k, c in enumerate(classes):
        colour = np.array(c.colour, dtype=np.float32)
        shown = _mask(prediction, at, k, c.value, plain.shape)
        marked[shown & ~ndimage.binary_erosion(shown)] = colour
    return np.concatenate([plain, marked.clip(0, 255).astype(np.uint8)], axis=1)


def filled(image: Image, truth: Image, classes: Sequence[Class], at: int | None = None) -> RGB:
    """(H, W, 3) of the axial slice `at` (canonical index; the one that holds most truth where None), the truth filled, each
    class in its colour."""
    at = _fullest(truth) if at is None else at
    marked = enlarge(_slice(image, at).preview()).astype(np.float32)
    for k, c in enumerate(classes):
        inside = _mask(truth, at, k, c.value, marked.shape)
        marked[inside] = 0.65 * marked[inside] + 0.35 * np.array(c.colour, dtype=np.float32)
    return marked.clip(0, 255).astype(np.uint8)


def heat(image: Image, heatmap: Image, at: int | None = None) -> RGB:
    """The image beside itself under a heatmap (1, *grid) of the same grid, at the slice where the heatmap is strongest.

    The colours run from the heatmap's 0 to its maximum, from blue over red to yellow.
    """
    if image.ndim == 3 and at is None:
        at = int(np.argmax(heatmap.canonical().array[0].max(axis=(1, 2))))
    plain = enlarge(_slice(image, at).preview())
    top = float(heatmap.array.max())
    flat = _plane(heatmap, at)[0].astype(np.float32)
    strength = enlarge(np.clip(flat / top, 0, 1) if top > 0 else np.zeros_like(flat), like=plain.shape)[..., None]
    colour = np.concatenate(
        [np.clip(2 * strength, 0, 1), np.clip(2 * strength - 0.6, 0, 1), np.clip(1 - 3 * strength, 0, 0.3)], -1
    )
    mixed = plain * (1 - 0.55 * strength) + 255 * colour * 0.55 * strength
    return np.concatenate([plain, mixed.clip(0, 255).astype(np.uint8)], axis=1)


def mosaic(tiles: Sequence[RGB], across: int) -> RGB:
    """(H, W, 3): tiles of one size in rows of `across`, in reading order, small ones enlarged by a whole factor, on white."""
    factor = max(1, TILE // max(tiles[0].shape[:2]))
    height, width = (factor * n for n in tiles[0].shape[:2])
    across = min(across, len(tiles))
    down = -(-len(tiles) // across)
    out = np.full((down * (height + GAP) - GAP, across * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for k, tile in enumerate(tiles):
        top, left = k // across * (height + GAP), k % across * (width + GAP)
        out[top : top + height, left : left + width] = tile.repeat(factor, axis=0).repeat(factor, axis=1)
    return out


def enlarge(picture: npt.NDArray[T], like: tuple[int, ...] | None = None) -> npt.NDArray[T]:
    """(H, W, ...) enlarged by a whole number so that small images can be seen, or to the height and width of `like` by nearest
    pixels."""
    if like is not None:
        rows = np.arange(like[0]) * picture.shape[0] // like[0]
        columns = np.arange(like[1]) * picture.shape[1] // like[1]
        nearest: npt.NDArray[T] = picture[rows][:, columns]
        return nearest
    factor = max(1, TALLEST // max(picture.shape[:2]))
    bigger: npt.NDArray[T] = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    return bigger


def _slice(image: Image, at: int | None) -> Image:
    """The 2D image itself, or the axial slice `at` of a 3D one as an image of one slice."""
    if image.ndim == 2:
        return image
    upright = image.canonical()
    middle = upright.array.shape[1] // 2 if at is None else at
    grid = upright.geometry.crop((middle, 0, 0), (1, *upright.geometry.shape[1:]))
    return Image(upright.array[:, middle : middle + 1], grid, image.meta)


def _plane(image: Image, at: int | None) -> npt.NDArray[Any]:
    """(C, H, W) values of a slice, turned as `Image.preview` turns it: anterior up, patient's right on the left."""
    flat = _slice(image, at).array
    if image.ndim == 2:
        return flat
    plane = flat[:, 0, ::-1, ::-1]
    return plane[:, :, ::-1] if image.geometry.space == "none" else plane


def _mask(labels: Image, at: int, k: int, value: int, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Class k on the drawn slice, at the picture's size."""
    flat = _plane(labels, at)
    return enlarge(flat[k] > 0 if len(flat) > 1 else flat[0] == value, like=shape)


def _fullest(labels: Image) -> int:
    """The axial slice (canonical index) with most foreground; 0 in 2D."""
    if labels.ndim == 2:
        return 0
    return int(np.argmax((labels.canonical().array != 0).any(axis=0).sum(axis=(1, 2))))


def side_by_side(
    made: Image,
    given: npt.NDArray[np.float32],
    truth: npt.NDArray[np.float32] | None,
    across: Sequence[int] = (),
    spread: npt.NDArray[np.float32] | None = None,
) -> RGB:
    """What was given, what was made of it, the truth where there is one, what is left between the last two, or was changed
    (grey for nothing, black and white for a quarter of the grey scale), and the spread where there is one (black for none,
    white for a tenth of the grey scale).

    made: along canonical axes; given, truth, spread: (C, *spatial) of the same grid. across: axes whose detail was lost. Of a
    volume the slice with the largest difference: axial, but for detail lost from slice to slice alone, which an axial one
    cannot show.
    """
    array, answer = made.array.astype(np.float32), given if truth is None else truth
    apart = (array - answer).mean(axis=0)
    axis = next((k for k in range(3) if k not in across), 0)
    if made.ndim == 3:
        others = tuple(k for k in range(3) if k != axis)
        at = int(np.argmax((apart**2).sum(axis=others)))
        apart = _laid(np.take(apart[None], at, axis + 1), made)[0]
        array, given, answer = (_laid(np.take(part, at, axis + 1), made) for part in (array, given, answer))
        spread = None if spread is None else _laid(np.take(spread, at, axis + 1), made)
    low, high = np.percentile(answer, (0.5, 99.5))
    span = max(float(high - low), 1e-12)

    def grey(planes: npt.NDArray[np.float32], zero: float, width: float) -> RGB:
        shown = planes[:3] if len(planes) >= 3 else np.repeat(planes[:1], 3, axis=0)
        scaled = np.clip((shown - zero) / width, 0, 1) * 255
        return enlarge(np.ascontiguousarray(scaled.round().astype(np.uint8).transpose(1, 2, 0)))

    shown = [grey(planes, float(low), span) for planes in (given, array, *(() if truth is None else (answer,)))]
    shown.append(grey(apart[None], -span / 4, span / 2))
    shown += [] if spread is None else [grey(spread.mean(axis=0, keepdims=True), 0.0, span / 10)]
    return np.concatenate(shown, axis=1)


def _laid(plane: npt.NDArray[np.float32], of: Image) -> npt.NDArray[np.float32]:
    """(C, rows, columns) of a volume along canonical axes, turned as `Image.preview` turns it."""
    turned = plane[:, ::-1]
    return turned if of.geometry.space == "none" else turned[:, :, ::-1]
