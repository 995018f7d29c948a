"""Image to model grid and back, against affine arithmetic, scipy's interpolation and numpy's statistics."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class, Grid, Normalise
from hounsfield.data import prepare as module
from hounsfield.data.prepare import (
    IGNORE,
    Placement,
    Prepared,
    place,
    prepare,
    prepare_boxes,
    prepare_labels,
    resize,
)
from hounsfield.tasks.parts import windows

Array = npt.NDArray[Any]

AS_IT_IS = Normalise(scope="dataset", low=-1e9, high=1e9, mean=0.0, std=1.0)
TWO = (Class(value=1, name="a"), Class(value=2, name="b"))
FEW = settings(max_examples=40)


@st.composite
def geometries(draw: st.DrawFn, least: int = 2, most: int = 9, ndim: int | None = None) -> Geometry:
    """Any grid: axes permuted and flipped, oblique or not, anisotropic."""
    n = draw(st.sampled_from((2, 3))) if ndim is None else ndim
    shape = tuple(draw(st.integers(least, most)) for _ in range(n))
    spacing = np.array([draw(st.sampled_from((0.4, 1.0, 1.7, 5.0))) for _ in range(3)])
    angles = draw(st.sampled_from(((0.0, 0.0, 0.0), (10.0, -20.0, 5.0), (45.0, 0.0, 0.0), (31.0, 62.0, -77.0))))
    axes = np.eye(3)[:, draw(st.permutations(range(3)))] * draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    affine = np.zeros((4, n + 1))
    affine[:3, :n] = (Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes * spacing)[:, :n]
    affine[:, n] = (*[draw(st.floats(-100, 100)) for _ in range(3)], 1.0)
    return Geometry(shape, affine)


@st.composite
def grids(draw: st.DrawFn, geometry: Geometry, factors: tuple[float, ...] = (0.4, 0.8, 1.0, 1.3, 2.5)) -> Grid:
    """A spacing near the source's, a fixed size, or the source's own grid."""
    kind = draw(st.sampled_from(("spacing", "size", "own")))
    canonical = geometry.canonical()
    crop = draw(st.booleans())
    if kind == "own":
        return Grid(crop_foreground=crop)
    if kind == "spacing":
        return Grid(spacing=tuple(s * draw(st.sampled_from(factors)) for s in canonical.spacing), crop_foreground=crop)
    size = tuple(max(1, round(s / draw(st.sampled_from(factors)))) for s in canonical.shape)
    return Grid(size=size, crop_foreground=crop)


def in_a_frame(geometry: Geometry, frame: int) -> Image:
    """An image that is 0 in a frame about its content."""
    array = np.zeros((1, *geometry.shape), dtype=np.float32)
    inner = tuple(slice(min(frame, s // 3), s - min(frame, s // 3)) for s in geometry.shape)
    array[0][inner] = 1
    return Image(array, geometry)


def source_index(where: Placement, index: Array) -> Array:
    """(N, n) model indices -> source indices, axis by axis: the definition of the model grid written out."""
    axes, flips = where.source.canonical_axes()
    canonical_shape = [where.source.shape[a] for a in axes]
    out = np.empty_like(index, dtype=np.float64)
    for k, axis in enumerate(axes):
        position = where.start[k] + (index[:, k] + 0.5) * where.scale[k] - 0.5
        out[:, axis] = canonical_shape[k] - 1 - position if flips[k] else position
    return out


def every_index(shape: tuple[int, ...]) -> Array:
    return np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"), -1).reshape(-1, len(shape))


@FEW
@given(st.data())
def test_a_world_point_keeps_its_place(data: st.DataObject) -> None:
    geometry = data.draw(geometries())
    where = place(in_a_frame(geometry, 1), data.draw(grids(geometry)))
    index = every_index(where.shape)
    expected = geometry.index_to_world(source_index(where, index))
    np.testing.assert_allclose(where.geometry.index_to_world(index), expected, atol=1e-6)


@settings(max_examples=25)
@given(st.data())
def test_a_ramp_survives_the_way_there_and_back(data: st.DataObject) -> None:
    """Values that are linear in the world stay so wherever no border is near, on the model grid and back on the source's: to
    float precision where the model grid is the finer one; coarser, the triangle filter samples its weights unevenly, which
    may move a value by a tenth of a voxel."""
    geometry = data.draw(geometries(least=14, most=18))
    slope = np.array([0.7, -0.3, 0.5])
    world = geometry.index_to_world(every_index(geometry.shape))
    array = (world @ slope + 3).reshape(1, *geometry.shape)
    image = Image(array.astype(np.float32), geometry)
    grid = data.draw(grids(geometry, factors=(0.6, 1.0, 1.7)))
    prepared = prepare(image, grid, [AS_IT_IS])
    model, scale = prepared.placement.geometry, prepared.placement.scale
    inner = tuple(slice(int(2 / min(s, 1)) + 1, n - int(2 / min(s, 1)) - 1) for n, s in zip(model.shape, scale, strict=True))
    expected = (model.index_to_world(every_index(model.shape)) @ slope + 3).reshape(model.shape)
    voxel = float(np.abs(slope @ geometry.affine[:3, : geometry.ndim]).sum())
    tolerance = 2e-4 if max(scale) <= 1 else 0.1 * voxel
    np.testing.assert_allclose(prepared.tensor[0].numpy()[inner], expected[inner], rtol=0, atol=tolerance)
    back = prepared.back_image(prepared.tensor)
    assert back.geometry == geometry
    core = (slice(6, -6),) * geometry.ndim
    np.testing.assert_allclose(back.array[0][core], array[0][core], rtol=0, atol=tolerance)


@FEW
@given(geometries(), st.booleans())
def test_on_its_own_grid_an_image_comes_back_bit_by_bit(geometry: Geometry, crop: bool) -> None:
    draw = np.random.default_rng(0)
    array = draw.normal(size=(2, *geometry.shape)).astype(np.float32)
    prepared = prepare(Image(array, geometry), Grid(crop_foreground=crop), [AS_IT_IS, AS_IT_IS])
    np.testing.assert_array_equal(prepared.back_image(prepared.tensor).array, array)


@FEW
@given(geometries(), st.booleans())
def test_labels_on_their_own_grid_come_back_bit_by_bit(geometry: Geometry, crop: bool) -> None:
    """The source's values -> classes -> certainties -> classes."""
    labels = np.random.default_rng(1).choice(np.array([0, 7, 200], dtype=np.uint8), size=(1, *geometry.shape))
    labels[(0, *[0] * geometry.ndim)], labels[(0, *[-1] * geometry.ndim)] = 7, 200
    image = Image(labels, geometry)
    where = place(Image((labels != 0).astype(np.uint8), geometry), Grid(crop_foreground=crop))
    index = prepare_labels(image, where, (Class(value=7, name="a"), Class(value=200, name="b")))[0]
    certain = torch.nn.functional.one_hot(index.long(), 3).movedim(-1, 0).float()
    back = Prepared(certain, where).back_labels([(0, 0, certain)], lambda p: p.argmax(0, keepdim=True).to(torch.uint8))
    np.testing.assert_array_equal(np.array([0, 7, 200])[back], labels)


