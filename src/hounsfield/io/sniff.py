"""Says what bytes look like, for the message about a file that no format reads."""

from __future__ import annotations

import codecs

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer instead of the file (run git lfs pull)"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "gzip of something else"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x89HDF", "HDF5"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"II+\0", "BigTIFF"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 codestream"),
    (b"NRRD", "NRRD"),
    (b"ObjectType", "MetaImage"),
    (b"MATLAB 5", "a MATLAB file"),
    (b"SQLite", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)


def describe(head: bytes) -> str:
    """What a file that starts with `head` looks like: "a PDF document", "HTML", "text", "unknown bytes 00 ff ..."."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        text = ""
    if text and sum(c.isprintable() or c.isspace() for c in text) == len(text):
        return _text_kind(text.lstrip())
    return f"unknown bytes {head[:8].hex(' ')}"


def _text_kind(text: str) -> str:
    lower = text[:512].lower()
    if lower.startswith(("<!doctype html", "<html")) or "<html" in lower:
        return "HTML (a web page, perhaps of a failed download)"
    if lower.startswith("<?xml") or (lower.startswith("<") and ">" in lower):
        return "XML"
    if lower.startswith(("{", "[")):
        return "JSON"
    return "text"
