"""PNG and JPEG lose every remark and keep every pixel and the way they are turned; other pictures are refused."""

from __future__ import annotations

import io
import zlib
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from tests.io.deidentify.planted import SECRET

import hounsfield as hu
from hounsfield.core.errors import InputError
from hounsfield.io.deidentify import deidentify, holds
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile, Rectangle
from hounsfield.io.deidentify.result import Result

PIXELS = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)


def remarks(orientation: int = 1) -> dict[str, Any]:
    exif = Pillow.Exif()
    exif[0x013B], exif[0x0132], exif[0x0112] = "Ottilie Zwicker", "1961:04:17 10:11:12", orientation
    text = PngInfo()
    text.add_text("Patient", "Zwicker")
    text.add_text("Patient", "Zwicker " * 50, zip=True)
    text.add_itxt("Name", "Zwicker")
    return {"exif": exif, "pnginfo": text, "comment": b"Zwicker"}


def picture(path: Path, mode: str = "RGB", orientation: int = 1) -> Path:
    made = Pillow.fromarray(PIXELS).convert(mode)
    made.save(path, **remarks(orientation))
    return path


def cleaned(path: Path, relative: str = "Zwicker.png") -> tuple[Path, Result]:
    out = path.with_name("out" + path.suffix)
    return out, deidentify(path, PurePath(relative), out, Profile(), SECRET)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_remarks_go_and_pixels_stay(tmp_path: Path, ending: str, mode: str, orientation: int) -> None:
    if ending == ".jpg" and mode in ("P", "1"):
        mode = "CMYK"
    source = picture(tmp_path / f"Zwicker{ending}", mode, orientation)
    out, result = cleaned(source, f"Zwicker{ending}")
    assert b"Zwicker" in source.read_bytes()
    assert not any(word in out.read_bytes() for word in (b"Zwicker", b"Ottilie", b"1961", b"tEXt", b"zTXt"))
    before, after = hu.read(source), hu.read(out)
    np.testing.assert_array_equal(before.array, after.array)
    assert (before.meta.palette, before.meta.notes) == (after.meta.palette, after.meta.notes)
    assert result.name == f"{SECRET.code('file', 'Zwicker')}{ending}"
    assert not holds(out, "raster", result.identifiers, Identifiers())
    out.write_bytes(out.read_bytes() + b" Zwicker")
    assert holds(out, "raster", result.identifiers, Identifiers())


def test_what_has_no_remarks_keeps_every_byte(tmp_path: Path) -> None:
    Pillow.fromarray(PIXELS).save(tmp_path / "a.png")
    out, result = cleaned(tmp_path / "a.png")
    assert out.read_bytes() == (tmp_path / "a.png").read_bytes()
    assert not result.actions
    assert result.warnings == ("a picture: text within the pixels is possible",)


def test_what_follows_a_picture_goes(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    source.write_bytes(source.read_bytes() + b"Zwicker")
    assert b"Zwicker" not in cleaned(source)[0].read_bytes()


@pytest.mark.parametrize("ending", [".tif", ".gif", ".bmp"])
def test_other_pictures_are_refused(tmp_path: Path, ending: str) -> None:
    Pillow.fromarray(PIXELS).save(tmp_path / f"a{ending}")
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED .* hounsfield image FILE --to FILE.png"):
        cleaned(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_damaged_picture_is_refused(tmp_path: Path, ending: str) -> None:
    raw = picture(tmp_path / f"a{ending}").read_bytes()
    (tmp_path / f"a{ending}").write_bytes(raw[:60])
    with pytest.raises(InputError, match=r"^CORRUPT_PIXELS"):
        cleaned(tmp_path / f"a{ending}")


def test_a_claim_beyond_every_limit_is_refused_before_decoding(tmp_path: Path) -> None:
    raw = bytearray(picture(tmp_path / "a.png").read_bytes())
    raw[16:24] = (50_000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(raw)
    with pytest.raises(InputError, match=r"^TOO_LARGE"):
        cleaned(tmp_path / "a.png")


def test_rectangles_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    box = Rectangle(x=0, y=0, width=1, height=1)
    with pytest.raises(InputError, match=r"^NOT_DEIDENTIFIED .*--clean-pixels"):
        deidentify(picture(tmp_path / "a.png"), PurePath("a"), tmp_path / "out", Profile(clean_pixels=(box,)), SECRET)


def test_arrays_and_texts_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, PIXELS)
    for name, raw, code in (
        ("a.npy", buffer.getvalue(), "NOT_DEIDENTIFIED"),
        ("a.txt", b"Zwicker", "UNKNOWN_FORMAT"),
        ("a.bin", b"\x07Zwicker\xff", "UNKNOWN_FORMAT"),
        ("a.dcm", b"", "EMPTY_FILE"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(InputError, match=rf"^{code}") as caught:
            cleaned(tmp_path / name)
        assert "Zwicker" not in str(caught.value)
        assert b"Zwicker".hex(" ") not in str(caught.value)
