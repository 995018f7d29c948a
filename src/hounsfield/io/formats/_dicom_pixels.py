"""Pixels of DICOM frames in the source's units, decoded by pydicom and its plug-ins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.formats._dicom_codestream import PLUGINS, fault_of
from hounsfield.io.formats._dicom_file import File
from hounsfield.io.formats._dicom_frames import Frame
from hounsfield.io.formats._dicom_stack import Slice
from hounsfield.io.formats._dicom_twelve import decoded
from hounsfield.io.series import opened
from hounsfield.io.values import rescaled

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Array = npt.NDArray[Any]

# Values with a unit of their own (HU, activity), which an inverted display does not invert.
_QUANTITATIVE = ("CT", "PT")
# JPEG, JPEG-LS, JPEG 2000 and its high-throughput kin.
_JPEGS = tuple(f"1.2.840.10008.1.2.4.{start}" for start in ("5", "7", "8", "9", "20"))
# Implicit and Explicit VR Little Endian: pixels that lie in the file as they are.
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
_EXTENDED = "1.2.840.10008.1.2.4.51"  # JPEG of 8 or of 12 bits
_PIXEL_TAGS = [
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
]


def stored_dtype(file: File) -> np.dtype[Any]:
    """Of the stored pixels: unsigned or signed, of 8 to 64 bits."""
    bits = max(8, file.number("BitsAllocated"))
    return np.dtype(f"{'i' if file.number('PixelRepresentation') else 'u'}{bits // 8}")


def is_colour(file: File) -> bool:
    """Whether a pixel is three values: stored so, or through a palette."""
    return file.number("SamplesPerPixel") == 3 or file.get("PhotometricInterpretation") == "PALETTE COLOR"


def is_lossy(file: File) -> bool:
    """Whether the file says that compression changed its values, or its syntax always does."""
    always = ("1.2.840.10008.1.2.4.50", _EXTENDED, "1.2.840.10008.1.2.4.81")
    return str(file.get("LossyImageCompression", "")) == "01" or file.syntax in always


def check_decoder(file: File) -> None:
    """Raises InputError UNSUPPORTED_SYNTAX: UID, name and what to install."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    try:
        if get_decoder(UID(file.syntax)).is_available:
            return
    except NotImplementedError as error:
        raise _unsupported(file, "which no package here decodes") from error
    raise _unsupported(file, "whose decoder is not installed", "pip install 'hounsfield[dicom]'")


def _unsupported(file: File, why: str, fix: str = "convert it to Explicit VR Little Endian") -> InputError:
    from pydicom.uid import UID

    uid = UID(file.syntax)
    name = uid.name if uid.name != str(uid) else "private"
    return InputError(
        "UNSUPPORTED_SYNTAX",
        file.path,
        found=f"transfer syntax {uid} ({name}) {why}",
        expected="one that can be decoded",
        fix=fix,
    )


def pixels(slices: Sequence[Slice], shape: tuple[int, ...]) -> tuple[Array, tuple[str, ...]]:
    """(C, D, H, W) in the source's units and notes. shape: H, W. Files are read one after the other, each once.

    Raises InputError UNSUPPORTED_SYNTAX, CORRUPT_PIXELS (decoder and frame).
    """
    frames: list[Frame] = []
    for part in slices:
        frames += [frame for frame in (part.near, part.far) if frame is not None and frame not in frames[-2:]]
    first = frames[0].file
    for file in {id(frame.file): frame.file for frame in frames}.values():
        check_decoder(file)
    planes: Array | None = None
    for at, plane in enumerate(planes_of(frames)):
        if planes is None:
            limits.claimed(first.path, (len(frames), *plane.shape), plane.dtype.itemsize * 8)
            planes = np.empty((plane.shape[0], len(frames), *plane.shape[1:]), dtype=plane.dtype)
        planes[:, at] = plane
    assert planes is not None
    planes = _scaled(planes, frames)
    notes = _notes(first)
    if any(part.far is not None for part in slices):
        planes = _interpolated(planes, frames, slices)
    return _upright(planes, slices, shape), notes


def planes_of(frames: Sequence[Frame]) -> Iterator[Array]:
    """(C, H, W) of each frame as stored; a file's frames that follow each other are decoded in one go."""
    start = 0
    while start < len(frames):
        file = frames[start].file
        stop = start
        while stop < len(frames) and frames[stop].file is file:
            stop += 1
        read = _as_they_lie if _is_plain(file) else _decoded
        yield from read(file, [frame.index for frame in frames[start:stop]])
        start = stop


