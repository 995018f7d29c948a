"""What the profile asks for an element: from table E.1-1 where it stands there, else from what such a value can hold."""

from __future__ import annotations

from typing import Final

from hounsfield.io.deidentify._table import row_of
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Action

DATES: Final = ("DA", "DT", "TM")
LONG_TEXT: Final = ("LT", "ST", "UT")
TEXT: Final = (*LONG_TEXT, "AE", "AS", "CS", "LO", "SH", "UC", "UR")
_BINARY: Final = ("OB", "OD", "OF", "OL", "OV", "OW", "OB or OW")
# Groups whose binary values are pixels, lookup tables, deformations, surfaces and spectra; those of others may be anything.
_NUMBERS: Final = (0x0028, 0x0064, 0x0066, 0x5600, 0x7FE0)
# Beyond the table: sound and curves with their remarks, and documents within.
_REMOVED: Final = (0x00420011, 0x0040B020, 0x54000100)


def action_of(tag: int, vr: str, known: bool, profile: Profile) -> Action:
    """What is done to the element `tag`. known: the data dictionary has it. A sequence that is kept is walked, not copied.

    The table leaves a choice where it depends on the object whether a value may lack (X/Z, X/D, Z/D, X/Z/D, X/Z/U*): the last
    of them fits every object, so that one is taken.
    """
    group = tag >> 16
    if group % 2 or tag in _REMOVED or not tag & 0xFFFF or 0x5000 <= group < 0x5100 or 0x6000 <= group < 0x6100:
        return Action.REMOVE
    row = row_of(tag)
    if row is None:
        return _unlisted(group, vr, profile) if known else Action.REMOVE
    basic, options = row
    if any(options.get(name) == "K" for name in _retained(profile)):
        return Action.KEEP
    if profile.shift_dates and "dates" in options and vr in DATES:
        return Action.SHIFT
    words = (profile.clean_descriptors, "descriptors"), (profile.retain_patient_characteristics, "patient")
    if vr in TEXT and any(asked and options.get(name) == "C" for asked, name in words):
        return Action.CLEAN
    return _basic(basic.rpartition("/")[2], vr)


def _retained(profile: Profile) -> tuple[str, ...]:
    asked = {
        "uids": profile.retain_uids,
        "device": profile.retain_device,
        "institution": profile.retain_institution,
        "patient": profile.retain_patient_characteristics,
    }
    return tuple(name for name, wanted in asked.items() if wanted)


def _basic(letter: str, vr: str) -> Action:
    if letter == "X":
        return Action.REMOVE
    if letter.startswith("U"):
        return Action.KEEP if vr == "SQ" else Action.UID
    # The profile has no dummy of a sequence: an empty one says as little.
    return Action.DUMMY if letter == "D" and vr != "SQ" else Action.EMPTY


def _unlisted(group: int, vr: str, profile: Profile) -> Action:
    """The table lists what is known to identify; what is not there stays, but for free text, names, times and unknown bytes."""
    if vr in DATES:
        return Action.SHIFT if profile.shift_dates else Action.EMPTY
    if vr in _BINARY:
        return Action.KEEP if group in _NUMBERS else Action.REMOVE
    if vr in (*LONG_TEXT, "AE", "PN"):
        return Action.EMPTY
    if vr == "UI":
        return Action.KEEP if profile.retain_uids else Action.UID
    return Action.REMOVE if vr in ("UN", "UR") else Action.KEEP
