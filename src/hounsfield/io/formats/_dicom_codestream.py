"""Looks at a compressed frame before its decoder does: decoders trust sizes and tables, and some abort the process.

JPEG and JPEG-LS: ITU-T T.81 annex B; JPEG 2000: ITU-T T.800 annex A.
"""

from __future__ import annotations

# Decoders in the order of trust, by transfer syntax. GDCM ends the whole process on some damaged frames, so it decodes
# only what nothing else here does: lossless JPEG.
PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.51": "pillow",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
}

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_DHT, _SOS, _APP14, _LOSSLESS, _JPEG_LS = 0xC4, 0xDA, 0xEE, 0xC3, 0xF7
# Start-of-frame markers: C0 to CF but for the tables among them (DHT, JPG, DAC), and JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {_DHT, 0xC8, 0xCC}
# Segments up to a scan: frames, tables, JPEG-LS parameters, application data, comments.
_SEGMENTS = {*range(0xC0, 0xD0), _SOS, 0xDB, 0xDD, *range(0xE0, 0xF0), _JPEG_LS, 0xF8, 0xFE}


def fault_of(frame: bytes, rows: int, columns: int, samples: int, bits: int) -> str | None:
    """What is wrong with a JPEG, JPEG-LS or JPEG 2000 frame that should hold rows x columns x samples of at most `bits`
    each, or None."""
    if frame.startswith(_JPEG):
        return _jpeg_fault(frame, (rows, columns, samples), bits)
    at = frame.find(_JPEG_2000, 0, 4096)  # some writers keep the boxes of a .jp2 file around it
    if at >= 0:
        return _jpeg_2000_fault(frame[at:], (rows, columns, samples))
    return f"no start of an image in {len(frame)} bytes"


def _jpeg_fault(frame: bytes, expected: tuple[int, int, int], bits: int) -> str | None:
    at, seen, size, transform = 2, set[int](), None, 0
    while at + 4 <= len(frame):
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        body = frame[at + 4 : at + 2 + length]
        if frame[at] == 0xFF and marker == 0xFF:  # fill bytes
            at += 1
            continue
        if frame[at] != 0xFF or marker not in _SEGMENTS or length < 2:
            return f"no marker at byte {at}"
        seen.add(marker)
        if marker == _SOS:
            return _scan_fault(seen, transform) or _size_fault(size, expected)
        if marker in _FRAMES and len(body) >= 6:
            if not 2 <= body[0] <= bits:
                return f"samples of {body[0]} bits"
            size = (int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5])
        if marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
            transform = body[11]
        at += 2 + length
    return "no scan"


def _scan_fault(seen: set[int], transform: int) -> str | None:
    """What is missing before a scan. seen: markers so far. transform: of an Adobe segment."""
    if not seen & {_DHT, _JPEG_LS}:
        return "no tables before the scan"
    # Other decoders pass over it; GDCM, which has the lossless frames, does not.
    return "an unknown colour transform" if _LOSSLESS in seen and transform > 2 else None


def _jpeg_2000_fault(frame: bytes, expected: tuple[int, int, int]) -> str | None:
    if len(frame) < 42:
        return "no image size"
    right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
    return _size_fault((bottom - top, right - left, int.from_bytes(frame[40:42], "big")), expected)


def _size_fault(size: tuple[int, int, int] | None, expected: tuple[int, int, int]) -> str | None:
    if size == expected:
        return None
    return "no image size" if size is None else f"{size[0]} rows, {size[1]} columns and {size[2]} samples inside"
