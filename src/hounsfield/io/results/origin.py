"""What DICOM results have in common: the images they are of, the model that made them, and how they are written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.io.formats.dicom import Source
from hounsfield.io.limits import atomic

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SCHEME: Final = "99HOUNSFIELD"  # of codes that no plan gives
# Numbers of the series that results make, after the source's own.
_NUMBERS: Final = {"seg": 1, "sr": 2, "pm": 3, "sc": 4}
_TITLES: Final = {"seg": "segmentation", "sr": "report", "pm": "probabilities", "sc": "overlay"}
_NEEDED: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")  # without them nothing can refer
_MAY_BE_EMPTY: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


@dataclass(frozen=True)
class Author:
    """The model that made a result. name: what it does and with which network. version: of Hounsfield. weights: a digest that
    tells one trained model from another."""

    name: str
    version: str
    weights: str


class Origin:
    """The images that results are of, as highdicom wants them: one data set for each slice of the array, or one with a frame
    for each slice.

    Raises InputError MISSING_TAG for images that cannot be referred to, or lie in the patient but name no frame of reference.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.geometry = source.geometry
        self.placed = source.geometry.space == "patient"
        headers = [_completed(source, header, self.placed) for header in source.headers]
        self.frames = [frame for _, frame in source.frames]
        self.many = int(headers[0].get("NumberOfFrames") or 1) > 1
        if self.placed and "PerFrameFunctionalGroupsSequence" in headers[0]:
            self.images = [_reordered(headers[0], self.frames, self.step)]
        else:
            if "NumberOfFrames" in headers[0]:  # such as a cine: highdicom goes by the kind of image, not by how many there are
                headers[0].NumberOfFrames = 1
                headers[0].SharedFunctionalGroupsSequence = [_of(PixelMeasuresSequence=[_of()])]
            self.images = [headers[k] for k, _ in source.frames]
            self._measure()

    @property
    def step(self) -> float | None:
        """mm between slices; None of a 2D image."""
        return self.geometry.spacing[0] if self.geometry.ndim == 3 else None

    @property
    def first(self) -> Dataset:
        return self.images[0]

    def _measure(self) -> None:
        """What single-frame slices share: some files lack thickness or distance or contradict the slices' positions by it, and
        one orientation may be written a little differently in each."""
        from pydicom.valuerep import format_number_as_ds

        for image in self.images:
            if self.placed:
                image.ImageOrientationPatient = self.first.ImageOrientationPatient
            if not image.get("SliceThickness"):
                image.SliceThickness = format_number_as_ds(self.step) if self.step is not None else None
            if self.step is not None:
                image.SpacingBetweenSlices = format_number_as_ds(self.step)

    def planes(self) -> dict[str, Any]:
        """Where the slices of a resampled image lie, which no source image tells; nothing for others."""
        from highdicom import PixelMeasuresSequence, PlanePositionSequence

        if not self.source.resampled:
            return {}
        step, *pixel = self.geometry.spacing
        index = np.zeros((self.geometry.shape[0], 3))
        index[:, 0] = np.arange(len(index))
        corners = self.geometry.index_to_world(index) * [-1.0, -1.0, 1.0]
        return {
            "pixel_measures": PixelMeasuresSequence(pixel, self.first.SliceThickness, step),
            "plane_positions": [PlanePositionSequence("PATIENT", corner.tolist()) for corner in corners],
        }

    def image_of(self, k: int) -> tuple[Dataset, int | None]:
        """The source image of slice k of the array, and where it has several frames that slice's number among them."""
        return self.images[k if len(self.images) > 1 else 0], self.frames[k] if self.many else None

    def sources(self) -> Sequence[Dataset]:
        """Each source once: one may serve several slices of a resampled image."""
        return list({image.SOPInstanceUID: image for image in self.images}.values())

    def series(self, kind: str, author: Author) -> dict[str, Any]:
        """What every kind of result says of its series and of what made it; the UIDs are new."""
        from highdicom import UID

        number = int(self.first.get("SeriesNumber") or 0)
        return {
            "series_instance_uid": UID(),
            "series_number": max(0, number % 1_000_000) * 100 + _NUMBERS[kind],
            "series_description": f"Hounsfield {_TITLES[kind]}",
            "sop_instance_uid": UID(),
            "instance_number": 1,
            "manufacturer": "Hounsfield",
            "manufacturer_model_name": author.name[:64],
            "software_versions": author.version,
            "device_serial_number": author.weights,
        }

    def refer(self, result: Dataset) -> None:
        """Frame numbers of the source file in the place of those of `images`."""
        for shared in result.get("SharedFunctionalGroupsSequence") or ():
            if not any(shared.get("PixelMeasuresSequence") or ()):  # of a cine: see above
                shared.pop("PixelMeasuresSequence", None)
        if not self.many:
            return
        items = {  # by identity: highdicom lets the frames of several segments share one
            id(item): item
            for group in result.get("PerFrameFunctionalGroupsSequence") or ()
            for derivation in group.get("DerivationImageSequence") or ()
            for item in derivation.get("SourceImageSequence") or ()
        }
        for item in items.values():
            item.ReferencedFrameNumber = self.frames[int(item.get("ReferencedFrameNumber") or 1) - 1]


