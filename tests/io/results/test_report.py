"""Reports hold the measurements and scores, and say of what and by whom."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from tests import dicom_files
from tests.io.results.sources import AUTHOR, CLASSES, SOURCES, items, numbers, origin_of, predicted

from hounsfield import io
from hounsfield.io.findings import Report
from hounsfield.io.results import report, segmentation
from hounsfield.io.results.origin import SCHEME, write


@pytest.mark.parametrize("with_segmentation", [True, False])
def test_a_report_of_measurements(tmp_path: Path, with_segmentation: bool) -> None:
    source = SOURCES["axial"](tmp_path)
    image = io.read(source)
    origin = origin_of(source)
    seg = segmentation.segmentation(origin, predicted(image), CLASSES, AUTHOR) if with_segmentation else None
    found = [report.Measured(CLASSES[0], 1234.5, 17.25), report.Measured(CLASSES[1], 0.0, 0.0)]
    tags = pydicom.dcmread(write(report.report(origin, found, AUTHOR, seg), tmp_path / "a.sr.dcm"))
    assert numbers(tags, "118565006") == [(1234.5, "mm3"), (1.2345, "ml"), (0, "mm3"), (0, "ml")]
    assert numbers(tags, "81827009") == [(17.25, "mm"), (0, "mm")]
    findings = [i.ConceptCodeSequence[0] for i in items(tags, "121071")]
    assert [(c.CodeValue, c.CodingSchemeDesignator) for c in findings] == [("10200004", "SCT"), ("class-255", SCHEME)]
    segments = [i.ReferencedSOPSequence[0] for i in items(tags, "121191")]
    if seg is not None:
        assert [(s.ReferencedSOPInstanceUID, s.ReferencedSegmentNumber) for s in segments] == [
            (seg.SOPInstanceUID, 1),
            (seg.SOPInstanceUID, 2),
        ]
    assert {i.TextValue for i in items(tags, "111001")} == {"segmentation with unet"}
    assert {i.TextValue for i in items(tags, "111002")} == {"weights 0123456789abcdef"}
    named = {str(f.SOPInstanceUID) for f in map(pydicom.dcmread, source.iterdir())}
    evidence = [
        str(instance.ReferencedSOPInstanceUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in tags.get(keyword) or ()
        for each in study.ReferencedSeriesSequence
        for instance in each.ReferencedSOPSequence
    ]
    assert named <= set(evidence)
    assert tags.PatientID == dicom_files.SECRETS[0]


def test_a_report_of_scores(tmp_path: Path) -> None:
    source = SOURCES["x-ray"](tmp_path)
    found = [report.Scored(CLASSES[0], 0.125), report.Scored(CLASSES[1], 0.875)]
    tags = pydicom.dcmread(write(report.report(origin_of(source), found, AUTHOR), tmp_path / "a.sr.dcm"))
    assert numbers(tags, "probability") == [(0.125, "1"), (0.875, "1")]


def test_a_flat_image_has_areas(tmp_path: Path) -> None:
    source = SOURCES["one slice"](tmp_path)
    tags = report.report(origin_of(source), [report.Measured(CLASSES[0], 12.0, 3.0)], AUTHOR)
    assert numbers(tags, "42798000") == [(12, "mm2")]
    assert numbers(tags, "118565006") == []


@pytest.mark.parametrize("kind", ["reversed", "enhanced, frames out of order", "one slice", "x-ray"])
def test_boxes_come_back_through_the_reader(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path)
    origin = origin_of(source)
    flat = origin.geometry.ndim == 2
    one, several = (0, 1), (0, 1) if flat else (1, 4)
    found: list[report.Found] = [
        report.Counted(CLASSES[0], 1, 0.5),
        report.Counted(CLASSES[1], 2, 0.5),
        report.Boxed(CLASSES[0], "liver 1", (several, (2.0, 7.5), (1.25, 9.0)), 0.875),
        report.Boxed(CLASSES[1], "läsion 2", (one, (0.0, 12.0), (0.0, 10.0)), 0.75),
        report.Boxed(CLASSES[1], "läsion 3", (one, (3.0, 4.0), (5.0, 6.0)), 0.5),
    ]
    path = write(report.report(origin, found, AUTHOR), tmp_path / "a.sr.dcm")
    tags = pydicom.dcmread(path)
    assert numbers(tags, "score") == [(0.875, "1"), (0.75, "1"), (0.5, "1")]
    assert numbers(tags, "boxes") == [(1, "{boxes}"), (2, "{boxes}")]
    assert numbers(tags, "least-score") == [(0.5, "1"), (0.5, "1")]
    assert [i.TextValue for i in items(tags, "112039")] == ["liver", "läsion", "liver 1", "läsion 2", "läsion 3"]
    assert {i.TextValue for i in items(tags, "111002")} == {"weights 0123456789abcdef"}
    made = origin.source
    slices = {(str(made.headers[k].SOPInstanceUID), frame): at for at, (k, frame) in enumerate(made.frames)}
    boxes, odd = Report(path).boxes(origin.geometry, slices)
    places: list[tuple[float, ...]] = [(2, 1.25, 7.5, 9), (0, 0, 12, 10), (3, 5, 4, 6)]
    if not flat:
        places = [(1, 2, 1.25, 4, 7.5, 9), (0, 0, 0, 1, 12, 10), (0, 3, 5, 1, 4, 6)]
    assert odd == 0
    assert boxes == list(zip(["Liver", "läsion", "läsion"], places, strict=True))
    assert Report(path).references.series == {str(made.headers[0].SeriesInstanceUID)}


def test_a_report_without_a_box_says_that_there_is_none(tmp_path: Path) -> None:
    source = SOURCES["axial"](tmp_path)
    path = write(report.report(origin_of(source), [report.Counted(CLASSES[0], 0, 0.25)], AUTHOR), tmp_path / "a.sr.dcm")
    assert numbers(pydicom.dcmread(path), "boxes") == [(0, "{boxes}")]
    assert Report(path).findings == ()
