"""What results need of their source's headers, and what may be missing there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests import dicom_files
from tests.dicom_files import upright
from tests.io.results.sources import AUTHOR, CLASSES, ct, origin_of, predicted

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.io.results import pictures, report, segmentation
from hounsfield.io.results.origin import write


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"StudyInstanceUID": None}, "MISSING_TAG .*no StudyInstanceUID, expected a UID, by which results refer"),
        ({"FrameOfReferenceUID": None}, "MISSING_TAG .*no FrameOfReferenceUID"),
        ({"PatientSex": "WOMAN"}, r"BAD_HEADER .*a header from which no segmentation can be made \(ValueError\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_header_that_results_cannot_refer_to_is_refused(tmp_path: Path, tags: dict[str, Any], told: str) -> None:
    source = ct(tmp_path, upright((3, 12, 10)), **tags)
    with pytest.raises(InputError, match=told) as caught:
        segmentation.segmentation(origin_of(source), predicted(io.read(source)), CLASSES, AUTHOR)
    assert not any(secret in str(caught.value) for secret in dicom_files.SECRETS)


def test_the_thickness_of_a_lone_slice_is_not_made_up(tmp_path: Path) -> None:
    source = ct(tmp_path, upright((1, 12, 10)), SliceThickness=None) / "1-000.dcm"
    made = segmentation.segmentation(origin_of(source), predicted(io.read(source)), CLASSES, AUTHOR)
    measures = pydicom.dcmread(write(made, tmp_path / "a.seg.dcm")).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.get("SliceThickness") is None
    assert [float(x) for x in measures.PixelSpacing] == [1, 1]


def test_no_warning_quotes_the_patient(tmp_path: Path) -> None:
    source = ct(tmp_path, upright((3, 12, 10)), PatientName="Single")
    image, origin = io.read(source), origin_of(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmentation.segmentation(origin, predicted(image), CLASSES, AUTHOR)
        report.report(origin, [report.Scored(c, 0.5) for c in CLASSES], AUTHOR)
        pictures.secondary_capture(origin, np.zeros((8, 8, 3), np.uint8), AUTHOR)


def test_attributes_that_may_be_empty_may_be_absent(tmp_path: Path) -> None:
    absent: dict[str, Any] = dict.fromkeys(
        (
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "SliceThickness",
        )
    )
    source = ct(tmp_path, upright((3, 12, 10)), **absent)
    mask = predicted(io.read(source))
    tags = pydicom.dcmread(write(segmentation.segmentation(origin_of(source), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm"))
    measures = tags.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (float(measures.SliceThickness), float(measures.SpacingBetweenSlices)) == (3, 3)
