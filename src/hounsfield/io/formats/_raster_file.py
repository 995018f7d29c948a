"""Opens one picture through Pillow with its limits checked, and says what a damaged one lacks."""

from __future__ import annotations

import importlib
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.formats import Choices

PNG = b"\x89PNG\r\n\x1a\n"
# First bytes: Pillow's module and class. The classes are opened directly: PIL.Image.open would load forty formats and has
# a pixel limit of its own, a global.
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (PNG, "PngImagePlugin", "PngImageFile"),
    (b"\xff\xd8\xff", "JpegImagePlugin", "JpegImageFile"),
    (b"II*\0", "TiffImagePlugin", "TiffImageFile"),
    (b"MM\0*", "TiffImagePlugin", "TiffImageFile"),
    (b"II+\0", "TiffImagePlugin", "TiffImageFile"),
    (b"MM\0+", "TiffImagePlugin", "TiffImageFile"),
    (b"GIF87a", "GifImagePlugin", "GifImageFile"),
    (b"GIF89a", "GifImagePlugin", "GifImageFile"),
    (b"BM", "BmpImagePlugin", "BmpImageFile"),
)
# Widest pixel that a mode decodes to, in bits.
_BITS = {"1": 8, "L": 8, "P": 8, "LA": 16, "La": 16, "PA": 16, "RGB": 32, "YCbCr": 32, "LAB": 32, "HSV": 32, "CMYK": 32}


def kind_of(head: bytes) -> str | None:
    """Name of the Pillow class that reads a file that starts with `head`, or None. A BMP must also say its header's size."""
    for signature, _, kind in _KINDS:
        if head.startswith(signature) and (kind != "BmpImageFile" or head[14:18] in _BMP_HEADERS or len(head) < 18):
            return kind
    return None


_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


@contextmanager
def opened(path: Path, choices: Choices) -> Iterator[tuple[Any, int]]:
    """The Pillow file at the chosen frame, its pixels not yet decoded but within the limits, and the number of frames.

    Raises InputError TOO_LARGE, TRUNCATED, CORRUPT_PIXELS, UNSUPPORTED_SYNTAX, WRONG_DIMENSION (a frame that is not there);
    also for what fails inside the block.
    """
    with path.open("rb") as file:
        head = file.read(32)
        file.seek(0)
        kind = kind_of(head)
        module = next(module for _, module, name in _KINDS if name == kind)
        try:
            picture = getattr(importlib.import_module(f"PIL.{module}"), str(kind))(file)
            _within(path, picture)
            if kind == "PngImageFile":
                deque(_chunks(path), maxlen=0)  # Pillow takes memory for what a chunk claims before it reads
            frames = int(getattr(picture, "n_frames", 1))
            if choices.frame is not None:
                if not 0 <= choices.frame < frames:
                    raise several(path, frames, f"--frame {choices.frame} of {frames} frames")
                if choices.frame:
                    picture.seek(choices.frame)
                    _within(path, picture)
            yield picture, frames
        except (InputError, MemoryError):
            raise
        # Pillow's decoders raise whatever their struct, zlib and C parts raise.
        except Exception as error:
            raise _explained(path, file, head, error) from error


def several(path: Path, frames: int, found: str) -> InputError:
    """The error for a file of `frames` frames of which none, or one that is not there, was chosen."""
    return InputError(
        "WRONG_DIMENSION", path, found=found, expected="one frame", fix=f"choose one with --frame 0 to --frame {frames - 1}"
    )


def _within(path: Path, picture: Any) -> None:
    width, height = picture.size
    limits.claimed(path, (height, width), _BITS.get(picture.mode, 32))


def _explained(path: Path, file: BufferedReader, head: bytes, error: Exception) -> InputError:
    from PIL.Image import DecompressionBombError

    text = " ".join(str(error).split())
    if isinstance(error, DecompressionBombError):
        return InputError("TOO_LARGE", path, found=text, expected="a smaller frame", fix="cut the image up")
    size = path.stat().st_size
    if head.startswith(PNG):
        try:
            check_png(path)
        except InputError as better:
            return better
    if head.startswith(b"BM") and (needed := int.from_bytes(head[2:6], "little")) > size:
        return limits.truncated(path, size, needed, "the file")
    if any(word in text.lower() for word in ("truncated", "not enough", "out of range", "requires a buffer", "eof")):
        return InputError(
            "TRUNCATED",
            path,
            found=f"{size} bytes, which end within the image ({text})",
            expected="more bytes",
            fix="copy or export the file again",
        )
    if any(word in text.lower() for word in ("unknown pixel mode", "unsupported", "not supported", "not available")):
        return InputError(
            "UNSUPPORTED_SYNTAX",
            path,
            found=f"an encoding that Pillow does not decode ({text})",
            expected="8- or 16-bit grey, RGB or palette",
            fix="convert it, for example to PNG",
        )
    return _corrupt(path, f"undecodable pixels ({text})", "an intact image")


def _corrupt(path: Path, found: str, expected: str) -> InputError:
    return InputError("CORRUPT_PIXELS", path, found=found, expected=expected, fix="copy or export the file again")


def check_png(path: Path) -> None:
    """Compares the checksums of a PNG's chunks, which Pillow skips for pixels.

    Raises InputError TRUNCATED (bytes found and needed), CORRUPT_PIXELS (the chunk).
    """
    with path.open("rb") as file:
        for name, at, length in _chunks(path):
            file.seek(at + 8)
            crc = zlib.crc32(name)
            left = length
            while left:
                piece = file.read(min(left, 1 << 20))
                crc = zlib.crc32(piece, crc)
                left -= len(piece)
            if int.from_bytes(file.read(4), "big") != crc:
                raise _corrupt(path, f"a damaged chunk {name.decode('latin-1')!r} at byte {at}", "its checksum")


def _chunks(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of each chunk of a PNG, without what it holds. Raises InputError TRUNCATED."""
    size, at, name = path.stat().st_size, len(PNG), b""
    with path.open("rb") as file:
        while name != b"IEND":
            file.seek(at)
            start = file.read(8)
            length, name = int.from_bytes(start[:4], "big"), start[4:]
            end = at + 12 + (length if len(start) == 8 else 0)
            if end > size:
                raise limits.truncated(path, size, end, "the file")
            yield name, at, length
            at = end
