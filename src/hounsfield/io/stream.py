"""Bytes of a plain or gzip file in order, with never more of them in memory than were asked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from hounsfield.core.errors import InputError

GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


class Stream(Protocol):
    """fill: into `out`, the number of bytes that were there. skip: passes over `count` bytes, the number that were there.
    whole: the file ended where its format says that it ends (known after skipping past the end)."""

    whole: bool

    def fill(self, out: memoryview) -> int: ...

    def skip(self, count: int) -> int: ...


class Plain:
    """A file as it lies."""

    whole = True

    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file = file
        self._size = size

    def fill(self, out: memoryview) -> int:
        done = 0
        while done < len(out) and (got := self._file.readinto(out[done:])):
            done += got
        return done

    def skip(self, count: int) -> int:
        start = self._file.tell()
        return min(self._file.seek(start + count), self._size) - min(start, self._size)


class Inflated:
    """A gzip file, several members included, a zlib stream, or with `raw` bare deflate. Checksums are verified on reaching a
    member's end. Raises InputError CORRUPT_PIXELS on damage."""

    def __init__(self, file: BufferedReader, path: Path, raw: bool = False) -> None:
        self.whole = False
        self._path = path
        self._pieces = self._inflate(file, -zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
        self._left = memoryview(b"")

    def fill(self, out: memoryview) -> int:
        done = 0
        while done < len(out) and (piece := self._take(len(out) - done)):
            out[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def skip(self, count: int) -> int:
        done = 0
        while done < count and (piece := self._take(count - done)):
            done += len(piece)
        return done

    def _take(self, most: int) -> memoryview:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        piece, self._left = self._left[:most], self._left[most:]
        return piece

    def _inflate(self, file: BufferedReader, bits: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj(bits)
        packed = b""
        try:
            while packed := packed or file.read(_PIECE // 4):
                if piece := inflater.decompress(packed, _PIECE):
                    yield piece
                packed = inflater.unconsumed_tail
                if inflater.eof:
                    packed = inflater.unused_data.lstrip(b"\0")
                    packed += file.read(_PIECE // 4).lstrip(b"\0") if len(packed) < len(GZIP) else b""
                    if bits < 0 or packed[: len(GZIP)] != GZIP:  # the end, or bytes that no tool would read
                        break
                    inflater = zlib.decompressobj(bits)
            if piece := inflater.flush():
                yield piece
        except zlib.error as error:
            raise InputError(
                "CORRUPT_PIXELS",
                self._path,
                found=f"damaged compressed data ({error})",
                expected="an intact deflate stream",
                fix="copy or export the file again",
            ) from error
        self.whole = inflater.eof


def open_stream(file: BufferedReader, path: Path) -> Stream:
    """The bytes of `file`, inflated where it is gzip; the file is read from its start."""
    file.seek(0)
    packed = file.read(2) == GZIP
    file.seek(0)
    return Inflated(file, path) if packed else Plain(file, path.stat().st_size)


def begins(head: bytes, count: int) -> bytes:
    """Up to `count` first bytes of what a file that starts with `head` stands for: inflated where it is gzip; b"" where that is
    damaged."""
    if head[: len(GZIP)] != GZIP:
        return head[:count]
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, count)
    except zlib.error:
        return b""
