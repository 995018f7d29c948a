"""The values of an input that tell who somebody is, and the search for them in an output."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from hounsfield.io.deidentify._words import COMMON

Words = tuple[str, ...]

_WORD: Final = re.compile(r"[^\W_]+")
_WIDE: Final = re.compile(rb"(?:\0[ -~]){4,}|(?:[ -~]\0){4,}")  # ASCII in UTF-16, of either order
_UID: Final = re.compile(r"\d+(?:\.\d+){3,}")
# Codecs in which headers hold names; those of ISO 2022 are EUC's with the high bit cleared.
_UNICODE: Final = ("utf-8", "utf-16-le", "utf-16-be")
_CODECS: Final = (*(f"iso8859-{part}" for part in (1, 2, 5, 6, 7, 8, 9)), "tis-620", "shift_jis", "gb18030")
_EUC: Final = ("euc_jp", "euc_kr", "gb2312")


@dataclass(frozen=True)
class Identifiers:
    """phrases: words that follow each other, case-folded; uids: UIDs; foreign: words beyond ASCII as they were written, as
    their bytes depend on the case."""

    phrases: frozenset[Words] = frozenset()
    uids: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()

    @classmethod
    def shared_by(cls, many: Iterable[Identifiers]) -> Identifiers:
        """What no other person's file holds by chance: phrases of two words or more, words with a digit, UIDs."""
        phrases: set[Words] = set()
        uids: set[str] = set()
        for one in many:
            phrases.update(p for p in one.phrases if len(p) > 1 or (len(p[0]) > 4 and any(c.isdigit() for c in p[0])))
            uids.update(one.uids)
        return cls(frozenset(phrases), frozenset(uids))

    def without_dates(self, dates: Iterable[str]) -> Identifiers:
        """Without these days (YYYYMMDD)."""
        return Identifiers(self.phrases - {form for day in dates for form in date_forms(day)}, self.uids, self.foreign)

    @cached_property
    def _by_first(self) -> dict[str, list[Words]]:
        found: dict[str, list[Words]] = {}
        for phrase in self.phrases:
            found.setdefault(phrase[0], []).append(phrase)
        return found

    @cached_property
    def _bytes(self) -> frozenset[bytes]:
        return frozenset(code for word in self.foreign for code in _encoded(word))

    @cached_property
    def _long(self) -> Identifiers:
        """Those that bytes without meaning cannot be by chance."""
        long = (p for p in self.phrases if len("".join(p)) >= (7 if "".join(p).isdigit() else 5))
        return Identifiers(frozenset(long), self.uids)

    def are_in(self, text: str) -> bool:
        """Whether one of them stands in a text: whole words in any case, whatever parts them; UIDs as a whole."""
        if any(uid in self.uids for uid in _UID.findall(text)):
            return True
        plain = folded(_UID.sub(" ", text))
        if any(folded(word) in plain for word in self.foreign):
            return True
        words = _WORD.findall(plain)
        for at, word in enumerate(words):
            for phrase in self._by_first.get(word, ()):
                if tuple(words[at : at + len(phrase)]) == phrase:
                    return True
        return False

    def are_in_bytes(self, raw: bytes) -> bool:
        """Whether one of them stands in bytes that are no pixels, in UTF-8, UTF-16 or another encoding. Of ASCII alone those of
        5 letters or 7 digits and more are looked for: shorter ones are anywhere by chance."""
        if any(code in raw for code in self._bytes):
            return True
        texts = (raw, *(wide.replace(b"\0", b"") for wide in _WIDE.findall(raw)))
        return any(self._long.are_in(text.decode("latin-1")) for text in texts)


class Collector:
    """Gathers identifiers. Values too short or too common to tell anybody (`telling`) are passed over."""

    def __init__(self) -> None:
        self._phrases: set[Words] = set()
        self._uids: set[str] = set()
        self._foreign: set[str] = set()

    def name(self, text: str) -> None:
        """A person's name: as a whole, and each of its parts."""
        for group in text.split("="):
            self.phrase(group)
            for word in _WORD.findall(group):
                self.phrase(word)

    def phrase(self, text: str) -> None:
        """An id, an address, an institution: as a whole."""
        words = tuple(_WORD.findall(folded(text)))
        if words and telling(words):
            self._phrases.add(words)
        self._foreign.update(word for word in _WORD.findall(text) if len(word) > 1 and not word.isascii())

    def uid(self, text: str) -> None:
        """A UID of at least four parts."""
        if _UID.fullmatch(text):
            self._uids.add(text)

    def date(self, text: str) -> None:
        """A day, YYYYMMDD, in the orders in which days are written."""
        self._phrases.update(date_forms(text))

    def identifiers(self) -> Identifiers:
        """What was gathered."""
        return Identifiers(frozenset(self._phrases), frozenset(self._uids), frozenset(self._foreign))


def date_forms(day: str) -> set[Words]:
    """YYYYMMDD as words: 20240131, 2024 01 31, 31 01 2024, 01 31 2024; none of the dummy date."""
    if not re.fullmatch(r"\d{8}", day) or day == "19000101":
        return set()
    year, month, date = day[:4], day[4:6], day[6:]
    return {(day,), (year, month, date), (date, month, year), (month, date, year)}


def folded(text: str) -> str:
    """For comparing: composed alike, and without case."""
    return unicodedata.normalize("NFKC", text).casefold()


def telling(words: Words) -> bool:
    """Whether words can tell a person: not all of them are common in any header; at least 3 letters, 4 letters and digits, or 5
    digits (beyond ASCII: 2)."""
    text = "".join(words)
    if all(word in COMMON for word in words):
        return False
    if not text.isascii():
        return len(text) > 1
    return len(text) >= (5 if text.isdigit() else 3 if text.isalpha() else 4)


def _encoded(word: str) -> set[bytes]:
    """The word in each encoding that holds it, in its own and in other cases, where that is four bytes or more."""
    found: set[bytes] = set()
    for form in {word, word.upper(), word.lower(), word.title()}:
        for codec in (*_UNICODE, *_CODECS, *_EUC):
            try:
                code = form.encode(codec)
            except UnicodeEncodeError:
                continue
            found.add(code)
            if codec in _EUC:
                found.add(bytes(byte & 0x7F for byte in code))
    return {code for code in found if len(code) >= 4}
