"""DICOM: a dataset after the profile, and the proof that nothing identifying is left in a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hounsfield import __version__
from hounsfield.core.errors import InputError
from hounsfield.io.deidentify._actions import TEXT, action_of
from hounsfield.io.deidentify._pixels import KEYWORDS, black_out, clean_streams, clear_overlay_bits
from hounsfield.io.deidentify._table import EDITION
from hounsfield.io.deidentify._words import harmless
from hounsfield.io.deidentify.identifiers import Collector, Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Action, Result
from hounsfield.io.deidentify.secret import Secret
from hounsfield.io.series import opened

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset, FileDataset

_DEEPEST: Final = 64  # sequences within sequences
_HEAD: Final = 4096  # bytes of compressed pixels in which remarks would stand
_STANDARD: Final = "1.2.840.10008."  # UIDs that DICOM itself has given away: classes, syntaxes, well-known frames
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
# Video may carry sound; frames elsewhere stay there.
_VIDEO: Final = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7", "1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95")
# Objects without pixels that hold geometry alone: RT structure sets and plans, registrations.
_GEOMETRY: Final = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("481.3", "481.5", "66.1", "66.3", "66.5"))
_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
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
# What is written into every output, and is no leftover.
_OURS: Final = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")


def deidentify(source: Path, target: Path, profile: Profile, secret: Secret) -> Result:
    """Writes the file `source` to `target` after the profile. Raises InputError NOT_DEIDENTIFIED (no image, a document, a
    report, sound, burned-in text), BAD_HEADER, NESTED_TOO_DEEP, MISSING_TAG and what decoding raises."""
    with _parsing(source):
        data = _read(source)
        _refuse(source, data, profile)
        cleaner = _Cleaner(source, data, profile, secret)
        place = _place(data, secret)
        warnings = _warnings(data, profile)
        if profile.clean_pixels and any(keyword in data for keyword in KEYWORDS):
            black_out(source, data, profile.clean_pixels)
            data.BurnedInAnnotation = "NO"
        clean_streams(source, data)
        clear_overlay_bits(source, data)
        cleaner.clean(data)
        _sign(data, profile)
        data.save_as(target, enforce_file_format=True)
    return Result("dicom", place, cleaner.identifiers(), cleaner.actions, warnings)


def holds(path: Path, own: Identifiers, shared: Identifiers) -> bool:
    """Whether a file that was written holds one of the identifiers: in a decoded value at any depth, or in its bytes up to the
    pixels and the head of those. shared: those of other files."""
    from pydicom import dcmread

    with path.open("rb") as file:
        data = dcmread(file, stop_before_pixels=True)
        start = file.tell()
        file.seek(0)
        raw = file.read(start + (_HEAD if data.file_meta.TransferSyntaxUID.is_compressed else 0))
    texts = list(_texts(data, 0))
    return any(who.are_in_bytes(raw) or any(who.are_in(text) for text in texts) for who in (own, shared))


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Whatever pydicom raises as an InputError: its texts may quote the patient."""
    try:
        yield
    except (InputError, MemoryError, OSError):
        raise
    except RecursionError as error:
        raise _too_deep(path) from error
    except Exception as error:
        raise InputError(
            "BAD_HEADER",
            path,
            found=f"an unreadable or unwritable header ({type(error).__name__})",
            expected="DICOM",
            fix="export it again",
        ) from error


def _too_deep(path: Path) -> InputError:
    return InputError(
        "NESTED_TOO_DEEP", path, found="sequences nested too deep", expected=f"at most {_DEEPEST} levels", fix="export it again"
    )