def whole_volume_labels(where: Placement, probabilities: Array) -> tuple[Array, Array]:
    """Labels on the source grid and their margin, with scipy, all at once."""
    axes, flips = where.source.canonical_axes()
    shape = where.source.shape
    index = every_index(shape).astype(np.float64)
    position = np.empty_like(index)
    inside = np.ones(len(index), dtype=bool)
    for k, axis in enumerate(axes):
        canonical = shape[axis] - 1 - index[:, axis] if flips[k] else index[:, axis]
        kept = round(where.shape[k] * where.scale[k])
        inside &= (canonical >= where.start[k]) & (canonical < where.start[k] + kept)
        position[:, k] = (canonical - where.start[k] + 0.5) / where.scale[k] - 0.5
    values = np.stack(
        [ndimage.map_coordinates(p.astype(np.float64), position.T, order=1, mode="nearest") for p in probabilities]
    )
    best = np.sort(values, axis=0)
    labels = np.where(inside, values.argmax(axis=0), 0)
    return labels.reshape(shape), np.where(inside, best[-1] - best[-2], 1.0).reshape(shape)


@settings(max_examples=60)
@given(st.data())
def test_streamed_labels_are_those_of_the_whole_volume(data: st.DataObject) -> None:
    """Slabs, tiles and chunks of any size, cropped, up- and downsampled, in 2D and 3D."""
    geometry = data.draw(geometries(least=3, most=11))
    where = place(in_a_frame(geometry, data.draw(st.integers(0, 3))), data.draw(grids(geometry)))
    probabilities = torch.rand((3, *where.shape), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    patch = tuple(data.draw(st.integers(1, 6)) for _ in where.shape)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "ACCUMULATOR_BYTES", data.draw(st.sampled_from((1, 300, 3000, 2**30))))
        patched.setattr(windows, "SLAB_BYTES", data.draw(st.sampled_from((1, 200, 2**30))))
        patched.setattr(module, "CHUNK", data.draw(st.sampled_from((1, 50, 2**24))))
        stream = windows.slabs(lambda x: x, probabilities, patch, 0.25, 3, torch.device("cpu"))
        labels = Prepared(probabilities, where).back_labels(stream, lambda p: p.argmax(0, keepdim=True).to(torch.uint8))
    expected, margin = whole_volume_labels(where, probabilities.numpy())
    assert labels.dtype == np.uint8
    clear = margin > 1e-4
    np.testing.assert_array_equal(labels[0][clear], expected[clear])


