"""A walk through a DICOM dataset that does to each element what the profile asks, and looks into what it keeps."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hounsfield.core.errors import InputError
from hounsfield.io.deidentify._actions import DATES, TEXT, action_of
from hounsfield.io.deidentify._pixels import KEYWORDS
from hounsfield.io.deidentify._words import harmless
from hounsfield.io.deidentify.identifiers import Collector, Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Action
from hounsfield.io.deidentify.secret import Secret

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset, FileDataset

CHECKED: Final = (*TEXT, *DATES, "PN", "UI")  # values that can hold any text
STANDARD: Final = "1.2.840.10008."  # UIDs that DICOM itself gives away
_CLASSES: Final = re.compile(r"Class|Syntax|Context")  # attributes whose UIDs of that root say what something is, not which
_DEEPEST: Final = 64  # sequences within sequences
_STRICT: Final = Profile()
# Of what the profile takes, the keywords whose values name somebody or something that leads to somebody.
_NAMING: Final = re.compile(
    r"Name|ID$|IDs$|Identifier|Address|Phone|Telephone|Institution|Department|Station|Serial|Accession|Number$|Title$"
)
_NOT_NAMING: Final = re.compile(r"Protocol|Structure|ROI|Segment|Sequence|Series|Instance|Frame|Template|Mapping|Coding")
_DUMMIES: Final = {
    "AS": "000Y",
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "IS": "0",
    "TM": "000000",
    "UR": "urn:removed",
}
_DAY: Final = re.compile(r"(\d{4})\.?(\d\d)\.?(\d\d)")
# Which software wrote the file, in its file meta information.
_SOFTWARE: Final = (0x00020012, 0x00020013)


class Cleaner:
    """Walks a dataset. It first gathers what identifies, so that it can look for that in what is kept."""

    def __init__(self, path: Path, data: FileDataset, profile: Profile, secret: Secret) -> None:
        self._path, self._profile, self._secret = path, profile, secret
        self._patient = patient_of(data)
        self._shifted: set[str] = set()
        self._names: set[str] = set()
        collector = Collector()
        self._collect(data.file_meta, collector, 0)
        self._collect(data, collector, 0)
        self._found = collector.identifiers()
        self.actions: Counter[tuple[Action, str]] = Counter()

    def identifiers(self) -> Identifiers:
        """Of the file as it was, without the days that moved dates now have."""
        return self._found.without_dates(self._shifted)

    def clean(self, data: Dataset, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise too_deep(self._path)
        for tag in sorted(data.keys()):
            element = None if tag.is_private or tag.group < 8 else _element(data, tag)
            if element is None:
                del data[tag]
                self._count(Action.REMOVE, "private" if tag.is_private else "unreadable")
            elif element.keyword not in KEYWORDS or depth:
                self._clean(data, element, depth)

    def _clean(self, data: Dataset, element: DataElement, depth: int) -> None:
        from pydicom.dataelem import empty_value_for_VR

        vr, keyword = str(element.VR), str(element.keyword)
        action = action_of(element.tag, vr, bool(keyword), self._profile)
        if keyword in ("PatientName", "PatientID"):
            element.value = self._secret.code("patient", self._patient)
            return self._count(Action.PSEUDONYM, keyword)
        if action is Action.CLEAN:
            words = self._each(element.value, lambda text: harmless(text, self._names))
            if any(values_of(words)):
                element.value = words
                return self._count(action, keyword)
            action = action_of(element.tag, vr, True, _STRICT)
        if action is Action.KEEP and vr == "SQ":
            for item in element.value or ():
                self.clean(item, depth + 1)
            return None
        if action is Action.REMOVE or keyword in KEYWORDS:
            action = Action.REMOVE  # pixels within a sequence are a small picture of who knows what
            del data[element.tag]
        elif action is Action.UID:
            before = element.value
            element.value = self._each(before, lambda uid: self._uid(uid, keyword))
            action = Action.UID if element.value != before else Action.KEEP
        elif action is Action.SHIFT:
            element.value = self._each(element.value, lambda text: self._moved(text, vr))
        elif action is Action.DUMMY:
            element.value = self._dummy(element, vr)
        elif action is Action.EMPTY or (vr in CHECKED and any(self._found.are_in(str(v)) for v in values_of(element.value))):
            element.value = empty_value_for_VR(vr)
            action = Action.EMPTY
        elif keyword == "PatientAge":
            element.value = self._each(element.value, _capped)
        return self._count(action, keyword or "unknown")

    def _count(self, action: Action, keyword: str) -> None:
        if action is not Action.KEEP:
            self.actions[action, keyword] += 1

    @staticmethod
    def _each(value: Any, change: Any) -> Any:
        changed = [change(str(one)) for one in values_of(value)]
        return changed[0] if len(changed) == 1 else changed or None

    def _uid(self, uid: str, keyword: str) -> str:
        return uid if not uid or _is_standard(uid, keyword) else self._secret.uid(uid.strip())

    def _moved(self, text: str, vr: str) -> str:
        """The date or the date of a time moved by the patient's days; times of a day stay; "" of what is no whole date."""
        if vr == "TM":
            return text if re.fullmatch(r"[\d:.]*", text) else ""
        found = _DAY.match(text)
        try:
            day = date(*(int(part) for part in found.groups())) if found else None
            moved = f"{day + timedelta(days=self._secret.days(self._patient)):%Y%m%d}" if day else ""
        except (ValueError, OverflowError):
            return ""
        self._shifted.add(moved)
        rest = text[found.end() :] if found and vr == "DT" else ""
        return moved + rest if re.fullmatch(r"[\d.+-]*", rest) else moved

    def _dummy(self, element: DataElement, vr: str) -> Any:
        if vr == "UI":
            return self._each(element.value, lambda uid: self._uid(uid, element.keyword))
        if vr in (*TEXT, "PN") or vr in _DUMMIES:
            return _DUMMIES.get(vr, "REMOVED")
        return b"\0\0" if vr.startswith("O") or vr == "UN" else 0

    def _collect(self, data: Dataset, collector: Collector, depth: int) -> None:
        """Every name, id, place, day and UID that the profile takes, also of elements that it removes whole."""
        if depth > _DEEPEST:
            raise too_deep(self._path)
        for tag in sorted(data.keys()):
            element = _element(data, tag)
            vr, keyword = (str(element.VR), str(element.keyword)) if element is not None else ("", "")
            if element is None or keyword in KEYWORDS or tag in _SOFTWARE:
                continue
            if vr == "SQ":
                for item in element.value or ():
                    self._collect(item, collector, depth + 1)
                continue
            action = action_of(tag, vr, bool(keyword), self._profile) if tag.group != 2 else Action.REMOVE
            for value in (str(v).strip(" \0") for v in values_of(element.value)):
                if vr == "PN":
                    collector.name(value)
                    self._names.update(re.findall(r"[^\W_]+", value.casefold()))
                elif vr == "UI" and not (self._profile.retain_uids or _is_standard(value, keyword)):
                    collector.uid(value)
                elif vr in ("DA", "DT") and (keyword == "PatientBirthDate" or not self._profile.shift_dates):
                    collector.date("".join(day.groups()) if (day := _DAY.match(value)) else "")
                elif vr in TEXT and action is not Action.KEEP and _NAMING.search(keyword) and not _NOT_NAMING.search(keyword):
                    collector.phrase(value)