def _read(path: Path) -> FileDataset:
    """The dataset, with file meta information that holds nothing but what the file format asks for."""
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with opened(path) as file:
        data = dcmread(file, force=True)
    implicit, little = data.original_encoding
    guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    data.file_meta.TransferSyntaxUID = data.file_meta.get("TransferSyntaxUID") or guessed
    for keyword, other in (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID")):
        uid = data.get(keyword) or data.file_meta.get(other)
        if not uid:
            raise InputError("MISSING_TAG", path, found=f"no {keyword}", expected="a value", fix="export it again")
        setattr(data, keyword, uid)
    return data


def _refuse(path: Path, data: FileDataset, profile: Profile) -> None:
    kind = str(data.SOPClassUID)
    found, fix = "", "leave it out"
    if kind == _DIRECTORY:
        found = "a directory (DICOMDIR), which names files"
    elif data.file_meta.TransferSyntaxUID.startswith(_VIDEO):
        found = "video, which may carry sound, or pixels that lie elsewhere"
    elif not any(keyword in data for keyword in KEYWORDS) and kind not in _GEOMETRY:
        found = f"{data.SOPClassUID.name if kind.startswith(_STANDARD) else 'an object of an unknown kind'} without pixels"
    elif str(data.get("BurnedInAnnotation", "")).strip().upper() == "YES" and not (
        profile.clean_pixels or profile.allow_burned_in
    ):
        found = "text about the patient within the pixels (BurnedInAnnotation is YES)"
        fix = "blacken it with --clean-pixels x,y,w,h; where there is none, --allow-burned-in"
    if found:
        raise InputError("NOT_DEIDENTIFIED", path, found=found, expected="an image without them", fix=fix)


def _place(data: FileDataset, secret: Secret) -> str:
    """Folder of the patient, folder of the series, file: of codes alone, and the number of the series."""
    series = str(data.get("SeriesInstanceUID") or data.SOPInstanceUID)
    number = re.sub(r"\D", "", str(data.get("SeriesNumber") or ""))[:6]
    folder = "-".join(part for part in (number, secret.code("series", series)) if part)
    return f"{pseudonym(data, secret)}/{folder}/{secret.code('instance', str(data.SOPInstanceUID))}.dcm"


def patient_of(data: Dataset) -> str:
    """What stands for a patient: the id with its issuer; without one, name and date of birth; else the study."""
    told = [str(data.get(keyword) or "").strip() for keyword in ("PatientID", "IssuerOfPatientID")]
    if told[0]:
        return "\n".join(told)
    told = [str(data.get(keyword) or "").strip() for keyword in ("PatientName", "PatientBirthDate")]
    return "\n".join(told) if told[0] else str(data.get("StudyInstanceUID") or data.get("SOPInstanceUID"))


def pseudonym(data: Dataset, secret: Secret) -> str:
    return secret.code("patient", patient_of(data))


def _warnings(data: FileDataset, profile: Profile) -> tuple[str, ...]:
    if profile.clean_pixels:
        return ()
    flag = str(data.get("BurnedInAnnotation", "")).strip().upper()
    kinds = [str(value).upper() for value in _values(data.get("ImageType"))]
    capture = str(data.SOPClassUID).startswith(_CAPTURE) or "SCREEN SAVE" in kinds
    if flag == "YES":
        return ("says that text is within its pixels",)
    if flag != "NO" and data.get("Modality") == "US":
        return ("ultrasound: text within the pixels is likely",)
    return ("secondary capture: text within the pixels is possible",) if capture and flag != "NO" else ()


def _sign(data: FileDataset, profile: Profile) -> None:
    """Says in the file what was done to it, and gives it a preamble and file meta information of its own."""
    from pydicom.dataset import Dataset, FileMetaDataset

    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = f"Hounsfield {__version__}, PS3.15 {EDITION}"
    codes = []
    for value, meaning in profile.codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        codes.append(item)
    data.DeidentificationMethodCodeSequence = codes
    data.LongitudinalTemporalInformationModified = "MODIFIED" if profile.shift_dates else "REMOVED"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta = meta
    data.preamble = bytes(128)


class _Cleaner:
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
        self.actions = Result("dicom", "", self._found).actions

    def identifiers(self) -> Identifiers:
        """Of the file as it was, without the days that moved dates now have."""
        return self._found.without_dates(self._shifted)

    def clean(self, data: Dataset, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise _too_deep(self._path)
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
        if action is Action.KEEP and vr == "SQ":
            for item in element.value or ():
                self.clean(item, depth + 1)
            return None
        if action is Action.REMOVE or keyword in KEYWORDS:
            action = Action.REMOVE  # pixels within a sequence are a small picture of who knows what
            del data[element.tag]
        elif action is Action.UID:
            before = element.value
            element.value = self._each(before, self._uid)
            action = Action.UID if element.value != before else Action.KEEP
        elif action is Action.SHIFT:
            element.value = self._each(element.value, lambda text: self._moved(text, vr))
        elif action is Action.CLEAN:
            element.value = self._each(element.value, lambda text: harmless(text, self._names))
        elif action is Action.DUMMY:
            element.value = self._dummy(element, vr)
        elif action is Action.EMPTY or (vr in TEXT and any(self._found.are_in(str(v)) for v in _values(element.value))):
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
        changed = [change(str(one)) for one in _values(value)]
        return changed[0] if len(changed) == 1 else changed or None

    def _uid(self, uid: str) -> str:
        return uid if not uid or uid.startswith(_STANDARD) else self._secret.uid(uid.strip())

    def _moved(self, text: str, vr: str) -> str:
        """The date or the date of a time moved by the patient's days; times of a day stay; "" of what is no whole date."""
        from datetime import date, timedelta

        if vr == "TM":
            return text
        found = _DAY.match(text)
        try:
            day = date(*(int(part) for part in found.groups())) if found else None
            moved = f"{day + timedelta(days=self._secret.days(self._patient)):%Y%m%d}" if day else ""
        except (ValueError, OverflowError):
            return ""
        self._shifted.add(moved)
        return moved + text[found.end() :] if found and vr == "DT" else moved

    def _dummy(self, element: DataElement, vr: str) -> Any:
        if vr == "UI":
            return self._each(element.value, self._uid)
        if vr in (*TEXT, "PN") or vr in _DUMMIES:
            return _DUMMIES.get(vr, "REMOVED")
        return b"\0\0" if vr.startswith("O") or vr == "UN" else 0

    def _collect(self, data: Dataset, collector: Collector, depth: int) -> None:
        """Every name, id, place, day and UID that the profile takes, also of elements that it removes whole."""
        if depth > _DEEPEST:
            raise _too_deep(self._path)
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
            for value in (str(v).strip(" \0") for v in _values(element.value)):
                if vr == "PN":
                    collector.name(value)
                    self._names.update(re.findall(r"[^\W_]+", value.casefold()))
                elif vr == "UI" and not (self._profile.retain_uids or value.startswith(_STANDARD)):
                    collector.uid(value)
                elif vr in ("DA", "DT") and (keyword == "PatientBirthDate" or not self._profile.shift_dates):
                    collector.date("".join(day.groups()) if (day := _DAY.match(value)) else "")
                elif vr in TEXT and action is not Action.KEEP and _NAMING.search(keyword) and not _NOT_NAMING.search(keyword):
                    collector.phrase(value)


def _element(data: Dataset, tag: Any) -> DataElement | None:
    """The element, or None where its value cannot be read."""
    try:
        element: DataElement = data[tag]
    except RecursionError:
        raise
    except Exception:  # pydicom converts on access, and raises whatever the conversion raises
        return None
    return element


def _values(value: Any) -> list[Any]:
    """The values of an element with none, one or several."""
    from pydicom.multival import MultiValue

    if value is None or (isinstance(value, str) and not value):
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _capped(age: str) -> str:
    """An age of 90 years and more as 90: so few live that long that the number tells who it is."""
    return "090Y" if re.fullmatch(r"\d{3}Y", age) and int(age[:3]) > 90 else age


def _texts(data: Dataset, depth: int) -> Iterator[str]:
    """Every text value at any depth, but of numbers, and of what says how the file was made anonymous."""
    from pydicom.dataelem import DataElement

    for element in (*(data.file_meta if depth == 0 else ()), *data):
        assert isinstance(element, DataElement)
        vr = str(element.VR)
        if vr == "SQ":
            if element.keyword not in _OURS:
                for item in element.value:
                    yield from _texts(item, depth + 1)
        elif element.keyword not in _OURS and vr in (*TEXT, "PN", "UI", "DA", "DT", "UN"):
            yield from (str(value) for value in _values(element.value))
