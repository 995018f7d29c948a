"""A maker of small DICOM files with known voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

MakeSlice = Callable[..., Path]
ROOT_UID = "1.2.826.0.1.3680043.8.498"


@pytest.fixture
def make_slice() -> MakeSlice:
    """make_slice(path, array, position, **tags) -> path: an axial MR slice at L, P, S, tags set last; None deletes one.
    `frames`: encoded frames, in the transfer syntax `syntax`."""

    def make(path: Path, array: npt.NDArray[Any], position: tuple[float, float, float] | None = (0, 0, 0), **tags: Any) -> Path:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = UID(f"{ROOT_UID}.{abs(hash(path))}")
        data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        data.SOPClassUID = MRImageStorage
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID = f"{ROOT_UID}.1"
        data.SeriesNumber = 7
        data.Modality = "MR"
        data.PatientName = "Secret^Name"
        data.PatientID = "SECRET-ID"
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing = [0.5, 0.25]
        if position is not None:
            data.ImagePositionPatient = list(position)
        data.Rows, data.Columns = array.shape[-2:] if array.ndim == 2 or array.shape[-1] != 3 else array.shape[-3:-1]
        data.SamplesPerPixel = 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 8 * array.dtype.itemsize
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(array.dtype.kind == "i")
        data.PixelData = array.tobytes()
        data["PixelData"].VR = "OW"
        for keyword, value in tags.items():
            if keyword == "syntax":
                meta.TransferSyntaxUID = UID(value)
            elif keyword == "frames":
                data.PixelData = encapsulate(value)
                data["PixelData"].is_undefined_length = True
            elif value is None:
                data.pop(keyword, None)
            else:
                setattr(data, keyword, value)
        data.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
        return path

    return make
