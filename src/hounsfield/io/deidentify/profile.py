"""Which options of DICOM's Basic Application Level Confidentiality Profile are asked for (PS3.15, annex E)."""

from __future__ import annotations

from typing import Final

from hounsfield.core.plan import Options

# Code values and meanings: PS3.16, context group 7050.
BASIC: Final = ("113100", "Basic Application Confidentiality Profile")
_OPTIONS: Final = {
    "clean_pixels": ("113101", "Clean Pixel Data Option"),
    "clean_descriptors": ("113105", "Clean Descriptors Option"),
    "shift_dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "retain_patient_characteristics": ("113108", "Retain Patient Characteristics Option"),
    "retain_device": ("113109", "Retain Device Identity Option"),
    "retain_uids": ("113110", "Retain UIDs Option"),
    "retain_institution": ("113112", "Retain Institution Identity Option"),
}


class Rectangle(Options):
    """x, y: column and row of the first pixel, from 0. width, height: in pixels."""

    x: int
    y: int
    width: int
    height: int


class Profile(Options):
    """Every option is off: the strict profile.

    shift_dates: dates move by one number of days for each patient. retain_...: what the profile would take stays.
    clean_descriptors: of descriptions the words stay that are known to be harmless. clean_pixels: blackened in every frame.
    allow_burned_in: take also images that say that text about the patient is in their pixels.
    """

    shift_dates: bool = False
    retain_uids: bool = False
    retain_device: bool = False
    retain_institution: bool = False
    retain_patient_characteristics: bool = False
    clean_descriptors: bool = False
    clean_pixels: tuple[Rectangle, ...] = ()
    allow_burned_in: bool = False

    @property
    def codes(self) -> tuple[tuple[str, str], ...]:
        """(code value, meaning) of the profile and its options, for De-identification Method Code Sequence."""
        return (BASIC, *(code for name, code in _OPTIONS.items() if getattr(self, name)))
