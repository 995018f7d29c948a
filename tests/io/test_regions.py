"""Planes of pixels are laid on the voxels of a grid by their place in the patient, and refused where they are none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from tests.dicom_files import oblique

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.regions import References, on_grid, references, volume_of

GRID = oblique((5, 7, 9))
HERE = Path("seg.dcm")
PIXELS = np.random.default_rng(0).random((7, 9)) > 0.5


def plane(grid: Geometry, k: float, shift: tuple[float, float] = (0, 0), shape: tuple[int, int] | None = None) -> Geometry:
    """Slice k of a grid as a 2D grid, its first pixel moved by rows and columns."""
    affine = np.column_stack([grid.affine[:, 1], grid.affine[:, 2], grid.affine[:, 3]])
    affine[:3, 2] = grid.index_to_world([(k, *shift)])[0]
    return Geometry(shape or grid.shape[1:], affine, grid.space)


def laid(pixels: np.ndarray, where: Geometry, grid: Geometry = GRID) -> np.ndarray:
    out = np.zeros(volume_of(grid).shape, dtype=bool)
    out[on_grid(pixels, where, grid, HERE)] = True
    return out


@pytest.mark.parametrize("k", range(5))
def test_a_slice_lies_on_its_slice(k: int) -> None:
    expected = np.zeros(GRID.shape, dtype=bool)
    expected[k] = PIXELS
    np.testing.assert_array_equal(laid(PIXELS, plane(GRID, k)), expected)
    np.testing.assert_array_equal(laid(PIXELS, plane(GRID, k + 0.19)), expected)


@pytest.mark.parametrize("flip", [(True, False), (False, True), (True, True)])
def test_a_mirrored_plane_is_turned(flip: tuple[bool, bool]) -> None:
    where, pixels = plane(GRID, 2), PIXELS
    for axis in (axis for axis, wanted in enumerate(flip) if wanted):
        where, pixels = where.flip(axis), np.flip(pixels, axis)
    np.testing.assert_array_equal(laid(pixels, where), laid(PIXELS, plane(GRID, 2)))


def test_a_transposed_a_smaller_and_a_larger_plane() -> None:
    expected = laid(PIXELS, plane(GRID, 2))
    np.testing.assert_array_equal(laid(PIXELS.T, plane(GRID, 2).permute((1, 0))), expected)
    np.testing.assert_array_equal(laid(np.pad(PIXELS, 3), plane(GRID, 2, (-3, -3), (13, 15))), expected)
    part = laid(PIXELS[2:5, 3:9], plane(GRID, 2, (2, 3), (3, 6)))
    np.testing.assert_array_equal(part[2, 2:5, 3:9], PIXELS[2:5, 3:9])
    assert part.sum() == PIXELS[2:5, 3:9].sum()


def test_a_plane_across_the_slices() -> None:
    """A sagittal plane of an axial volume: its rows are slices."""
    affine = np.column_stack([GRID.affine[:, 0], GRID.affine[:, 1], GRID.affine[:, 3]])
    affine[:3, 2] = GRID.index_to_world([(0, 0, 4)])[0]
    pixels = np.random.default_rng(1).random((5, 7)) > 0.5
    found = laid(pixels, Geometry((5, 7), affine))
    np.testing.assert_array_equal(found[:, :, 4], pixels)
    assert found.sum() == pixels.sum()


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (plane(GRID, 2.3), r"\+0\.30, [+-]0\.00, [+-]0\.00 voxels from the nearest"),
        (plane(GRID, 2, (0.5, 0)), r"a plane of 7x9 pixels"),
        (plane(GRID, 2, (0, -0.2)), r"-0\.20 voxels from the nearest"),
        (plane(GRID, 2).resize((14, 18)), "of another size or direction"),
        (plane(oblique((5, 7, 9), seed=8), 2), "a plane of 7x9 pixels"),
        (plane(GRID, 5), "labelled pixels outside of the image, at slice 5"),
        (plane(GRID, 2, (3, 0)), "labelled pixels outside"),
        (Geometry.none((7, 9)), "a plane of 7x9 pixels"),
    ],
)
def test_what_is_beside_the_voxels_is_refused(where: Geometry, told: str) -> None:
    with pytest.raises(InputError, match=f"GRID_MISMATCH seg.dcm: found .*{told}"):
        laid(np.ones(where.shape, dtype=bool), where)


def test_nothing_labelled_may_lie_outside() -> None:
    assert not laid(np.zeros((7, 9), dtype=bool), plane(GRID, 9)).any()


def test_without_a_place_pixels_are_those_of_the_image() -> None:
    for space in ("none", "detector"):
        grid = Geometry.from_spacing((7, 9), (0.2, 0.2), space=space)
        np.testing.assert_array_equal(laid(PIXELS, Geometry.none((7, 9)), grid)[0], PIXELS)
        with pytest.raises(InputError, match="GRID_MISMATCH"):
            laid(PIXELS[:6], Geometry.none((6, 9)), grid)


def test_a_flat_grid_is_a_volume_of_one_slice() -> None:
    flat = plane(GRID, 2)
    volume = volume_of(flat)
    assert volume.shape == (1, 7, 9)
    np.testing.assert_allclose(volume.index_to_world([(0, 3, 5)]), flat.index_to_world([(3, 5)]))
    assert volume.spacing[0] == pytest.approx(1)
    np.testing.assert_allclose(volume.affine[:3, 0], GRID.affine[:3, 0] / GRID.spacing[0], atol=1e-12)
    assert volume_of(GRID) is GRID
    np.testing.assert_array_equal(laid(PIXELS, flat, flat)[0], PIXELS)


def item(**values: object) -> Dataset:
    out = Dataset()
    for keyword, value in values.items():
        setattr(out, keyword, value)
    return out


def test_references_are_found_where_each_kind_of_file_names_them() -> None:
    source = item(SourceImageSequence=[item(ReferencedSOPInstanceUID="1.1")])
    seg = item(
        SeriesInstanceUID="9.9",
        FrameOfReferenceUID="3.1",
        ReferencedSeriesSequence=[
            item(SeriesInstanceUID="2.1", ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID="1.2")])
        ],
        PerFrameFunctionalGroupsSequence=[item(DerivationImageSequence=[source])],
    )
    assert references(seg) == References(frozenset({"2.1"}), frozenset({"1.1", "1.2"}), frozenset({"3.1"}))
    report = item(
        CurrentRequestedProcedureEvidenceSequence=[
            item(
                StudyInstanceUID="5",
                ReferencedSeriesSequence=[
                    item(SeriesInstanceUID="2.2", ReferencedSOPSequence=[item(ReferencedSOPInstanceUID="1.3")])
                ],
            )
        ]
    )
    assert references(report) == References(frozenset({"2.2"}), frozenset({"1.3"}), frozenset())
    assert references(item(SeriesInstanceUID="9.9")) == References()
