"""A map of probabilities gives back the probabilities, at the planes of the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from tests.io.results.sources import AUTHOR, CLASSES, RNG, SOURCES, origin_of

from hounsfield import io
from hounsfield.core.image import Image
from hounsfield.io.results import maps
from hounsfield.io.results.origin import write


def test_probabilities_are_a_map_of_real_values(tmp_path: Path) -> None:
    source = SOURCES["reversed"](tmp_path)
    image = io.read(source)
    probabilities = Image(RNG.integers(0, 256, (2, *image.geometry.shape), dtype=np.uint8), image.geometry)
    path = write(maps.probability_map(origin_of(source), probabilities, CLASSES, AUTHOR), tmp_path / "a.pm.dcm")
    tags = pydicom.dcmread(path)
    assert tags.NumberOfFrames == 10
    frames = {}
    for group, pixels in zip(tags.PerFrameFunctionalGroupsSequence, tags.pixel_array, strict=True):
        (mapping,) = group.RealWorldValueMappingSequence
        at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
        k = round(float(image.geometry.world_to_index(at)[0, 0]))
        values = pixels * float(mapping.RealWorldValueSlope) + float(mapping.RealWorldValueIntercept)
        frames[mapping.LUTLabel, k] = values
    for c, name in enumerate(("liver", "läsion")):
        for k in range(5):
            np.testing.assert_allclose(frames[name, k], probabilities.array[c, k] / 255, atol=1e-9)
