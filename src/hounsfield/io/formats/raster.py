"""PNG, JPEG, TIFF, GIF and BMP through Pillow: grey, colour and palette pictures without a place in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats._raster_file import PNG, check_png, kind_of, opened, several

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp")
WRITES = (".png", ".tif", ".tiff", ".bmp")

Array = npt.NDArray[Any]

_GREY = {"1": np.uint8, "L": np.uint8, "P": np.uint8, "I": np.int32, "F": np.float32}
_ALPHA = {"LA": "L", "PA": "P", "RGBA": "RGB", "La": "L", "RGBa": "RGB"}
_CONVERTED = {"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB"}
# TIFF compressions that change values.
_LOSSY = {"jpeg", "tiff_jpeg", "webp", "jpeg2000", "lerc"}
_ORIENTATION = 0x0112
_BAND = 1 << 22  # pixels that are copied out of Pillow at a time
# EXIF orientation: what turns (C, H, W) upright.
_UPRIGHT = {
    2: lambda a: a[:, :, ::-1],
    3: lambda a: a[:, ::-1, ::-1],
    4: lambda a: a[:, ::-1],
    5: lambda a: a.transpose(0, 2, 1),
    6: lambda a: a[:, ::-1].transpose(0, 2, 1),
    7: lambda a: a[:, ::-1, ::-1].transpose(0, 2, 1),
    8: lambda a: a[:, :, ::-1].transpose(0, 2, 1),
}


def recognises(path: Path, head: bytes) -> bool:
    """The signature of one of the five formats."""
    return kind_of(head) is not None


def read(path: Path, choices: Choices) -> Image:
    """(C, H, W) upright: C 1 or 3; uint8, uint16, int32 or float32; bilevel as 0 and 1; palette pictures as their indices,
    with the colours in meta.palette. Resolution tags are not trusted: the space is "none". Alpha is dropped, with a note
    where it is not opaque everywhere.

    Raises InputError TOO_LARGE, TRUNCATED, CORRUPT_PIXELS, UNSUPPORTED_SYNTAX, WRONG_DIMENSION (several frames).
    """
    with opened(path, choices) as (picture, frames):
        if choices.frame is None and frames > 1:
            raise several(path, frames, f"{frames} frames of {picture.size[1]}x{picture.size[0]}")
        notes = _depth_note(picture)
        orientation = _orientation(picture)  # Pillow turns a TIFF upright itself while loading, and forgets the tag
        picture.load()
        array, palette, more = _pixels(path, picture)
        notes += more
        if orientation in _UPRIGHT:
            if picture.format != "TIFF":
                array = np.ascontiguousarray(_UPRIGHT[orientation](array))
            notes += (f"turned upright, as EXIF orientation {orientation} asks",)
        lossy = picture.format in ("JPEG", "MPO") or picture.info.get("compression") in _LOSSY
    with path.open("rb") as file:
        if file.read(len(PNG)) == PNG:
            check_png(path)
    meta = Meta(format="raster", palette=palette, lossy=lossy, notes=notes)
    return Image(array, Geometry.none(array.shape[1:]), meta)


def peek(path: Path, choices: Choices) -> Peek:
    """The header alone."""
    with opened(path, choices) as (picture, frames):
        width, height = picture.size
        turned = _orientation(picture) in (5, 6, 7, 8) and picture.format != "TIFF"
        mode = _CONVERTED.get(picture.mode, _ALPHA.get(picture.mode, picture.mode))
        dtype = np.uint16 if mode.startswith("I;16") else _GREY.get(mode, np.uint8)
        shape = (width, height) if turned else (height, width)
    return Peek("raster", Geometry.none(shape), 3 if mode == "RGB" else 1, np.dtype(dtype), volumes=frames)


def write(image: Image, path: Path) -> None:
    """One picture with exactly the image's values: uint8 grey, palette (one channel with meta.palette) or RGB; uint16 grey
    as PNG or TIFF; int32 and float32 grey as TIFF. PNG and TIFF hold the description.

    Raises InputError WRONG_DIMENSION (3D), BAD_OPTION (values that the format cannot hold); ResourceError DISK_FULL.
    """
    from PIL import Image as Pillow

    if image.ndim != 2 or image.channels not in (1, 3):
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"{image.channels} channels of {'x'.join(map(str, image.geometry.shape))}",
            expected="one 2D plane, grey or RGB",
            fix="write .nii.gz or .npz",
        )
    array = image.array.astype(np.uint8) if image.array.dtype == np.bool_ else image.array
    ending = path.suffix.lower()
    holds: set[np.dtype[Any]] = {np.dtype(np.uint8)}
    if image.channels == 1 and ending != ".bmp":
        holds |= {np.dtype(np.uint16)} if ending == ".png" else {np.dtype(k) for k in (np.uint16, np.int32, np.float32)}
    if array.dtype not in holds:
        raise InputError(
            "BAD_OPTION",
            path,
            found=f"{array.dtype} values in {image.channels} channels",
            expected=f"{' or '.join(sorted(str(k) for k in holds))} in a {ending} picture",
            fix="write .nii.gz or .npz, or convert the values",
        )
    planes = array[0] if image.channels == 1 else array.transpose(1, 2, 0)
    picture = Pillow.fromarray(np.ascontiguousarray(planes))
    if image.meta.palette is not None and array.dtype == np.uint8 and image.channels == 1:
        picture = Pillow.frombytes("P", picture.size, picture.tobytes())
        picture.putpalette(bytes(np.array(image.meta.palette, dtype=np.uint8).tobytes()))
    options: dict[str, Any] = {"compression": "tiff_adobe_deflate"} if ending.startswith(".tif") else {}
    if image.meta.description:
        options |= _described(image.meta.description, ending)
    with limits.atomic(path, array.nbytes) as beside:
        picture.save(beside, {".png": "PNG", ".bmp": "BMP"}.get(ending, "TIFF"), **options)


def _described(description: str, ending: str) -> dict[str, Any]:
    """What makes Pillow write a description; nothing for BMP, which has no place for it."""
    from PIL.PngImagePlugin import PngInfo

    if ending == ".png":
        text = PngInfo()
        text.add_text("Description", description)
        return {"pnginfo": text}
    return {"description": description} if ending.startswith(".tif") else {}


def _orientation(picture: Any) -> int:
    return int(picture.getexif().get(_ORIENTATION, 1) or 1)


def _depth_note(picture: Any) -> tuple[str, ...]:
    """A note where Pillow keeps the upper 8 of 16 bits of a colour picture."""
    raw_modes = [tile[3][0] if isinstance(tile[3], tuple) else tile[3] for tile in picture.tile]
    if picture.mode.startswith("I") or not any(";16" in str(mode) for mode in raw_modes):
        return ()
    return ("16-bit colours were read with their upper 8 bits",)


def _pixels(path: Path, picture: Any) -> tuple[Array, tuple[tuple[int, int, int], ...] | None, tuple[str, ...]]:
    """(C, H, W), palette and notes of a loaded Pillow picture."""
    notes: tuple[str, ...] = ()
    if picture.mode in _CONVERTED:
        notes += (f"converted from {picture.mode} to RGB",)
        picture = picture.convert(_CONVERTED[picture.mode])
    if picture.mode in _ALPHA:
        alpha = np.asarray(picture.getchannel(picture.mode[-1]))
        if (alpha != 255).any():
            notes += (f"alpha was dropped: {int((alpha != 255).sum())} of {alpha.size} pixels are not opaque",)
        colours = _ALPHA[picture.mode]
        palette = picture.getpalette() if colours == "P" else None
        return _copied(picture, len(picture.mode) - 1, np.uint8), _triples(palette), notes
    if "transparency" in picture.info:
        notes += ("transparency was dropped",)
    if picture.mode == "RGB":
        return _copied(picture, 3, np.uint8), None, notes
    if picture.mode in _GREY or picture.mode.startswith("I;16"):
        wanted = np.uint16 if picture.mode.startswith("I;16") else _GREY[picture.mode]
        array = _copied(picture, 1, wanted)
        if picture.format == "TIFF" and picture.mode == "I;16" and picture.tag_v2.get(262) == 0:
            np.subtract(np.iinfo(np.uint16).max, array, out=array)  # Pillow inverts "white is zero" in 8 bits, not in 16
        return array, _triples(picture.getpalette() if picture.mode == "P" else None), notes
    raise InputError(
        "UNSUPPORTED_SYNTAX",
        path,
        found=f"pixels of mode {picture.mode}",
        expected="grey, RGB or palette",
        fix="convert it, for example to PNG",
    )


def _copied(picture: Any, channels: int, dtype: Any) -> Array:
    """The first `channels` of a loaded Pillow picture as (channels, H, W). Band by band: at once, Pillow hands out its pixels
    twice over, which for a slide of gigabytes is several times its memory."""
    width, height = picture.size
    out = np.empty((channels, height, width), dtype=dtype)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = np.asarray(picture.crop((0, top, width, min(top + rows, height))))
        out[:, top : top + rows] = band if band.ndim == 2 else band.transpose(2, 0, 1)[:channels]
    return out


def _triples(palette: list[int] | None) -> tuple[tuple[int, int, int], ...] | None:
    """Colours of a palette; None for grey in order, whose indices are the grey values themselves."""
    if palette is None:
        return None
    colours = tuple(zip(palette[::3], palette[1::3], palette[2::3], strict=True))
    return None if all(colour == (i, i, i) for i, colour in enumerate(colours)) else colours
