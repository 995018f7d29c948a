"""Files of a case stacked into channels: colours, greys, and grids that differ, the latter against scipy in world space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.sample import Sample
from hounsfield.data.channels import read_case

Array = npt.NDArray[Any]


class Held:
    """An image in memory."""

    def __init__(self, image: Image, name: str = "t1.nii.gz") -> None:
        from pathlib import Path

        self.image, self.path, self.key = image, Path(name), name

    def __call__(self) -> Image:
        return self.image


def sample(*images: Image) -> Sample:
    return Sample("case", tuple(Held(image, f"file_{k}.nii.gz") for k, image in enumerate(images)))


def flat(array: Array, meta: Meta | None = None) -> Image:
    return Image(array, Geometry.none(array.shape[1:]), meta or Meta())


def test_files_are_stacked_in_order() -> None:
    grid = Geometry.from_spacing((2, 3, 4), (1, 2, 3))
    one, two = (Image(np.full((1, 2, 3, 4), v, dtype=np.int16), grid) for v in (5, 7))
    out = read_case(sample(one, two), 2)
    assert out.array[:, 0, 0, 0].tolist() == [5, 7]
    assert out.geometry == grid
    assert out.array.dtype == np.int16


def test_a_palette_becomes_its_colours() -> None:
    palette = ((0, 0, 0), (255, 0, 10), (7, 8, 9))
    indices = np.array([[[0, 1], [2, 1]]], dtype=np.uint8)
    out = read_case(sample(flat(indices, Meta(palette=palette))))
    np.testing.assert_array_equal(out.array.transpose(1, 2, 0), np.array(palette)[indices[0]])
    assert out.meta.palette is None


def test_a_palette_of_greys_becomes_one_grey() -> None:
    out = read_case(sample(flat(np.array([[[0, 1]]], dtype=np.uint8), Meta(palette=((9, 9, 9), (200, 200, 200))))), 1)
    assert out.array.tolist() == [[[9, 200]]]


def test_grey_serves_for_colours_and_equal_colours_for_grey() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    np.testing.assert_array_equal(read_case(sample(flat(grey)), 3).array, np.repeat(grey, 3, axis=0))
    np.testing.assert_array_equal(read_case(sample(flat(np.repeat(grey, 3, axis=0))), 1).array, grey)
    assert read_case(sample(flat(np.repeat(grey, 3, axis=0)))).channels == 3


@pytest.mark.parametrize(("have", "want"), [(3, 1), (2, 3), (1, 2), (4, 3)])
def test_other_numbers_of_channels_are_refused(have: int, want: int) -> None:
    array = np.arange(have * 4, dtype=np.uint8).reshape(have, 2, 2)
    with pytest.raises(InputError, match=rf"^CHANNELS file_0\.nii\.gz: found {have} channels, expected {want}"):
        read_case(sample(flat(array)), want)


def smooth(shape: tuple[int, ...], seed: int) -> Array:
    noise = np.random.default_rng(seed).normal(size=shape)
    out: Array = (1000 * ndimage.gaussian_filter(noise, 1.5)).astype(np.float32) - 800
    return out


def test_another_grid_is_resampled_in_the_world() -> None:
    """An oblique, finer channel with another axis order, against scipy; outside it lies its own lowest value."""
    first = Geometry.from_spacing((9, 12, 11), (3, 1.5, 1.5), origin=(-8, -9, -13))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (12, -7, 20), degrees=True).as_matrix()[:, [1, 2, 0]] * (1.1, -0.9, 1.3)
    affine[:3, 3] = -affine[:3, :3] @ (9.5, 11.5, 8.5)
    second = Geometry((20, 24, 18), affine)
    array = smooth((2, *second.shape), 0)
    out = read_case(sample(Image(np.zeros((1, *first.shape), dtype=np.float32), first), Image(array, second)), 3)
    index = np.stack(np.meshgrid(*[np.arange(s) for s in first.shape], indexing="ij"), -1).reshape(-1, 3)
    homogeneous = np.c_[first.index_to_world(index), np.ones(len(index))]
    position = (np.linalg.inv(affine) @ homogeneous.T)[:3]
    for k in range(2):
        low = float(array[k].min())
        expected = ndimage.map_coordinates(array[k], position, order=1, mode="grid-constant", cval=low)
        np.testing.assert_allclose(out.array[k + 1].ravel(), expected, atol=0.05)
        assert (expected == low).any()  # else nothing lay outside
    assert out.geometry == first


def test_a_grid_that_is_nearly_the_same_is_taken_as_it_is() -> None:
    first = Geometry.from_spacing((4, 5, 6), (1, 1, 1))
    near = Geometry.from_spacing((4, 5, 6), (1, 1, 1), origin=(1e-4, 0, 0))
    array = np.random.default_rng(0).normal(size=(1, 4, 5, 6))
    out = read_case(sample(Image(np.zeros((1, 4, 5, 6)), first), Image(array, near)))
    np.testing.assert_array_equal(out.array[1:], array)


@pytest.mark.parametrize(("slices", "covered"), [(4, "40%"), (0, "0%")])
def test_too_little_overlap_is_refused(slices: int, covered: str) -> None:
    first = Geometry.from_spacing((10, 4, 4), (1, 1, 1))
    second = first.crop((10 - slices, 0, 0), (12, 4, 4))
    with pytest.raises(
        InputError, match=rf"^CHANNELS file_1.* \(12, 4, 4\) against .* \(10, 4, 4\): {covered} of it covered, .*50%"
    ):
        read_case(sample(*(Image(np.zeros((1, *g.shape)), g) for g in (first, second))))


def test_half_of_it_covered_will_do() -> None:
    first = Geometry.from_spacing((10, 4, 4), (1, 1, 1))
    second = first.crop((5, 0, 0), (12, 4, 4))
    out = read_case(sample(Image(np.zeros((1, 10, 4, 4)), first), Image(np.arange(1.0, 193).reshape(1, 12, 4, 4), second)))
    np.testing.assert_allclose(out.array[1, 5:], np.arange(1, 81).reshape(5, 4, 4), rtol=1e-5)
    assert (out.array[1, :5] == 1).all()


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_without_a_common_space_other_grids_are_refused(shape: tuple[int, ...]) -> None:
    one, two = flat(np.zeros((1, 4, 4))), Image(np.zeros((1, *shape)), Geometry.from_spacing(shape, (1,) * len(shape)))
    with pytest.raises(InputError, match=r"^CHANNELS file_1.*no common space"):
        read_case(sample(one, two))