def test_slabs_may_be_cut_anywhere() -> None:
    where = place(in_a_frame(Geometry.from_spacing((20, 6, 5), (1, 1, 1)), 0), Grid(size=(9, 6, 5)))
    probabilities = torch.rand((4, *where.shape), generator=torch.Generator().manual_seed(0))
    expected, _ = whole_volume_labels(where, probabilities.numpy())
    for cuts in ([0, 9], [0, 1, 9], [0, 4, 5, 6, 9], list(range(10))):
        stream = [(a, 0, probabilities[:, a:b]) for a, b in pairwise(cuts)]
        labels = Prepared(probabilities, where).back_labels(stream, lambda p: p.argmax(0, keepdim=True).to(torch.uint8))
        np.testing.assert_array_equal(labels[0], expected)


def test_no_slab_is_refused() -> None:
    where = place(in_a_frame(Geometry.none((4, 4)), 0), Grid())
    with pytest.raises(ValueError, match="at least one slab"):
        Prepared(torch.zeros(1, 4, 4), where).back_labels([], lambda p: p.to(torch.uint8))


@FEW
@given(st.data())
def test_boxes_keep_their_place(data: st.DataObject) -> None:
    geometry = data.draw(geometries())
    where = place(in_a_frame(geometry, 1), data.draw(grids(geometry)))
    n, low, high = geometry.ndim, [], []
    for size in where.shape:
        first = data.draw(st.integers(0, size - 1))
        low.append(float(first))
        high.append(data.draw(st.floats(first + 0.5, size)))
    boxes = Boxes(np.array([[*low, *high]]), np.array([3]), np.array([0.5]))
    back = Prepared(torch.zeros(1, *where.shape), where).back_boxes(boxes)
    assert (back.labels.tolist(), back.scores is not None and back.scores.tolist()) == ([3], [0.5])

    def corners(of: Boxes, grid: Geometry) -> Array:
        """All 2^n corners in the world: voxel i reaches from i - 1/2 to i + 1/2, its box from i to i + 1."""
        pairs = zip(of.corners[0, :n], of.corners[0, n:], strict=True)
        world = grid.index_to_world(np.array(list(product(*pairs))) - 0.5)
        return world[np.lexsort(np.round(world, 4).T)]

    np.testing.assert_allclose(corners(back, geometry), corners(boxes, where.geometry), atol=1e-6)