def patient_of(data: Dataset) -> str:
    """What stands for a patient: the id with its issuer; without one, name and date of birth; else the study."""
    told = [str(data.get(keyword) or "").strip() for keyword in ("PatientID", "IssuerOfPatientID")]
    if told[0]:
        return "\n".join(told)
    told = [str(data.get(keyword) or "").strip() for keyword in ("PatientName", "PatientBirthDate")]
    return "\n".join(told) if told[0] else str(data.get("StudyInstanceUID") or data.get("SOPInstanceUID"))


def too_deep(path: Path) -> InputError:
    return InputError(
        "NESTED_TOO_DEEP", path, found="sequences nested too deep", expected=f"at most {_DEEPEST} levels", fix="export it again"
    )


def _element(data: Dataset, tag: Any) -> DataElement | None:
    """The element, or None where its value cannot be read."""
    try:
        element: DataElement = data[tag]
    except RecursionError:
        raise
    except Exception:  # pydicom converts on access, and raises whatever the conversion raises
        return None
    return element


def values_of(value: Any) -> list[Any]:
    """The values of an element with none, one or several."""
    from pydicom.multival import MultiValue

    if value is None or (isinstance(value, str) and not value):
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _is_standard(uid: str, keyword: str) -> bool:
    """Whether DICOM gave the UID away: a class, a syntax, a well-known frame of reference; not an instance below its root."""
    from pydicom.uid import UID

    return uid.startswith(STANDARD) and (_CLASSES.search(keyword) is not None or UID(uid).name != uid)


def _capped(age: str) -> str:
    """An age of 90 years and more as 90: so few live that long that the number tells who it is."""
    return "090Y" if re.fullmatch(r"\d{3}Y", age) and int(age[:3]) > 90 else age
