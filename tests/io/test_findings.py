"""Boxes of structured reports that highdicom writes come back as voxel corners; lines that are no boxes are counted."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests import dicom_files
from tests.dicom_files import oblique, series

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.findings import Report
from hounsfield.io.formats import DEFAULT, dicom

hd = pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
GRID = oblique((4, 16, 20))
NODULE, MASS = ("27925004", "SCT", "Nodule"), ("4147007", "SCT", "Mass")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return series(tmp_path / "ct", np.zeros(GRID.shape, np.int16), GRID)


def flat(image: Any, top: float, left: float, bottom: float, right: float) -> Any:
    """A rectangle in pixels on an image: column, row, with 0, 0 at the image's corner."""
    points = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    source = hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    return hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, points, source)


def solid(points: Any, kind: str = "POLYGON") -> Any:
    """Corners (R, A, S) in the patient."""
    lps = np.array(points) * [-1, -1, 1]
    lps = np.vstack([lps, lps[:1]])
    return hd.sr.ImageRegion3D(hd.sr.GraphicTypeValues3D(kind), lps, f"{dicom_files.ROOT}.1.9")


def report(path: Path, images: list[Path], regions: list[tuple[Any, tuple[str, str, str], str]]) -> Path:
    """A TID 1500 report of (region, finding, tracking UID)."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(uid=hd.UID())
    observer = hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device)
    groups = [
        hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(uid=uid or hd.UID(), identifier="lesion"),
            referenced_region=region,
            finding_type=hd.sr.CodedConcept(*finding),
        )
        for region, finding, uid in regions
    ]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=hd.sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
    )
    evidence = [pydicom.dcmread(image) for image in images]
    made = hd.sr.Comprehensive3DSR(evidence, content, hd.UID(), 1, hd.UID(), 1, manufacturer="Made up")
    made.save_as(path)
    return path


def slices(folder: Path) -> dict[tuple[str, int], int]:
    source = dicom.source(folder, DEFAULT)
    return {(str(source.headers[k].SOPInstanceUID), frame): at for at, (k, frame) in enumerate(source.frames)}


def test_boxes_on_images_and_in_the_patient(tmp_path: Path, images: list[Path]) -> None:
    first, third = pydicom.dcmread(images[0]), pydicom.dcmread(images[2])
    corners = dicom_files.rectangle(GRID, 3, (4, 8), (5, 11))
    path = report(
        tmp_path / "sr.dcm",
        images,
        [(flat(first, 2, 3, 7.5, 9), NODULE, ""), (flat(third, 0, 0, 16, 20), MASS, ""), (solid(corners), MASS, "")],
    )
    found = Report(path)
    boxes, odd = found.boxes(GRID, slices(tmp_path / "ct"))
    assert odd == found.others == 0
    assert [name for name, _ in boxes] == ["Nodule", "Mass", "Mass"]
    np.testing.assert_allclose(
        [box for _, box in boxes], [(0, 2, 3, 1, 7.5, 9), (2, 0, 0, 3, 16, 20), (3, 4, 5, 4, 9, 12)], atol=1e-4
    )
    assert found.references.series == {f"{dicom_files.ROOT}.1.1"}


def test_one_lesion_on_several_slices_is_one_box(tmp_path: Path, images: list[Path]) -> None:
    one, other = (pydicom.dcmread(images[k]) for k in (1, 2))
    uid = hd.UID()
    path = report(tmp_path / "sr.dcm", images, [(flat(one, 2, 3, 6, 9), NODULE, uid), (flat(other, 4, 2, 8, 8), NODULE, uid)])
    assert Report(path).boxes(GRID, slices(tmp_path / "ct")) == ([("Nodule", (1, 2, 2, 3, 8, 9))], 0)


def test_a_flat_image_has_flat_boxes(tmp_path: Path, images: list[Path]) -> None:
    image = pydicom.dcmread(images[1])
    path = report(tmp_path / "sr.dcm", images, [(flat(image, 2, 3, 6, 9), NODULE, "")])
    grid = dicom.source(images[1], DEFAULT).geometry
    assert Report(path).boxes(grid, slices(images[1])) == ([("Nodule", (2, 3, 6, 9))], 0)


def test_lines_on_other_images_are_left_to_them(tmp_path: Path, images: list[Path]) -> None:
    path = report(tmp_path / "sr.dcm", images, [(flat(pydicom.dcmread(images[1]), 2, 3, 6, 9), NODULE, "")])
    assert Report(path).boxes(GRID, {}) == ([], 0)


def test_what_is_no_box_is_counted(tmp_path: Path, images: list[Path]) -> None:
    image = pydicom.dcmread(images[0])
    turned = np.array([(5, 2), (9, 6), (5, 10), (1, 6), (5, 2)], dtype=float)
    source = hd.sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    diamond = hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, turned, source)
    ring = hd.sr.ImageRegion(hd.sr.GraphicTypeValues.CIRCLE, np.array([(5.0, 5.0), (7.0, 5.0)]), source)
    found = Report(report(tmp_path / "sr.dcm", images, [(diamond, MASS, ""), (ring, MASS, "")]))
    assert found.others == 1
    assert found.boxes(GRID, slices(tmp_path / "ct")) == ([], 1)


def test_a_region_beside_the_slices_is_refused(tmp_path: Path, images: list[Path]) -> None:
    path = report(tmp_path / "sr.dcm", images, [(solid(dicom_files.rectangle(GRID, 1.4, (4, 8), (5, 11))), MASS, "")])
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*a region 0\.40 of a slice off slice 1"):
        Report(path).boxes(GRID, {})
    with pytest.raises(InputError, match="GRID_MISMATCH"):
        Report(path).boxes(Geometry.none((4, 16, 20)), {})


def test_noise_raises_nothing_but_what_is_typed(tmp_path: Path, images: list[Path]) -> None:
    path = report(tmp_path / "sr.dcm", images, [(flat(pydicom.dcmread(images[1]), 2, 3, 6, 9), NODULE, "")])
    whole, where = path.read_bytes(), slices(tmp_path / "ct")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        spoilt = bytearray(whole)
        for at in rng.integers(300, len(whole), 10):
            spoilt[at] = rng.integers(256)
        path.write_bytes(bytes(spoilt))
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about the damage
            Report(path).boxes(GRID, where)


def test_damage_is_told_without_the_patient(tmp_path: Path, images: list[Path]) -> None:
    path = report(tmp_path / "sr.dcm", images, [(flat(pydicom.dcmread(images[1]), 2, 3, 6, 9), NODULE, "")])
    tags = pydicom.dcmread(path)

    def spoil(item: Any) -> None:
        for child in item.get("ContentSequence") or ():
            if child.get("ValueType") == "SCOORD":
                child.GraphicData = [1.0, 2.0, 3.0]
            spoil(child)

    spoil(tags)
    tags.save_as(path)
    with pytest.raises(InputError, match=r"BAD_HEADER .*an unreadable report") as caught:
        Report(path)
    assert not any(secret in str(caught.value) for secret in dicom_files.SECRETS)
