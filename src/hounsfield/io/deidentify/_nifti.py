"""NIfTI: free text and extensions of the header zeroed, every other byte as it was; gzip without a file name or time."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Final, cast

from hounsfield.core.errors import InputError
from hounsfield.io import limits
from hounsfield.io.deidentify._names import collect, place
from hounsfield.io.deidentify.identifiers import Collector, Identifiers
from hounsfield.io.deidentify.result import Action, Result
from hounsfield.io.deidentify.secret import Secret
from hounsfield.io.stream import GZIP, Stream, open_stream

_LONGEST: Final = 64 << 20  # bytes of header and extensions
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class _Form:
    """Of one version of NIfTI. free: first and last byte + 1 of what may hold any text. dim, bits, offset: place and struct
    code of the numbers that say where voxels lie. magic: place, and what a single file says."""

    size: int
    free: dict[str, tuple[int, int]]
    dim: tuple[int, str]
    bits: tuple[int, str]
    offset: tuple[int, str]
    magic: tuple[int, bytes]


_ONE: Final = _Form(
    348,
    {"data_type": (4, 14), "db_name": (14, 32), "extents": (32, 38), "descrip": (148, 228), "aux_file": (228, 252)}
    | {"intent_name": (328, 344)},
    dim=(40, "8h"),
    bits=(72, "h"),
    offset=(108, "f"),
    magic=(344, b"n+1"),
)
_TWO: Final = _Form(
    540,
    {"descrip": (240, 320), "aux_file": (320, 344), "intent_name": (508, 524), "unused_str": (525, 540)},
    dim=(16, "8q"),
    bits=(14, "h"),
    offset=(168, "q"),
    magic=(4, b"n+2"),
)


def deidentify(source: Path, relative: PurePath, target: Path, secret: Secret) -> Result:
    """Writes the file `source` to `target`. Raises InputError NOT_DEIDENTIFIED (header and voxels in two files), BAD_HEADER,
    TRUNCATED, TOO_LARGE, CORRUPT_PIXELS."""
    collector = Collector()
    with source.open("rb") as file:
        packed = file.read(2) == GZIP
        stream = open_stream(file, source)
        form, order, header = _header(source, stream)
        (offset,) = _numbers(header, order, form.offset)
        rank, *dims = _numbers(header, order, form.dim)
        (bits,) = _numbers(header, order, form.bits)
        shape = [int(n) for n in dims[: max(0, int(rank))]]
        if not (1 <= rank <= 7 and min(shape) > 0 and bits > 0 and form.size + 4 <= offset <= _LONGEST):
            raise InputError(
                "BAD_HEADER",
                source,
                found=f"{rank} axes, {bits} bits and voxels from byte {offset:g} on",
                expected="1 to 7 axes of at least one voxel, after the header",
                fix="write the file anew",
            )
        left = limits.claimed(source, shape[::-1], int(bits))
        name = place(relative, _ending(relative), secret, ".nii.gz" if packed else ".nii")
        result = Result("nifti", name, Identifiers())
        extension = _taken(source, stream, int(offset) - form.size)
        if any(extension):
            result.actions[Action.REMOVE, "extension"] += 1
        for keyword, (start, stop) in form.free.items():
            if any(header[start:stop]):
                collector.phrase(header[start:stop].rstrip(b"\0").decode("latin-1"))
                result.actions[Action.EMPTY, keyword] += 1
            header[start:stop] = bytes(stop - start)
        with _writing(target, packed) as out:
            out.write(bytes(header) + bytes(len(extension)))
            while left:
                piece = _taken(source, stream, min(left, _PIECE))
                left -= len(piece)
                out.write(piece)
    collect(relative, _ending(relative), collector)
    result.identifiers = collector.identifiers()
    return result


def holds(path: Path, own: Identifiers, shared: Identifiers) -> bool:
    """Whether header, extensions or gzip's own header of a file that was written hold one of the identifiers."""
    with path.open("rb") as file:
        raw = file.read(512)
        stream = open_stream(file, path)
        form, order, header = _header(path, stream)
        (offset,) = _numbers(header, order, form.offset)
        raw += bytes(header) + _taken(path, stream, int(offset) - form.size)
    return own.are_in_bytes(raw) or shared.are_in_bytes(raw)


def _header(path: Path, stream: Stream) -> tuple[_Form, str, bytearray]:
    header = bytearray(_taken(path, stream, _ONE.size))
    order = "<" if int.from_bytes(header[:4], "little") in (_ONE.size, _TWO.size) else ">"
    form = _ONE if struct.unpack(f"{order}i", header[:4]) == (_ONE.size,) else _TWO
    header += _taken(path, stream, form.size - _ONE.size)
    start, magic = form.magic
    if header[start : start + 3] != magic:
        raise InputError(
            "NOT_DEIDENTIFIED",
            path,
            found="a header without its voxels (two files)",
            expected="one NIfTI file",
            fix="convert it with hounsfield image FILE --to FILE.nii.gz",
        )
    return form, order, header


def _numbers(header: bytearray, order: str, field: tuple[int, str]) -> tuple[float, ...]:
    return struct.unpack_from(order + field[1], header, field[0])


def _taken(path: Path, stream: Stream, count: int) -> bytes:
    """The next `count` bytes. Raises InputError TRUNCATED."""
    out = bytearray(count)
    got = stream.fill(memoryview(out))
    if got < count:
        raise limits.truncated(path, got, count, "what was to come")
    return bytes(out)


def _ending(relative: PurePath) -> str:
    name = relative.name.lower()
    return next((ending for ending in (".nii.gz", ".nii", ".gz") if name.endswith(ending)), "")


@contextmanager
def _writing(target: Path, packed: bool) -> Iterator[IO[bytes]]:
    with target.open("wb") as file:
        if not packed:
            yield file
            return
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as out:
            yield cast("IO[bytes]", out)
