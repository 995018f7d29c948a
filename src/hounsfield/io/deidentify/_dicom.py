"""DICOM: a file after the profile, and the proof that nothing identifying is left in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hounsfield import __version__
from hounsfield.core.errors import InputError
from hounsfield.io.deidentify._cleaner import CHECKED, STANDARD, Cleaner, patient_of, too_deep, values_of
from hounsfield.io.deidentify._pixels import KEYWORDS, black_out, clean_streams, clear_overlay_bits
from hounsfield.io.deidentify._table import EDITION
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Result
from hounsfield.io.deidentify.secret import Secret
from hounsfield.io.series import opened

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

_HEAD: Final = 4096  # bytes of compressed pixels in which remarks would stand
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
# Video may carry sound; frames elsewhere stay there.
_VIDEO: Final = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7", "1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95")
# Objects without pixels that hold geometry alone: RT structure sets and plans, registrations.
_GEOMETRY: Final = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("481.3", "481.5", "66.1", "66.3", "66.5"))
_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
# What is written into every output, and is no leftover.
_OURS: Final = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")


def deidentify(source: Path, target: Path, profile: Profile, secret: Secret) -> Result:
    """Writes the file `source` to `target` after the profile. Raises InputError NOT_DEIDENTIFIED (no image, a document, a
    report, sound, burned-in text), BAD_HEADER, NESTED_TOO_DEEP, MISSING_TAG and what decoding raises."""
    with _parsing(source):
        data = _read(source)
        _refuse(source, data, profile)
        cleaner = Cleaner(source, data, profile, secret)
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
        raise too_deep(path) from error
    except Exception as error:
        raise InputError(
            "BAD_HEADER",
            path,
            found=f"an unreadable or unwritable header ({type(error).__name__})",
            expected="DICOM",
            fix="export it again",
        ) from error


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
        found = f"{data.SOPClassUID.name if kind.startswith(STANDARD) else 'an object of an unknown kind'} without pixels"
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
    return f"{secret.code('patient', patient_of(data))}/{folder}/{secret.code('instance', str(data.SOPInstanceUID))}.dcm"


def _warnings(data: FileDataset, profile: Profile) -> tuple[str, ...]:
    face = str(data.get("RecognizableVisualFeatures", "")).strip().upper() == "YES"
    faces = ("says that a face can be recognised in it",) if face else ()
    if profile.clean_pixels:
        return faces
    flag = str(data.get("BurnedInAnnotation", "")).strip().upper()
    kinds = [str(value).upper() for value in values_of(data.get("ImageType"))]
    capture = str(data.SOPClassUID).startswith(_CAPTURE) or "SCREEN SAVE" in kinds
    if flag == "YES":
        return ("says that text is within its pixels", *faces)
    if flag != "NO" and data.get("Modality") == "US":
        return ("ultrasound: text within the pixels is likely", *faces)
    return ("secondary capture: text within the pixels is possible", *faces) if capture and flag != "NO" else faces


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
        elif element.keyword not in _OURS and vr in (*CHECKED, "UN"):
            yield from (str(value) for value in values_of(element.value))