@FEW
@given(st.data())
def test_boxes_go_to_the_model_grid_and_back(data: st.DataObject) -> None:
    geometry = data.draw(geometries())
    where = place(in_a_frame(geometry, 0), data.draw(grids(geometry)))
    n, shape = geometry.ndim, geometry.shape
    low = np.array([data.draw(st.floats(0, s - 0.5)) for s in shape])
    high = np.array([data.draw(st.floats(a + 0.25, s)) for a, s in zip(low, shape, strict=True)])
    there = prepare_boxes(Boxes(np.array([[*low, *high]]), np.array([4])), where)
    assert there.labels.tolist() == [4]
    assert (there.corners[:, :n] >= 0).all()
    assert (there.corners[:, n:] <= np.array(where.shape)).all()
    back = Prepared(torch.zeros(1, *where.shape), where).back_boxes(there)
    np.testing.assert_allclose(back.corners, [[*low, *high]], atol=1e-6)


def test_a_box_outside_the_image_is_dropped_and_one_across_the_border_cut() -> None:
    where = place(in_a_frame(Geometry.none((4, 4)), 0), Grid(size=(8, 8)))
    boxes = Boxes(np.array([[9.0, 0, 10, 2], [6, 6, 12, 8]]), np.array([0, 1]))
    back = Prepared(torch.zeros(1, 8, 8), where).back_boxes(boxes)
    assert back.corners.tolist() == [[3, 3, 4, 4]]
    assert back.labels.tolist() == [1]
    assert back.scores is None


def test_heat_is_zero_outside_the_crop() -> None:
    image = in_a_frame(Geometry.none((9, 9)), 2)
    prepared = prepare(image, Grid(crop_foreground=True), [AS_IT_IS])
    assert prepared.tensor.shape == (1, 5, 5)
    back = prepared.back_image(torch.ones(2, 5, 5), outside=-1.0)
    np.testing.assert_array_equal(back.array, np.repeat(np.where(image.array == 1, 1.0, -1.0), 2, axis=0))


def test_wrong_channels() -> None:
    image = Image(np.zeros((3, 4, 4)), Geometry.none((4, 4)))
    with pytest.raises(InputError, match=r"^CHANNELS image: found 3 channels, expected 1, as the plan has") as error:
        prepare(image, Grid(), [AS_IT_IS])
    assert error.value.exit_code == 2


@pytest.mark.parametrize("grid", [Grid(spacing=(1, 1, 1)), Grid(size=(8, 8, 8))])
def test_wrong_dimension(grid: Grid) -> None:
    with pytest.raises(InputError, match=r"^WRONG_DIMENSION image: found 2 spatial axes \(4, 5\), expected 3 axes"):
        prepare(Image(np.zeros((1, 4, 5)), Geometry.none((4, 5))), grid, [AS_IT_IS])


def test_an_image_without_spacing_stays_as_it_is() -> None:
    image = Image(np.zeros((1, 4, 5)), Geometry.none((4, 5)))
    assert place(image, Grid(spacing=(0.1, 0.1))).shape == (4, 5)


