"""Pixels of a DICOM dataset that may show more than an image: rectangles blackened, remarks and overlays taken out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.deidentify._codestream import cleaned
from hounsfield.io.deidentify.profile import Rectangle

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

Array = npt.NDArray[Any]

KEYWORDS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_RLE: Final = "1.2.840.10008.1.2.5"
# Decoders to be asked last: Pillow knows less, and GDCM ends the whole process on some damaged frames.
_DECODERS: Final = {"pillow": 1, "gdcm": 2}


def clean_streams(path: Path, data: FileDataset) -> None:
    """Takes comments, EXIF and thumbnails out of compressed frames; what the frames decode to stays. Raises InputError
    CORRUPT_PIXELS."""
    from pydicom.encaps import encapsulate, generate_frames

    syntax = data.file_meta.TransferSyntaxUID
    if "PixelData" not in data or not syntax.is_compressed or syntax == _RLE:
        return
    offsets = None
    if "ExtendedOffsetTable" in data:
        offsets = (data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths)
    count = int(data.get("NumberOfFrames") or 1)
    try:
        frames = list(generate_frames(data.PixelData, number_of_frames=count, extended_offsets=offsets))
        plain = [cleaned(frame) for frame in frames]
    except ValueError as error:
        raise InputError(
            "CORRUPT_PIXELS",
            path,
            found="compressed frames that cannot be looked through",
            expected="intact pixel data",
            fix="export it again",
        ) from error
    if any(clean.rstrip(b"\0") != frame.rstrip(b"\0") for frame, clean in zip(frames, plain, strict=True)):
        data.PixelData = encapsulate(plain)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            data.pop(keyword, None)


def clear_overlay_bits(path: Path, data: FileDataset) -> bool:
    """Zeroes the unused bits of pixels in which a retired overlay lies; whether there were any. Raises InputError
    NOT_DEIDENTIFIED (of compressed pixels)."""
    groups = [g for g in range(0x6000, 0x6020, 2) if (g, 0x0102) in data and (g, 0x3000) not in data]
    places = [int(data[group, 0x0102].value or 0) for group in groups]
    unused = [at for at in places if int(data.get("BitsStored", 0)) <= at < int(data.get("BitsAllocated", 0))]
    if not unused or "PixelData" not in data:
        return False
    if data.file_meta.TransferSyntaxUID.is_compressed:
        raise InputError(
            "NOT_DEIDENTIFIED",
            path,
            found="an overlay within compressed pixels",
            expected="pixels alone",
            fix="decompress it first",
        )
    order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    pixels = np.frombuffer(data.PixelData, dtype=f"{order}u{int(data.BitsAllocated) // 8}").copy()
    pixels &= ~pixels.dtype.type(sum(1 << at for at in set(unused)))
    data.PixelData = pixels.tobytes()
    return True


def black_out(path: Path, data: FileDataset, rectangles: Sequence[Rectangle]) -> None:
    """Blackens the rectangles in every frame; compressed pixels become uncompressed (Explicit VR Little Endian), so that no
    other pixel changes its value.

    Raises InputError BAD_OPTION (a rectangle beyond the image), MISSING_TAG, TOO_LARGE, UNSUPPORTED_SYNTAX, CORRUPT_PIXELS.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ExplicitVRLittleEndian

    rows, columns = _size(path, data)
    for box in rectangles:
        if box.x >= columns or box.y >= rows:
            raise InputError(
                "BAD_OPTION",
                path,
                found=f"--clean-pixels {box.x},{box.y},{box.width},{box.height} beyond {columns} columns and {rows} rows",
                expected="a rectangle within the image",
                fix="de-identify images of one size by themselves",
            )
    syntax = data.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
        if not decoder.is_available:
            raise NotImplementedError
        plugins = sorted(decoder.available_plugins, key=lambda name: _DECODERS.get(name, 0))
        frames = []
        told: dict[str, str | int] = {}
        for frame, told in decoder.iter_array(data, decoding_plugin=plugins[0] if plugins else ""):
            frames.append(_blackened(frame, rectangles, _black(frame, data, str(told["photometric_interpretation"]))))
    except NotImplementedError as error:
        raise _undecoded(path, "UNSUPPORTED_SYNTAX", f"pixels in {syntax.name}, which no package here decodes") from error
    except Exception as error:  # whatever the plug-ins raise
        raise _undecoded(path, "CORRUPT_PIXELS", f"undecodable pixels in {syntax.name}") from error
    if syntax.is_compressed:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for unneeded in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            data.pop(unneeded, None)
    _store(data, next(keyword for keyword in KEYWORDS if keyword in data), np.stack(frames))
    data.PhotometricInterpretation = told["photometric_interpretation"]
    if int(told["samples_per_pixel"]) > 1:
        data.PlanarConfiguration = 0


def _size(path: Path, data: FileDataset) -> tuple[int, int]:
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation"):
        if data.get(keyword) is None:
            raise InputError("MISSING_TAG", path, found=f"no {keyword}", expected="a value", fix="export it again")
    rows, columns = int(data.Rows), int(data.Columns)
    frames = int(data.get("NumberOfFrames") or 1)
    limits.claimed(path, (frames, int(data.SamplesPerPixel), rows, columns), int(data.BitsAllocated))
    return rows, columns


def _black(frame: Array, data: FileDataset, photometric: str) -> Any:
    """The darkest value: of a colour 0, of grey the darkest that the frame holds, of a palette the index of its darkest."""
    if photometric == "MONOCHROME1":
        return frame.max()
    if photometric == "PALETTE COLOR" and "RedPaletteColorLookupTableData" in data:
        from pydicom.pixels.processing import apply_color_lut

        indices = np.arange(int(frame.max()) + 1, dtype=frame.dtype)
        return indices[np.argmin(apply_color_lut(indices[np.newaxis], data)[0].sum(axis=-1, dtype=np.int64))]
    return 0 if frame.ndim == 3 else frame.min()


def _blackened(frame: Array, rectangles: Sequence[Rectangle], black: Any) -> Array:
    out = np.array(frame)
    for box in rectangles:
        out[box.y : box.y + box.height, box.x : box.x + box.width] = black
    return out


def _store(data: FileDataset, keyword: str, frames: Array) -> None:
    order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if int(data.BitsAllocated) == 1:
        raw = np.packbits(frames.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    else:
        raw = frames.astype(f"{order}{frames.dtype.kind}{frames.dtype.itemsize}").tobytes()
    setattr(data, keyword, raw + b"\0" * (len(raw) % 2))
    if keyword == "PixelData":
        data[keyword].VR = "OB" if int(data.BitsAllocated) <= 8 else "OW"
        data[keyword].is_undefined_length = False


def _undecoded(path: Path, code: str, found: str) -> InputError:
    return InputError(
        code, path, found=found, expected="pixels that can be decoded", fix="convert it to Explicit VR Little Endian first"
    )
