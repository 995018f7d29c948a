"""NIfTI-1 and NIfTI-2, one file or a .hdr/.img pair, plain or gzip; and Analyze 7.5, which such pairs were before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta, Spaces
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats import _analyze_header as analyze
from hounsfield.io.formats._layout import Layout, Role, check_claim, storable, world_of
from hounsfield.io.formats._nifti_affine import affine_of, check_spacing, set_spaces, spaces_of
from hounsfield.io.stream import GZIP, begins, open_stream
from hounsfield.io.values import rescaled

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
WRITES = (".nii", ".nii.gz")

_SIZES = {348: 344, 540: 4}  # size of the header: offset of its magic
_MAGICS = (b"n+1", b"ni1", b"n+2", b"ni2")
# Intent codes whose fourth axis counts components of one voxel: symmetric matrix, displacement, vector, RGB, RGBA.
_VECTORS = (1005, 1006, 1007, 2003, 2004)
_ROLES: tuple[Role, ...] = ("space", "space", "space", "volumes", "channels")


def recognises(path: Path, head: bytes) -> bool:
    """NIfTI's header size and magic, in either byte order, under gzip or not; an .hdr file of Analyze; an .img file beside its
    header."""
    if _header_of(path) != path:
        return True
    head = begins(head, 1024)
    size = _header_size(head)
    if size is None or len(head) < size or _has_magic(head, size):
        return size is not None
    return path.name.lower().endswith((".hdr", ".hdr.gz")) and analyze.recognises(head)


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W), or (C, H, W) where the third axis has one voxel, in the stored dtype unless slope and intercept ask for
    another (`values.rescaled`). C: components of a vector or colour.

    Raises InputError TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS, BAD_HEADER, BAD_SPACING, BAD_AFFINE,
    AFFINE_CONFLICT, WRONG_DIMENSION.
    """
    layout, slope, inter, spaces = _layout(path, choices)
    array, notes = layout.load(path, choices), layout.notes
    if layout.dtype.fields is not None:
        array, notes = _colours(array, notes)
    array = rescaled(array, slope, inter)
    return Image(array, layout.geometry, Meta(format="nifti", notes=notes, spaces=spaces))


def peek(path: Path, choices: Choices) -> Peek:
    """The header alone; of a gzip file its first bytes are inflated."""
    found = _layout(path, choices)[0].peek("nifti")
    if found.dtype.fields is not None:
        return replace(found, channels=3, dtype=np.dtype(np.uint8))
    return found


def write(image: Image, path: Path) -> None:
    """One file, gzip by its ending, voxels as they are; sform and qform in scanner coordinates and mm, or in the spaces and
    units of the NIfTI file that the image came from.

    float16 becomes float32, bool uint8, and 64-bit integers the smallest type that holds them. Channels become a vector.
    2D becomes one slice. A qform cannot hold shear: a sheared grid gets an sform alone. Of the description there is room for 79
    letters, in ASCII.
    Raises ResourceError DISK_FULL.
    """
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    array = _storable(image.array)
    spatial = array.reshape(array.shape[0], *((1,) if image.ndim == 2 else ()), *array.shape[1:])
    # (C, d, h, w) -> (w, h, d) or, with channels, (w, h, d, 1, C)
    voxels = spatial.transpose(3, 2, 1, 0)
    voxels = voxels[..., 0] if image.channels == 1 else voxels[:, :, :, np.newaxis, :]
    kind: Any = Nifti2Image if max(voxels.shape) > np.iinfo(np.int16).max else Nifti1Image
    out = kind(voxels, None, dtype=voxels.dtype)
    out.header["descrip"] = image.meta.description.encode("ascii", "replace")[:79]
    if image.channels > 1:
        out.header.set_intent("vector")
    set_spaces(out.header, world_of(image.geometry), image.meta.spaces or Spaces(), image.ndim)
    with limits.atomic(path, array.nbytes + max(_SIZES)) as beside:
        out.to_filename(beside)


def _header_of(path: Path) -> Path:
    """The header that belongs to an .img file; every other path itself."""
    name = path.name.lower()
    if not name.endswith((".img", ".img.gz")):
        return path
    stem = path.name[: name.rindex(".img")]
    beside = (path.with_name(f"{stem}.hdr"), path.with_name(f"{stem}.hdr.gz"))
    return next((header for header in beside if header.is_file()), path)


def _has_magic(head: bytes, size: int) -> bool:
    return head[_SIZES[size] :][:3] in _MAGICS


def _header_size(head: bytes) -> int | None:
    return next((s for s in _SIZES if head[:4] in (s.to_bytes(4, "little"), s.to_bytes(4, "big"))), None)


