"""A folder of DICOM slices: order and place come from positions, and what is no even stack is said so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.formats import Choices

UID = "1.2.826.0.1.3680043.8.498"
RNG = np.random.default_rng(6)
VOLUME = RNG.integers(0, 3000, (9, 6, 8), dtype=np.int16)
HEIGHTS = tuple(2.0 * k for k in range(9))


@pytest.fixture
def series(tmp_path: Path, make_slice: Any) -> Any:
    """series(heights, **tags) -> folder: VOLUME's slices at these heights, named in reverse, InstanceNumber shuffled."""

    def make(heights: tuple[float, ...] = HEIGHTS, name: str = "s", **tags: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for k, height in enumerate(heights):
            path = folder / f"{99 - k}.dcm"
            make_slice(path, VOLUME[k], (10.0, 20.0, height), **{"InstanceNumber": k * 7 % 11, **tags})
        return folder

    return make


def refused(code: str, path: Path, **choices: Any) -> str:
    with pytest.raises(InputError) as caught:
        io.read(path, Choices(**choices))
    assert caught.value.code == code
    assert "SECRET" not in str(caught.value).upper()
    return str(caught.value)


def test_slices_are_sorted_by_position_never_by_number(series: Any) -> None:
    image = io.read(series())
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.array.dtype == np.int16
    expected = np.array([[0, 0, -0.25, -10], [0, -0.5, 0, -20], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(image.geometry.affine, expected, atol=1e-9)
    told = io.peek(series())
    assert (told.geometry, told.channels, told.dtype) == (image.geometry, 1, image.array.dtype)


def test_missing_numbers_do_not_matter(series: Any) -> None:
    np.testing.assert_array_equal(io.read(series(InstanceNumber=None)).array[0], VOLUME)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    turn=st.tuples(*[st.floats(-3, 3)] * 3),
    step=st.floats(0.5, 5),
    order=st.permutations(range(5)),
    origin=st.tuples(*[st.floats(-200, 200)] * 3),
)
def test_any_oblique_stack_keeps_every_voxel_in_its_place(
    tmp_path: Path, make_slice: Any, turn: tuple[float, ...], step: float, order: list[int], origin: tuple[float, ...]
) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    across, down, normal = Rotation.from_rotvec(turn).as_matrix().T
    for name, k in enumerate(order):
        position = tuple(round(x, 9) for x in np.array(origin) + step * k * normal)
        make_slice(folder / f"{name}.dcm", VOLUME[k], position, ImageOrientationPatient=[*across.tolist(), *down.tolist()])
    image = io.read(folder)
    for k in range(5):
        where = np.argwhere((image.array[0] == VOLUME[k]).all(axis=(1, 2)))[0, 0]
        for h, w in ((0, 0), (5, 7)):
            lps = np.array(origin) + step * k * normal + 0.5 * h * down + 0.25 * w * across
            np.testing.assert_allclose(image.geometry.index_to_world((where, h, w))[0], lps * [-1, -1, 1], atol=1e-6)


def test_a_single_slice_in_a_folder_is_2d_in_its_plane(series: Any) -> None:
    image = io.read(series(heights=(5.0,)))
    assert image.array.shape == (1, 6, 8)
    np.testing.assert_allclose(image.geometry.index_to_world((2, 4))[0], (-11, -21, 5), atol=1e-9)


def test_a_missing_slice_is_located_and_can_be_interpolated(series: Any) -> None:
    folder = series()
    (folder / "95.dcm").unlink()  # the fifth, at 8 mm
    line = refused("MISSING_SLICE", folder)
    assert "a step of 4.00 mm between 96.dcm and 94.dcm, 6.00 mm from the first slice" in line
    assert "expected 2.00 mm" in line
    assert "--allow-gaps" in line
    image = io.read(folder, Choices(allow_gaps=True))
    expected = VOLUME.copy()
    expected[4] = np.rint((VOLUME[3].astype(float) + VOLUME[5]) / 2)
    np.testing.assert_array_equal(image.array[0], expected)
    assert image.geometry.shape == (9, 6, 8)
    np.testing.assert_allclose(image.geometry.index_to_world((8, 0, 0))[0], (-10, -20, 16))
    assert image.meta.notes == ("1 of 9 slices were missing and are interpolated between their neighbours",)


@pytest.mark.parametrize("gone", [1, 7])
def test_a_gap_near_an_end_is_found_too(series: Any, gone: int) -> None:
    folder = series()
    (folder / f"{99 - gone}.dcm").unlink()
    assert "a step of 4.00 mm" in refused("MISSING_SLICE", folder)


def test_uneven_steps_are_no_even_stack(series: Any) -> None:
    assert "uneven steps" in refused("MISSING_SLICE", series(heights=(0, 2, 4, 5, 7, 9, 11, 13, 15)))


def test_rounded_positions_are_an_even_stack(series: Any) -> None:
    heights = tuple(round(0.625 * k, 1) for k in range(9))  # steps of 0.6 and 0.7
    assert io.read(series(heights=heights)).geometry.spacing[0] == pytest.approx(0.625)


def test_two_slices_at_one_position_are_both_named(series: Any) -> None:
    line = refused("DUPLICATE_POSITION", series(heights=(0, 2, 4, 4, 6)))
    assert "97.dcm" in line
    assert "96.dcm" in line


def test_one_uid_in_two_files_names_both(series: Any) -> None:
    folder = series(heights=(0, 2, 4))
    shutil.copy(folder / "98.dcm", folder / "copy.dcm")
    line = refused("DUPLICATE_UID", folder)
    assert "98.dcm" in line
    assert "copy.dcm" in line


def test_several_series_are_listed_without_descriptions_and_one_is_chosen(series: Any, make_slice: Any) -> None:
    folder = series(SeriesDescription="SECRET one")
    for k in range(4):
        tags = {"SeriesInstanceUID": f"{UID}.123456", "SeriesNumber": None, "SeriesDescription": "SECRET two"}
        make_slice(folder / f"other{k}.dcm", VOLUME[k], (0, 0, float(k)), **tags)
    line = refused("SEVERAL_SERIES", folder)
    assert "2 series: number 7 (UID ....498.1): 9 MR images; no number (UID ...123456): 4 MR images" in line
    for wanted in ("7", f"{UID}.1", "secret ONE"):
        np.testing.assert_array_equal(io.read(folder, Choices(series=wanted)).array[0], VOLUME)
    assert io.read(folder, Choices(series="123456")).array.shape == (1, 4, 6, 8)
    assert "0 of them '8'" in refused("SEVERAL_SERIES", folder, series="8")


def test_mixed_orientation_names_the_files_that_differ(series: Any, make_slice: Any) -> None:
    folder = series()
    make_slice(folder / "odd.dcm", VOLUME[0], (0, 0, 50.0), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    line = refused("MIXED_ORIENTATION", folder)
    assert "1 of 10 slices oriented otherwise: odd.dcm" in line


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"PixelSpacing": [0.5, 0.3]}, "(0028,0030) PixelSpacing (0.5, 0.3) in 10.dcm, (0.5, 0.25) in 91.dcm"),
        ({"PixelRepresentation": 0}, "(0028,0103) PixelRepresentation 0 in 10.dcm, 1 in 91.dcm"),
        ({"Rows": 3, "Columns": 16}, "(0028,0010) Rows 3 in 10.dcm, 6 in 91.dcm"),
    ],
)
def test_mixed_slices_name_the_values(series: Any, make_slice: Any, tags: dict[str, Any], told: str) -> None:
    folder = series()
    make_slice(folder / "10.dcm", VOLUME[0], (10.0, 20.0, 18.0), **tags)
    assert told in refused("MIXED_SLICES", folder)


