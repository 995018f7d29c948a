"""NIfTI-1 and NIfTI-2: one file or a .hdr/.img pair, plain or gzip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.io import limits
from hounsfield.io.formats import Choices, Peek
from hounsfield.io.formats._nifti_affine import affine_of, check_spacing
from hounsfield.io.stream import GZIP, Inflated, open_stream
from hounsfield.io.values import rescaled

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
WRITES = (".nii", ".nii.gz")

_SIZES = {348: 344, 540: 4}  # size of the header: offset of its magic
_MAGICS = (b"n+1", b"ni1", b"n+2", b"ni2")
# Intent codes whose fourth axis counts components of one voxel: symmetric matrix, displacement, vector, RGB, RGBA.
_VECTORS = (1005, 1006, 1007, 2003, 2004)
# A qform is written where it repeats the affine to this part of a voxel.
_SHEAR = 1e-3
# Bytes after the voxels that are passed over to reach the gzip checksum; more is a bomb or a wrong header.
_SLACK = 1 << 20


@dataclass(frozen=True)
class _Layout:
    """Where voxels lie in the file: `channels` blocks of `volumes` volumes of geometry.shape, from `offset` on in `data`."""

    data: Path
    offset: int
    geometry: Geometry
    channels: int
    volumes: int
    dtype: np.dtype[Any]
    slope: float
    inter: float
    notes: tuple[str, ...]


def recognises(path: Path, head: bytes) -> bool:
    """NIfTI's header size and magic, in either byte order, under gzip or not; an .img file beside its header."""
    if _header_of(path) != path:
        return True
    if head[:2] == GZIP:
        import zlib

        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 1024)
        except zlib.error:
            return False
    size = _header_size(head)
    return size is not None and (len(head) < size or head[_SIZES[size] :][:3] in _MAGICS)


def read(path: Path, choices: Choices) -> Image:
    """(C, D, H, W), or (C, H, W) where the third axis has one voxel, in the stored dtype unless slope and intercept ask for
    another (`values.rescaled`). C: components of a vector or colour.

    Raises InputError TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS, BAD_HEADER, BAD_SPACING, BAD_AFFINE,
    AFFINE_CONFLICT, WRONG_DIMENSION.
    """
    layout = _layout(path, choices)
    array = _voxels(path, layout, _volume(path, layout, choices))
    notes = layout.notes
    if layout.dtype.fields is not None:
        array, notes = _colours(array, notes)
    elif not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    array = rescaled(array, layout.slope, layout.inter)
    return Image(array, layout.geometry, Meta(format="nifti", notes=notes))


def peek(path: Path, choices: Choices) -> Peek:
    """The header alone; of a gzip file its first bytes are inflated."""
    layout = _layout(path, choices)
    colours = layout.dtype.fields is not None
    return Peek(
        format="nifti",
        geometry=layout.geometry,
        channels=3 if colours else layout.channels,
        dtype=np.dtype(np.uint8) if colours else layout.dtype.newbyteorder("="),
        volumes=layout.volumes,
    )


def write(image: Image, path: Path) -> None:
    """One file, gzip by its ending, sform and qform in scanner coordinates, voxels as they are.

    float16 becomes float32, bool uint8, and 64-bit integers the smallest type that holds them. Channels become a vector.
    2D becomes one slice. A qform cannot hold shear: a sheared grid gets an sform alone.
    Raises ResourceError DISK_FULL.
    """
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    array = _storable(image.array)
    spatial = array.reshape(array.shape[0], *((1,) if image.ndim == 2 else ()), *array.shape[1:])
    # (C, d, h, w) -> (w, h, d) or, with channels, (w, h, d, 1, C)
    voxels = spatial.transpose(3, 2, 1, 0)
    voxels = voxels[..., 0] if image.channels == 1 else voxels[:, :, :, np.newaxis, :]
    affine = _world(image.geometry)
    kind: Any = Nifti2Image if max(voxels.shape) > np.iinfo(np.int16).max else Nifti1Image
    out = kind(voxels, None, dtype=voxels.dtype)
    out.header.set_xyzt_units("mm", "sec")
    if image.channels > 1:
        out.header.set_intent("vector")
    out.header.set_qform(affine, code=1, strip_shears=True)
    out.header.set_sform(affine, code=1)
    if not np.allclose(out.header.get_qform(), affine, rtol=0, atol=_SHEAR * min(image.geometry.spacing)):
        out.header["qform_code"] = 0
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


def _header_size(head: bytes) -> int | None:
    return next((s for s in _SIZES if head[:4] in (s.to_bytes(4, "little"), s.to_bytes(4, "big"))), None)


