"""A predicted mask as a DICOM segmentation (SEG, binary): a coded segment for each class, on the source's planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.io.results.origin import Author, Origin, code_of, making

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CATEGORY = ("85756007", "SCT", "Tissue")  # true of structures and of lesions


def segmentation(origin: Origin, mask: Image, classes: Sequence[Class], author: Author) -> Dataset:
    """mask: (1, *grid) in the values of `classes`, or (R, *grid) of 0 and 1. Segment k + 1 is class k. Frames in which a
    segment is absent are left out, as readers expect. Raises InputError BAD_HEADER."""
    import highdicom as hd
    from highdicom.color import CIELabColor

    with making(origin, "segmentation"):
        algorithm = hd.AlgorithmIdentificationSequence(
            name=author.name[:64],
            family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version=author.version,
            parameters={"weights": author.weights},
        )
        described = [
            hd.seg.SegmentDescription(
                segment_number=k,
                segment_label=c.name[:64],
                segmented_property_category=hd.sr.CodedConcept(*_CATEGORY),
                segmented_property_type=hd.sr.CodedConcept(*code_of(c)),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                display_color=CIELabColor.from_rgb(*c.colour),
            )
            for k, c in enumerate(classes, start=1)
        ]
        result: Dataset = hd.seg.Segmentation(
            source_images=origin.images if not origin.source.resampled else origin.sources(),
            pixel_array=_numbered(mask, classes),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            content_label="SEGMENTATION",
            **origin.planes(),
            **origin.series("seg", author),
        )
        if not origin.placed:
            result.PatientOrientation = origin.first.get("PatientOrientation")
        origin.refer(result)
    return result


def _numbered(mask: Image, classes: Sequence[Class]) -> npt.NDArray[Any]:
    """(D, H, W) of segment numbers, or (D, H, W, R) of 0 and 1 where classes may overlap; D is 1 in 2D."""
    array = mask.array if mask.ndim == 3 else mask.array[:, np.newaxis]
    if mask.channels > 1:
        regions: npt.NDArray[np.uint8] = np.moveaxis(array != 0, 0, -1).astype(np.uint8)
        return regions
    values = [c.value for c in classes]
    numbers = np.zeros(array.shape[1:], dtype=np.uint8 if len(values) < 256 else np.uint16)
    for k, value in enumerate(values, start=1):
        numbers[array[0] == value] = k
    return numbers
