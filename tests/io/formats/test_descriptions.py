"""What an image says of itself is written where viewers look for it, and never read back, since it may name a patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.io.formats.nifti_files import nib

from hounsfield import io
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta


def described(text: str, ndim: int = 2) -> Image:
    shape = (3, 4, 5)[:ndim]
    return Image(np.arange(np.prod(shape), dtype=np.uint8).reshape(1, *shape), Geometry.none(shape), Meta(description=text))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_holds_79_letters(tmp_path: Path, ending: str) -> None:
    io.write(described("synthetic " * 9, 3), tmp_path / f"a{ending}")
    header = nib.load(tmp_path / f"a{ending}").header
    assert header["descrip"].item().decode() == ("synthetic " * 9)[:79]
    assert io.read(tmp_path / f"a{ending}").meta.description == ""
    io.write(described("", 3), tmp_path / f"b{ending}")
    header = nib.load(tmp_path / f"b{ending}").header
    assert header["descrip"].item() == b""


def test_png_and_tiff_hold_it_whole_and_bmp_not_at_all(tmp_path: Path) -> None:
    text = "synthetic, drawn for a test " * 5
    for ending in (".png", ".tif", ".bmp"):
        io.write(described(text), tmp_path / f"a{ending}")
        again = io.read(tmp_path / f"a{ending}")
        np.testing.assert_array_equal(again.array, described("").array)
        assert again.meta.description == ""
    with Pillow.open(tmp_path / "a.png") as png, Pillow.open(tmp_path / "a.tif") as tif:
        assert png.text["Description"] == text  # type: ignore[attr-defined]
        assert tif.tag_v2[270] == text  # type: ignore[attr-defined]


def test_without_one_nothing_is_added(tmp_path: Path) -> None:
    io.write(described(""), tmp_path / "a.png")
    assert b"tEXt" not in (tmp_path / "a.png").read_bytes()
