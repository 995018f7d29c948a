"""Makers of DICOM files whose every voxel and place is known: series, enhanced files, X-rays, contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
)

from hounsfield.core.geometry import Geometry

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
ROOT = "1.2.826.0.1.3680043.8.498.7"
SECRETS = ("SECRET-ID", "Secret^Name", "19700102")


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (2.5, 0.8, 0.7), seed: int = 3) -> Geometry:
    """A grid turned at random whose slices rise along their normal, as series are read."""
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    across, down = turn[:, 0], turn[:, 1]
    return grid(shape, spacing, across, down, (-31.25, 12.5, 7.0))


def upright(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (3.0, 1.0, 1.0)) -> Geometry:
    """Axial slices as most scanners give them: rows to the left, columns to the back, from the feet up."""
    return grid(shape, spacing, np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), (20.0, 30.0, -10.0))


def grid(shape: Sequence[int], spacing: Sequence[float], across: Floats, down: Floats, origin: Sequence[float]) -> Geometry:
    """across, down: unit directions (R, A, S) of increasing column and row."""
    affine = np.zeros((4, 4))
    axes = (np.cross(across, down), down, across)
    affine[:3] = np.column_stack([*(axis * step for axis, step in zip(axes, spacing, strict=True)), origin])
    affine[3, 3] = 1.0
    return Geometry(tuple(shape), affine)


def lps(world: npt.ArrayLike) -> list[float]:
    """R, A, S in mm as DICOM writes it."""
    return numbers((np.asarray(world, dtype=np.float64).reshape(-1, 3) * [-1, -1, 1]).ravel())


def numbers(values: Any) -> list[float]:
    """Short enough for DICOM's decimal strings."""
    return [float(f"{x:.9g}") for x in values]


