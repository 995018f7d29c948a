"""JPEG, JPEG-LS and JPEG 2000 streams without remarks: comments, EXIF, thumbnails; the coded pixels keep every byte.

JPEG and JPEG-LS: ITU-T T.81, annex B, and T.87; JPEG 2000: ITU-T T.800, annex A.
"""

from __future__ import annotations

from typing import Final

JPEG: Final = b"\xff\xd8"
JPEG_2000: Final = b"\xff\x4f\xff\x51"
_SOS, _EOI, _COM, _APP0, _APP8, _APP14 = 0xDA, 0xD9, 0xFE, 0xE0, 0xE8, 0xEE
_SOT, _SOD, _END, _COM_2000 = 0xFF90, 0xFF93, 0xFFD9, 0xFF64


def cleaned(stream: bytes) -> bytes:
    """A frame of either kind without remarks; of a .jp2 file its codestream alone. Raises ValueError where it is damaged."""
    if stream.startswith(JPEG):
        return clean_jpeg(stream)
    at = stream.find(JPEG_2000, 0, 4096)
    if at < 0:
        raise ValueError("no start of an image")
    return _clean_jpeg_2000(stream[at:])


def clean_jpeg(stream: bytes, exif: bytes = b"") -> bytes:
    """Only segments that decoding needs, and `exif` in an APP1 segment where it is given. Nothing after the image's end is
    kept. Raises ValueError where the stream is damaged."""
    out = [JPEG]
    if exif:
        out.append(b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif)
    at = 2
    while True:
        while stream[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at + 2 > len(stream) or stream[at] != 0xFF:
            raise ValueError("no marker where one is due")
        marker = stream[at + 1]
        if marker == _EOI:
            return b"".join((*out, stream[at : at + 2]))
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if end > len(stream) or end < at + 4:
            raise ValueError("a segment beyond the end")
        out += [_segment(marker, stream[at:end])]
        at = end
        if marker == _SOS:
            at = _scan_end(stream, end)
            out.append(stream[end:at])
            if at == len(stream):  # without an end marker, as some writers leave it
                return b"".join(out)


def _segment(marker: int, segment: bytes) -> bytes:
    """The segment, its thumbnail cut off where it has one; b"" of a remark."""
    body = segment[4:]
    if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return b"\xff\xe0\x00\x10" + body[:12] + b"\0\0"
    decodes = (marker == _APP14 and body.startswith(b"Adobe")) or (marker == _APP8 and body.startswith(b"mrfx"))
    return segment if decodes or not (_APP0 <= marker < _APP0 + 16 or marker == _COM) else b""


def _scan_end(stream: bytes, at: int) -> int:
    """Where coded data that begin at `at` end: at a marker other than a restart. Coded data have no byte of C0 or more after FF
    otherwise."""
    while (at := stream.find(b"\xff", at)) >= 0 and at + 1 < len(stream):
        following = stream[at + 1]
        if following >= 0xC0 and not 0xD0 <= following < 0xD8 and following != 0xFF:
            return at
        at += 1
    return len(stream)


def _clean_jpeg_2000(stream: bytes) -> bytes:
    """Its comments overwritten by zeros, so that no length in it changes."""
    out = bytearray(stream)
    at, tile_end = 2, 0
    while at + 4 <= len(stream):
        marker = int.from_bytes(stream[at : at + 2], "big")
        if marker == _END:
            return bytes(out[: at + 2])
        if marker == _SOD:
            if not tile_end:
                break
            at, tile_end = tile_end, 0
            continue
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker < 0xFF00 or length < 2 or at + 2 + length > len(stream):
            raise ValueError("a segment beyond the end")
        if marker == _SOT:
            size = int.from_bytes(stream[at + 6 : at + 10], "big")
            tile_end = at + size if size else 0  # 0: as far as the end of the stream
        elif marker == _COM_2000:
            out[at + 6 : at + 2 + length] = bytes(length - 4)
        at += 2 + length
    return bytes(out)
