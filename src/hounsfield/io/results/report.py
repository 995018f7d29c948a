"""Measurements and scores as a DICOM structured report (SR, template TID 1500 of PS3.16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
_MM: Code = ("mm", "UCUM", "millimeter")
_MM2: Code = ("mm2", "UCUM", "square millimeter")
_MM3: Code = ("mm3", "UCUM", "cubic millimeter")
_ML: Code = ("ml", "UCUM", "milliliter")
_PIXELS: Code = ("{pixels}", "UCUM", "pixels")
_NONE: Code = ("1", "UCUM", "no units")


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


def report(origin: Origin, found: Sequence[Measured | Scored], author: Author, segmentation: Dataset | None = None) -> Dataset:
    """A measurement group for each of `found`, which refers to its segment where there is a `segmentation` (segment k + 1 is
    class k), else to the source images. Raises InputError BAD_HEADER."""
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
                "tracking_identifier": sr.TrackingIdentifier(uid=hd.UID(), identifier=one.of.name[:64]),
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
            if segmentation is None:
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


def _values(origin: Origin, one: Measured | Scored) -> list[tuple[Code, float, Code]]:
    if isinstance(one, Scored):
        return [(_PROBABILITY, one.probability, _NONE)]
    if origin.geometry.space == "none":
        return [(_AREA, one.content, _PIXELS), (_DIAMETER, one.diameter, _PIXELS)]
    size = [(_VOLUME, one.content, _MM3), (_VOLUME, one.content / 1000, _ML)]
    return [*(size if origin.geometry.ndim == 3 else [(_AREA, one.content, _MM2)]), (_DIAMETER, one.diameter, _MM)]
