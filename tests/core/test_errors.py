"""Errors: one line with found, expected and fix; stable codes; exit codes by kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hounsfield.core import errors
from hounsfield.core.errors import DivergedError, HounsfieldError, InputError, ResourceError, RunInterruptedError

SRC = Path(__file__).parents[2] / "src" / "hounsfield"


def test_one_line_names_code_place_found_expected_and_fix() -> None:
    error = InputError("NOT_FOUND", Path("a") / "b.nii", found="no\n such  file", expected="a file", fix="check it")
    assert str(error) == f"NOT_FOUND {Path('a') / 'b.nii'}: found no such file, expected a file; fix: check it"
    assert (error.code, error.found, error.expected, error.fix) == ("NOT_FOUND", "no\n such  file", "a file", "check it")


@pytest.mark.parametrize(
    ("kind", "code"),
    [(InputError, 2), (ResourceError, 3), (DivergedError, 4), (RunInterruptedError, 130), (HounsfieldError, 1)],
)
def test_exit_codes(kind: type[HounsfieldError], code: int) -> None:
    assert kind("NAN_LOSS", "x", found="", expected="", fix="").exit_code == code


def test_an_unknown_code_cannot_be_raised() -> None:
    with pytest.raises(KeyError, match="NO_SUCH"):
        InputError("NO_SUCH", "x", found="", expected="", fix="")


def test_every_code_has_a_meaning_and_a_name_for_scripts() -> None:
    for code, meaning in errors.CODES.items():
        assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", code)
        assert meaning.strip() == meaning != ""


def test_every_code_that_the_sources_name_is_known() -> None:
    raised = re.compile(r"(?:InputError|ResourceError|DivergedError|RunInterruptedError)\(\s*\"([A-Z_]+)\"")
    named = {(file.name, code) for file in SRC.rglob("*.py") for code in raised.findall(file.read_text(encoding="utf-8"))}
    assert len(named) > 20
    assert {(file, code) for file, code in named if code not in errors.CODES} == set()
