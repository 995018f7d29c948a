"""Image: channels first on its grid, reoriented with its voxels, shown the way a radiologist looks."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta

nib: Any = importlib.import_module("nibabel")  # untyped

RNG = np.random.default_rng(3)


def oblique(shape: tuple[int, ...]) -> Geometry:
    """Axes permuted, flipped and a little turned: (d, h, w) run nearest to L, S, P."""
    affine = np.array([[-2.0, 0.1, 0.0, 5.0], [0.1, 0.2, -1.5, 6.0], [0.2, 0.9, 0.3, 7.0], [0, 0, 0, 1]])
    return Geometry(shape, affine)


def test_canonical_moves_voxels_as_nibabel_does() -> None:
    image = Image(RNG.integers(0, 100, (2, 4, 5, 6), dtype=np.int16), oblique((4, 5, 6)))
    for channel in range(2):
        stored = nib.Nifti1Image(image.array[channel].transpose(), image.geometry.affine[:, [2, 1, 0, 3]])
        expected = nib.as_closest_canonical(stored)
        canonical = image.canonical()
        np.testing.assert_array_equal(canonical.array[channel], np.asarray(expected.dataobj).transpose())
        np.testing.assert_allclose(canonical.geometry.affine[:, [2, 1, 0, 3]], expected.affine, atol=1e-9)


def test_canonical_is_a_view() -> None:
    image = Image(np.zeros((1, 4, 5, 6)), oblique((4, 5, 6)))
    assert np.shares_memory(image.canonical().array, image.array)


@pytest.mark.parametrize("shape", [(4, 5, 6), (2, 4, 5), (1, 4, 5, 7)])
def test_array_and_grid_must_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        Image(np.zeros(shape), oblique((4, 5, 6)))
    assert caught.value.code == "WRONG_DIMENSION"
    assert str(shape) in caught.value.found


def test_notes_are_added_to_a_copy() -> None:
    image = Image(np.zeros((1, 2, 2)), Geometry.none((2, 2)), Meta(notes=("first",)))
    assert image.noted("second", "third").meta.notes == ("first", "second", "third")
    assert image.meta.notes == ("first",)


def test_preview_shows_the_middle_axial_slice_from_the_feet() -> None:
    # One bright voxel, right, anterior, in the middle slice: it belongs at the top left.
    array = np.zeros((1, 3, 6, 8), dtype=np.float32)
    geometry = Geometry.from_spacing((3, 6, 8), (1, 1, 1))
    array[0, 1, 5, 7] = 1
    for turned in (Image(array, geometry), Image(np.flip(array, 3), geometry.flip(2))):
        shown = turned.preview()
        assert shown.shape == (6, 8, 3)
        assert shown.dtype == np.uint8
        assert np.argwhere(shown[..., 0]).tolist() == [[0, 0]]


def test_preview_stretches_grey_and_survives_constant_and_nan() -> None:
    ramp = np.linspace(-1000, 1000, 10_000).reshape(1, 100, 100)
    shown = Image(ramp, Geometry.none((100, 100))).preview()
    assert (shown[0, 0, 0], shown[-1, -1, 0]) == (0, 255)
    assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()
    assert Image(np.full((1, 4, 4), 7.0), Geometry.none((4, 4))).preview().max() == 0
    assert Image(np.full((1, 4, 4), np.nan), Geometry.none((4, 4))).preview().shape == (4, 4, 3)


def test_preview_of_colours_and_palettes_is_exact() -> None:
    rgb = RNG.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(Image(rgb, Geometry.none((4, 5))).preview(), rgb.transpose(1, 2, 0))
    meta = Meta(palette=((0, 0, 0), (250, 10, 20)))
    indexed = Image(np.array([[[0, 1, 9]]], dtype=np.uint8), Geometry.none((1, 3)), meta)
    assert indexed.preview().tolist() == [[[0, 0, 0], [250, 10, 20], [250, 10, 20]]]


def test_a_notebook_gets_a_png_of_the_preview() -> None:
    image = Image(RNG.normal(size=(1, 7, 5)), Geometry.none((7, 5)))
    png = Pillow.open(io.BytesIO(image._repr_png_()))
    assert png.format == "PNG"
    np.testing.assert_array_equal(np.asarray(png), image.preview())


def test_repr_says_dtype_spacing_and_orientation() -> None:
    image = Image(np.zeros((1, 2, 3, 4), np.int16), Geometry.from_spacing((2, 3, 4), (5, 0.5, 0.5)), Meta(format="nifti"))
    assert repr(image) == "Image(int16 (1, 2, 3, 4), 5×0.5×0.5 mm, SAR, nifti)"