@contextmanager
def making(origin: Origin, what: str) -> Iterator[None]:
    """Whatever highdicom raises about the source's header as InputError BAD_HEADER, and nothing that it warns of: its texts may
    quote the patient."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise InputError(
            "BAD_HEADER",
            origin.source.where,
            found=f"a header from which no {what} can be made ({type(error).__name__})",
            expected="the attributes that DICOM asks for",
            fix="write another kind of result with --to, or mend the header",
        ) from error


def write(result: Dataset, path: Path) -> Path:
    """The data set as a file, beside `path` and then renamed. Raises ResourceError DISK_FULL."""
    result.SpecificCharacterSet = "ISO_IR 192"
    with atomic(path, len(result.get("PixelData") or b"")) as beside:
        result.save_as(beside)
    return path


def code_of(c: Class) -> tuple[str, str, str]:
    """Value, scheme and meaning of what a class is: the plan's code, else one of `SCHEME`."""
    if c.code is not None:
        scheme, value, meaning = c.code
        return value, scheme, meaning or c.name
    return f"class-{c.value}"[:16], SCHEME, c.name[:64]


def _completed(source: Source, header: Dataset, placed: bool) -> Dataset:
    """A copy with every attribute that must be there; what may be empty is left so."""
    out = copy(header)
    for keyword in (*_NEEDED, *(("FrameOfReferenceUID",) if placed else ())):
        if not out.get(keyword):
            raise InputError(
                "MISSING_TAG",
                source.where,
                found=f"no {keyword}",
                expected="a UID, by which results refer to the images",
                fix="write --to nifti, or export the images again",
            )
    for keyword in _MAY_BE_EMPTY:
        if keyword not in out:
            setattr(out, keyword, None if keyword.endswith(("Date", "Time")) else "")
    if not placed:  # without a position there is no point in a frame of reference: results refer to the image itself
        for keyword in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"):
            out.pop(keyword, None)
    return out


def _reordered(header: Dataset, frames: Sequence[int], step: float | None) -> Dataset:
    """A multi-frame header with the frames of the array alone, in its order, and what they share in one place."""
    from pydicom.valuerep import format_number_as_ds

    groups = header.PerFrameFunctionalGroupsSequence
    shared = (header.get("SharedFunctionalGroupsSequence") or [_of()])[0]
    out, common = copy(header), deepcopy(shared)
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        item = deepcopy((groups[frames[0] - 1].get(keyword) or shared.get(keyword))[0])
        if keyword == "PixelMeasuresSequence" and step is not None:
            item.SpacingBetweenSlices = format_number_as_ds(step)
            item.SliceThickness = item.get("SliceThickness") or format_number_as_ds(step)
        setattr(common, keyword, [item])
    places = [groups[frame - 1].get("PlanePositionSequence") or shared.PlanePositionSequence for frame in frames]
    each = [_of(PlanePositionSequence=place) for place in places]
    out.SharedFunctionalGroupsSequence = [common]
    out.PerFrameFunctionalGroupsSequence = each
    out.NumberOfFrames = len(each)
    return out


def _of(**values: Any) -> Dataset:
    """A data set of these attributes."""
    from pydicom.dataset import Dataset

    out = Dataset()
    for keyword, value in values.items():
        setattr(out, keyword, value)
    return out
