"""RT Structure Sets become masks on the grid of their series, in any orientation, and are refused beside its slices."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import dicom_files
from tests.dicom_files import Array, Floats, oblique, rectangle, rtstruct, upright

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.contours import Contours
from hounsfield.io.regions import mark, paint

GRID = oblique((5, 20, 24))


def mask(path: Path, grid: Geometry = GRID) -> Array:
    """Labels by ROI number."""
    labels = np.zeros(grid.shape, dtype=np.int32)
    drawn = Contours(path)
    paint(drawn, grid, {region.number: region.number for region in drawn.regions}, labels)
    return labels


def circle(grid: Geometry, k: int, centre: tuple[float, float], radius: float, points: int = 400) -> Floats:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    rows, columns = centre[0] + radius * np.sin(angle), centre[1] + radius * np.cos(angle)
    return grid.index_to_world(np.column_stack([np.full(points, k), rows, columns]))


@pytest.mark.parametrize("grid", [GRID, upright((5, 20, 24))])
def test_circles_hold_the_centres_within_their_radius(tmp_path: Path, grid: Geometry) -> None:
    rois = {"a": [circle(grid, k, (8.3, 9.1), 2.2 + k) for k in range(5)], "b": [circle(grid, 4, (15.7, 19.2), 3.3)]}
    found = mask(rtstruct(tmp_path / "rs.dcm", rois), grid)
    rows, columns = np.mgrid[:20, :24]
    for k in range(5):
        near = np.hypot(rows - 8.3, columns - 9.1) < 2.2 + k
        np.testing.assert_array_equal(found[k] == 1, near & (found[k] != 2))
    np.testing.assert_array_equal(
        found == 2, (np.arange(5) == 4)[:, None, None] & (np.hypot(rows - 15.7, columns - 19.2) < 3.3)
    )


def test_holes_islands_and_contours_that_are_there_twice(tmp_path: Path) -> None:
    outer, hole, island = (rectangle(GRID, 2, (a, 15 - a), (a, 15 - a)) for a in (1, 3, 6))
    expected = np.zeros(GRID.shape, dtype=int)
    for a, value in ((1, 1), (3, 0), (6, 1)):
        expected[2, a : 16 - a, a : 16 - a] = value
    np.testing.assert_array_equal(mask(rtstruct(tmp_path / "rs.dcm", {"ring": [outer, hole, island]})), expected)
    np.testing.assert_array_equal(mask(rtstruct(tmp_path / "twice.dcm", {"ring": [outer, hole, island, outer]})), expected)


def test_regions_have_names_and_overlap(tmp_path: Path) -> None:
    rois = {" body ": [rectangle(GRID, 1, (2, 10), (2, 10))], "": [rectangle(GRID, 1, (5, 6), (5, 12))]}
    drawn = Contours(rtstruct(tmp_path / "rs.dcm", rois))
    assert [(r.number, r.name) for r in drawn.regions] == [(1, "body"), (2, "ROI 2")]
    assert drawn.references.series == {f"{dicom_files.ROOT}.1.1"}
    assert drawn.references.frames == {f"{dicom_files.ROOT}.1.9"}
    labels = np.zeros(GRID.shape, dtype=np.int32)
    assert paint(drawn, GRID, {1: 1, 2: 2}, labels), "regions overlap"
    channels = np.zeros((2, *GRID.shape), dtype=np.uint8)
    mark(drawn, GRID, {1: 0, 2: 1}, channels)
    assert (channels[0, 1].sum(), channels[1, 1].sum(), channels.sum()) == (81, 16, 97)


@pytest.mark.parametrize(
    ("at", "told"),
    [(2.3, "0.30 of a slice off slice 2"), (5.0, "at slice 5"), (-1.0, "at slice -1")],
)
def test_contours_beside_the_slices_are_refused(tmp_path: Path, at: float, told: str) -> None:
    path = rtstruct(tmp_path / "rs.dcm", {"liver": [rectangle(GRID, 2, (2, 5), (2, 5)), rectangle(GRID, at, (2, 5), (2, 5))]})
    with pytest.raises(InputError, match=f"GRID_MISMATCH .*a contour of 'liver' .*{told}.*expected voxels of the image's grid"):
        mask(path)


def test_contours_a_little_off_their_slice_count(tmp_path: Path) -> None:
    exact = mask(rtstruct(tmp_path / "a.dcm", {"a": [rectangle(GRID, 2, (2, 5), (2, 5))]}))
    near = mask(rtstruct(tmp_path / "b.dcm", {"a": [rectangle(GRID, 2.15, (2, 5), (2, 5))]}))
    np.testing.assert_array_equal(near, exact)


def test_a_contour_that_leaves_its_plane_is_refused(tmp_path: Path) -> None:
    corners = rectangle(GRID, 2, (2, 5), (2, 5))
    corners[0] = GRID.index_to_world((3, 1.5, 1.5))[0]
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*of a slice off slice 2"):
        mask(rtstruct(tmp_path / "rs.dcm", {"a": [corners]}))


def test_points_and_open_lines_enclose_nothing_and_that_is_said(tmp_path: Path) -> None:
    drawn = Contours(rtstruct(tmp_path / "rs.dcm", {"marker": [GRID.index_to_world([(1, 2, 3)])]}, kind="POINT"))
    assert drawn.regions == ()
    assert drawn.notes == ("1 contours that enclose no area (points, open lines) were left out",)
    assert Contours(rtstruct(tmp_path / "b.dcm", {"a": [rectangle(GRID, 2, (2, 5), (2, 5))]})).notes == ()


def test_an_image_without_a_place_has_no_contours(tmp_path: Path) -> None:
    drawn = Contours(rtstruct(tmp_path / "rs.dcm", {"a": [rectangle(GRID, 2, (2, 5), (2, 5))]}))
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*of an image without a place"):
        list(drawn.voxels(Geometry.none((5, 20, 24))))


def test_noise_raises_nothing_but_what_is_typed(tmp_path: Path) -> None:
    whole = rtstruct(tmp_path / "rs.dcm", {"a": [rectangle(GRID, 2, (2, 5), (2, 5))]}).read_bytes()
    for seed in range(100):
        rng = np.random.default_rng(seed)
        spoilt = bytearray(whole)
        for at in rng.integers(300, len(whole), 6):
            spoilt[at] = rng.integers(256)
        (tmp_path / "noise.dcm").write_bytes(bytes(spoilt))
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about the damage
            mask(tmp_path / "noise.dcm")


@pytest.mark.parametrize("damage", ["contours", "number", "text"])
def test_damage_is_told_without_the_patient(tmp_path: Path, damage: str) -> None:
    path = rtstruct(tmp_path / "rs.dcm", {"a": [rectangle(GRID, 2, (2, 5), (2, 5))]})
    if damage == "text":
        path.write_text("nothing")
    else:
        import pydicom

        tags: Any = pydicom.dcmread(path)
        if damage == "contours":
            del tags.ROIContourSequence
        else:
            tags.ROIContourSequence[0].ContourSequence[0].ContourData = [1, 2, 3, 4]
        tags.save_as(path)
    with pytest.raises(InputError, match=r"BAD_HEADER .*unreadable contours") as caught:
        Contours(path)
    assert not any(secret in str(caught.value) for secret in dicom_files.SECRETS)
