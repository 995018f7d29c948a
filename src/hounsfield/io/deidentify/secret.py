"""The secret key behind pseudonyms: one key gives one pseudonym to one value, over files, runs and sites.

Without the key nobody can tell which value stands behind a pseudonym, not even by trying values (HMAC, RFC 2104).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from hounsfield.core.errors import InputError

LEAST: Final = 32  # bytes of a key file
_SHORTEST_SHIFT: Final = 366  # days
_SHIFTS: Final = 3652


class Secret:
    """key: at least 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def new(cls) -> Secret:
        """A key that nobody has."""
        return cls(secrets.token_hex(LEAST).encode())

    @classmethod
    def read(cls, path: Path) -> Secret:
        """The key in a file: its bytes, without white space around them. Raises InputError NOT_FOUND, BAD_OPTION."""
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise InputError(
                "NOT_FOUND",
                path,
                found=f"{(error.strerror or 'no access').lower()}",
                expected="a key file",
                fix="check the path, or leave --key out: a new key is made then",
            ) from error
        if len(key) < LEAST:
            raise InputError(
                "BAD_OPTION",
                path,
                found=f"a key of {len(key)} bytes",
                expected=f"at least {LEAST}",
                fix="leave --key out: a new key is made then",
            )
        return cls(key)

    def write(self, path: Path) -> None:
        """Into a new file that its owner alone can read. Raises FileExistsError."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self._key + b"\n")

    def code(self, kind: str, text: str) -> str:
        """16 letters and digits (80 bits) for `text`; another `kind` gives another code."""
        return base64.b32encode(self._digest(kind, text)[:10]).decode()

    def uid(self, uid: str) -> str:
        """A UID for `uid`: 2.25 and a number of 128 bits (PS3.5, B.2)."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def days(self, patient: str) -> int:
        """How many days the dates of a patient move: 1 to 11 years back."""
        return -_SHORTEST_SHIFT - int.from_bytes(self._digest("days", patient)[:8], "big") % _SHIFTS

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self._key, f"{kind}\0{text}".encode(), hashlib.sha256).digest()