def _header(path: Path, file: Path) -> Any:
    """nibabel's header, of NIfTI or, where it has no magic, of Analyze. Raises InputError TRUNCATED, BAD_HEADER."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spm2analyze import Spm2AnalyzeHeader

    with file.open("rb") as stream:
        block = bytearray(max(_SIZES))
        got = open_stream(stream, path).fill(memoryview(block))
    head = bytes(block)
    size = _header_size(head) or min(_SIZES)
    if got < size:
        raise limits.truncated(path, got, size, "header")
    kind: Any = Nifti1Header if size == 348 else Nifti2Header
    if not _has_magic(head, size):
        if not analyze.recognises(head):
            raise _bad(path, "a header without a magic", "NIfTI or Analyze 7.5")
        kind = Spm2AnalyzeHeader
    order = "<" if head[:4] == size.to_bytes(4, "little") else ">"
    return kind(head[:size], endianness=order, check=False)


def _layout(path: Path, choices: Choices) -> tuple[Layout, float, float, Spaces | None]:
    """The header, checked; slope and intercept; the spaces of a NIfTI file. Raises as `read` does."""
    from nibabel.spatialimages import HeaderDataError

    file = _header_of(path)
    header = _header(path, file)
    magic = header["magic"].item()[:3] if "magic" in header else b""

    dims = [int(d) for d in header["dim"]]
    rank = dims[0]
    if not 1 <= rank <= 7 or min(dims[1 : rank + 1]) < 1:
        raise _bad(path, f"dim = {dims}", "1 to 7 axes of at least one voxel")
    sizes = dims[1 : rank + 1] + [1] * (7 - rank)
    if rank == 1 or max(sizes[5:]) > 1:
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"shape {tuple(dims[1 : rank + 1])}",
            expected="2 or 3 axes of space, one of time, one of components",
            fix="cut the axes out",
        )
    w, h, d, volumes, channels = sizes[:5]
    if channels == 1 and magic and int(header["intent_code"]) in _VECTORS:
        volumes, channels = 1, volumes
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError):
        dtype = np.dtype(object)
    if (dtype.kind not in "iuf" and dtype.fields is None) or dtype.itemsize > 8:
        raise _bad(path, f"datatype {int(header['datatype'])}", "real numbers of 8 to 64 bits, RGB24 or RGBA32")
    if dtype.fields is not None and channels > 1:
        raise _bad(path, f"colours with dim = {dims}", "one colour a voxel")

    spatial = (h, w) if d == 1 else (d, h, w)
    sizes = [w, h, d, volumes, channels]
    check_claim(path, dtype, sizes, _ROLES)
    check_spacing(path, header, len(spatial))
    affine, notes = affine_of(path, header, (w, h, d), choices) if magic else analyze.affine_of(file, header)
    spaces = spaces_of(header, affine, choices) if magic else None
    geometry = Geometry(spatial, affine[:, [1, 0, 3]] if d == 1 else affine[:, [2, 1, 0, 3]])

    offset = float(header["vox_offset"])
    single = magic in (b"n+1", b"n+2")
    least = header.sizeof_hdr if single else 0
    if not np.isfinite(offset) or offset < least or not offset.is_integer():
        raise _bad(path, f"vox_offset = {offset:g}", f"a whole number of at least {least}")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope) or dtype.fields is not None:
        slope, inter = 1.0, 0.0  # the standard: 0 means no scaling; nibabel writes NaN for the same
    elif not np.isfinite(inter):
        raise _bad(path, f"scl_inter = {inter:g}", "a finite number beside scl_slope")
    data = file if single else _image_of(file)
    with data.open("rb") as stream:
        packed = stream.read(len(GZIP)) == GZIP
    layout = Layout(data, dtype, tuple(sizes), _ROLES, geometry, packed=packed, skip=int(offset), notes=notes)
    return layout, slope, inter, spaces


def _image_of(header: Path) -> Path:
    """The voxel file of a pair. Raises InputError NOT_FOUND."""
    stem = header.name[: header.name.lower().rindex(".hdr")] if ".hdr" in header.name.lower() else header.stem
    for ending in (".img", ".img.gz", ".IMG"):
        if (data := header.with_name(stem + ending)).is_file():
            return data
    raise InputError(
        "NOT_FOUND",
        header,
        found="a header without voxels",
        expected=f"{stem}.img beside it",
        fix="copy both files of the pair",
    )


def _colours(array: npt.NDArray[Any], notes: tuple[str, ...]) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Structured RGB or RGBA voxels (1, *spatial) -> (3, *spatial) uint8."""
    names = array.dtype.names or ()
    if len(names) == 4 and (array[names[3]] != 255).any():
        notes += ("alpha was dropped: it is not opaque everywhere",)
    return np.stack([array[0][name] for name in names[:3]]), notes


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array in a dtype that NIfTI readers know, values unchanged."""
    array = storable(array)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        low, high = int(array.min()), int(array.max())
        kinds = (np.uint8, np.int16, np.uint16, np.int32)
        fits = (k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
        return array.astype(next(fits, array.dtype))
    return array


def _bad(path: Path, found: str, expected: str) -> InputError:
    return InputError("BAD_HEADER", path, found=found, expected=expected, fix="repair the header or export the image again")
