"""DICOM after the profile: nothing identifying is left at any depth, references still meet, voxels stay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from tests.io.deidentify.planted import ROOT, SECRET, VOXELS, cleaned, left, picture, plant, save, without_pixels

import hounsfield as hu
from hounsfield.core.errors import InputError
from hounsfield.io.deidentify import deidentify, holds
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.secret import Secret

# A character set, and a name that it holds; each part must go.
NAMES: list[tuple[Any, str]] = [
    ("ISO_IR 6", "Zwicker^Ottilie^Amalie"),
    ("ISO_IR 100", "M\u00fcller\u00e9^J\u00fcrgen"),
    ("ISO_IR 192", "\u0418\u0432\u0430\u043d\u043e\u0432^\u0410\u043b\u0435\u043a\u0441\u0435\u0439"),
    ("ISO_IR 144", "\u041f\u0435\u0442\u0440\u043e\u0432\u0430^\u0410\u043d\u043d\u0430"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046"),
    ("GB18030", "Wang^XiaoDong=\u738b^\u5c0f\u4e1c"),
]
word = st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=9).map(lambda text: f"Zq{text}")


def parts(name: str) -> list[str]:
    return [part for part in re.split(r"[\^=]", name) if len(part) > (3 if part.isascii() else 1)]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    charset=st.sampled_from(NAMES),
    other=word,
    depth=st.integers(0, 2),
    syntax=st.sampled_from([None, ImplicitVRLittleEndian, ExplicitVRBigEndian]),
)
def test_nothing_that_was_planted_is_left(
    tmp_path: Path, charset: tuple[Any, str], other: str, depth: int, syntax: str | None
) -> None:
    encoding, name = charset
    data = picture(SpecificCharacterSet=encoding, PatientName=name, PatientID=f"{other}77")
    plant(data, name, other, f"{ROOT}.5.99", depth)
    if syntax is not None:
        data.file_meta.TransferSyntaxUID = UID(syntax)
        data.PixelData = VOXELS.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    source = save(data, tmp_path / "in.dcm")
    words = [*parts(name), other, f"{other}77", "Zwicker", "QX-778812", ROOT, "19610417", "20240229", "SECRET VENDOR"]
    there = set(left(source, words))
    assert there >= {*parts(name)[:1], other, ROOT, "20240229"}, "the search finds what is there"
    out, _ = cleaned(source)
    assert left(tmp_path / "out", words) == []
    assert not any(element.tag.is_private for element in out.iterall())
    np.testing.assert_array_equal(out.pixel_array, VOXELS)


def test_what_an_image_needs_stays(tmp_path: Path) -> None:
    data = picture()
    plant(data, "Quibble^Ned", "Zqabcdef", f"{ROOT}.5", 1)
    source = save(data, tmp_path / "in.dcm")
    out, _ = cleaned(source)
    before, after = hu.read(source), hu.read(tmp_path / "out")
    np.testing.assert_array_equal(before.array, after.array)
    np.testing.assert_array_equal(before.geometry.affine, after.geometry.affine)
    assert (after.geometry.space, after.meta.modality) == ("patient", "MR")
    assert (out.SliceThickness, out.SeriesNumber, list(out.ImageType)) == (2, 3, ["ORIGINAL", "PRIMARY", "AXIAL"])
    assert out.PixelData == data.PixelData
    assert list(out.WindowCenterWidthExplanation) == [] or out.WindowCenterWidthExplanation == ""


def test_it_says_what_was_done(tmp_path: Path) -> None:
    out, result = cleaned(save(picture(), tmp_path / "in.dcm"))
    assert out.PatientIdentityRemoved == "YES"
    assert out.LongitudinalTemporalInformationModified == "REMOVED"
    assert [(c.CodeValue, c.CodingSchemeDesignator) for c in out.DeidentificationMethodCodeSequence] == [("113100", "DCM")]
    assert out.preamble == bytes(128)
    assert out.file_meta.MediaStorageSOPInstanceUID == out.SOPInstanceUID
    keywords = {element.keyword for element in out.file_meta}
    assert not keywords & {"SourceApplicationEntityTitle", "PrivateInformation", "PrivateInformationCreatorUID"}
    told = {f"{action.value} {keyword}": count for (action, keyword), count in result.actions.items()}
    assert told["pseudonym PatientName"] == told["emptied StudyDate"] == told["new UID SOPInstanceUID"] == 1


def test_every_option_is_coded(tmp_path: Path) -> None:
    options = dict.fromkeys(
        ("shift_dates", "retain_uids", "retain_device", "retain_institution", "retain_patient_characteristics"), True
    )
    box = {"x": 0, "y": 0, "width": 1, "height": 1}
    out, _ = cleaned(save(picture(), tmp_path / "in.dcm"), clean_descriptors=True, clean_pixels=(box,), **options)
    codes = {item.CodeValue: item.CodeMeaning for item in out.DeidentificationMethodCodeSequence}
    assert set(codes) == {"113100", "113101", "113105", "113107", "113108", "113109", "113110", "113112"}
    assert codes["113107"] == "Retain Longitudinal Temporal Information Modified Dates Option"
    assert out.LongitudinalTemporalInformationModified == "MODIFIED"
    assert out.SOPInstanceUID == f"{ROOT}.3.1"


def test_references_between_files_still_meet(tmp_path: Path) -> None:
    first, second = picture(), picture(SOPInstanceUID=f"{ROOT}.3.2")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.SourceImageSequence = Sequence([reference])
    a, _ = cleaned(save(first, tmp_path / "a.dcm"))
    b, _ = cleaned(save(second, tmp_path / "b.dcm"))
    assert b.SourceImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID != first.SOPInstanceUID
    assert b.SourceImageSequence[0].ReferencedSOPClassUID == first.SOPClassUID
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert a[keyword].value == b[keyword].value != first[keyword].value
        assert re.fullmatch(r"2\.25\.\d{1,39}", a[keyword].value)
    assert a.SOPInstanceUID != b.SOPInstanceUID


def test_one_key_one_pseudonym_another_key_another(tmp_path: Path) -> None:
    source = save(picture(), tmp_path / "in.dcm")
    a, first = cleaned(source)
    raw = (tmp_path / "out").read_bytes()
    b, second = cleaned(source)
    assert (a.PatientID, first.name) == (b.PatientID, second.name)
    assert raw == (tmp_path / "out").read_bytes()
    other = deidentify(source, Path("in.dcm"), tmp_path / "other", Profile(), Secret(b"x" * 32))
    c = dcmread(tmp_path / "other")
    assert not {a.PatientID, a.SOPInstanceUID, first.name} & {c.PatientID, c.SOPInstanceUID, other.name}


def test_dates_move_together(tmp_path: Path) -> None:
    def moved(patient: str, **tags: str) -> Dataset:
        return cleaned(save(picture(PatientID=patient, **tags), tmp_path / "in.dcm"), shift_dates=True)[0]

    from datetime import date

    def day(text: str) -> date:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))

    first = moved("P1", StudyDate="20240229", AcquisitionDateTime="20240301093000.25+0100", StudyTime="101112.5")
    later = moved("P1", StudyDate="20250307", SOPInstanceUID=f"{ROOT}.3.2")
    other = moved("P2", StudyDate="20240229")
    shift = SECRET.days("P1\n")
    assert -4018 <= shift <= -366
    assert (day(first.StudyDate) - date(2024, 2, 29)).days == shift
    assert (day(later.StudyDate) - day(first.StudyDate)).days == (date(2025, 3, 7) - date(2024, 2, 29)).days
    assert (day(first.AcquisitionDateTime) - day(first.StudyDate)).days == 1
    assert first.AcquisitionDateTime[8:] == "093000.25+0100"
    assert first.StudyTime == "101112.5"
    assert other.StudyDate != first.StudyDate
    assert first.PatientBirthDate == ""


def test_text_where_a_time_is_due_does_not_stay(tmp_path: Path) -> None:
    tags = {"StudyTime": "Zwicker", "AcquisitionDateTime": "20240301 Zwicker", "TimeOfLastCalibration": "Ottilie"}
    out, _ = cleaned(save(picture(**tags), tmp_path / "in.dcm"), shift_dates=True, retain_device=True)
    assert (out.StudyTime, len(out.AcquisitionDateTime), out.TimeOfLastCalibration) == ("", 8, "")


def test_uids_that_borrow_the_root_of_dicom_are_no_ones_own(tmp_path: Path) -> None:
    borrowed = "1.2.840.10008.5.77.20240229.1"
    data = picture(StudyInstanceUID=borrowed, FrameOfReferenceUID="1.2.840.10008.1.4.1.1")
    out, _ = cleaned(save(data, tmp_path / "in.dcm"))
    assert out.StudyInstanceUID == SECRET.uid(borrowed)
    assert out.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1", "a well-known frame of reference"
    assert out.SOPClassUID == data.SOPClassUID


@pytest.mark.parametrize("text", ["2024", "not a date", "20241399", "00010101"])
def test_what_is_no_whole_date_is_emptied(tmp_path: Path, text: str) -> None:
    out, _ = cleaned(save(picture(StudyDate=text), tmp_path / "in.dcm"), shift_dates=True)
    assert out.StudyDate == ""


def test_patients_without_an_id_are_told_apart_by_name_or_study(tmp_path: Path) -> None:
    def pseudonym(**tags: Any) -> str:
        return str(cleaned(save(picture(PatientID="", **tags), tmp_path / "in.dcm"))[0].PatientID)

    ann, ben = pseudonym(PatientName="Zander^Ann"), pseudonym(PatientName="Zander^Ben")
    nobody, other = pseudonym(PatientName=""), pseudonym(PatientName="", StudyInstanceUID=f"{ROOT}.1.2")
    assert len({ann, ben, nobody, other}) == 4
    assert ann == pseudonym(PatientName="Zander^Ann", StudyInstanceUID=f"{ROOT}.1.2")


def test_one_id_of_two_issuers_is_two_patients(tmp_path: Path) -> None:
    issued = [cleaned(save(picture(IssuerOfPatientID=by), tmp_path / "in.dcm"))[0].PatientID for by in ("A", "B", "A")]
    assert issued[0] == issued[2] != issued[1]


def test_retained_is_what_was_asked_for(tmp_path: Path) -> None:
    tags = {"StationName": "MRT-East7", "InstitutionName": "Elm Ward", "PatientSex": "F", "PatientAge": "093Y"}
    source = save(picture(**tags), tmp_path / "in.dcm")
    strict, _ = cleaned(source)
    assert all(strict.get(keyword) in (None, "", "REMOVED") for keyword in tags)
    device, _ = cleaned(source, retain_device=True)
    assert (device.StationName, device.InstitutionName) == ("MRT-East7", "REMOVED")
    place, _ = cleaned(source, retain_institution=True)
    assert (place.InstitutionName, place.StationName) == ("Elm Ward", "REMOVED")
    person, _ = cleaned(source, retain_patient_characteristics=True)
    assert (person.PatientSex, person.PatientAge) == ("F", "090Y"), "ages of 90 and more become 90"


def test_of_descriptions_the_harmless_words_stay(tmp_path: Path) -> None:
    description = "T2 axial head, Zwicker O., tel. 555 1234, born 17.4.1961"
    source = save(picture(SeriesDescription=description), tmp_path / "in.dcm")
    assert "SeriesDescription" not in cleaned(source)[0]
    assert cleaned(source, clean_descriptors=True)[0].SeriesDescription == "T2 axial head"
    called = save(picture(SeriesDescription="Head of Mr. Head", PatientName="Head^Ann"), tmp_path / "in.dcm")
    assert "SeriesDescription" not in cleaned(called, clean_descriptors=True)[0], "a name is no harmless word of its own file"
    protocol = save(picture(ProtocolName="Zwicker 1234"), tmp_path / "in.dcm")
    assert cleaned(protocol, clean_descriptors=True)[0].ProtocolName == "REMOVED"


def test_overlays_and_the_bits_of_old_ones_go(tmp_path: Path) -> None:
    marked = (VOXELS & 0x0FFF) | 0x2000
    data = picture(marked.astype(np.uint16), BitsStored=12, HighBit=11)
    data.add_new(0x60000102, "US", 13)
    data.add_new(0x60020010, "US", 4)
    data.add_new(0x60023000, "OW", b"ab")
    out, _ = cleaned(save(data, tmp_path / "in.dcm"))
    assert not any(0x6000 <= element.tag.group < 0x6100 for element in out)
    np.testing.assert_array_equal(np.frombuffer(out.PixelData, np.uint16).reshape(VOXELS.shape), VOXELS & 0x0FFF)


def test_a_deflated_file_and_one_without_preamble_are_cleaned_too(tmp_path: Path) -> None:
    data = picture()
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out, _ = cleaned(save(data, tmp_path / "in.dcm"))
    np.testing.assert_array_equal(out.pixel_array, VOXELS)
    raw = save(picture(), tmp_path / "bare.dcm").read_bytes()
    start = raw.index(b"\x08\x00\x08\x00CS")
    (tmp_path / "bare.dcm").write_bytes(raw[start:])
    out, _ = cleaned(tmp_path / "bare.dcm")
    np.testing.assert_array_equal(out.pixel_array, VOXELS)
    assert left(tmp_path / "out", ["Zwicker", "QX-778812", ROOT]) == []


REFUSED: dict[str, dict[str, Any]] = {
    "an encapsulated PDF": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "PixelData": None},
    "a structured report": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "PixelData": None},
    "an ECG": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.1", "PixelData": None},
    "a presentation state": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1", "PixelData": None},
    "a directory": {"SOPClassUID": "1.2.840.10008.1.3.10", "PixelData": None},
    "burned-in text": {"BurnedInAnnotation": "YES"},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_cleaned_is_refused(tmp_path: Path, kind: str) -> None:
    source = save(picture(**REFUSED[kind]), tmp_path / "in.dcm")
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED"):
        cleaned(source)
    assert not (tmp_path / "out").exists()


def test_video_is_refused(tmp_path: Path) -> None:
    data = picture()
    data.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")
    from pydicom.encaps import encapsulate

    data.PixelData = encapsulate([b"video and sound."])
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED .* video"):
        cleaned(save(data, tmp_path / "in.dcm"))


def test_burned_in_text_is_taken_when_it_is_allowed_or_blackened(tmp_path: Path) -> None:
    source = save(picture(BurnedInAnnotation="YES"), tmp_path / "in.dcm")
    out, result = cleaned(source, allow_burned_in=True)
    assert (out.BurnedInAnnotation, result.warnings) == ("YES", ("says that text is within its pixels",))
    out, result = cleaned(source, clean_pixels=({"x": 0, "y": 0, "width": 2, "height": 2},))
    assert (out.BurnedInAnnotation, result.warnings) == ("NO", ())


@pytest.mark.parametrize(
    ("tags", "warned"),
    [
        ({"Modality": "US"}, "ultrasound"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "secondary capture"),
        ({"RecognizableVisualFeatures": "YES"}, "says that a face"),
        ({}, ""),
    ],
)
def test_where_text_in_pixels_is_likely_that_is_said(tmp_path: Path, tags: dict[str, Any], warned: str) -> None:
    _, result = cleaned(save(picture(**tags), tmp_path / "in.dcm"))
    assert [warning.startswith(warned) for warning in result.warnings] == ([True] if warned else [])


def test_a_file_without_its_ids_is_refused(tmp_path: Path) -> None:
    raw = save(picture(), tmp_path / "in.dcm").read_bytes()
    start = raw.index(b"\x08\x00\x08\x00CS")
    bare = raw[start:]
    at = bare.index(b"\x08\x00\x18\x00UI")
    size = int.from_bytes(bare[at + 6 : at + 8], "little")
    (tmp_path / "in.dcm").write_bytes(bare[:at] + bare[at + 8 + size :])
    with pytest.raises(InputError, match=r"^MISSING_TAG .* no SOPInstanceUID"):
        cleaned(tmp_path / "in.dcm")


def test_sequences_nested_too_deep_are_refused(tmp_path: Path) -> None:
    data = item = picture()
    for _ in range(80):
        inner = Dataset()
        item.add_new(0x00081140, "SQ", Sequence([inner]))
        item = inner  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"^NESTED_TOO_DEEP"):
        cleaned(save(data, tmp_path / "in.dcm"))


def test_no_error_quotes_the_patient(tmp_path: Path) -> None:
    source = tmp_path / "in.dcm"
    raw = save(picture(), source).read_bytes()
    source.write_bytes(raw.replace(b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00US\xff\xff"))
    with pytest.raises(InputError) as caught:
        cleaned(source)
    assert "Zwicker" not in str(caught.value)


def test_a_leftover_is_found_in_text_and_in_bytes(tmp_path: Path) -> None:
    source = save(picture(SpecificCharacterSet="ISO_IR 192", LongCodeValue="for the eyes of OTTILIE"), tmp_path / "in.dcm")
    _, result = cleaned(source)
    nobody = Identifiers()
    assert not holds(tmp_path / "out", "dicom", result.identifiers, nobody)
    planted = tmp_path / "planted"
    for keyword, value in (
        ("LongCodeValue", "seen by ottilie"),
        ("StudyDate", "20240229"),
        ("SeriesInstanceUID", f"{ROOT}.2.1"),
    ):
        again = dcmread(tmp_path / "out")
        setattr(again, keyword, value)
        again.save_as(planted)
        assert holds(planted, "dicom", result.identifiers, nobody), keyword
        assert holds(planted, "dicom", nobody, result.identifiers), keyword
    raw = (tmp_path / "out").read_bytes()
    planted.write_bytes(b"Zwicker^Ottilie".ljust(128, b"\0") + raw[128:])
    assert holds(planted, "dicom", result.identifiers, nobody)
    planted.write_bytes("Zwicker".encode("utf-16-le").ljust(128, b"\0") + raw[128:])
    assert holds(planted, "dicom", result.identifiers, nobody)
    assert b"Ottilie" not in without_pixels(tmp_path / "out")


def test_a_small_picture_within_a_sequence_goes(tmp_path: Path) -> None:
    data, item = picture(), Dataset()
    item.add_new(0x7FE00010, "OB", b"who?")
    item.BodyPartExamined = "HEAD"
    data.SharedFunctionalGroupsSequence = Sequence([item])
    out, _ = cleaned(save(data, tmp_path / "in.dcm"))
    assert [element.keyword for element in out.SharedFunctionalGroupsSequence[0]] == ["BodyPartExamined"]


def test_a_moved_day_that_is_the_day_of_birth_of_the_same_patient_is_no_leftover(tmp_path: Path) -> None:
    from datetime import datetime, timedelta

    birth = datetime(1961, 4, 17)
    study = birth - timedelta(days=SECRET.days("QX-778812\n"))
    source = save(picture(StudyDate=f"{study:%Y%m%d}"), tmp_path / "in.dcm")
    out, result = cleaned(source, shift_dates=True)
    assert (out.StudyDate, out.PatientBirthDate) == ("19610417", "")
    assert not holds(tmp_path / "out", "dicom", result.identifiers, Identifiers())


def test_short_names_are_searched_in_decoded_values(tmp_path: Path) -> None:
    _, result = cleaned(save(picture(PatientName="Zwicker^Ann"), tmp_path / "in.dcm"))
    again = dcmread(tmp_path / "out")
    again.LongCodeValue = "by ann"
    again.save_as(tmp_path / "out")
    assert holds(tmp_path / "out", "dicom", result.identifiers, Identifiers())