def _layout(path: Path, choices: Choices) -> _Layout:
    """The header, checked. Raises as `read` does."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    file = _header_of(path)
    with file.open("rb") as stream:
        block = bytearray(max(_SIZES))
        got = open_stream(stream, path).fill(memoryview(block))
    size = _header_size(bytes(block)) or min(_SIZES)
    if got < size:
        raise limits.truncated(path, got, size, "header")
    kind: Any = Nifti1Header if size == 348 else Nifti2Header
    order = "<" if block[:4] == size.to_bytes(4, "little") else ">"
    header = kind(bytes(block[:size]), endianness=order, check=False)

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
    if channels == 1 and int(header["intent_code"]) in _VECTORS:
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
    limits.claimed(path, (channels, *spatial), dtype.itemsize * 8)
    check_spacing(path, header, len(spatial))
    affine, notes = affine_of(path, header, (w, h, d), choices)
    geometry = Geometry(spatial, affine[:, [1, 0, 3]] if d == 1 else affine[:, [2, 1, 0, 3]])

    offset = float(header["vox_offset"])
    single = header["magic"].item()[:3] in (b"n+1", b"n+2")
    if not np.isfinite(offset) or offset < (size if single else 0) or not offset.is_integer():
        raise _bad(path, f"vox_offset = {offset:g}", f"a whole number of at least {size}")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope) or dtype.fields is not None:
        slope, inter = 1.0, 0.0  # the standard: 0 means no scaling; nibabel writes NaN for the same
    elif not np.isfinite(inter):
        raise _bad(path, f"scl_inter = {inter:g}", "a finite number beside scl_slope")
    data = file if single else _image_of(file)
    return _Layout(data, int(offset), geometry, channels, volumes, dtype, slope, inter, notes)


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


def _volume(path: Path, layout: _Layout, choices: Choices) -> int:
    """Index of the volume to read. Raises InputError WRONG_DIMENSION where it must be chosen, or is not there."""
    chosen = 0 if choices.volume is None and layout.volumes == 1 else choices.volume
    if chosen is None or not 0 <= chosen < layout.volumes:
        shape = (*reversed(layout.geometry.shape), layout.volumes)
        raise InputError(
            "WRONG_DIMENSION",
            path,
            found=f"{layout.volumes} volumes, shape {shape}" + ("" if chosen is None else f", and --volume {chosen}"),
            expected="one volume",
            fix=f"choose one with --volume 0 to --volume {layout.volumes - 1}",
        )
    return chosen


def _voxels(path: Path, layout: _Layout, volume: int) -> npt.NDArray[Any]:
    """(C, *spatial) in the stored dtype: x runs fastest in the file, so it comes in C order of (d, h, w) as it lies."""
    shape = (layout.channels, *layout.geometry.shape)
    one = layout.dtype.itemsize * int(np.prod(layout.geometry.shape, dtype=np.int64))
    needed = one * layout.volumes * layout.channels
    size = layout.data.stat().st_size
    with layout.data.open("rb") as file:
        stream = open_stream(file, path)
        packed = isinstance(stream, Inflated)
        holds = size * limits.DEFLATE_RATIO if packed else size
        if layout.offset + needed > holds and not packed:
            raise limits.truncated(path, max(0, size - layout.offset), needed, "voxels")
        if layout.offset + needed > holds:
            raise InputError(
                "TOO_LARGE",
                path,
                found=f"a claim of {limits.size_text(needed)} of voxels by {size} bytes of gzip",
                expected=f"at most {holds} bytes, all that these can hold",
                fix="copy or export the file again",
            )
        array = np.empty(shape, dtype=layout.dtype)
        found = -layout.offset + stream.skip(layout.offset)
        for channel in range(layout.channels):
            before = one * volume
            after = one * (layout.volumes - 1 - volume)
            parts = (
                stream.skip(before) if before else 0,
                stream.fill(array[channel].reshape(-1).view(np.uint8).data),
                stream.skip(after) if after else 0,
            )
            found += sum(parts)
        if found < needed:
            raise limits.truncated(path, max(0, found), needed, "voxels")
        if packed:
            _check_end(path, size, stream.skip(_SLACK), stream.whole)
    return array


def _check_end(path: Path, size: int, beyond: int, whole: bool) -> None:
    if beyond >= _SLACK:
        raise InputError(
            "EXPANDS_TOO_FAR",
            path,
            found=f"more than {beyond} bytes after the voxels that the header claims",
            expected="the end of the compressed data",
            fix="check where the file came from, or repair its header",
        )
    if not whole:
        raise InputError(
            "TRUNCATED",
            path,
            found=f"{size} bytes of gzip without its end",
            expected="its checksum after the voxels",
            fix="copy or export the file again",
        )


def _colours(array: npt.NDArray[Any], notes: tuple[str, ...]) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Structured RGB or RGBA voxels (1, *spatial) -> (3, *spatial) uint8."""
    names = array.dtype.names or ()
    if len(names) == 4 and (array[names[3]] != 255).any():
        notes += ("alpha was dropped: it is not opaque everywhere",)
    return np.stack([array[0][name] for name in names[:3]]), notes


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array in a dtype that NIfTI readers know, values unchanged."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        low, high = int(array.min()), int(array.max())
        kinds = (np.uint8, np.int16, np.uint16, np.int32)
        fits = (k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
        return array.astype(next(fits, array.dtype))
    return array


def _world(geometry: Geometry) -> npt.NDArray[np.float64]:
    """The affine (4, 4) of (x, y, z); a 2D grid's third axis is 1 mm along its normal."""
    if geometry.ndim == 3:
        return np.asarray(geometry.affine[:, [2, 1, 0, 3]])
    affine = np.zeros((4, 4))
    affine[:, [0, 1, 3]] = geometry.affine[:, [1, 0, 2]]
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    affine[:3, 2] = normal / np.linalg.norm(normal)
    return affine


def _bad(path: Path, found: str, expected: str) -> InputError:
    return InputError("BAD_HEADER", path, found=found, expected=expected, fix="repair the header or export the image again")
