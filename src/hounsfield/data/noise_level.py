"""How strong the noise of an image is, told from the image alone.

Details are what second differences along every axis leave of an image: noise that is independent from voxel to voxel keeps its
deviation, and what is linear along any axis vanishes (Immerkær, "Fast noise variance estimation", Computer Vision and Image
Understanding 64, 1996, whose mask this is in 2D). Half of the windows, those with most slope, are left out for their
edges (Tai and Yang, "A fast method for image noise estimation using Laplacian operator and adaptive edge detection", ISCCSP
2008), and the median tells the deviation of the rest (Donoho and Johnstone, Biometrika 81, 1994).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special

from hounsfield.data.degrade import Noise

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

SECOND = np.array([1.0, -2.0, 1.0]) / math.sqrt(6)  # keeps the deviation of independent noise
MEDIAN = 0.6744897501960817  # of the absolute value of a normal number, in deviations
LOOKED_AT = 2**22  # voxels of a channel: more would say no more
ROWS = 8  # along the first axis, of a piece of a larger one
DETAILS = 2**17  # whose median is taken
FEWEST = 64  # windows away from slopes and from the ends of the values; where there are fewer, all count
REACH = 30.0  # times the limits of a strength, beyond which none is looked for
HALVINGS = 20


def estimate(array: Array, how: Noise) -> float:
    """The strength, as `how.key` counts it, with which noise of the kind of `how` explains the details of an image (C,
    *spatial) in the source's units; at most REACH times beyond the limits of `how`, as of an image without any noise.

    Values at either end of those of the image are left out: there noise was cut off. Noise that an interpolation has smoothed
    is taken for weaker than it is, and texture as fine as a voxel for noise.
    """
    size, mean = _details(array)
    low, high = how.limits
    low, high = low / REACH, high * REACH
    more_is_noisier = how.key == "sigma"
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        unexplained = len(size) > 0 and float(np.median(size / deviation(how, middle, mean))) > MEDIAN
        if unexplained == more_is_noisier:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def deviation(how: Noise, strength: float, mean: Floats) -> Floats:
    """Standard deviation of the noise, in source units, where the noisy image has these means (any shape)."""
    height = mean - how.zero
    if how.kind == "gaussian":
        return np.full(mean.shape, strength)
    if how.kind == "rician":
        return np.asarray(strength * np.interp(height / strength, *_rician()))
    if how.kind == "poisson":
        return np.asarray(np.sqrt(np.maximum(height, 1 / strength) / strength))
    arrive = np.maximum(strength * how.photons * np.exp(-how.attenuation * height), 1.0)
    return np.asarray(np.sqrt(arrive + how.electronic**2) / arrive / how.attenuation)


@cache
def _rician() -> tuple[Floats, Floats]:
    """Mean and deviation of the magnitude of a signal, both over the deviation of the noise of its parts (Gudbjartsson and
    Patz, Magn. Reson. Med. 34, 1995, eq. 2 and 3)."""
    signal = np.linspace(0, 50, 1001)
    half = signal**2 / 4
    mean = math.sqrt(math.pi / 2) * ((1 + 2 * half) * special.i0e(half) + 2 * half * special.i1e(half))
    return np.asarray(mean), np.asarray(np.sqrt(signal**2 + 2 - mean**2))


def _details(array: Array) -> tuple[Floats, Floats]:
    """Size of the details, and mean around them, (N,) each: of windows of 3 voxels along each axis."""
    sizes, means, fitting = [], [], []
    for channel in array:
        lowest, highest = channel.min(), channel.max()
        along = [axis for axis, n in enumerate(channel.shape) if n >= 3]
        if not along:
            continue
        window = [3 if axis in along else 1 for axis in range(channel.ndim)]
        inside = tuple(slice(1, -1) if axis in along else slice(None) for axis in range(channel.ndim))
        for piece in _pieces(channel):
            x = piece.astype(np.float64)
            detail = x
            for axis in along:
                detail = ndimage.convolve1d(detail, SECOND, axis)
            ended = ndimage.maximum_filter((piece == lowest) | (piece == highest), window)[inside]
            # By its symmetry a slope says nothing of the detail that white noise has at the same place.
            slope = np.sum([ndimage.sobel(x, axis)[inside] ** 2 for axis in along], axis=0)
            steep = float(np.median(slope[~ended])) if not ended.all() else 0.0
            sizes.append(np.abs(detail[inside]).ravel())
            means.append(np.asarray(ndimage.uniform_filter(x, window))[inside].ravel())
            fitting.append((~ended & (slope <= steep)).ravel())
    if not sizes:
        return np.zeros(0), np.zeros(0)
    size, mean, fits = (np.concatenate(parts) for parts in (sizes, means, fitting))
    if np.count_nonzero(fits) >= FEWEST:
        size, mean = size[fits], mean[fits]
    step = max(1, len(size) // DETAILS)
    return size[::step], mean[::step]


def _pieces(channel: Array) -> Iterator[Array]:
    """A channel (*spatial), or of a large one some rows of its first axis here and there."""
    rows = len(channel)
    count = max(1, LOOKED_AT // (ROWS * (channel.size // rows)))
    if count * ROWS >= rows:
        yield channel
        return
    for k in range(count):
        start = (2 * k + 1) * (rows - ROWS) // (2 * count)
        yield channel[start : start + ROWS]
