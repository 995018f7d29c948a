"""Class probabilities as a DICOM parametric map, one channel for each class, on the source's planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.io.results.origin import SCHEME, Author, Origin, making

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

WHOLE = 255  # the stored value that means 1


def probability_map(origin: Origin, maps: Image, classes: Sequence[Class], author: Author) -> Dataset:
    """maps: (K, *grid), probabilities times `WHOLE`, for each class. Its stored values are mapped to 0..1 by a real world value
    mapping. Raises InputError BAD_HEADER."""
    import highdicom as hd

    array = maps.array if maps.ndim == 3 else maps.array[:, np.newaxis]
    with making(origin, "parametric map"):
        mappings = [
            [
                hd.pm.RealWorldValueMapping(
                    lut_label=c.name[:16],
                    lut_explanation=f"Probability of {c.name}"[:64],
                    unit=hd.sr.CodedConcept("1", "UCUM", "no units"),
                    value_range=(0, WHOLE),
                    slope=1 / WHOLE,
                    intercept=0,
                    quantity_definition=hd.sr.CodedConcept("probability", SCHEME, "Probability"),
                )
            ]
            for c in classes
        ]
        result: Dataset = hd.pm.ParametricMap(
            source_images=origin.images if not origin.source.resampled else origin.sources(),
            pixel_array=np.moveaxis(array, 0, -1).astype(np.uint16),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=mappings,
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=WHOLE / 2, window_width=WHOLE)],
            content_label="PROBABILITIES",
            **origin.planes(),
            **origin.series("pm", author),
        )
        result.Laterality = origin.first.get("Laterality")  # as the source says, or unknown
        origin.refer(result)
    return result
