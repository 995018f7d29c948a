"""The action for an element is the standard's where the table lists it, and the careful one where it does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.datadict import tag_for_keyword

from hounsfield.io.deidentify import _table
from hounsfield.io.deidentify._actions import action_of
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Action


def action(keyword: str, vr: str, **options: Any) -> Action:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return action_of(tag, vr, True, Profile(**options))


def test_every_attribute_is_listed_once() -> None:
    tags = [word for line in _table._TABLE.splitlines() if line.startswith(" ") for word in line.split()]
    assert len(tags) == len(set(tags)) == 652
    assert all(len(tag) == 8 and int(tag, 16) for tag in tags)


def test_only_known_actions_and_options_stand_in_the_table() -> None:
    rows = [_table.row_of(int(word, 16)) for word in _table._TABLE.split() if len(word) == 8 and word.isalnum()]
    assert {row[0] for row in rows if row} == {"D", "Z", "X", "U", "Z/D", "X/Z", "X/D", "X/Z/D", "X/Z/U*"}
    options = {pair for row in rows if row for pair in row[1].items()}
    assert {name for name, _ in options} == {"uids", "device", "institution", "patient", "dates", "descriptors"}
    assert {value for _, value in options} == {"K", "C"}


# From PS3.15, table E.1-1.
@pytest.mark.parametrize(
    ("keyword", "basic"),
    [
        ("AccessionNumber", "Z"),
        ("AcquisitionDate", "X/Z"),
        ("ContentDate", "Z/D"),
        ("DeviceSerialNumber", "X/Z/D"),
        ("InstitutionName", "X/Z/D"),
        ("OperatorsName", "X/Z/D"),
        ("PatientID", "Z/D"),
        ("PatientName", "Z"),
        ("PatientAge", "X"),
        ("ProtocolName", "X/D"),
        ("SOPInstanceUID", "U"),
        ("SeriesDescription", "X"),
        ("SourceImageSequence", "X/Z/U*"),
        ("StudyDate", "Z"),
    ],
)
def test_the_table_is_the_standards(keyword: str, basic: str) -> None:
    row = _table.row_of(tag_for_keyword(keyword) or 0)
    assert row is not None
    assert row[0] == basic


def test_what_the_table_does_not_list() -> None:
    assert _table.row_of(tag_for_keyword("Rows") or 0) is None
    assert action("Rows", "US") is action("PixelSpacing", "DS") is action("ImageType", "CS") is Action.KEEP
    assert action("CodeMeaning", "LO") is Action.KEEP
    assert action("RetrieveURL", "UR") is Action.REMOVE
    assert action("RedPaletteColorLookupTableData", "OW") is Action.KEEP
    assert action("EncapsulatedDocument", "OB") is action("WaveformSequence", "SQ") is Action.REMOVE
    assert action_of(0x00189999, "LO", False, Profile()) is Action.REMOVE
    assert {action_of(0x00180001, vr, True, Profile()) for vr in ("LT", "ST", "UT", "PN", "AE")} == {Action.EMPTY}
    assert action_of(0x00080000, "UL", True, Profile()) is Action.REMOVE
    assert action_of(0x50042500, "LO", True, Profile()) is action_of(0x60100010, "US", True, Profile()) is Action.REMOVE
    assert action_of(0x00291010, "OB", False, Profile()) is Action.REMOVE


@pytest.mark.parametrize(
    ("keyword", "vr", "strict", "option", "retained"),
    [
        ("StudyDate", "DA", Action.EMPTY, "shift_dates", Action.SHIFT),
        ("PatientBirthDate", "DA", Action.EMPTY, "shift_dates", Action.EMPTY),
        ("SOPInstanceUID", "UI", Action.UID, "retain_uids", Action.KEEP),
        ("StationName", "SH", Action.DUMMY, "retain_device", Action.KEEP),
        ("InstitutionName", "LO", Action.DUMMY, "retain_institution", Action.KEEP),
        ("PatientSex", "CS", Action.EMPTY, "retain_patient_characteristics", Action.KEEP),
        ("Allergies", "LO", Action.REMOVE, "retain_patient_characteristics", Action.CLEAN),
        ("SeriesDescription", "LO", Action.REMOVE, "clean_descriptors", Action.CLEAN),
        ("AdmittingDiagnosesCodeSequence", "SQ", Action.REMOVE, "clean_descriptors", Action.REMOVE),
        ("ReferencedImageSequence", "SQ", Action.KEEP, "retain_uids", Action.KEEP),
    ],
)
def test_an_option_changes_what_it_names(keyword: str, vr: str, strict: Action, option: str, retained: Action) -> None:
    assert action(keyword, vr) is strict
    assert action(keyword, vr, **{option: True}) is retained
    for name in Profile.model_fields:
        if name not in (option, "clean_pixels", "clean_descriptors", "retain_patient_characteristics"):
            assert action(keyword, vr, **{name: True}) is strict, name
