"""The secret key: what it makes is a function of key and value alone, and its file is its owner's."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.core.errors import InputError
from hounsfield.io.deidentify.secret import Secret

KEY = b"k" * 40


def test_a_uid_is_128_bits_of_the_hmac() -> None:
    digest = hmac.new(KEY, b"uid\x001.2.840.1", hashlib.sha256).digest()
    assert Secret(KEY).uid("1.2.840.1") == f"2.25.{int.from_bytes(digest[:16], 'big')}"


@given(st.text(), st.text())
def test_values_and_kinds_are_told_apart(one: str, other: str) -> None:
    secret = Secret(KEY)
    assert (secret.code("patient", one) == secret.code("patient", other)) == (one == other)
    assert secret.code("patient", one) != secret.code("series", one)
    assert re.fullmatch(r"[A-Z2-7]{16}", secret.code("patient", one))
    assert re.fullmatch(r"2\.25\.\d{1,39}", secret.uid(one))
    assert -4018 <= secret.days(one) <= -366


def test_shifts_differ_between_patients() -> None:
    assert len({Secret(KEY).days(str(patient)) for patient in range(200)}) > 150


def test_a_new_key_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secret = Secret.new()
    secret.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Secret.read(path).code("a", "b") == secret.code("a", "b") != Secret.new().code("a", "b")
    with pytest.raises(FileExistsError):
        Secret.new().write(path)


def test_a_short_or_missing_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^NOT_FOUND"):
        Secret.read(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"x" * 31 + b"\n\n")
    with pytest.raises(InputError, match=r"^BAD_OPTION .* 31 bytes"):
        Secret.read(tmp_path / "short")
