"""Every file opens with a docstring and holds one thing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(p for folder in ("src", "tests") for p in (ROOT / folder).rglob("*.py"))
MOST_LINES = 400


def faults(text: str) -> list[str]:
    """What is wrong with the shape of a file of this text."""
    found = []
    lines = text.count("\n") + 1
    if lines > MOST_LINES:
        found.append(f"{lines} lines, at most {MOST_LINES}: it holds two things")
    opening = ast.get_docstring(ast.parse(text))
    if not opening:
        found.append("no docstring")
    elif "\n" in opening.partition("\n\n")[0] or not opening.partition("\n\n")[0].endswith((".", "?", "!")):
        found.append(f"does not open with one line that is a sentence: {opening.partition(chr(10))[0]!r}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file(path: Path) -> None:
    assert faults(path.read_text()) == []


def test_faults_are_found() -> None:
    assert faults('"""One sentence."""\n') == []
    assert faults('"""One sentence.\n\nMore of it.\n"""\n') == []
    assert faults("import os\n") == ["no docstring"]
    assert "sentence" in faults('"""A title\nover two lines."""\n')[0]
    assert faults('"""One sentence."""\n' + "x = 1\n" * 400) == ["402 lines, at most 400: it holds two things"]
