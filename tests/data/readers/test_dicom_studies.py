"""Folders of DICOM studies with labels: each is laid on the series that it names, and what stands alone is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests.dicom_files import SECRETS, Array, oblique, rectangle, rtstruct, series, upright

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample
from hounsfield.data.facts import measure
from hounsfield.data.readers import dicom_studies, open_dataset
from hounsfield.io.formats import Choices

GRID = upright((4, 10, 12))


def study(folder: Path, number: int, patient: str = SECRETS[0], grid: Any = GRID, **tags: Any) -> list[Path]:
    """A CT series with noise that no other number has, in a study of its own."""
    array = np.random.default_rng(number).integers(-500, 500, grid.shape).astype(np.int16)
    values = {"StudyInstanceUID": f"1.2.3.{number}", "PatientID": patient}
    return series(folder, array, grid, number, **(values | tags))


def labels_of(sample: Sample) -> Array:
    assert callable(sample.target)
    image = sample.target()
    assert image.geometry.same_grid(sample.images[0]().geometry)
    return image.array


def one(k: int, grid: Any = GRID) -> Array:
    """The region that `rectangle(grid, k, (2, 5), (3, 7))` encloses."""
    out = np.zeros(grid.shape, dtype=bool)
    out[k, 2:6, 3:8] = True
    return out


def test_contours_are_laid_on_the_series_that_they_name(tmp_path: Path) -> None:
    for number, grid in ((1, GRID), (2, oblique((4, 10, 12)))):
        study(tmp_path / f"p{number}" / "ct", number, patient=f"id {number}", grid=grid)
        rois = {"liver": [rectangle(grid, number, (2, 5), (3, 7))], "spleen": [rectangle(grid, 0, (6, 8), (1, 2))]}
        rtstruct(tmp_path / f"p{number}" / "rs.dcm", dict(reversed(rois.items())) if number == 2 else rois, number)
    data = open_dataset(tmp_path)
    assert (data.reader, data.kind, data.multilabel) == ("dicom_studies", "segmentation", False)
    assert data.found == "2 DICOM series with regions of 2 classes"
    assert [(c.value, c.name) for c in data.classes] == [(1, "liver"), (2, "spleen")]
    assert [(s.id, s.patient) for s in data.samples] == [("p1/ct", "patient-0001"), ("p2/ct", "patient-0002")]
    assert data.channels == ("CT",)
    assert data.notes == ()
    for number, sample in enumerate(data.samples, start=1):
        expected = np.where(one(number), 1, 0)
        expected[0, 6:9, 1:3] = 2
        np.testing.assert_array_equal(labels_of(sample)[0], expected)
        assert data.voxels[sample.id] == {0: 454, 1: 20, 2: 6}


def test_a_segmentation_carries_its_code_and_may_lie_among_the_slices(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
    from tests.io.formats.test_dicom_seg import written

    paths = study(tmp_path / "ct", 1)
    written(tmp_path / "ct" / "seg.dcm", paths, one(2).astype(np.uint8), names=("Liver",))
    data = open_dataset(tmp_path)
    assert [(s.id, s.patient) for s in data.samples] == [("ct", "patient-0001")]
    assert [(c.name, c.code) for c in data.classes] == [("Liver", ("SCT", "10200004", "Liver"))]
    np.testing.assert_array_equal(labels_of(data.samples[0])[0], one(2))
    assert measure(data.samples[0]).voxels == {0: 460, 1: 20}


def test_several_files_of_one_series_are_joined_and_that_is_said(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    rtstruct(tmp_path / "a.dcm", {"liver": [rectangle(GRID, 1, (2, 5), (3, 7))]})
    rtstruct(tmp_path / "b.dcm", {"liver": [rectangle(GRID, 2, (2, 5), (3, 7))], "marker": [GRID.index_to_world([(1, 1, 1)])]})
    data = open_dataset(tmp_path)
    np.testing.assert_array_equal(labels_of(data.samples[0])[0], one(1) | one(2))
    assert data.notes == (
        "1 contours that enclose no area (points, open lines) were left out",
        "1 series have several label files, which are joined (ct)",
    )


def test_regions_that_overlap_are_classes_of_their_own(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    rois = {"body": [rectangle(GRID, k, (0, 9), (0, 11)) for k in range(4)], "liver": [rectangle(GRID, 1, (2, 5), (3, 7))]}
    rtstruct(tmp_path / "rs.dcm", rois)
    data = open_dataset(tmp_path)
    assert data.multilabel
    assert "regions overlap: each class is a region of its own" in data.notes
    array = labels_of(data.samples[0])
    assert array[0].all()
    np.testing.assert_array_equal(array[1], one(1))
    assert measure(data.samples[0]).voxels == {1: 480, 2: 20}


def test_a_region_that_not_all_have_is_said(tmp_path: Path) -> None:
    for number, names in ((1, ("liver",)), (2, ("liver", "cyst"))):
        study(tmp_path / f"{number}", number)
        rois = {name: [rectangle(GRID, k, (2, 5), (3, 7))] for k, name in enumerate(names)}
        rtstruct(tmp_path / f"{number}.dcm", rois, number)
    assert open_dataset(tmp_path).notes == ("not all of 2 series name every region, which is background there: cyst in 1",)


def test_series_beside_a_labelled_one_are_left_out_and_studies_without_a_label_are_named(tmp_path: Path) -> None:
    study(tmp_path / "p1" / "ct", 1)
    study(tmp_path / "p1" / "thin", 3, StudyInstanceUID="1.2.3.1")
    rtstruct(tmp_path / "p1" / "rs.dcm", {"liver": [rectangle(GRID, 1, (2, 5), (3, 7))]})
    data = open_dataset(tmp_path)
    assert [s.id for s in data.samples] == ["p1/ct"]
    assert data.notes == ("1 series without a label, beside labelled ones, are left out",)
    study(tmp_path / "p2" / "ct", 2)
    with pytest.raises(InputError, match=r"UNPAIRED .*found 1 images without a label \(p2/ct\)"):
        open_dataset(tmp_path)


def test_a_label_without_its_series_is_named(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    rtstruct(tmp_path / "rs.dcm", {"liver": [rectangle(GRID, 1, (2, 5), (3, 7))]})
    rtstruct(tmp_path / "lost.dcm", {"liver": [rectangle(GRID, 1, (2, 5), (3, 7))]}, number=5)
    with pytest.raises(InputError, match=r"UNPAIRED .*1 labels without an image \(lost\.dcm\)"):
        open_dataset(tmp_path)


def test_a_label_that_names_no_series_belongs_to_the_one_of_its_frame_of_reference(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    path = rtstruct(tmp_path / "rs.dcm", {"liver": [rectangle(GRID, 1, (2, 5), (3, 7))]})
    tags = pydicom.dcmread(path)
    del tags.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    tags.save_as(path)
    np.testing.assert_array_equal(labels_of(open_dataset(tmp_path).samples[0])[0], one(1))
    study(tmp_path / "other", 2, FrameOfReferenceUID=str(tags.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID))
    with pytest.raises(InputError, match=r"UNPAIRED .*labels without an image \(rs\.dcm\)"):
        open_dataset(tmp_path)


def test_the_chosen_series_alone_need_labels(tmp_path: Path) -> None:
    for number in (1, 2):
        study(tmp_path / f"{number}", number, StudyInstanceUID="1.2.3", SeriesDescription=f"phase {number}")
        rtstruct(tmp_path / f"{number}.dcm", {"liver": [rectangle(GRID, number, (2, 5), (3, 7))]}, number)
    data = open_dataset(tmp_path, choices=Choices(series="phase 2"))
    assert [s.id for s in data.samples] == ["2"]
    np.testing.assert_array_equal(labels_of(data.samples[0])[0], one(2))
    assert data.notes == ("1 of 2 DICOM series are left out: --series phase 2 chose the others",)


def test_labels_beside_the_voxels_stop_with_the_file(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    rtstruct(tmp_path / "rs.dcm", {"liver": [rectangle(GRID, 1.5, (2, 5), (3, 7))]})
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*rs\.dcm: found a contour of 'liver' 0\.50 of a slice off"):
        open_dataset(tmp_path)


def test_labels_that_mark_nothing_stop(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    rtstruct(tmp_path / "rs.dcm", {"liver": [rectangle(GRID, 1, (-5, -3), (3, 7))]})
    with pytest.raises(InputError, match=r"NO_FOREGROUND .*1 label files, all of them empty"):
        open_dataset(tmp_path)


def test_boxes_of_reports_are_for_detection(tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
    from tests.io.test_findings import MASS, NODULE, flat, report

    paths = study(tmp_path / "ct", 1)
    image = pydicom.dcmread(paths[1])
    report(tmp_path / "sr.dcm", paths, [(flat(image, 2, 3, 6, 8), NODULE, ""), (flat(image, -4, 5, 3, 9), MASS, "")])
    data = open_dataset(tmp_path)
    assert (data.kind, data.found) == ("detection", "1 DICOM series with 2 boxes of 2 classes")
    assert [c.name for c in data.classes] == ["Mass", "Nodule"]
    target = data.samples[0].target
    assert isinstance(target, Boxes)
    assert {(int(k), tuple(box)) for k, box in zip(target.labels, target.corners.tolist(), strict=True)} == {
        (0, (1, 0, 5, 2, 3, 9)),
        (1, (1, 2, 3, 2, 6, 8)),
    }
    assert data.notes == ("1 boxes were cut at the border of their image (ct)",)


def test_studies_without_labels_are_left_to_other_readers(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    assert dicom_studies.match(tmp_path).missed == "DICOM images with SEG, RTSTRUCT or SR files"
    assert open_dataset(tmp_path).reader == "images"
    assert dicom_studies.match(tmp_path / "ct" / "1-000.dcm").found is None


def test_nothing_of_the_patient_is_kept(tmp_path: Path) -> None:
    study(tmp_path / "ct", 1)
    rtstruct(tmp_path / "rs.dcm", {"liver": [rectangle(GRID, 1, (2, 5), (3, 7))]})
    data = open_dataset(tmp_path)
    assert not any(secret in f"{data}" for secret in SECRETS)
