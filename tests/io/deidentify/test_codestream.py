"""Streams lose their remarks and keep their pixels: what a decoder makes of them does not change."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield.io.deidentify._codestream import clean_jpeg, cleaned

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)


def jpeg(**options: Any) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(PIXELS).save(out, "JPEG", **options)
    return out.getvalue()


def decoded(stream: bytes) -> Any:
    return np.asarray(Pillow.open(io.BytesIO(stream)))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_loses_comment_exif_profile_and_what_follows_it(progressive: bool) -> None:
    exif = Pillow.Exif()
    exif[0x013B] = "Ottilie Zwicker"
    stream = jpeg(comment=b"Zwicker was here", exif=exif, icc_profile=b"Zwicker profile" * 9, progressive=progressive)
    clean = clean_jpeg(stream + b"Zwicker trails")
    assert stream.count(b"Zwicker") > 3
    assert b"Zwicker" not in clean
    np.testing.assert_array_equal(decoded(clean), decoded(stream))
    assert clean_jpeg(clean) == clean


def test_a_thumbnail_is_cut_off() -> None:
    stream = jpeg()
    start = stream.index(b"JFIF\0")
    thumb = stream[: start - 2] + (16 + 3).to_bytes(2, "big") + stream[start : start + 12] + b"\1\1abc" + stream[start + 14 :]
    clean = clean_jpeg(thumb)
    assert b"abc" not in clean
    np.testing.assert_array_equal(decoded(clean), decoded(stream))


def test_an_adobe_segment_stays_as_colours_hang_on_it() -> None:
    out = io.BytesIO()
    Pillow.fromarray(PIXELS).convert("CMYK").save(out, "JPEG")
    assert b"Adobe" in clean_jpeg(out.getvalue())
    np.testing.assert_array_equal(decoded(clean_jpeg(out.getvalue())), decoded(out.getvalue()))


def test_a_jpeg_2000_comment_is_zeroed_in_its_place() -> None:
    out = io.BytesIO()
    Pillow.fromarray(PIXELS).save(out, "JPEG2000", comment="Zwicker was here", no_jp2=True, irreversible=False)
    stream = out.getvalue()
    assert b"Zwicker" in stream
    clean = cleaned(stream)
    assert b"Zwicker" not in clean
    assert len(clean) == len(stream)
    np.testing.assert_array_equal(decoded(clean), PIXELS)


def test_of_a_jp2_file_the_codestream_is_kept() -> None:
    out = io.BytesIO()
    Pillow.fromarray(PIXELS).save(out, "JPEG2000", irreversible=False)
    clean = cleaned(out.getvalue())
    assert clean.startswith(b"\xff\x4f\xff\x51")
    np.testing.assert_array_equal(decoded(clean), PIXELS)


@pytest.mark.parametrize("cut", [3, 30, 200])
def test_a_damaged_stream_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"marker|segment"):
        clean_jpeg(jpeg()[:cut])
    with pytest.raises(ValueError, match="start"):
        cleaned(b"no image")