def test_slices_that_shift_in_their_plane_are_refused(series: Any, make_slice: Any) -> None:
    folder = series()
    make_slice(folder / "95.dcm", VOLUME[4], (10.2, 20.0, 8.0))
    assert "shifted within their plane by up to 0.20 mm" in refused("MIXED_SLICES", folder)


@pytest.mark.parametrize(("degrees", "tilted"), [(0.3, False), (1.0, True), (18.5, True)])
def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path, make_slice: Any, degrees: float, tilted: bool) -> None:
    shift = np.tan(np.radians(degrees))
    for k in range(9):
        make_slice(tmp_path / f"{k}.dcm", VOLUME[k], (0.0, 2.0 * k * shift, 2.0 * k))
    if tilted:
        assert f"stacked at {degrees:.1f} degrees" in refused("GANTRY_TILT", tmp_path)
    else:  # kept, exactly, in the affine
        np.testing.assert_allclose(io.read(tmp_path).geometry.affine[:3, 0], (0, -2 * shift, 2), atol=1e-9)


def test_localizers_and_other_files_are_left_out_and_said_so(series: Any, make_slice: Any) -> None:
    folder = series()
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": f"{UID}.5"}
    make_slice(folder / "scout.dcm", VOLUME[0], (0, 0, 0), **tags)
    (folder / "readme.txt").write_text("notes")
    (folder / "Thumbs.db").write_text("litter")
    image = io.read(folder)
    np.testing.assert_array_equal(image.array[0], VOLUME)
    assert image.meta.notes == ("1 files that are no DICOM images were left out", "1 localizer images were left out")
    scout = io.read(folder, Choices(series=f"{UID}.5"))  # unless it is what was asked for
    np.testing.assert_array_equal(scout.array[0], VOLUME[0])


