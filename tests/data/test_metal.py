"""Metal is found with what blooms around it, bone is not, and pictures are refused."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.metal import metal_mask


@pytest.mark.parametrize("shape", [(20, 30), (9, 20, 30)])
def test_metal_and_its_bloom(shape: tuple[int, ...]) -> None:
    array = np.full((1, *shape), -1000, np.int16)
    array[..., 4:8, 4:8] = 1800  # bone
    assert not metal_mask(array).any()
    array[..., 12, 20] = 3071
    found = metal_mask(array)
    assert found.shape == shape
    plane = found if found.ndim == 2 else found[4]
    assert plane[12, 18:23].all()
    assert plane.sum() == 13  # within two steps
    assert not plane[4:8, 4:8].any()


def test_what_is_no_ct_is_refused() -> None:
    with pytest.raises(InputError, match="VALUE_RANGE --find metal: found values from 0 to 4000"):
        metal_mask(np.array([[[0, 4000]]]))
