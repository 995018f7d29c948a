"""Arrays in .npy and .npz files: headers checked against the bytes that are there before anything is allocated."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hounsfield.core.errors import InputError
from hounsfield.io import limits

NPY = b"\x93NUMPY"
# What zipfile raises for a damaged directory (also an offset before the file), an unknown version or method, a password,
# and spoilt data.
ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_HEAD = 1 << 16  # bytes that are read for a header: NumPy takes memory for all that it claims to have, and believes 10,000
_FIX = "copy or export the file again"


@dataclass(frozen=True)
class Stored:
    """One array in a file. start: bytes of its header. member: its entry in the archive, None in a .npy."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int
    member: zipfile.ZipInfo | None

    def load(self) -> npt.NDArray[Any]:
        """The array in native byte order, C order unless stored otherwise. Raises InputError CORRUPT_PIXELS, TRUNCATED."""
        flat = np.empty(math.prod(self.shape), dtype=self.dtype)
        with opened(self.path, self.member) as file:
            file.read(self.start)
            view = flat.view(np.uint8).data
            done = 0
            while done < len(view) and (got := file.readinto(view[done:])):  # type: ignore[attr-defined]
                done += got
        if done < len(view):
            raise limits.truncated(self.path, done, len(view), "the array")
        if not flat.dtype.isnative:
            flat = flat.byteswap(inplace=True).view(flat.dtype.newbyteorder("="))
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


def stored(path: Path) -> Mapping[str, Stored]:
    """Every array of the file by name; that of a .npy is called "image".

    Raises InputError UNSAFE_FILE, BAD_HEADER, TRUNCATED, TOO_LARGE, EXPANDS_TOO_FAR, CORRUPT_PIXELS, UNSUPPORTED_SYNTAX.
    """
    with path.open("rb") as file:
        if file.read(len(NPY)) == NPY:
            return {"image": _header(path, None)}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    except ZIP_FAULTS as error:
        raise InputError(
            "TRUNCATED",
            path,
            found=f"{path.stat().st_size} bytes, no ZIP directory ({error})",
            expected="a whole archive",
            fix=_FIX,
        ) from error
    return {info.filename.removesuffix(".npy"): _header(path, info) for info in members}


@contextmanager
def opened(path: Path, member: zipfile.ZipInfo | None) -> Iterator[IO[bytes]]:
    """The bytes of a .npy file or of an archive's member, whose checksum is verified at its end."""
    if member is None:
        with path.open("rb") as file:
            yield file
        return
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise InputError(
            "UNSUPPORTED_SYNTAX",
            path,
            found=f"{member.filename} in compression {member.compress_type} or encrypted",
            expected="stored or deflated arrays",
            fix="save it with numpy.savez_compressed",
        )
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file
    except ZIP_FAULTS as error:
        raise InputError(
            "CORRUPT_PIXELS", path, found=f"damaged {member.filename} ({error})", expected="an intact archive", fix=_FIX
        ) from error


def _header(path: Path, member: zipfile.ZipInfo | None) -> Stored:
    name = member.filename if member else "the array"
    with opened(path, member) as file:
        head = io.BytesIO(file.read(_HEAD))
        try:
            version = np.lib.format.read_magic(head)
            parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = parse(head)
        # NumPy parses the header as Python text, and lets through what the parser raises.
        except (ValueError, SyntaxError, TokenError) as error:
            size = path.stat().st_size if member is None else member.file_size
            code = "TRUNCATED" if str(error).startswith("EOF") else "BAD_HEADER"
            found = f"{name} of {size} bytes: {error}"
            raise InputError(code, path, found=found, expected="a NumPy header", fix=_FIX) from error
        start = head.tell()
    if dtype.hasobject:
        raise InputError(
            "UNSAFE_FILE",
            path,
            found=f"{name} holds pickled objects",
            expected="plain numbers",
            fix="save numbers with allow_pickle=False",
        )
    if min(shape, default=1) < 0:
        raise InputError("BAD_HEADER", path, found=f"shape {shape}", expected="sizes of at least 0", fix=_FIX)
    needed = limits.claimed(path, shape, dtype.itemsize * 8)
    present = (path.stat().st_size if member is None else member.file_size) - start
    if present < needed:
        raise limits.truncated(path, max(0, present), needed, name)
    if present > needed and member is not None:
        raise InputError(
            "EXPANDS_TOO_FAR", path, found=f"{present} bytes in {name}", expected=f"the {needed} bytes of its header", fix=_FIX
        )
    return Stored(path, shape, dtype, fortran, start, member)
