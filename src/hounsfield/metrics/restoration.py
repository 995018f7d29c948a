"""How close a restored image is to the truth: absolute error, PSNR, SSIM, MS-SSIM and the distance of features.

Images are (C, *spatial) with any number of spatial axes; one channel has C = 1. Masks (`where`) are (*spatial), for all
channels, or (C, *spatial), non-zero where voxels count. What every measure raises as InputError: GRID_MISMATCH (shapes),
WRONG_DIMENSION (no axis of channels, no voxel), NOT_FINITE, NO_FOREGROUND (an empty mask), BAD_OPTION (a peak not above 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SIGMA = 1.5  # voxels, of the Gaussian window of SSIM
RADIUS = 5  # voxels on either side of the window's centre: 11 in all
K1, K2 = 0.01, 0.03
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales of MS-SSIM, fine to coarse
# Voxels of one slab: keeps the temporaries of SSIM near 400 MB whatever the volume's size.
CHUNK = 1 << 22
TINY = 1e-10  # keeps a feature vector of zeros from being divided by its length


def mae(truth: Array, restored: Array, where: Array | None = None) -> float:
    """Mean absolute error in the images' units, 0 for equal images."""
    return _mean_error(truth, restored, where, np.abs)


def psnr(truth: Array, restored: Array, peak: float, where: Array | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(peak² / mean squared error); infinite for equal images.

    peak: width of the range of values that the images can take (255 of bytes), in their units; the same for all images that are
    compared.
    """
    _check_peak(peak)
    squared = _mean_error(truth, restored, where, np.square)
    return math.inf if squared == 0 else 20 * math.log10(peak) - 10 * math.log10(squared)


def ssim(truth: Array, restored: Array, peak: float, where: Array | None = None) -> float:
    """Mean structural similarity (Wang et al., IEEE TIP 13 (2004), eq. 13), at most 1, 1 for equal images.

    Gaussian window of 11 voxels along each axis, sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance; channels are averaged.
    peak: as in `psnr`. The luminance term compares means with 0: values must count from the low end of their range, which is to
    be subtracted from Hounsfield units first. Without `where` the mean runs over the voxels whose whole window lies in the
    image, as is usual; with it over all voxels of the mask, windows at the border being filled by mirroring. Along an axis of
    fewer than 11 voxels the window has the largest odd number that fits: a volume of one slice has the SSIM of that slice.
    """
    _check_peak(peak)
    inside = _mask(truth, restored, where)
    if where is None:
        inside = np.broadcast_to(_interior(truth.shape[1:]), truth.shape)
    total = 0.0
    for channel in range(len(truth)):
        for rows, luminance, structure in _maps(truth[channel], restored[channel], peak):
            total += float((luminance * structure)[inside[channel][rows]].sum())
    return total / np.count_nonzero(inside)


def scales(shape: Sequence[int]) -> int:
    """How many scales `ms_ssim` uses of a spatial shape: 5, fewer where the coarsest would be smaller than the window of 11
    voxels, at least 1. 64 x 64 has 3; 176 x 176 and more has 5."""
    return max(1, min(len(WEIGHTS), int(math.log2(max(1.0, min(shape) / (2 * RADIUS + 1)))) + 1))


def ms_ssim(truth: Array, restored: Array, peak: float, where: Array | None = None) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, Asilomar 2003, eq. 7), in [0, 1], 1 for equal images.

    Contrast and structure at each scale, luminance at the coarsest alone, to the powers of WEIGHTS; from one scale to the next
    blocks of 2 voxels along each axis are averaged. Where `scales` allows fewer than five, the weights of those left are
    divided by their sum. A negative mean, which has no such power, counts 0. Window, peak, values and channels as in `ssim`;
    of a mask, at coarser scales, the blocks that hold a voxel of it.
    """
    _check_peak(peak)
    inside = None if where is None else _mask(truth, restored, where)
    _check_shapes(truth, restored)
    weights = np.array(WEIGHTS[: scales(truth.shape[1:])])
    weights /= weights.sum()
    every = range(len(truth)) if inside is None else [k for k, channel in enumerate(inside) if channel.any()]
    each = [_ms_ssim(truth[k], restored[k], peak, weights, None if inside is None else inside[k]) for k in every]
    return float(np.mean(each))


def _ms_ssim(x: Array, y: Array, peak: float, weights: Floats, where: Bools | None) -> float:
    value = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            where = None if where is None else _held(where)
            x, y = _halved(x), _halved(y)
        inside = _interior(x.shape) if where is None else where
        last = scale == len(weights) - 1
        maps = ((rows, luminance * structure if last else structure) for rows, luminance, structure in _maps(x, y, peak))
        total = sum(float(each[inside[rows]].sum()) for rows, each in maps)
        value *= max(0.0, total / np.count_nonzero(inside)) ** float(weight)
    return value


def feature_distance(a: Sequence[Array], b: Sequence[Array], where: Array | None = None) -> float:
    """Distance of two images by the maps that a network makes of them, 0 for equal ones, at most 4.

    a, b: maps (F, *spatial) of one or more layers, in the same order. where: a mask (*spatial) of the same extent on any grid,
    non-zero where positions count that it holds a voxel of. At each position the vector of F features is divided by
    its length, and the squares of the differences are summed; averaged over positions, then over layers. This is LPIPS (Zhang
    et al., CVPR 2018, eq. 1) with all weights 1 and a mean over layers in place of the sum: figures of two networks do not
    compare.
    Raises InputError WRONG_DIMENSION (no maps, or not as many), GRID_MISMATCH, NOT_FINITE, NO_FOREGROUND (an empty mask).
    """
    if len(a) != len(b) or not a:
        found = f"{len(a)} and {len(b)} maps"
        raise InputError("WRONG_DIMENSION", "features", found=found, expected="as many, at least 1", fix="use one network")
    each = []
    for one, other in zip(a, b, strict=True):
        _check_shapes(one, other)
        apart = ((_unit(_floats(one)) - _unit(_floats(other))) ** 2).sum(axis=0)
        each.append(float(apart.mean() if where is None else apart[_places(where, apart.shape)].mean()))
    return float(np.mean(each))


def _places(where: Array, shape: tuple[int, ...]) -> Bools:
    """(*shape) of the positions, over the same extent, that hold a voxel of the mask or lie in one."""
    if where.ndim != len(shape):
        found = f"mask {where.shape}, maps {shape}"
        raise InputError("GRID_MISMATCH", "mask", found=found, expected="as many axes", fix="give the mask of the image")
    if not np.any(where):
        raise _no_voxel()
    out = np.zeros(shape, dtype=bool)
    out[tuple((np.argwhere(where) * shape // where.shape).T)] = True
    middles = [((np.arange(n) + 0.5) * size / n).astype(np.int64) for n, size in zip(shape, where.shape, strict=True)]
    out |= where[np.ix_(*middles)] != 0
    return out


def _unit(features: Floats) -> Floats:
    return np.asarray(features / (np.sqrt((features**2).sum(axis=0, keepdims=True)) + TINY))


def _mean_error(truth: Array, restored: Array, where: Array | None, measure: Callable[[Floats], Floats]) -> float:
    """Mean of `measure` of the differences over the voxels that count."""
    inside = _mask(truth, restored, where)
    total = 0.0
    for channel in range(len(truth)):
        for rows in _slabs(truth.shape[1:]):
            counts = inside[channel][rows]
            difference = _floats(restored[channel][rows][counts]) - _floats(truth[channel][rows][counts])
            total += float(measure(difference).sum())
    return total / np.count_nonzero(inside)


def _maps(truth: Array, restored: Array, peak: float) -> Iterator[tuple[slice, Floats, Floats]]:
    """Of one channel (*spatial), slab by slab: rows, luminance, and contrast times structure."""
    radius = _radii(truth.shape)[0]
    for rows in _slabs(truth.shape):
        # With the neighbours that windows at its ends reach.
        low, high = max(0, rows.start - radius), min(len(truth), rows.stop + radius)
        luminance, structure = _similarity(_floats(truth[low:high]), _floats(restored[low:high]), _radii(truth.shape), peak)
        cut = slice(rows.start - low, rows.stop - low)
        yield rows, luminance[cut], structure[cut]


def _similarity(x: Floats, y: Floats, radii: tuple[int, ...], peak: float) -> tuple[Floats, Floats]:
    """Maps of luminance, and of contrast times structure (Wang 2004, eq. 6 and 13)."""
    from scipy.ndimage import gaussian_filter

    def mean(image: Floats) -> Floats:
        return np.asarray(gaussian_filter(image, SIGMA, radius=radii))

    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mean_x, mean_y = mean(x), mean(y)
    covariance = mean(x * y) - mean_x * mean_y
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


def _radii(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(RADIUS, (n - 1) // 2) for n in shape)


def _interior(shape: tuple[int, ...]) -> Bools:
    """(*spatial) of the voxels whose whole window lies in the image."""
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(slice(r, n - r) for r, n in zip(_radii(shape), shape, strict=True))] = True
    return inside


def _mask(truth: Array, restored: Array, where: Array | None) -> Bools:
    """(C, *spatial) of the voxels that count."""
    _check_shapes(truth, restored)
    if where is None:
        return np.broadcast_to(np.True_, truth.shape)
    if where.shape not in (truth.shape, truth.shape[1:]):
        found = f"mask {where.shape}, image {truth.shape}"
        raise InputError("GRID_MISMATCH", "mask", found=found, expected="one grid", fix="give a mask on the image's grid")
    if not np.any(where):
        raise _no_voxel()
    return np.broadcast_to(where != 0, truth.shape)


def _no_voxel() -> InputError:
    return InputError("NO_FOREGROUND", "mask", found="no voxel", expected="at least 1", fix="leave the case out")


def _halved(image: Array) -> Floats:
    """Means of blocks of 2 voxels along each axis; an odd last voxel is left out."""
    halves = [n // 2 for n in image.shape]
    even = image[tuple(slice(2 * half) for half in halves)]
    blocks = even.reshape([n for half in halves for n in (half, 2)])
    return np.asarray(blocks.mean(axis=tuple(range(1, 2 * image.ndim, 2)), dtype=np.float64))


def _held(mask: Bools) -> Bools:
    """Blocks of 2 voxels along each axis that hold one of the mask; of an odd last voxel the block before it."""
    halves = tuple(n // 2 for n in mask.shape)
    out = np.zeros(halves, dtype=bool)
    out[tuple(np.minimum(np.argwhere(mask) // 2, np.array(halves) - 1).T)] = True
    return out


def _slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices along the first axis that cut an array into pieces of about CHUNK voxels."""
    rows = max(1, CHUNK // max(1, int(np.prod(shape[1:]))))
    return (slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows))


def _floats(image: Array) -> Floats:
    floats = image.astype(np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(floats))):
        found = f"{bad} NaN or infinite values"
        raise InputError("NOT_FINITE", "image", found=found, expected="finite values", fix="check what made the image")
    return floats


def _check_peak(peak: float) -> None:
    if not (math.isfinite(peak) and peak > 0):
        fix = "give the width of the range of values"
        raise InputError("BAD_OPTION", "peak", found=f"{peak:g}", expected="a positive number", fix=fix)


def _check_shapes(truth: Array, restored: Array) -> None:
    """Broadcasting would turn a mismatch into a plausible number."""
    if truth.shape != restored.shape:
        found = f"{truth.shape} and {restored.shape}"
        raise InputError("GRID_MISMATCH", "images", found=found, expected="one shape", fix="compare images of one grid")
    if truth.ndim < 2 or truth.size == 0:
        expected = "(channels, *spatial) with at least one voxel"
        raise InputError("WRONG_DIMENSION", "image", found=f"{truth.shape}", expected=expected, fix="add the axis of channels")
