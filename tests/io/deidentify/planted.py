"""A maker of DICOM files with identifiers wherever one can stand, and a search for them that is not the package's own."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from hounsfield.io.deidentify import deidentify, quiet
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Result
from hounsfield.io.deidentify.secret import Secret

SECRET = Secret(b"0123456789abcdef" * 2)
ROOT = "1.2.826.0.1.3680043.9.7777"
VOXELS = np.arange(6 * 7, dtype=np.uint16).reshape(6, 7) * 37


def picture(voxels: Any = VOXELS, **tags: Any) -> FileDataset:
    """A small MR slice with a place in the patient; tags set last, None takes one away."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID = f"{ROOT}.3.1", f"{ROOT}.2.1", f"{ROOT}.1.1"
    data.FrameOfReferenceUID = f"{ROOT}.4.1"
    data.Modality, data.SeriesNumber, data.InstanceNumber = "MR", 3, 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10.5, 20.25, 3]
    data.PixelSpacing, data.SliceThickness = [0.5, 0.25], 2
    data.RescaleSlope, data.RescaleIntercept = 2, -100
    data.Rows, data.Columns = voxels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * voxels.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(voxels.dtype.kind == "i")
    if voxels.ndim == 3:
        data.NumberOfFrames = len(voxels)
    data.PixelData = voxels.tobytes()
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    data.PatientName, data.PatientID = "Zwicker^Ottilie", "QX-778812"
    data.PatientBirthDate, data.StudyDate, data.StudyTime = "19610417", "20240229", "101112.500000"
    for keyword, value in tags.items():
        if value is None:
            del data[keyword]
        else:
            setattr(data, keyword, value)
    return data


def plant(data: Dataset, name: str, word: str, uid: str, depth: int) -> None:
    """`name` of a person, `word` that is another's id, and `uid`, in elements of every VR that can hold them, listed in the
    profile's table, not listed there, private and unknown; and all of that again in sequences, `depth` levels deep."""
    data.ReferringPhysicianName = data.OperatorsName = data.PhysiciansOfRecord = name
    data.InstitutionName, data.InstitutionAddress = f"{word} hospital", f"1 {word} street"
    data.StationName, data.DeviceSerialNumber, data.AccessionNumber, data.StudyID = word, word, word, word
    data.OtherPatientIDs = [word, f"{word}-2"]
    data.StudyDescription = data.SeriesDescription = data.ProtocolName = f"head of {name}"
    data.ImageComments = data.PatientComments = data.AdditionalPatientHistory = f"seen by {name}, {word}"
    data.DerivationDescription = f"made for {name}"
    data.StationAETitle = data.RetrieveAETitle = word[:16]
    data.AdmissionID = data.ServiceEpisodeID = word
    # Not in the table, or kept where nothing identifying stands in them.
    data.ConvolutionKernel = word[:16]
    data.Manufacturer = f"made by {word}"
    data.WindowCenterWidthExplanation = [f"{name}", "bone"]
    data.LongCodeValue = f"{name} {word}"
    data.BodyPartExamined = word.upper()[:16]
    data.add_new(0x00081190, "UR", f"https://{word}.example/")  # RetrieveURL
    data.add_new(0x0040A160, "UT", f"text of {name}")
    data.add_new(0x00189999, "LO", name)  # of no dictionary
    data.add_new(0x00420011, "OB", name.encode("utf-8") + b" " * (len(name.encode("utf-8")) % 2))
    data.IrradiationEventUID = uid
    data.InstanceCreatorUID = uid
    data.add_new(0x00090010, "LO", "SECRET VENDOR")
    data.add_new(0x00091001, "PN", name)
    data.add_new(0x00091002, "UN", word.encode() + b" " * (len(word) % 2))
    data.add_new(0x00091003, "LT", f"{name}\n{word}")
    data.add_new(0x50002500, "LO", word)
    data.add_new(0x60004000, "LT", f"overlay of {name}")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = MRImageStorage, uid
    data.ReferencedImageSequence = Sequence([reference])
    if depth:
        for keyword in ("RequestAttributesSequence", "SharedFunctionalGroupsSequence", "AcquisitionContextSequence"):
            item = Dataset()
            item.PatientName, item.PatientID = name, word
            plant(item, name, word, uid, depth - 1)
            setattr(data, keyword, Sequence([item]))
        private = Dataset()
        plant(private, name, word, uid, 0)
        data.add_new(0x00091010, "SQ", Sequence([private]))


def save(data: FileDataset, path: Path) -> Path:
    with quiet():
        data.file_meta.SourceApplicationEntityTitle = "ZWICKERSTATION"
        data.file_meta.PrivateInformationCreatorUID = UID(f"{ROOT}.9")
        data.file_meta.PrivateInformation = b"Zwicker!"
        data.preamble = b"Zwicker^Ottilie".ljust(128, b"\0")
        dcmwrite(path, data, enforce_file_format=True)
    return path


def cleaned(path: Path, **options: Any) -> tuple[FileDataset, Result]:
    """What is made of a file, which lies beside it as `out`."""
    with quiet():
        result = deidentify(path, Path(path.name), path.with_name("out"), Profile(**options), SECRET)
        return dcmread(path.with_name("out")), result


def without_pixels(path: Path) -> bytes:
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)
        stop = file.tell()
    return path.read_bytes()[:stop]


def left(path: Path, words: Iterable[str]) -> list[str]:
    """Which of the words stand in a file: in its bytes before the pixels in many encodings, or in what pydicom prints."""
    raw = without_pixels(path)
    printed = io.StringIO()
    with quiet():
        data = dcmread(path)
        print(data.file_meta, data, file=printed)
    text = printed.getvalue().casefold()
    found = []
    for word in words:
        codes = {f.encode(c, "ignore") for f in (word, word.upper(), word.lower()) for c in ("utf-8", "latin-1", "utf-16-le")}
        codes |= {word.encode(c, "ignore") for c in ("iso8859-5", "euc_jp", "shift_jis", "iso2022_jp", "iso2022_kr", "gb18030")}
        if word.casefold() in text or any(code in raw for code in codes if len(code) > 3):
            found.append(word)
    return found
