"""A run that was trained on NIfTI predicts DICOM studies to DICOM: the segmentations, read back, drawn on their series.

    python benchmarks/dicom_hippocampus.py RUN STUDIES --series HippoCrop

writes `<id>.seg.dcm` and `<id>.sr.dcm` below runs/dicom-hippocampus, and there `<id>.png`: slices through the mask along each
axis of the patient, plain and outlined; and prints each class's volume as the report gives it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image as Pillow
from scipy import ndimage

from hounsfield import io
from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.data.readers import open_dataset
from hounsfield.io.formats import Choices, dicom
from hounsfield.io.regions import paint
from hounsfield.workflow.console import terminal
from hounsfield.workflow.predict import predict
from hounsfield.workflow.run import Run

HEIGHT = 300  # pixels of a drawn slice, about
ACROSS = 3  # slices along each axis


def slices(image: Image, mask: Image, classes: tuple[Class, ...]) -> npt.NDArray[np.uint8]:
    """(H, W, 3): for each axis of the patient a row of slices, each plain and with the classes' outlines."""
    grey, labels = image.canonical().array[0].astype(np.float32), mask.canonical().array[0]
    low, high = np.percentile(grey, (1, 99.5))
    grey = np.clip((grey - low) / (high - low), 0, 1) * 255
    spacing = image.geometry.canonical().spacing
    rows = []
    for axis in range(3):
        held = np.flatnonzero((labels != 0).any(axis=tuple(k for k in range(3) if k != axis)))
        tiles = []
        for at in np.quantile(held, np.linspace(0.2, 0.8, ACROSS)).round().astype(int):
            plane, marks = (np.take(a, at, axis=axis)[::-1, ::-1] for a in (grey, labels))
            sides = [spacing[k] for k in range(3) if k != axis]
            scale = [HEIGHT / (plane.shape[0] * sides[0]) * side for side in sides]
            plain = np.repeat(ndimage.zoom(plane, scale, order=1)[..., None], 3, axis=2).clip(0, 255)
            drawn = plain.copy()
            for c in classes:
                shown = ndimage.zoom((marks == c.value).astype(np.uint8), scale, order=0) > 0
                drawn[shown & ~ndimage.binary_erosion(shown, iterations=2)] = c.colour
            tiles.append(np.concatenate([plain, drawn], axis=1))
        rows.append(np.concatenate(tiles, axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return np.concatenate(padded, axis=0).astype(np.uint8)


def volumes(report: Path) -> list[str]:
    """Each class and its volume in mm³, as the structured report says."""
    said = []
    (groups,) = (
        item for item in pydicom.dcmread(report).ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    for group in groups.ContentSequence:
        values = {}
        for item in group.ContentSequence:
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                values[value.MeasurementUnitsCodeSequence[0].CodeValue] = float(value.NumericValue)
            elif item.ConceptNameCodeSequence[0].CodeValue == "112039":
                values["name"] = item.TextValue
        said.append(f"{values['name']}: {values['mm3']:.0f} mm³, {values['mm']:.1f} mm across")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--series", default="HippoCrop")
    parser.add_argument("--out", type=Path, default=Path("runs/dicom-hippocampus"))
    given = parser.parse_args()
    choices = Choices(series=given.series)
    predict(given.run, [given.studies], given.out, to="seg,sr", choices=choices, overwrite=True, console=terminal())
    classes = Run(given.run).plan.classes
    for sample in open_dataset(given.studies, "images", choices=choices).samples:
        image = sample.images[0]()
        labels = np.zeros(image.geometry.shape, dtype=np.int32)
        drawn = dicom.segments(given.out / f"{sample.id}.seg.dcm")
        paint(drawn, image.geometry, {k: c.value for k, c in enumerate(classes, start=1)}, labels)
        read = io.read(given.out / f"{sample.id}.seg.dcm")
        assert np.count_nonzero(read.array) == np.count_nonzero(labels), "read alone it is another mask"
        picture = slices(image, Image(labels[np.newaxis], image.geometry), classes)
        Pillow.fromarray(picture).save(given.out / f"{sample.id}.png")
        sys.stdout.write(f"{sample.id}: {'; '.join(volumes(given.out / f'{sample.id}.sr.dcm'))}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
