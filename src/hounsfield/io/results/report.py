"""Measurements, scores and boxes as a DICOM structured report (SR, template TID 1500 of PS3.16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hounsfield.core.plan import Class
from hounsfield.io.results.origin import SCHEME, Author, Origin, code_of, making

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Code = tuple[str, str, str]  # value, scheme, meaning

_VOLUME: Code = ("118565006", "SCT", "Volume")
_AREA: Code = ("42798000", "SCT", "Area")
_DIAMETER: Code = ("81827009", "SCT", "Diameter")
_MAXIMUM: Code = ("56851009", "SCT", "Maximum")
_PROBABILITY: Code = ("probability", SCHEME, "Probability")
_SCORE: Code = ("score", SCHEME, "Score")
_COUNT: Code = ("boxes", SCHEME, "Number of boxes")
_LEAST: Code = ("least-score", SCHEME, "Score from which boxes are reported")
_MM: Code = ("mm", "UCUM", "millimeter")
_MM2: Code = ("mm2", "UCUM", "square millimeter")
_MM3: Code = ("mm3", "UCUM", "cubic millimeter")
_ML: Code = ("ml", "UCUM", "milliliter")
_PIXELS: Code = ("{pixels}", "UCUM", "pixels")
_NONE: Code = ("1", "UCUM", "no units")
_BOXES: Code = ("{boxes}", "UCUM", "boxes")


@dataclass(frozen=True)
class Measured:
    """A class of a mask. content: its volume in mm³, in 2D its area in mm²; in pixels where no spacing is known. diameter: the
    largest of any of its parts in mm, or in pixels."""

    of: Class
    content: float
    diameter: float


@dataclass(frozen=True)
class Scored:
    """A class of a whole image. probability: in [0, 1]."""

    of: Class
    probability: float


@dataclass(frozen=True)
class Counted:
    """A class of boxes. number: of those that the report holds, of a score of `least` or more."""

    of: Class
    number: int
    least: float


@dataclass(frozen=True)
class Boxed:
    """A box. name: of its own. place: slices, rows and columns of the source's array, (first, last) each and half-open: whole
    slices, and rows and columns in pixels of 0 at the upper left corner of the image. score: in [0, 1]."""

    of: Class
    name: str
    place: tuple[tuple[int, int], tuple[float, float], tuple[float, float]]
    score: float


Found = Measured | Scored | Counted | Boxed


def report(origin: Origin, found: Sequence[Found], author: Author, segmentation: Dataset | None = None) -> Dataset:
    """A measurement group for each of `found`, which refers to its segment where there is a `segmentation` (segment k + 1 is
    class k), else to the source images; a box to those that it crosses, with a rectangle on each. Raises InputError
    BAD_HEADER."""
    import highdicom as hd
    from highdicom import sr

    with making(origin, "report"):
        algorithm = sr.AlgorithmIdentification(
            name=author.name[:64], version=author.version, parameters=[f"weights {author.weights}"]
        )
        sources = [sr.SourceImageForMeasurementGroup.from_source_image(image) for image in origin.sources()]
        groups: list[Any] = []
        for k, one in enumerate(found, start=1):
            common: dict[str, Any] = {
                "tracking_identifier": sr.TrackingIdentifier(uid=hd.UID(), identifier=_name(one)[:64]),
                "finding_type": sr.CodedConcept(*code_of(one.of)),
                "algorithm_id": algorithm,
                "measurements": [
                    sr.Measurement(
                        name=sr.CodedConcept(*name),
                        value=value,
                        unit=sr.CodedConcept(*unit),
                        derivation=sr.CodedConcept(*_MAXIMUM) if name == _DIAMETER else None,
                    )
                    for name, value, unit in _values(origin, one)
                ],
            }
            if isinstance(one, Boxed):
                groups.append(_region(origin, one, common))
            elif segmentation is None:
                groups.append(sr.MeasurementsAndQualitativeEvaluations(source_images=sources, **common))
            else:
                segment = sr.ReferencedSegment.from_segmentation(segmentation, k)
                groups.append(sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common))
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=author.name[:64], manufacturer_name="Hounsfield", model_name=author.name[:64]
        )
        observer = sr.ObserverContext(
            observer_type=sr.CodedConcept("121007", "DCM", "Device"), observer_identifying_attributes=device
        )
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=sr.CodedConcept("363679005", "SCT", "Imaging procedure"),
            imaging_measurements=groups,
        )
        result: Dataset = sr.Comprehensive3DSR(
            evidence=[*origin.sources(), *([segmentation] if segmentation is not None else [])],
            content=content,
            is_complete=True,
            **origin.series("sr", author),
        )
    return result


def _region(origin: Origin, box: Boxed, common: dict[str, Any]) -> Any:
    """A planar region of interest on one image (TID 1410), or a volumetric one with a rectangle on each of several (1411)."""
    from highdicom import sr

    slices, (top, bottom), (left, right) = box.place
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    regions = []
    for k in range(*slices):
        image, frame = origin.image_of(k)
        source = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID, None if frame is None else [frame])
        regions.append(sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, corners, source))
    if len(regions) == 1:
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=regions[0], **common)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_regions=regions, **common)


def _name(one: Found) -> str:
    return one.name if isinstance(one, Boxed) else one.of.name


def _values(origin: Origin, one: Found) -> list[tuple[Code, float, Code]]:
    if isinstance(one, Scored):
        return [(_PROBABILITY, one.probability, _NONE)]
    if isinstance(one, Boxed):
        return [(_SCORE, one.score, _NONE)]
    if isinstance(one, Counted):
        return [(_COUNT, one.number, _BOXES), (_LEAST, one.least, _NONE)]
    if origin.geometry.space == "none":
        return [(_AREA, one.content, _PIXELS), (_DIAMETER, one.diameter, _PIXELS)]
    size = [(_VOLUME, one.content, _MM3), (_VOLUME, one.content / 1000, _ML)]
    return [*(size if origin.geometry.ndim == 3 else [(_AREA, one.content, _MM2)]), (_DIAMETER, one.diameter, _MM)]
