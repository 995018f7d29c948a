"""Metal in CT: voxels denser than bone can be, and what blooms around them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError

DENSEST: Final = 2500.0  # HU: enamel reaches it, and no bone goes beyond
AIR: Final = -500.0  # HU that some voxel of every CT lies below
REACH: Final = 2  # voxels around metal that are brightened by it


def metal_mask(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(*spatial) True on and around metal in (C, *spatial) of CT numbers. Streaks farther away are not found.

    Raises InputError VALUE_RANGE for values that are no CT numbers.
    """
    from scipy import ndimage

    if float(array.min()) > AIR:
        raise InputError(
            "VALUE_RANGE",
            "--find metal",
            found=f"values from {float(array.min()):g} to {float(array.max()):g}",
            expected=f"a CT in Hounsfield units, with air below {AIR:g}",
            fix="give the holes with --mask",
        )
    dense = (array > DENSEST).any(axis=0)
    return np.asarray(ndimage.binary_dilation(dense, iterations=REACH) if dense.any() else dense, dtype=np.bool_)
