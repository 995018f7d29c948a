"""PNG and JPEG without anything but their pixels: coded data keep every byte, text, EXIF, thumbnails and dates go."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Final

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.deidentify._codestream import JPEG, clean_jpeg
from hounsfield.io.deidentify._names import collect, place
from hounsfield.io.deidentify.identifiers import Collector, Identifiers
from hounsfield.io.deidentify.result import Action, Result
from hounsfield.io.deidentify.secret import Secret

_PNG: Final = b"\x89PNG\r\n\x1a\n"
# Chunks that pixels, their colours and animation need.
_KEPT: Final = frozenset(b"IHDR PLTE tRNS IDAT IEND gAMA cHRM sRGB sBIT bKGD pHYs acTL fcTL fdAT".split())
_ORIENTATION: Final = 0x0112
_END: Final = 1 << 16  # bytes
_WARNING: Final = ("a picture: text within the pixels is possible",)


def deidentify(source: Path, relative: PurePath, target: Path, secret: Secret) -> Result:
    """Writes the file `source` to `target`; how it is to be turned is kept. Raises InputError NOT_DEIDENTIFIED (another kind of
    picture), TOO_LARGE, CORRUPT_PIXELS."""
    raw = source.read_bytes()
    if not raw.startswith((_PNG, JPEG)):
        raise InputError(
            "NOT_DEIDENTIFIED",
            source,
            found="a picture that may hold remarks in many places (TIFF, GIF or BMP)",
            expected="PNG or JPEG",
            fix="convert it with hounsfield image FILE --to FILE.png",
        )
    try:
        turned = _orientation(source, raw)
        clean = _clean_png(raw, turned) if raw.startswith(_PNG) else clean_jpeg(raw, b"Exif\0\0" + turned if turned else b"")
    except InputError:
        raise
    except Exception as error:  # of Pillow's parsers, too
        raise InputError(
            "CORRUPT_PIXELS",
            source,
            found=f"a damaged picture ({type(error).__name__})",
            expected="an intact one",
            fix="copy or export the file again",
        ) from error
    target.write_bytes(clean)
    collector, ending = Collector(), relative.suffix
    collect(relative, ending, collector)
    result = Result("raster", place(relative, ending, secret), collector.identifiers(), warnings=_WARNING)
    if len(clean) != len(raw):
        result.actions[Action.REMOVE, "metadata"] += 1
    return result


def holds(path: Path, own: Identifiers, shared: Identifiers) -> bool:
    """Whether both ends of a file that was written, where remarks would stand, hold one of the identifiers."""
    raw = path.read_bytes()
    raw = raw if len(raw) < 2 * _END else raw[:_END] + raw[-_END:]
    return own.are_in_bytes(raw) or shared.are_in_bytes(raw)


def _orientation(path: Path, raw: bytes) -> bytes:
    """An EXIF block that says nothing but how the picture is to be turned; b"" where it stands upright."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    kind: Any = PngImageFile if raw.startswith(_PNG) else JpegImageFile
    with path.open("rb") as file:
        picture = kind(file)
        limits.claimed(path, picture.size[::-1], 32)  # looking for EXIF may decode the pixels
        orientation = int(picture.getexif().get(_ORIENTATION, 1) or 1)
    if not 2 <= orientation <= 8:
        return b""
    entry = _ORIENTATION.to_bytes(2, "little") + b"\x03\0\x01\0\0\0" + bytes((orientation, 0, 0, 0))
    return b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)


def _clean_png(raw: bytes, exif: bytes) -> bytes:
    out = [_PNG]
    for name, chunk in _chunks(raw):
        if name == b"IDAT" and exif:
            out.append(_chunk(b"eXIf", exif))
            exif = b""
        if name in _KEPT:
            out.append(chunk)
    return b"".join(out)


def _chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and bytes of each chunk, as far as the last. Raises ValueError where one is damaged."""
    at = len(_PNG)
    while True:
        end = at + 12 + int.from_bytes(raw[at : at + 4], "big")
        name, chunk = raw[at + 4 : at + 8], raw[at:end]
        if end > len(raw) or _chunk(name, chunk[8:-4]) != chunk:
            raise ValueError("a damaged chunk")
        yield name, chunk
        if name == b"IEND":
            return
        at = end


def _chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
