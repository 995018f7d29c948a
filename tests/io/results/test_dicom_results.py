"""DICOM results lie where their source does, refer to its instances, and pass a validator and an archive."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests import dicom_files
from tests.dicom_files import Array, enhanced, oblique, series, upright, xray

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.io.formats import DEFAULT, Choices, dicom
from hounsfield.io.regions import mark, paint, volume_of
from hounsfield.io.results import maps, pictures, report, segmentation
from hounsfield.io.results.origin import SCHEME, Author, Origin, write

hd = pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
AUTHOR = Author("segmentation with unet", "0.1.0", "0123456789abcdef")
CLASSES = (
    Class(value=10, name="liver", colour=(255, 0, 0), code=("SCT", "10200004", "Liver")),
    Class(value=255, name="läsion"),
)
RNG = np.random.default_rng(11)


def ct(folder: Path, grid: Geometry, **more: Any) -> Path:
    series(folder / "ct", RNG.integers(-100, 100, grid.shape).astype(np.int16), grid, **more)
    return folder / "ct"


def mr(folder: Path, grid: Geometry, order: list[int]) -> Path:
    return enhanced(folder / "mr.dcm", RNG.integers(0, 100, grid.shape, dtype=np.uint16), grid, order)


def x(folder: Path) -> Path:
    return xray(folder / "x.dcm", RNG.integers(0, 100, (12, 10), dtype=np.uint16))


SOURCES: dict[str, Callable[[Path], Path]] = {
    "axial": lambda folder: ct(folder, upright((5, 12, 10))),
    "oblique": lambda folder: ct(folder, oblique((5, 12, 10))),
    "reversed": lambda folder: ct(folder, oblique((5, 12, 10)), backwards=True),
    "enhanced": lambda folder: mr(folder, oblique((5, 12, 10)), [0, 1, 2, 3, 4]),
    "enhanced, frames out of order": lambda folder: mr(folder, oblique((5, 12, 10)), [3, 0, 4, 2, 1]),
    "one slice": lambda folder: ct(folder, oblique((1, 12, 10))) / "1-000.dcm",
    "x-ray": x,
}


def predicted(image: Image, channels: int = 1) -> Image:
    """A random mask on the image's grid, in the values of CLASSES, or two regions that overlap."""
    shape = (channels, *image.geometry.shape)
    array = RNG.choice(np.array([0, 10, 255], np.uint8), shape) if channels == 1 else RNG.integers(0, 2, shape, dtype=np.uint8)
    return Image(array, image.geometry)


def origin_of(path: Path, choices: Choices = DEFAULT) -> Origin:
    return Origin(dicom.source(path, choices))


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
    full = Image(np.full((1, *image.geometry.shape), 10, np.uint8), image.geometry)
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
    assert len(set(seen)) == volume_of(image.geometry).shape[0]
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


def test_gaps_that_were_filled_and_a_tilt_that_was_mended_keep_their_place(tmp_path: Path) -> None:
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
    choices = Choices(fix_tilt=True)
    image = io.read(folder, choices)
    mask = predicted(image)
    path = write(segmentation.segmentation(origin_of(folder, choices), mask, CLASSES, AUTHOR), tmp_path / "a.seg.dcm")
    laid = np.zeros(image.geometry.shape, np.uint8)
    paint(dicom.segments(path), image.geometry, {1: 10, 2: 255}, laid)
    np.testing.assert_array_equal(laid, mask.array[0])


def test_probabilities_are_a_map_of_real_values(tmp_path: Path) -> None:
    source = SOURCES["reversed"](tmp_path)
    image = io.read(source)
    probabilities = Image(RNG.integers(0, 256, (2, *image.geometry.shape), dtype=np.uint8), image.geometry)
    path = write(maps.probability_map(origin_of(source), probabilities, CLASSES, AUTHOR), tmp_path / "a.pm.dcm")
    tags = pydicom.dcmread(path)
    assert tags.NumberOfFrames == 10
    frames = {}
    for group, pixels in zip(tags.PerFrameFunctionalGroupsSequence, tags.pixel_array, strict=True):
        (mapping,) = group.RealWorldValueMappingSequence
        at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
        k = round(float(image.geometry.world_to_index(at)[0, 0]))
        values = pixels * float(mapping.RealWorldValueSlope) + float(mapping.RealWorldValueIntercept)
        frames[mapping.LUTLabel, k] = values
    for c, name in enumerate(("liver", "läsion")):
        for k in range(5):
            np.testing.assert_allclose(frames[name, k], probabilities.array[c, k] / 255, atol=1e-9)


