"""Findings: one line each, errors that can be raised again, the worst first."""

from __future__ import annotations

import json

import pytest

from hounsfield.core.errors import CODES, InputError
from hounsfield.core.finding import FINDINGS, Finding, counted, listed, worst_first

ERROR = InputError("TRUNCATED", "a.png", found="12 bytes of pixels", expected="90 bytes", fix="copy it again")


def test_an_error_comes_back_as_it_was() -> None:
    found = Finding.of(ERROR, ["a"], ["a.png"])
    assert str(found.error()) == found.line == str(ERROR)
    assert (found.severity, found.cases, found.files) == ("error", ("a",), ("a.png",))
    with pytest.raises(InputError, match=r"TRUNCATED a\.png"):
        raise found.error()


def test_details_stand_in_the_line_and_end() -> None:
    found = Finding(severity="note", code="EMPTY_MASK", found="12 files", fix="look", files=tuple("abcdefghijkl"))
    assert found.line == "12 files: a; b; c; d; e; f; g; h; i; j; and 2 more"
    assert found.model_copy(update={"details": ("a is odd",)}).line == "12 files: a is odd"
    wrong = found.model_copy(update={"severity": "error", "code": "BAD_LABEL", "details": ("a has 9",), "where": "root"})
    assert wrong.line.startswith("BAD_LABEL root: found 12 files: a has 9, expected")


def test_the_worst_come_first_in_the_order_given() -> None:
    made = [
        Finding(severity=s, code=c, found="", fix="")
        for s, c in (("note", "a"), ("error", "b"), ("note", "c"), ("warning", "d"))
    ]
    assert [f.code for f in worst_first(made)] == ["b", "d", "a", "c"]


def test_a_finding_is_plain_json() -> None:
    found = Finding.of(ERROR, ["a"], ["a.png"])
    assert Finding.model_validate(json.loads(json.dumps(found.model_dump(mode="json")))) == found


def test_codes_have_one_meaning() -> None:
    assert set(FINDINGS) & set(CODES) == {"DUPLICATE_IMAGE"}  # which --strict makes an error
    assert all(code.isupper() and text for code, text in FINDINGS.items())


def test_words() -> None:
    assert (counted(1, "case"), counted(2000, "case"), counted(2, "copy", "copies")) == ("1 case", "2,000 cases", "2 copies")
    assert listed(["a", "b"]) == "a; b"