class TestLabels:
    def test_a_class_does_not_win_by_its_number(self) -> None:
        """Halved, each model voxel takes the class that covers most of it, the background included."""
        labels = Image(np.array([[[1, 1, 2, 0, 2, 1], [1, 2, 2, 0, 2, 2]]], dtype=np.uint8), Geometry.none((2, 6)))
        out = prepare_labels(labels, place(labels, Grid(size=(1, 3))), TWO)
        array, weights = (
            labels.array[0],
            np.array(((0.75, 0.75, 0.25, 0, 0, 0), (0, 0.25, 0.75, 0.75, 0.25, 0), (0, 0, 0, 0.25, 0.75, 0.75))),
        )
        weights /= weights.sum(axis=1, keepdims=True)
        shares = [[(weights[k] * (array == value)).sum() / 2 for value in (0, 1, 2)] for k in range(3)]
        assert out.tolist() == [[[np.argmax(s) for s in shares]]]

    def test_unknown_is_neither_class_nor_background(self) -> None:
        """Three quarters unknown: IGNORE; one quarter unknown: what is known decides."""
        labels = np.zeros((1, 2, 8), dtype=np.uint8)
        labels[0, :, 4:] = 2
        valid = np.ones((1, 2, 8), dtype=np.uint8)
        valid[0, :, :3] = 0
        image = Image(labels, Geometry.none((2, 8)))
        where = Placement(image.geometry, (0, 0), (2.0, 4.0), (1, 2))
        out = prepare_labels(image, where, TWO, Image(valid, image.geometry))
        assert out.tolist() == [[[IGNORE, 2]]]

    def test_an_ignored_value(self) -> None:
        labels = Image(np.array([[[0, 1, 9], [2, 9, 5]]]), Geometry.none((2, 3)))
        out = prepare_labels(labels, place(labels, Grid()), TWO, ignore=9)
        assert out.tolist() == [[[0, 1, IGNORE], [2, IGNORE, 0]]]
        assert out.dtype == torch.uint8

    def test_regions_overlap(self) -> None:
        labels = Image(np.array([[[0, 1, 1]], [[0, 0, 255]]], dtype=np.uint8), Geometry.none((1, 3)))
        valid = Image(np.array([[[0, 1, 1]]]), labels.geometry)
        assert prepare_labels(labels, place(labels, Grid()), TWO, valid).tolist() == [[[IGNORE, 1, 1]], [[IGNORE, 0, 1]]]

    def test_a_mask_follows_the_axes_of_its_image(self) -> None:
        """At 45 degrees a mask's own affine, equal but for the last digits, may have other axes nearest."""
        axes = Rotation.from_euler("x", 45, degrees=True).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = axes[:, ::-1]
        turned = affine.copy()
        turned[:3, :3] = Rotation.from_euler("x", 1e-7).as_matrix() @ affine[:3, :3]
        source, other = Geometry((3, 4, 5), affine), Geometry((3, 4, 5), turned)
        third = Geometry(
            (3, 4, 5),
            np.block([[Rotation.from_euler("x", -1e-7).as_matrix() @ affine[:3, :3], np.zeros((3, 1))], [0, 0, 0, 1]]),
        )
        array = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
        classes = tuple(Class(value=v, name=str(v)) for v in range(1, 60))
        where = place(Image(array, source), Grid())
        outs = [prepare_labels(Image(array, g), where, classes) for g in (source, other, third)]
        assert other.canonical_axes() != third.canonical_axes()  # else this shows nothing
        assert all(torch.equal(out, outs[0]) for out in outs)


@pytest.mark.parametrize(
    ("shape", "to"),
    [
        ((7, 12), (7, 5)),
        ((9, 4, 6), (5, 9, 6)),
        ((5, 6, 1), (8, 3, 1)),
        ((1, 1, 7), (1, 1, 12)),
        ((6, 1), (4, 1)),
        ((3, 4, 5), (5, 6, 7)),
    ],
)
def test_resize_is_torch_s_antialiased_interpolation_axis_by_axis(shape: tuple[int, ...], to: tuple[int, ...]) -> None:
    """Each output voxel is the triangle-weighted mean of the inputs around its centre."""
    x = np.random.default_rng(0).normal(size=(2, *shape))
    expected = x
    for axis, (n, m) in enumerate(zip(shape, to, strict=True)):
        centre = (np.arange(m) + 0.5) * n / m - 0.5
        weights = np.clip(1 - np.abs(np.arange(n)[None] - centre[:, None]) / max(1.0, n / m), 0, None)
        weights /= weights.sum(axis=1, keepdims=True)
        expected = np.moveaxis(np.tensordot(weights, expected, (1, axis + 1)), 0, axis + 1)
    out = resize(torch.from_numpy(x.astype(np.float32)), to)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)
