"""Geometry: voxels keep their place in the patient, whatever is done to the grid; nibabel is the oracle."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry

nib: Any = importlib.import_module("nibabel")  # untyped

TOLERANCE = 1e-6  # mm
Floats = npt.NDArray[np.float64]


@st.composite
def geometries(draw: st.DrawFn, ndim: int | None = None, shear: float = 0.3) -> Geometry:
    """Any rotation, handedness, spacing from 0.1 to 10 mm, some shear, origin within a metre."""
    n = ndim or draw(st.sampled_from((2, 3)))
    number = st.floats(-1, 1, allow_nan=False)
    rotation = Rotation.from_rotvec([np.pi * draw(number) for _ in range(3)]).as_matrix()
    spacing = [draw(st.floats(0.1, 10)) for _ in range(3)]
    signs = [draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)]
    mixing = np.eye(3)
    mixing[0, 1], mixing[0, 2], mixing[1, 2] = (shear * draw(number) for _ in range(3))
    columns = (rotation @ mixing) * spacing * signs
    columns = columns[:, list(draw(st.permutations(range(3))))][:, :n]
    affine = np.zeros((4, n + 1))
    affine[:3, :n] = columns
    affine[:3, n] = [1000 * draw(number) for _ in range(3)]
    affine[3, n] = 1
    return Geometry(tuple(draw(st.integers(1, 12)) for _ in range(n)), affine)


def indices(geometry: Geometry) -> Floats:
    """(N, n) index of every voxel, in C order."""
    return np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1).reshape(-1, geometry.ndim).astype(float)


def world_of_voxels(geometry: Geometry) -> Floats:
    """(*shape, 3) R, A, S of every voxel."""
    return geometry.index_to_world(indices(geometry)).reshape(*geometry.shape, 3)


def nibabel_affine(geometry: Geometry) -> Floats:
    """(4, 4) of a 3D grid for indices (w, h, d), as a NIfTI file has it."""
    return geometry.affine[:, [2, 1, 0, 3]]


@given(geometries(ndim=3))
def test_voxel_dhw_lies_where_nibabel_puts_whd(geometry: Geometry) -> None:
    index = indices(geometry)
    expected = nib.affines.apply_affine(nibabel_affine(geometry), index[:, ::-1])
    np.testing.assert_allclose(geometry.index_to_world(index), expected, atol=TOLERANCE, rtol=0)


@given(geometries())
def test_index_to_world_and_back(geometry: Geometry) -> None:
    index = indices(geometry) + 0.25
    np.testing.assert_allclose(geometry.world_to_index(geometry.index_to_world(index)), index, atol=TOLERANCE, rtol=0)


@given(geometries(ndim=2), st.floats(-50, 50))
def test_a_point_off_a_slice_projects_onto_it(geometry: Geometry, height: float) -> None:
    normal = np.cross(geometry.affine[:3, 0], geometry.affine[:3, 1])
    world = geometry.index_to_world(indices(geometry)) + height * normal / np.linalg.norm(normal)
    np.testing.assert_allclose(geometry.world_to_index(world), indices(geometry), atol=TOLERANCE, rtol=0)


@given(geometries(), st.data())
def test_crop_keeps_world_positions(geometry: Geometry, data: st.DataObject) -> None:
    start = [data.draw(st.integers(-3, size - 1)) for size in geometry.shape]
    shape = [data.draw(st.integers(1, 12)) for _ in geometry.shape]
    cropped = geometry.crop(start, shape)
    assert cropped.shape == tuple(shape)
    expected = geometry.index_to_world(indices(cropped) + start)
    np.testing.assert_allclose(cropped.index_to_world(indices(cropped)), expected, atol=TOLERANCE, rtol=0)


@given(geometries(), st.data())
def test_flip_keeps_world_positions(geometry: Geometry, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, geometry.ndim - 1))
    expected = np.flip(world_of_voxels(geometry), axis)
    np.testing.assert_allclose(world_of_voxels(geometry.flip(axis)), expected, atol=TOLERANCE, rtol=0)


@given(geometries(), st.data())
def test_permute_keeps_world_positions(geometry: Geometry, data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(geometry.ndim)))
    expected = world_of_voxels(geometry).transpose(*axes, geometry.ndim)
    np.testing.assert_allclose(world_of_voxels(geometry.permute(axes)), expected, atol=TOLERANCE, rtol=0)


@given(geometries(), st.data())
def test_resize_keeps_the_extent(geometry: Geometry, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 20)) for _ in geometry.shape)
    resized = geometry.resize(shape)
    assert resized.shape == shape
    # The outer corners of the first and last voxel are where the old ones' were.
    for corner in (np.full(geometry.ndim, -0.5), None):
        old = np.array(geometry.shape) - 0.5 if corner is None else corner
        new = np.array(shape) - 0.5 if corner is None else corner
        expected = geometry.index_to_world(old)
        np.testing.assert_allclose(resized.index_to_world(new), expected, atol=TOLERANCE, rtol=0)


@given(geometries(ndim=3))
def test_canonical_keeps_world_positions(geometry: Geometry) -> None:
    axes, flips = geometry.canonical_axes()
    expected = world_of_voxels(geometry).transpose(*axes, 3)
    expected = np.flip(expected, tuple(k for k in range(3) if flips[k]))
    np.testing.assert_allclose(world_of_voxels(geometry.canonical()), expected, atol=TOLERANCE, rtol=0)


@given(geometries(ndim=3))
def test_canonical_is_nibabels_closest_canonical(geometry: Geometry) -> None:
    voxels = np.zeros(geometry.shape[::-1], dtype=np.uint8)
    expected = nib.as_closest_canonical(nib.Nifti1Image(voxels, nibabel_affine(geometry)))
    canonical = geometry.canonical()
    assert canonical.shape == expected.shape[::-1]
    np.testing.assert_allclose(nibabel_affine(canonical), expected.affine, atol=TOLERANCE, rtol=0)
    assert canonical.orientation == "SAR"


@given(geometries(ndim=3))
def test_orientation_names_nibabels_axis_codes(geometry: Geometry) -> None:
    assert geometry.orientation == "".join(nib.aff2axcodes(nibabel_affine(geometry))[::-1])


@given(geometries(ndim=2))
def test_canonical_leaves_a_slice_as_it_is(geometry: Geometry) -> None:
    assert geometry.canonical() == geometry


def test_canonical_leaves_a_grid_without_spacing_as_it_is() -> None:
    turned = Geometry.none((3, 4, 5)).permute((2, 0, 1)).flip(0)
    assert turned.canonical() == turned


@given(geometries())
def test_spacing_is_the_length_of_a_step(geometry: Geometry) -> None:
    steps = geometry.index_to_world(np.eye(geometry.ndim)) - geometry.index_to_world(np.zeros(geometry.ndim))
    np.testing.assert_allclose(geometry.spacing, np.linalg.norm(steps, axis=1), rtol=1e-9)


def test_from_spacing_lays_w_right_h_forward_d_up() -> None:
    geometry = Geometry.from_spacing((5, 6, 7), (3.0, 2.0, 1.0), origin=(10, 20, 30))
    assert geometry.orientation == "SAR"
    assert geometry.spacing == (3.0, 2.0, 1.0)
    assert geometry.index_to_world((1, 1, 1)).tolist() == [[11.0, 22.0, 33.0]]
    assert geometry.diagonal == pytest.approx(np.hypot(np.hypot(15, 12), 7))


def test_units() -> None:
    assert Geometry.none((2, 2)).unit == "px"
    assert Geometry.from_spacing((2, 2), (1, 1), space="detector").unit == "mm"


@given(geometries())
def test_same_grid_within_its_tolerance_only(geometry: Geometry) -> None:
    smallest = min(geometry.spacing)
    for part, same in ((0.5e-3, True), (2e-3, False)):
        affine = geometry.affine.copy()
        affine[0, -1] += part * smallest
        assert geometry.same_grid(Geometry(geometry.shape, affine)) is same
    assert not geometry.same_grid(Geometry.none((*geometry.shape[:-1], geometry.shape[-1] + 1)))


def test_same_grid_looks_at_far_corners() -> None:
    geometry = Geometry.from_spacing((512, 512), (1.0, 1.0))
    turned = geometry.affine.copy()
    turned[:3, :2] = Rotation.from_rotvec([0, 0, 1e-5]).as_matrix() @ turned[:3, :2]
    assert not geometry.same_grid(Geometry(geometry.shape, turned))  # 5e-3 mm at the far corner, nothing at the first


def test_without_spacing_equal_shapes_are_one_grid() -> None:
    assert Geometry.none((3, 4)).same_grid(Geometry.from_spacing((3, 4), (0.5, 0.5)))


@given(geometries())
def test_equal_geometries_have_one_hash(geometry: Geometry) -> None:
    twin = Geometry(geometry.shape, geometry.affine.copy(), geometry.space)
    assert twin == geometry
    assert hash(twin) == hash(geometry)
    assert Geometry(geometry.shape, geometry.affine, "detector") != geometry
    assert geometry != "geometry"


def test_the_affine_cannot_be_changed() -> None:
    given_affine = np.eye(4)
    geometry = Geometry((2, 2, 2), given_affine)
    given_affine[0, 3] = 5
    assert geometry.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 2


@pytest.mark.parametrize(
    ("affine", "told"),
    [(np.zeros((4, 4)), "0.0, 0.0"), (np.diag([1, 0, 1, 1]), "1.0, 0.0"), (np.diag([np.nan, 1, 1, 1]), "nan")],
)
def test_a_singular_or_infinite_affine_is_refused(affine: Floats, told: str) -> None:
    with pytest.raises(InputError) as caught:
        Geometry((2, 2, 2), affine)
    assert caught.value.code == "BAD_AFFINE"
    assert told in caught.value.found


@pytest.mark.parametrize(
    ("shape", "affine"), [((2,), np.eye(4)), ((2, 2, 2, 2), np.eye(4)), ((2, 2), np.eye(4)), ((0, 2, 2), np.eye(4))]
)
def test_shape_and_affine_must_fit(shape: tuple[int, ...], affine: Floats) -> None:
    with pytest.raises(InputError) as caught:
        Geometry(shape, affine)
    assert caught.value.code == "WRONG_DIMENSION"
    assert str(shape) in caught.value.found