def _is_plain(file: File) -> bool:
    """Whether pixels are grey whole numbers that need no decoder."""
    allocated, stored, samples = (file.number(k) for k in ("BitsAllocated", "BitsStored", "SamplesPerPixel"))
    return (
        file.start is not None
        and file.syntax in _NATIVE
        and samples == 1
        and allocated in (8, 16, 32)
        and 1 <= stored <= allocated
        and file.number("PixelRepresentation") in (0, 1)
        and file.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
        and "ModalityLUTSequence" not in file.tags
    )


def _as_they_lie(file: File, indices: list[int]) -> Iterator[Array]:
    """(1, H, W) of the frames `indices` of one plain file, as pydicom gives them in a hundredth of its time."""
    shape = (file.number("Rows"), file.number("Columns"))
    dtype = stored_dtype(file).newbyteorder("<")
    unused = 8 * dtype.itemsize - file.number("BitsStored")
    with file.path.open("rb") as source:
        for index in indices:
            plane = np.empty(shape, dtype=dtype)
            source.seek((file.start or 0) + index * plane.nbytes)
            if (got := source.readinto(plane.reshape(-1).view(np.uint8).data)) < plane.nbytes:
                raise limits.truncated(file.path, got, plane.nbytes, f"frame {index}")
            if unused:  # they may hold an overlay (PS3.5, 8.1.1)
                np.left_shift(plane, unused, out=plane)
                np.right_shift(plane, unused, out=plane)
            yield _stored(file, file.tags, plane)[np.newaxis]


