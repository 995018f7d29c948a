"""Pictures of cases for reports: the slice that shows most, with outlines of truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.core.boxes import Boxes
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.data.prepare import Placement, prepare_boxes

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


def boxes(image: Image, truth: Boxes | None, prediction: Boxes, classes: Sequence[Class]) -> RGB:
    """The slice that most boxes of the truth (or the prediction) cross: left the image, right it with the truth's boxes dashed
    and the predicted ones drawn through, each in its class's colour."""
    flat = image.ndim == 2
    grid = image.geometry.canonical()
    upright = [None if b is None else b if flat else _canonical(b, image.geometry) for b in (truth, prediction)]
    at = None if flat else _busiest(next((b for b in upright if b is not None and len(b)), None), grid.shape[0])
    plain = enlarge(_slice(image, at).preview())
    marked = plain.copy()
    shape = image.geometry.shape[-2:] if flat else grid.shape[-2:]
    for some, dashed in zip(upright, (True, False), strict=True):
        for corners, label in () if some is None else zip(some.corners, some.labels.tolist(), strict=True):
            if at is not None and not corners[0] <= at < corners[3]:
                continue
            line = _rectangle(corners[[-5, -4, -2, -1]] if len(corners) == 6 else corners, shape)
            if at is not None:
                line = line[::-1, ::-1] if image.geometry.space != "none" else line[::-1]
            line = enlarge(line, like=plain.shape)
            if dashed:
                line &= np.add.outer(np.arange(line.shape[0]), np.arange(line.shape[1])) // 4 % 2 == 0
            marked[line] = classes[label].colour
    return np.concatenate([plain, marked], axis=1)


def _canonical(some: Boxes, grid: Geometry) -> Boxes:
    """Boxes of a source in voxels of its canonical grid."""
    n = grid.ndim
    return prepare_boxes(some, Placement(grid, (0,) * n, (1.0,) * n, grid.canonical().shape))


def _busiest(some: Boxes | None, depth: int) -> int:
    """The slice that most boxes cross, near the middle of the run of such slices; the middle one without boxes."""
    if some is None:
        return depth // 2
    crossed = np.array([((some.corners[:, 0] <= k) & (k < some.corners[:, 3])).sum() for k in range(depth)])
    most = np.flatnonzero(crossed == crossed.max())
    return int(most[len(most) // 2])


def _rectangle(corners: npt.NDArray[np.float64], shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """The pixels of a box's outline; corners (4): first row and column, last row and column, half-open."""
    (top, left), (bottom, right) = np.floor(corners[:2]).astype(int), np.ceil(corners[2:]).astype(int) - 1
    out = np.zeros(tuple(shape), dtype=bool)
    out[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    out[top + 1 : bottom, left + 1 : right] = False
    return out


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
