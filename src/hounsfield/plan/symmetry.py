"""Which mirror images a body part allows, measured: whether mirrored cases look as much like the others as they do themselves.

Body parts differ: left and right lungs mirror each other well enough, a crop around one hippocampus does not (mirrored, it
correlates with the others by 0.04 in place of 0.81), and a fundus photograph may be turned upside down (0.94 in place of 0.98).
A network that must also learn impossible mirror images learns the possible ones less well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.data.facts import THUMBNAIL, CaseFacts

ALLOWED = 0.9  # of the likeness of the images as they are, that their mirror images must reach
NO_LAYOUT = 0.2  # likeness below which images share no layout, as cells on a slide do, and no direction is special


@dataclass(frozen=True)
class Likeness:
    """Mean correlation of a case's thumbnail with the mean of all others. as_is: as the cases lie; mirrored: with the case
    mirrored along each canonical axis (d, h, w) or (h, w). Both in [-1, 1]; 0 of a single case."""

    as_is: float
    mirrored: tuple[float, ...]

    def allows(self, axis: int, layout: float = NO_LAYOUT) -> bool:
        """Whether mirroring along `axis` gives images that could be. layout: likeness below which there is none."""
        return self.as_is < layout or self.mirrored[axis] >= ALLOWED * self.as_is


def likeness(cases: Sequence[CaseFacts]) -> Likeness:
    """Of cases of one dimension."""
    flat = np.stack([_upright(case) for case in cases])
    axes = range(1, flat.ndim)
    rest = flat.sum(axis=0) - flat
    norms = np.sqrt((rest**2).sum(axis=tuple(axes), keepdims=True))
    rest = rest / np.maximum(norms, 1e-9)

    def alike(images: npt.NDArray[np.float64]) -> float:
        return float((images * rest).sum(axis=tuple(axes)).mean())

    return Likeness(alike(flat), tuple(alike(np.flip(flat, axis)) for axis in axes))


def _upright(case: CaseFacts) -> npt.NDArray[np.float64]:
    """The thumbnail with canonical axes: superior, anterior and right last, where a place in the patient is known."""
    shape = THUMBNAIL[len(case.shape)]
    image = np.frombuffer(case.thumbnail, dtype="<f4").astype(np.float64).reshape(shape)
    if len(shape) != 3 or case.space == "none":
        return image
    worlds = ["RLAPSI".index(letter) // 2 for letter in case.orientation]
    order = [worlds.index(world) for world in (2, 1, 0)]
    turned = [k for k, axis in enumerate(order) if case.orientation[axis] in "LPI"]
    turned_round: npt.NDArray[np.float64] = np.flip(image.transpose(order), tuple(turned))
    return turned_round
