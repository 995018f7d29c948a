"""MD5 of files, against values that the standard gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from hounsfield.io import checksum
from hounsfield.io.checksum import md5, md5_of


@pytest.mark.parametrize(
    ("content", "expected"),  # RFC 1321, A.5
    [
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ],
)
def test_the_standards_own_values(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    assert md5_of(path) == expected
    digest = md5()
    digest.update(content[:1])
    digest.update(content[1:])
    assert digest.hexdigest() == expected


def test_a_file_of_several_pieces_is_told_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "PIECE", 2)
    path, steps = tmp_path / "a", list[tuple[int, int]]()
    path.write_bytes(b"abc")
    assert md5_of(path, lambda done, total: steps.append((done, total))) == "900150983cd24fb0d6963f7d28e17f72"
    assert steps == [(2, 3), (3, 3)]
