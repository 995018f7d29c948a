"""Compressed frames are looked at before a decoder that trusts them, and may end the process, sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from hounsfield.io.formats._dicom_codestream import fault_of

SIZE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")


def frame(name: str) -> tuple[bytes, tuple[int, ...]]:
    """The first frame of a file that ships inside pydicom, and what its header says of it."""
    tags = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    return next(generate_frames(tags.PixelData, number_of_frames=1)), tuple(int(tags[keyword].value) for keyword in SIZE)


@pytest.mark.parametrize(
    "name",
    [
        "JPEG2000.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_jpeg.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "693_J2KI.dcm",
    ],
)
def test_what_is_intact_passes_and_must_be_of_the_size_that_the_header_says(name: str) -> None:
    content, (rows, columns, samples, bits) = frame(name)
    assert fault_of(content, rows, columns, samples, bits) is None
    told = f"{rows} rows, {columns} columns and {samples} samples inside"
    for other in ((rows + 1, columns, samples), (rows, columns - 1, samples), (rows, columns, 4 - samples)):
        assert fault_of(content, *other, bits) == told
    assert fault_of(content[:30], rows, columns, samples, bits) is not None
    assert fault_of(b"not an image" * 9, rows, columns, samples, bits) == "no start of an image in 108 bytes"


# Lossless JPEG, 100 x 100 x 3: where one byte is, what stands there instead, and what is said.
DAMAGE = [
    (17, 0xFF, "an unknown colour transform"),
    (22, 0xFF, "samples of 255 bits"),
    (38, 0x00, "no marker at byte 37"),
    (38, 0xD6, "no marker at byte 37"),
    (38, 0xFE, "no tables before the scan"),
    (3, 0x00, "no marker at byte 2"),
    (24, 0x65, "101 rows, 100 columns and 3 samples inside"),
]


@pytest.mark.parametrize(("at", "value", "told"), DAMAGE)
def test_damage_in_a_lossless_frame_is_named(at: int, value: int, told: str) -> None:
    content, size = frame("SC_rgb_jpeg_gdcm.dcm")
    damaged = bytearray(content)
    damaged[at] = value
    assert fault_of(bytes(damaged), *size) == told


SCRIPT = """
import sys
import hounsfield.io as io
from hounsfield.core.errors import InputError
for path in sys.argv[1:]:
    try:
        io.read(path)
    except InputError as error:
        print(error.code)
"""


def test_damaged_frames_do_not_end_the_process(tmp_path: Path) -> None:
    name = "SC_rgb_jpeg_gdcm.dcm"
    content = bytearray(Path(str(get_testdata_file(name, download=False))).read_bytes())
    at = content.index(frame(name)[0][:40])
    paths: list[Any] = []
    for offset, value, _ in DAMAGE:
        damaged = content.copy()
        damaged[at + offset] = value
        paths.append(tmp_path / f"{offset}-{value}.dcm")
        paths[-1].write_bytes(damaged)
    done = subprocess.run([sys.executable, "-c", SCRIPT, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["CORRUPT_PIXELS"] * len(DAMAGE)