def test_a_whole_uid_means_itself_though_others_end_in_it(series: Any, make_slice: Any) -> None:
    folder = series()
    make_slice(folder / "other.dcm", VOLUME[0], (0, 0, 0), SeriesInstanceUID=f"2.{UID}.1")
    assert io.read(folder, Choices(series=f"{UID}.1")).array.shape == (1, 9, 6, 8)
    assert "2 of them '.498.1'" in refused("SEVERAL_SERIES", folder, series=".498.1")


def test_slopes_that_differ_between_slices_are_applied_to_each(tmp_path: Path, make_slice: Any) -> None:
    for k in range(3):
        tags = {"Modality": "PT", "RescaleSlope": 0.5 + k, "RescaleIntercept": k}
        make_slice(tmp_path / f"{k}.dcm", VOLUME[k], (0, 0, float(k)), **tags)
    image = io.read(tmp_path)
    assert image.array.dtype == np.float32
    expected = np.stack([VOLUME[k] * (0.5 + k) + k for k in range(3)])
    np.testing.assert_allclose(image.array[0], expected, rtol=1e-6)


def test_a_slice_without_position_is_named(series: Any, make_slice: Any) -> None:
    folder = series()
    make_slice(folder / "lost.dcm", VOLUME[0], None)
    line = refused("MISSING_TAG", folder)
    assert "lost.dcm" in line
    assert "(0020,0032) ImagePositionPatient" in line


def test_a_truncated_slice_is_named(series: Any) -> None:
    folder = series()
    (folder / "95.dcm").write_bytes((folder / "95.dcm").read_bytes()[:-10])
    line = refused("TRUNCATED", folder)
    assert "95.dcm: found 86 bytes of pixels, expected 96 bytes" in line


def test_a_folder_without_dicom_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert "no DICOM image among 1 files" in refused("EMPTY_FOLDER", tmp_path)