def _decoded(file: File, indices: list[int]) -> Iterator[Array]:
    """(C, H, W) of the frames `indices` of one file, as stored."""
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    uid = UID(file.syntax)
    plugins = get_decoder(uid).available_plugins
    trusted = PLUGINS.get(file.syntax, "")
    plugin = trusted if trusted in plugins else ""
    decoder = plugin or ", ".join(plugins) or "pydicom"
    index = indices[0]
    try:
        with opened(file.path) as source:
            tags = dcmread(source, force=True, specific_tags=list(_PIXEL_TAGS))
        tags.file_meta.TransferSyntaxUID = uid
        if file.syntax == _EXTENDED and tags.BitsStored > 8 and tags.SamplesPerPixel == 1:
            yield from _twelve(file, tags, indices)
            return
        for index in indices:
            if file.syntax.startswith(_JPEGS) and (fault := _frame_fault(file, tags, index)):
                raise _corrupt(file, index, decoder, fault)
            packed = tags.BitsAllocated == 1 and uid.is_little_endian and not uid.is_encapsulated
            stored = _unpacked(tags, index) if packed else pixel_array(tags, index=index, decoding_plugin=plugin)
            plane = _stored(file, tags, stored)
            yield plane.transpose(2, 0, 1) if plane.ndim == 3 else plane[np.newaxis]
    except (InputError, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # whatever the plug-ins raise
        if "does not support" in str(error):
            raise _unsupported(file, f"of {file.get('BitsStored')}-bit samples, which {decoder} does not decode") from error
        raise _corrupt(file, index, decoder, "undecodable") from error


def _twelve(file: File, tags: Dataset, indices: list[int]) -> Iterator[Array]:
    """(1, H, W) of the frames `indices` of a JPEG of 12-bit samples. Raises InputError UNSUPPORTED_SYNTAX, TOO_LARGE,
    CORRUPT_PIXELS."""
    if find_spec("gdcm") is None:
        raise _unsupported(file, "whose decoder is not installed", "pip install 'hounsfield[dicom]'")
    for index in indices:
        if fault := _frame_fault(file, tags, index):
            raise _corrupt(file, index, "gdcm", fault)
    shape = (file.count, int(tags.Rows), int(tags.Columns))
    limits.claimed(file.path, shape, 16)  # all frames are decoded, also where one is asked for
    frames = decoded(file.path, shape)
    if frames is None:
        raise _corrupt(file, indices[0], "gdcm", "undecodable")
    for index in indices:
        yield _stored(file, tags, frames[index].astype(stored_dtype(file)))[np.newaxis]


def _unpacked(tags: Dataset, index: int) -> Array:
    """(H, W) of a frame of single bits. pydicom 3.0 fails at frames that begin and end within a byte."""
    shape = (int(tags.Rows), int(tags.Columns))
    first, count = index * math.prod(shape), math.prod(shape)
    data = np.frombuffer(tags.PixelData, np.uint8, offset=first // 8, count=(first % 8 + count + 7) // 8)
    return np.unpackbits(data, bitorder="little")[first % 8 : first % 8 + count].reshape(shape)


def _frame_fault(file: File, tags: Dataset, index: int) -> str | None:
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in tags:
        offsets = (tags.ExtendedOffsetTable, tags.ExtendedOffsetTableLengths)
    frame = get_frame(tags.PixelData, index, number_of_frames=file.count, extended_offsets=offsets)
    sizes = (int(tags.get(keyword)) for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"))
    return fault_of(frame, *sizes)


def _stored(file: File, tags: Dataset, plane: Array) -> Array:
    """(H, W) or (H, W, 3) in native byte order: palettes and lookup tables applied, MONOCHROME1 turned."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    if file.modality == "SEG":  # the colours of a label map are for show, its values are the segments
        pass
    elif tags.PhotometricInterpretation == "PALETTE COLOR":
        plane = apply_color_lut(plane, tags)
        plane = (plane >> 8).astype(np.uint8) if plane.dtype.itemsize == 2 else plane
    elif "ModalityLUTSequence" in tags and "RescaleSlope" not in tags:
        plane = apply_modality_lut(plane, tags)
    elif tags.PhotometricInterpretation == "MONOCHROME1" and file.modality not in _QUANTITATIVE:
        plane = _inverted(plane, tags)
    return plane.astype(plane.dtype.newbyteorder("="), copy=False)


def _corrupt(file: File, index: int, decoder: str, fault: str) -> InputError:
    from pydicom.uid import UID

    found = f"{fault} in frame {index} of {file.count}, {UID(file.syntax).name} for {decoder}"
    return InputError("CORRUPT_PIXELS", file.path, found=found, expected="intact pixel data", fix="export it again")


def _inverted(plane: Array, tags: Dataset) -> Array:
    """MONOCHROME1 as MONOCHROME2: the largest stored value becomes the smallest."""
    ends = (1 << int(tags.BitsStored)) - 1 if int(tags.PixelRepresentation) == 0 else -1
    inverted: Array = plane.dtype.type(ends) - plane
    return inverted


def _scaled(planes: Array, frames: Sequence[Frame]) -> Array:
    """In the source's units; in float32 where slopes differ between frames (PET)."""
    scales = {(frame.slope, frame.inter) for frame in frames}
    if len(scales) == 1:
        return rescaled(planes, *scales.pop())
    out = np.empty(planes.shape, dtype=np.float32)
    for at, frame in enumerate(frames):
        out[:, at] = planes[:, at] * np.float64(frame.slope) + np.float64(frame.inter)
    return out


def _interpolated(planes: Array, frames: Sequence[Frame], slices: Sequence[Slice]) -> Array:
    where = {id(frame): at for at, frame in enumerate(frames)}
    out = np.empty((planes.shape[0], len(slices), *planes.shape[2:]), dtype=planes.dtype)
    for at, part in enumerate(slices):
        near = planes[:, where[id(part.near)]]
        if part.far is None:
            out[:, at] = near
            continue
        mixed = (1 - part.weight) * near + part.weight * planes[:, where[id(part.far)]]
        out[:, at] = np.rint(mixed) if planes.dtype.kind in "iu" else mixed
    return out


def _upright(planes: Array, slices: Sequence[Slice], shape: tuple[int, ...]) -> Array:
    """The planes (C, D, h, w) at their shifts in a grid of `shape` (H, W), linearly interpolated; the lowest value beyond."""
    if not any(any(part.shift) for part in slices):
        return planes
    low, size = planes.min(), planes.shape[2:]
    out = np.full((*planes.shape[:2], *shape), low, dtype=planes.dtype)
    for at, part in enumerate(slices):
        above = np.zeros((planes.shape[0], *shape), dtype=np.float64)
        plane = planes[:, at].astype(np.float64) - np.float64(low)
        whole = [int(s) for s in part.shift]
        for corner in product((0, 1), repeat=2):
            weight = math.prod(s - w if far else 1 - (s - w) for s, w, far in zip(part.shift, whole, corner, strict=True))
            if weight > 1e-6:  # less is rounding
                rows, columns = (slice(w + c, w + c + n) for w, c, n in zip(whole, corner, size, strict=True))
                above[:, rows, columns] += np.float64(weight) * plane
        above += np.float64(low)
        out[:, at] = np.rint(above) if planes.dtype.kind in "iu" else above
    return out


def _notes(file: File) -> tuple[str, ...]:
    notes = []
    photometric = file.get("PhotometricInterpretation")
    if photometric == "MONOCHROME1":
        kept = file.modality in _QUANTITATIVE
        notes.append(f"MONOCHROME1: {'values kept, they have a unit' if kept else 'inverted, bright is high'}")
    if photometric == "PALETTE COLOR":
        notes.append("palette colours were turned into 8-bit RGB")
    if file.get("ModalityLUTSequence") is not None and file.get("RescaleSlope") is None:
        notes.append("the modality lookup table was applied")
    return tuple(notes)
