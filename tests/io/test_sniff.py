"""Sniffing: a file that no format reads is called by what it looks like."""

from __future__ import annotations

import pickle

import pytest

from hounsfield.io.sniff import describe


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a WebP picture"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "unknown bytes 52 49 46 46 00 00 00 00"),
        (pickle.dumps([1]), "a Python pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"NRRD0004\n", "NRRD"),
        (b"ObjectType = Image\n", "MetaImage"),
        (bytes(5), "nothing but zero bytes"),
        ("naïve, Größe\n".encode(), "text"),
        ("\ufeff[1, 2]".encode(), "JSON"),
        (b"  \n<svg xmlns='a'></svg>", "XML"),
        (b"a\x00b", "unknown bytes 61 00 62"),
        (b"\xe9t\xe9", "unknown bytes e9 74 e9"),
    ],
)
def test_what_it_looks_like(head: bytes, told: str) -> None:
    assert describe(head) == told


def test_a_character_cut_by_the_end_of_the_head_is_still_text() -> None:
    text = ("ö" * 4096).encode()
    assert describe(text[:4095]) == describe(text[:4096]) == "text"