def by_hand(folder: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """The volume by plain arithmetic on pydicom's tags: an oracle that shares nothing with the reader."""
    tags = [pydicom.dcmread(path) for path in folder.iterdir()]
    row, column = np.reshape(np.array(tags[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(row, column)
    tags.sort(key=lambda t: float(np.array(t.ImagePositionPatient, float) @ normal))
    first, last = (np.array(t.ImagePositionPatient, float) for t in (tags[0], tags[-1]))
    spacing = [float(x) for x in tags[0].PixelSpacing]
    affine = np.eye(4)
    affine[:3] = np.column_stack([(last - first) / (len(tags) - 1), column * spacing[0], row * spacing[1], first])
    affine[:2] *= -1
    array = np.stack([t.pixel_array for t in tags])
    return array, Geometry(array.shape, affine)


@pytest.mark.parametrize(
    "name",
    ["Study1/13_HCropVolume", "Study1/12-T1post-05670", "Study2/14_HCropVolume", "Study3/11-T1post-18670"],
)
def test_real_series_are_what_plain_arithmetic_says(shared_data: Path, name: str) -> None:
    folder = shared_data / "dicom_hippocampus_studies" / name
    image = io.read(folder)
    array, geometry = by_hand(folder)
    np.testing.assert_array_equal(image.array[0], array)
    np.testing.assert_allclose(image.geometry.affine, geometry.affine, atol=1e-4)
    assert image.meta.modality == "MR"


def test_a_real_study_lists_its_series(shared_data: Path) -> None:
    line = refused("SEVERAL_SERIES", shared_data / "dicom_hippocampus_studies" / "Study3")
    assert "5 series" in line
    assert "number 26401 (UID ...652906): 22 MR images" in line


def test_a_real_gantry_tilt_is_refused_with_18_5_degrees(shared_data: Path) -> None:
    assert "stacked at 18.5 degrees" in refused("GANTRY_TILT", shared_data / "dicom_ct_gantry_tilt" / "In" / "GE")


@pytest.mark.parametrize(
    ("file", "volume", "reference", "of_reference"),
    [
        ("Philips/IM_0027_fMAP.dcm", 1, "Philips_WIP_B0_NS_801_e2_fieldmaphz.nii", None),
        ("Siemens/XA10/6_1.dcm", 0, "Siemens_REST1_w_SMS_PF7-8_6.nii", 0),
        ("Siemens/XA10/6_3.dcm", 0, "Siemens_REST1_w_SMS_PF7-8_6.nii", 2),
    ],
)
def test_real_enhanced_files_agree_with_dcm2niix(
    shared_data: Path, file: str, volume: int, reference: str, of_reference: int | None
) -> None:
    folder = shared_data / "dicom_enhanced_multiframe"
    image = io.read(folder / "In" / file, Choices(volume=volume)).canonical()
    expected = io.read(folder / "Ref" / reference, Choices(volume=of_reference)).canonical()
    assert image.geometry.same_grid(expected.geometry, tolerance=1e-2)
    np.testing.assert_allclose(image.array, expected.array, atol=0.01)


def test_the_volumes_of_a_real_enhanced_file_must_be_chosen(shared_data: Path) -> None:
    path = shared_data / "dicom_enhanced_multiframe" / "In" / "Philips" / "IM_0027_fMAP.dcm"
    assert "2 volumes" in refused("WRONG_DIMENSION", path)
    assert io.peek(path).volumes == 2
    slice_of = io.read(path, Choices(frame=40))
    whole = io.read(path, Choices(volume=1))
    np.testing.assert_allclose(slice_of.array[0], whole.array[0, 8])
    world = whole.geometry.index_to_world((8, 3, 5))
    np.testing.assert_allclose(slice_of.geometry.index_to_world((3, 5)), world, atol=1e-3)


def enhanced(make_slice: Any, path: Path, frames: list[dict[str, Any]], **tags: Any) -> Path:
    """A multi-frame file. frames: index into VOLUME, height, dimension indices, slope."""
    groups = []
    for frame in frames:
        position, content, values = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [10.0, 20.0, frame["height"]]
        content.DimensionIndexValues = frame["indices"]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = frame["slope"], 0, "US"
        group = pydicom.Dataset()
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
    orientation, measures, shared = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [0.5, 0.25]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    array = np.stack([VOLUME[frame["index"]] for frame in frames])
    more = {
        "NumberOfFrames": len(frames),
        "PerFrameFunctionalGroupsSequence": groups,
        "SharedFunctionalGroupsSequence": [shared],
        "ImageOrientationPatient": None,
        "PixelSpacing": None,
        "PixelData": array.tobytes(),
    }
    made: Path = make_slice(path, VOLUME[0], None, **more, **tags)
    return made


def frame(index: int, height: float, indices: list[int], slope: float = 1) -> dict[str, Any]:
    return {"index": index, "height": height, "indices": indices, "slope": slope}


def test_the_frames_of_an_enhanced_file_are_sorted_by_place_and_told_apart_by_their_indices(
    tmp_path: Path, make_slice: Any
) -> None:
    # Two echoes of three slices, stored in no order; the second echo has a slope of its own.
    first = [frame(2, 4.0, [3, 1]), frame(0, 0.0, [1, 1]), frame(1, 2.0, [2, 1])]
    second = [frame(4, 2.0, [2, 2], 0.5), frame(5, 4.0, [3, 2], 0.5), frame(3, 0.0, [1, 2], 0.5)]
    path = enhanced(make_slice, tmp_path / "a.dcm", [x for pair in zip(first, second, strict=True) for x in pair])
    assert "2 volumes" in refused("WRONG_DIMENSION", path)
    image = io.read(path, Choices(volume=0))
    np.testing.assert_array_equal(image.array[0], VOLUME[:3])
    expected = np.array([[0, 0, -0.25, -10], [0, -0.5, 0, -20], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(image.geometry.affine, expected)
    np.testing.assert_array_equal(io.read(path, Choices(volume=1)).array[0], VOLUME[3:6] / 2)
    np.testing.assert_array_equal(io.read(path, Choices(frame=0)).array[0], VOLUME[2])


def test_frames_at_one_place_that_nothing_tells_apart_are_named(tmp_path: Path, make_slice: Any) -> None:
    frames = [frame(0, 0.0, [1]), frame(1, 2.0, [2]), frame(2, 2.0, [2])]
    line = refused("DUPLICATE_POSITION", enhanced(make_slice, tmp_path / "a.dcm", frames))
    assert "frame 1 of a.dcm and frame 2 of a.dcm at one position" in line


def test_a_functional_group_too_few_is_named(tmp_path: Path, make_slice: Any) -> None:
    frames = [frame(0, 0.0, [1]), frame(1, 2.0, [2])]
    path = enhanced(make_slice, tmp_path / "a.dcm", frames)
    tags = pydicom.dcmread(path)
    del tags.PerFrameFunctionalGroupsSequence[1]
    tags.save_as(path)
    assert "2 frames and 1 functional groups" in refused("BAD_HEADER", path)


def test_what_the_files_say_of_text_in_their_pixels_is_kept(series: Any) -> None:
    assert not io.read(series(name="silent")).meta.burned_in
    assert not io.read(series(name="clean", BurnedInAnnotation="NO")).meta.burned_in
    assert io.read(series(name="lettered", BurnedInAnnotation="YES")).meta.burned_in