def items(tags: Any, value: str) -> Iterator[Any]:
    """Content items whose concept has this code value."""
    for item in tags.get("ContentSequence") or ():
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].get("CodeValue") == value:
            yield item
        yield from items(item, value)


def numbers(tags: Any, value: str) -> list[tuple[float, str]]:
    return [
        (
            float(i.MeasuredValueSequence[0].NumericValue),
            i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for i in items(tags, value)
    ]


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


@pytest.mark.parametrize(("kind", "directions"), [("oblique", ["L", "P"]), ("x-ray", None)])
def test_a_picture_is_kept_as_drawn(tmp_path: Path, kind: str, directions: list[str] | None) -> None:
    source = SOURCES[kind](tmp_path)
    picture: Array = RNG.integers(0, 256, (30, 41, 3), dtype=np.uint8)
    path = write(pictures.secondary_capture(origin_of(source), picture, AUTHOR), tmp_path / "a.sc.dcm")
    np.testing.assert_array_equal(io.read(path).array, picture.transpose(2, 0, 1))
    tags = pydicom.dcmread(path)
    assert (list(tags.PatientOrientation or []) or None) == directions
    named = {str(i.ReferencedSOPInstanceUID) for i in tags.SourceImageSequence}
    assert named == {str(f.SOPInstanceUID) for f in map(pydicom.dcmread, source.iterdir() if source.is_dir() else [source])}


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


def everything(folder: Path, source: Path) -> list[Path]:
    """One result of each kind that the source can have."""
    image, origin = io.read(source), origin_of(source)
    seg = segmentation.segmentation(origin, predicted(image), CLASSES, AUTHOR)
    made = {
        "seg": seg,
        "sr": report.report(origin, [report.Measured(c, 12.5, 3.5) for c in CLASSES], AUTHOR, seg),
        "scores": report.report(origin, [report.Scored(c, 0.5) for c in CLASSES], AUTHOR),
        "sc": pictures.secondary_capture(origin, np.zeros((20, 30, 3), np.uint8), AUTHOR),
    }
    if image.geometry.space == "patient":
        probabilities = Image(RNG.integers(0, 256, (2, *image.geometry.shape), dtype=np.uint8), image.geometry)
        made["pm"] = maps.probability_map(origin, probabilities, CLASSES, AUTHOR)
    return [write(result, folder / "out" / f"a.{kind}.dcm") for kind, result in made.items()]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
@pytest.mark.parametrize("kind", ["reversed", "enhanced, frames out of order", "one slice", "x-ray"])
def test_a_validator_finds_no_error(tmp_path: Path, kind: str) -> None:
    for path in everything(tmp_path, SOURCES[kind](tmp_path)):
        done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60, check=False)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not errors, f"{path.name}: {errors}"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """The address of an Orthanc that holds nothing, on this machine alone, for as long as the test runs."""
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not installed (Debian: orthanc)")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    port = free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/system", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log.txt").read_text()[-2000:]
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_an_archive_keeps_what_is_written(tmp_path: Path, archive: str) -> None:
    source = SOURCES["reversed"](tmp_path)
    results = everything(tmp_path, source)
    for path in [*source.iterdir(), *results]:
        request = urllib.request.Request(f"{archive}/instances", data=path.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            stored = json.load(answer)
        assert stored["Status"] == "Success"
        with urllib.request.urlopen(f"{archive}/instances/{stored['ID']}/file", timeout=20) as answer:
            back = tmp_path / "back.dcm"
            back.write_bytes(answer.read())
        ours, theirs = pydicom.dcmread(path), pydicom.dcmread(back)
        assert theirs == ours
    with urllib.request.urlopen(f"{archive}/studies?expand", timeout=20) as answer:
        (study,) = json.load(answer)
    assert len(study["Series"]) == 1 + len(results), "results are in the source's study, each in a series of its own"
