"""A secondary capture is the picture as it was drawn, of the source's study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.dicom_files import Array
from tests.io.results.sources import AUTHOR, RNG, SOURCES, origin_of

from hounsfield import io
from hounsfield.io.results import pictures
from hounsfield.io.results.origin import write


@pytest.mark.parametrize(("kind", "directions"), [("oblique", ["L", "P"]), ("x-ray", None)])
def test_a_picture_is_kept_as_drawn(tmp_path: Path, kind: str, directions: list[str] | None) -> None:
    source = SOURCES[kind](tmp_path)
    picture: Array = RNG.integers(0, 256, (30, 41, 3), dtype=np.uint8)
    path = write(pictures.secondary_capture(origin_of(source), picture, AUTHOR), tmp_path / "a.sc.dcm")
    np.testing.assert_array_equal(io.read(path).array, picture.transpose(2, 0, 1))
    tags = pydicom.dcmread(path)
    assert (list(tags.PatientOrientation or []) or None) == directions
    named = {str(i.ReferencedSOPInstanceUID) for i in tags.SourceImageSequence}
    assert named == {str(f.SOPInstanceUID) for f in map(pydicom.dcmread, source.iterdir() if source.is_dir() else [source])}
