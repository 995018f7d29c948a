"""What identifies is found again, in any case, order and encoding; what anybody's header holds is not taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.io.deidentify.identifiers import Collector, Identifiers, date_forms, telling


def of(*, name: str = "", phrase: str = "", uid: str = "", date: str = "") -> Identifiers:
    collector = Collector()
    collector.name(name)
    collector.phrase(phrase)
    collector.uid(uid)
    collector.date(date)
    return collector.identifiers()


@pytest.mark.parametrize("text", ["ZWICKER", "for zwicker, o.", "Ottilie_Zwicker-01", "x/Zwicker/y", "OTTILIE ANN"])
def test_each_part_of_a_name_is_found(text: str) -> None:
    assert of(name="Zwicker^Ottilie^Ann").are_in(text)


@pytest.mark.parametrize("text", ["", "Zwickerlein", "Ann Ottil", "axial", "an n"])
def test_other_words_are_not(text: str) -> None:
    assert not of(name="Zwicker^Ottilie").are_in(text)


def test_an_institution_is_found_as_a_whole() -> None:
    place = of(phrase="Elm Valley Hospital")
    assert place.are_in("at elm-valley hospital, ward 3")
    assert not place.are_in("Elm Street, valley of a hospital")


@pytest.mark.parametrize(
    ("words", "tells"),
    [
        (("doe",), True),
        (("li",), False),
        (("li", "wu"), True),
        (("ct1",), False),
        (("1ct1",), True),
        (("1234",), False),
        (("12345",), True),
        (("head", "phantom"), False),
        (("head", "doe"), True),
        (("\u5c71",), False),
        (("\u5c71\u7530",), True),
    ],
)
def test_what_is_too_short_or_too_common(words: tuple[str, ...], tells: bool) -> None:
    assert telling(words) is tells


def test_uids_are_compared_as_a_whole() -> None:
    one = of(uid="1.2.826.0.1.5")
    assert one.are_in("see 1.2.826.0.1.5 there")
    assert not one.are_in("1.2.826.0.1.55")
    assert not one.are_in("1.2.826.0.1")
    assert not of(phrase="20240131").are_in("1.2.20240131.7.9"), "the parts of a UID are no words"
    assert of(uid="1.2.3") == Identifiers(), "too short to be a UID of somebody"


@pytest.mark.parametrize("text", ["20240131", "2024-01-31", "31.01.2024", "01/31/2024"])
def test_a_day_is_found_as_it_is_written(text: str) -> None:
    assert of(date="20240131").are_in(f"on {text} at noon")
    assert not of(date="20240131").without_dates(["20240131"]).are_in(text)


def test_the_dummy_day_is_nobodys() -> None:
    assert date_forms("19000101") == date_forms("not a day") == set()


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=12), st.binary(max_size=50), st.binary(max_size=50))
def test_bytes_are_searched_in_every_width(word: str, before: bytes, after: bytes) -> None:
    who = of(phrase=f"qz{word}")
    for code in (f"QZ{word}".encode(), f"qz{word}".encode("utf-16-le"), f"Qz{word}".encode("utf-16-be")):
        assert who.are_in_bytes(before + b"\1\0\0\1" + code + b"\1\0\0\1" + after)


@pytest.mark.parametrize("codec", ["utf-8", "iso8859-5", "utf-16-le", "utf-16-be"])
def test_words_beyond_ascii_are_found_in_their_encodings(codec: str) -> None:
    who = of(name="\u0418\u0432\u0430\u043d\u043e\u0432")
    assert who.are_in_bytes(b"\1\2" + "\u0418\u0412\u0410\u041d\u041e\u0412".encode(codec))
    assert who.are_in("x\u0438\u0432\u0430\u043d\u043e\u0432x")


def test_kanji_are_found_in_iso_2022() -> None:
    who = of(name="Yamada^Tarou=\u5c71\u7530^\u592a\u90ce")
    assert who.are_in_bytes(b"\1" + "\u5c71\u7530".encode("iso2022_jp"))
    assert not who.are_in_bytes(bytes(range(256)) * 4)


def test_what_files_share_leaves_out_single_words() -> None:
    shared = Identifiers.shared_by([of(name="Siemens^Ann", phrase="QX-778812", uid="1.2.826.0.1.5"), of(phrase="AB1234")])
    assert shared.phrases == {("siemens", "ann"), ("qx", "778812"), ("ab1234",)}
    assert shared.uids == {"1.2.826.0.1.5"}
    assert not shared.are_in("Siemens")
