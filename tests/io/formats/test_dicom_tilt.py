"""A gantry tilt mended with --fix-tilt: every voxel of the upright grid holds what lies there in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from hounsfield import io
from hounsfield.io.formats import Choices

FIX = Choices(fix_tilt=True)
SPACING = (0.8, 0.6)  # rows, columns
STEP = 3.0


def value(world: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A linear function of R, A, S, which linear interpolation gives back exactly; (..., 3) -> (...)."""
    return np.asarray(900 + world @ np.array([3.0, -7.0, 5.0]))


def tilted(folder: Path, make_slice: Any, drift: tuple[float, float], turn: Rotation, count: int = 6) -> Path:
    """Slices of 9 x 11 whose first voxel moves by `drift` mm (along columns' and rows' directions) from one to the next."""
    across, down, normal = turn.as_matrix().T
    for k in range(count):
        position = np.array([5.0, -9.0, 30.0]) + k * (STEP * normal + drift[0] * down + drift[1] * across)
        rows, columns = np.meshgrid(np.arange(9) * SPACING[0], np.arange(11) * SPACING[1], indexing="ij")
        lps = position + rows[..., None] * down + columns[..., None] * across
        plane = np.rint(value(lps * (-1, -1, 1))).astype(np.int16)
        cosines = [float(x) for x in (*across, *down)]
        make_slice(
            folder / f"{k}.dcm",
            plane,
            tuple(position),
            ImageOrientationPatient=cosines,
            PixelSpacing=list(SPACING),
            SeriesNumber=1,
        )
    return folder


@pytest.mark.parametrize("drift", [(1.0, 0.0), (-1.0, 0.0), (0.0, 0.9), (0.7, -0.5), (1.6, 0.0)])
@pytest.mark.parametrize("turn", [Rotation.identity(), Rotation.from_euler("xyz", [10, -25, 5], degrees=True)])
def test_every_voxel_holds_what_lies_there(tmp_path: Path, make_slice: Any, drift: tuple[float, float], turn: Rotation) -> None:
    image = io.read(tilted(tmp_path, make_slice, drift, turn), FIX)
    steps = image.geometry.affine[:3, :3]
    units = steps / np.linalg.norm(steps, axis=0)
    np.testing.assert_allclose(units.T @ units, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(image.geometry.spacing, (STEP, *SPACING), rtol=1e-6)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.geometry.shape), indexing="ij"), -1).reshape(-1, 3)
    expected = value(image.geometry.index_to_world(index)).reshape(image.geometry.shape)
    low = image.array.min()
    # Where no slice lies there is the lowest value, and next to it a mixture.
    lies = image.array[0] != low
    inner = lies.copy()
    for axis in (1, 2):
        inner &= np.roll(lies, 1, axis) & np.roll(lies, -1, axis)
    inner[:, [0, -1]] = inner[:, :, [0, -1]] = False
    assert inner.sum() > 0.5 * 6 * 9 * 11
    assert np.abs(image.array[0] - expected)[inner].max() <= 1.5, "values are rounded twice"
    lost = [np.abs(total) / side for total, side in zip(np.array(drift) * 5, SPACING, strict=True)]
    assert image.geometry.shape == (6, 9 + int(np.ceil(lost[0] - 1e-9)), 11 + int(np.ceil(lost[1] - 1e-9)))


def test_it_says_so(tmp_path: Path, make_slice: Any) -> None:
    folder = tilted(tmp_path, make_slice, (1.0, 0.0), Rotation.identity())
    (note,) = io.read(folder, FIX).meta.notes
    assert "a gantry tilt of 18.4 degrees" in note
    assert io.peek(folder, FIX).geometry == io.read(folder, FIX).geometry


def test_an_upright_stack_stays_as_it_is(tmp_path: Path, make_slice: Any) -> None:
    folder = tilted(tmp_path, make_slice, (0.0, 0.0), Rotation.identity())
    mended, plain = io.read(folder, FIX), io.read(folder)
    assert mended.geometry == plain.geometry
    np.testing.assert_array_equal(mended.array, plain.array)


def test_a_tilt_with_a_gap_is_mended_with_both(tmp_path: Path, make_slice: Any) -> None:
    folder = tilted(tmp_path, make_slice, (1.0, 0.0), Rotation.identity())
    whole = io.read(folder, FIX)
    (folder / "3.dcm").unlink()
    both = io.read(folder, Choices(fix_tilt=True, allow_gaps=True))
    assert both.geometry.same_grid(whole.geometry)
    np.testing.assert_array_equal(both.array[:, [0, 1, 2, 4, 5]], whole.array[:, [0, 1, 2, 4, 5]])
    assert len(both.meta.notes) == 2


def test_a_real_one(shared_data: Path) -> None:
    folder = shared_data / "dicom_ct_gantry_tilt" / "In" / "GE"
    image = io.read(folder, Choices(fix_tilt=True, allow_gaps=True))  # its steps are 4 and 7 mm
    assert "18.5 degrees" in image.meta.notes[-1]
    assert image.geometry.spacing[0] == pytest.approx(4, abs=0.1)
    assert image.geometry.shape[1] > 512
    assert image.array.dtype == np.int16