def _header(path: Path, kind: str, uid: str, **tags: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(kind)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    values: dict[str, Any] = {
        "SOPClassUID": kind,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": f"{ROOT}.1",
        "PatientID": SECRETS[0],
        "PatientName": SECRETS[1],
        "PatientBirthDate": SECRETS[2],
        "PatientSex": "F",
        "StudyDate": "20200304",
        "StudyTime": "101112",
        "StudyID": "7",
        "AccessionNumber": "1",
        "ReferringPhysicianName": "",
        "Manufacturer": "Made^up",
        "SeriesNumber": 7,
        "InstanceNumber": 1,
    }
    for keyword, value in (values | tags).items():
        if value is not None:
            setattr(data, keyword, value)
    return data


def _pixels(data: Dataset, array: Array) -> None:
    data.Rows, data.Columns = array.shape[-2:]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * array.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(array.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(array).tobytes()
    data["PixelData"].VR = "OW"


def _save(data: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, implicit_vr=False, little_endian=True)
    return path


def series(folder: Path, array: Array, where: Geometry, number: int = 1, backwards: bool = False, **tags: Any) -> list[Path]:
    """A CT series of (D, H, W) on a 3D grid in `folder`, in slice order; `number` makes its UID. backwards: file names and
    instance numbers run against the positions. A tag of None is left out."""
    uid = f"{ROOT}.{number}.1"
    paths = []
    for k, plane in enumerate(array):
        order = len(array) - 1 - k if backwards else k
        path = folder / f"{number}-{order:03d}.dcm"
        place: dict[str, Any] = {
            "SeriesInstanceUID": uid,
            "SeriesNumber": number,
            "FrameOfReferenceUID": f"{ROOT}.{number}.9",
            "PositionReferenceIndicator": "",
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "InstanceNumber": order + 1,
            "ImagePositionPatient": lps(where.index_to_world((k, 0, 0))),
            "ImageOrientationPatient": lps([where.affine[:3, 2] / where.spacing[2], where.affine[:3, 1] / where.spacing[1]]),
            "PixelSpacing": numbers(where.spacing[1:]),
            "SliceThickness": numbers(where.spacing)[0],
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
        }
        data = _header(path, CTImageStorage, f"{uid}.{order + 1}", **(place | tags))
        _pixels(data, plane)
        paths.append(_save(data, path))
    return paths


def enhanced(path: Path, array: Array, where: Geometry, order: Sequence[int] | None = None, **tags: Any) -> Path:
    """An enhanced MR file of (D, H, W) whose frames are stored in `order` of the slices."""
    order = list(range(len(array))) if order is None else list(order)
    data = _header(
        path,
        EnhancedMRImageStorage,
        f"{ROOT}.5.1.1",
        SeriesInstanceUID=f"{ROOT}.5.1",
        FrameOfReferenceUID=f"{ROOT}.5.9",
        Modality="MR",
        **tags,
    )
    _pixels(data, array[order])
    data.NumberOfFrames = len(order)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = numbers(where.spacing[1:])
    measures.SliceThickness = numbers(where.spacing)[0]
    orientation.ImageOrientationPatient = lps([where.affine[:3, 2] / where.spacing[2], where.affine[:3, 1] / where.spacing[1]])
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in order:
        group, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = lps(where.index_to_world((k, 0, 0)))
        content.DimensionIndexValues = [k + 1]
        group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    return _save(data, path)


def xray(path: Path, array: Array, **tags: Any) -> Path:
    """A digital X-ray of (H, W): spacing on the detector, no position."""
    values: dict[str, Any] = {
        "SeriesInstanceUID": f"{ROOT}.6.1",
        "Modality": "DX",
        "ImagerPixelSpacing": [0.2, 0.2],
        "PatientOrientation": ["L", "F"],
        "ImageType": ["ORIGINAL", "PRIMARY"],
    }
    data = _header(path, DigitalXRayImageStorageForPresentation, f"{ROOT}.6.1.1", **(values | tags))
    _pixels(data, array)
    return _save(data, path)


def rtstruct(path: Path, rois: Mapping[str, Sequence[Any]], number: int = 1, kind: str = "CLOSED_PLANAR", **tags: Any) -> Path:
    """Contours drawn on the series `number`. rois: name -> outlines, each (N, 3) R, A, S in mm."""
    data = _header(
        path,
        RTStructureSetStorage,
        f"{ROOT}.8.{abs(hash(path.name)) % 10**6}",
        SeriesInstanceUID=f"{ROOT}.8",
        Modality="RTSTRUCT",
        StructureSetLabel="drawn",
        **tags,
    )
    frame, study, of_series = Dataset(), Dataset(), Dataset()
    of_series.SeriesInstanceUID = f"{ROOT}.{number}.1"
    study.ReferencedSOPInstanceUID = f"{ROOT}.1"
    study.RTReferencedSeriesSequence = [of_series]
    frame.FrameOfReferenceUID = f"{ROOT}.{number}.9"
    frame.RTReferencedStudySequence = [study]
    data.ReferencedFrameOfReferenceSequence = [frame]
    names, drawn = [], []
    for k, (name, outlines) in enumerate(rois.items(), start=1):
        roi, of_roi = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = k, name, frame.FrameOfReferenceUID
        of_roi.ReferencedROINumber, contours = k, []
        for outline in outlines:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(outline)
            contour.ContourData = lps(outline)
            contours.append(contour)
        of_roi.ContourSequence = contours
        names.append(roi)
        drawn.append(of_roi)
    data.StructureSetROISequence, data.ROIContourSequence = names, drawn
    return _save(data, path)


def rectangle(where: Geometry, k: float, rows: tuple[float, float], columns: tuple[float, float]) -> Floats:
    """Corners (R, A, S) on slice k of a rectangle that encloses the pixel centres from the first to the last row and column."""
    (top, bottom), (left, right) = rows, columns
    low, high = (top - 0.5, left - 0.5), (bottom + 0.5, right + 0.5)
    corners = [(k, low[0], low[1]), (k, low[0], high[1]), (k, high[0], high[1]), (k, high[0], low[1])]
    return where.index_to_world(corners)
