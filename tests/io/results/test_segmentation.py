"""A written segmentation is read back bit by bit at the same place, by us and by highdicom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from tests.dicom_files import oblique, upright
from tests.io.results.sources import AUTHOR, CLASSES, SOURCES, ct, hd, origin_of, predicted

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io.formats import Choices, dicom
from hounsfield.io.regions import mark, paint, volume_of
from hounsfield.io.results import segmentation
from hounsfield.io.results.origin import SCHEME, write


@pytest.mark.parametrize("kind", SOURCES)
def test_a_segmentation_is_read_back_bit_by_bit_at_the_same_place(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path)
    image = io.read(source)
    mask = predicted(image)
    path = write(segmentation.segmentation(origin_of(source), mask, CLASSES, AUTHOR), tmp_path / "out" / "a.seg.dcm")
    numbers = np.zeros(mask.array.shape[1:], np.uint8)
    for k, c in enumerate(CLASSES, start=1):
        numbers[mask.array[0] == c.value] = k

    ours = io.read(path)
    np.testing.assert_array_equal(ours.array[0], numbers)
    assert ours.geometry.same_grid(image.geometry)
    laid = np.zeros(volume_of(image.geometry).shape, np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 1, 2: 2}, laid)
    np.testing.assert_array_equal(laid.reshape(numbers.shape), numbers)

    theirs = hd.seg.segread(path)
    if image.geometry.space == "patient":
        volume = theirs.get_volume(combine_segments=True)
        lps = volume.affine @ np.array([[k, h, w, 1] for k in (0, volume.shape[0] - 1) for h in (0, 11) for w in (0, 9)]).T
        at = volume_of(image.geometry).world_to_index(lps[:3].T * [-1, -1, 1])
        assert np.abs(at - np.rint(at)).max() < 1e-3
        expected = numbers.reshape(volume_of(image.geometry).shape)
        index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1).reshape(-1, 3)
        world = (volume.affine @ np.c_[index, np.ones(len(index))].T)[:3].T * [-1, -1, 1]
        d, h, w = np.rint(volume_of(image.geometry).world_to_index(world)).astype(int).T
        np.testing.assert_array_equal(volume.array.ravel(), expected[d, h, w])
        assert volume.array.size == expected.size
    else:
        pixels = theirs.get_pixels_by_source_instance([pydicom.dcmread(source).SOPInstanceUID], combine_segments=True)
        np.testing.assert_array_equal(pixels[0], numbers)


def test_one_frame_of_a_cine_is_referred_to_by_its_number(tmp_path: Path) -> None:
    source = Path(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
    choices = Choices(frame=3)
    image = io.read(source, choices)
    mask = predicted(image)
    path = write(segmentation.segmentation(origin_of(source, choices), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros((1, *image.geometry.shape), np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array)
    for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        assert group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 4


def test_an_enhanced_file_may_say_all_in_each_frame(tmp_path: Path) -> None:
    source = SOURCES["enhanced, frames out of order"](tmp_path)
    tags = pydicom.dcmread(source)
    for group in tags.PerFrameFunctionalGroupsSequence:
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            setattr(group, keyword, tags.SharedFunctionalGroupsSequence[0][keyword].value)
    del tags.SharedFunctionalGroupsSequence
    tags.save_as(source)
    mask = predicted(io.read(source))
    path = write(segmentation.segmentation(origin_of(source), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros(mask.geometry.shape, np.uint8)
    paint(dicom.segments(path), mask.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])


def test_a_lone_frame_of_a_kind_without_frames_is_referred_to_without_a_number(tmp_path: Path) -> None:
    source = ct(tmp_path, upright((1, 12, 10)), NumberOfFrames=1) / "1-000.dcm"
    made = segmentation.segmentation(origin_of(source), predicted(io.read(source)), CLASSES, AUTHOR)
    for group in pydicom.dcmread(write(made, tmp_path / "a.seg.dcm")).PerFrameFunctionalGroupsSequence:
        assert "ReferencedFrameNumber" not in group.DerivationImageSequence[0].SourceImageSequence[0]


def test_slices_whose_orientation_differs_by_rounding_are_one_series(tmp_path: Path) -> None:
    source = SOURCES["oblique"](tmp_path)
    for k, file in enumerate(sorted(source.iterdir())):
        tags = pydicom.dcmread(file)
        tags.ImageOrientationPatient = [float(x) + k * 1e-7 for x in tags.ImageOrientationPatient]
        tags.save_as(file)
    mask = predicted(io.read(source))
    path = write(segmentation.segmentation(origin_of(source), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros(mask.geometry.shape, np.uint8)
    paint(dicom.segments(path), mask.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])


def test_classes_that_overlap_stay_apart(tmp_path: Path) -> None:
    source = SOURCES["oblique"](tmp_path)
    image = io.read(source)
    mask = predicted(image, channels=2)
    path = write(segmentation.segmentation(origin_of(source), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    channels = np.zeros((2, *image.geometry.shape), np.uint8)
    mark(dicom.segments(path), image.geometry, {1: 0, 2: 1}, channels)
    np.testing.assert_array_equal(channels, mask.array)


@pytest.mark.parametrize("values", [(), (10,), (255,)])
def test_a_class_that_is_nowhere_has_its_segment_all_the_same(tmp_path: Path, values: tuple[int, ...]) -> None:
    source = SOURCES["axial"](tmp_path)
    image = io.read(source)
    array = np.zeros((1, *image.geometry.shape), np.uint8)
    for value in values:
        array[0, 2, 3:5, 4] = value
    made = segmentation.segmentation(origin_of(source), Image(array, image.geometry), CLASSES, AUTHOR)
    path = write(made, tmp_path / "a.seg.dcm")
    assert [r.name for r in dicom.segments(path).regions] == ["liver", "läsion"]
    laid = np.zeros(image.geometry.shape, np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, array[0])


def test_segments_say_what_they_are_and_who_drew_them(tmp_path: Path) -> None:
    source = SOURCES["reversed"](tmp_path)
    made = segmentation.segmentation(origin_of(source), predicted(io.read(source)), CLASSES, AUTHOR)
    tags = pydicom.dcmread(write(made, tmp_path / "a.seg.dcm"))
    first, second = tags.SegmentSequence
    assert [s.SegmentLabel for s in (first, second)] == ["liver", "läsion"]
    codes = [s.SegmentedPropertyTypeCodeSequence[0] for s in (first, second)]
    assert [(c.CodingSchemeDesignator, c.CodeValue, c.CodeMeaning) for c in codes] == [
        ("SCT", "10200004", "Liver"),
        (SCHEME, "class-255", "läsion"),
    ]
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("segmentation with unet", "0.1.0")
    assert "0123456789abcdef" in algorithm.AlgorithmParameters
    # sRGB red in CIELab, under D50 or D65, scaled as PS3.3 C.10.7.1.1 says.
    lightness, a, b = (int(v) for v in first.RecommendedDisplayCIELabValue)
    assert 52 < lightness / 65535 * 100 < 56
    assert 60 < a / 65535 * 255 - 128 < 85
    assert 60 < b / 65535 * 255 - 128 < 75


@pytest.mark.parametrize("kind", SOURCES)
def test_every_frame_refers_to_the_image_that_it_was_drawn_on(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path)
    image = io.read(source)
    full = Image(np.ones((2, *image.geometry.shape), np.uint8), image.geometry)  # both classes in every slice
    tags = pydicom.dcmread(write(segmentation.segmentation(origin_of(source), full, CLASSES, AUTHOR), tmp_path / "a.seg.dcm"))
    files = {str(f.SOPInstanceUID): f for f in map(pydicom.dcmread, sorted(source.iterdir()) if source.is_dir() else [source])}
    seen = []
    for group in tags.PerFrameFunctionalGroupsSequence:
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        file: Any = files[str(item.ReferencedSOPInstanceUID)]
        frame = item.get("ReferencedFrameNumber")
        if "PerFrameFunctionalGroupsSequence" in file:
            file = file.PerFrameFunctionalGroupsSequence[int(frame) - 1].PlanePositionSequence[0]
        else:
            assert frame is None
        seen.append((str(item.ReferencedSOPInstanceUID), frame))
        if image.geometry.space == "patient":
            position = group.PlanePositionSequence[0].ImagePositionPatient
            np.testing.assert_allclose(np.array(position, float), np.array(file.ImagePositionPatient, float), atol=1e-6)
    assert len(seen) == 2 * volume_of(image.geometry).shape[0] == 2 * len(set(seen))
    header = next(iter(files.values()))
    assert {
        str(i.ReferencedSOPInstanceUID) for s in tags.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence
    } == set(files)
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        assert tags[keyword].value == header[keyword].value
    assert tags.SeriesInstanceUID != header.SeriesInstanceUID
    if image.geometry.space == "patient":
        assert tags.FrameOfReferenceUID == header.FrameOfReferenceUID
    else:
        assert "FrameOfReferenceUID" not in tags


def test_a_tilt_that_was_mended_keeps_its_place(tmp_path: Path) -> None:
    """The upright grid is wider than the slices."""
    affine = upright((5, 12, 10)).affine.copy()
    affine[:3, 0] += 0.4 * affine[:3, 1]
    choices = Choices(fix_tilt=True)
    image = io.read(ct(tmp_path, Geometry((5, 12, 10), affine)), choices)
    assert image.geometry.shape == (5, 14, 10)
    mask = predicted(image)
    path = write(segmentation.segmentation(origin_of(tmp_path / "ct", choices), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros(image.geometry.shape, np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])


def test_gaps_that_were_filled_keep_their_place(tmp_path: Path) -> None:
    ct(tmp_path, oblique((6, 12, 10)))
    (tmp_path / "ct" / "1-003.dcm").unlink()
    choices = Choices(allow_gaps=True)
    image = io.read(tmp_path / "ct", choices)
    assert image.geometry.shape[0] == 6
    mask = predicted(image)
    origin = origin_of(tmp_path / "ct", choices)
    path = write(segmentation.segmentation(origin, mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros(image.geometry.shape, np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])


def test_a_real_tilt(tmp_path: Path, shared_data: Path) -> None:
    folder = next(f for f in (shared_data / "dicom_ct_gantry_tilt").rglob("*") if f.is_file()).parent
    choices = Choices(fix_tilt=True, allow_gaps=True)
    image = io.read(folder, choices)
    mask = predicted(image)
    path = write(segmentation.segmentation(origin_of(folder, choices), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros(image.geometry.shape, np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])
