"""YAML that holds data: plain values come back, and nothing else is let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from hounsfield.core.errors import InputError
from hounsfield.io.yaml import load_yaml


def write(folder: Path, text: str) -> Path:
    file = folder / "a.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_plain_values_come_back(tmp_path: Path) -> None:
    text = "names: {0: a, 1: 'b'}\nlist: [1, 2.5, ~, true]\nwords: |\n  two\n  lines\n"
    expected = {"names": {0: "a", 1: "b"}, "list": [1, 2.5, None, True], "words": "two\nlines\n"}
    assert load_yaml(write(tmp_path, text), "BAD_MAPPING") == expected


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("a: !!python/object/apply:os.system ['touch hacked']", "UNSAFE_FILE", r"os\.system' in line 1"),
        ("x: 1\ny: !!python/name:os.getcwd ''", "UNSAFE_FILE", "in line 2"),
        ("a: !mine {b: 1}", "UNSAFE_FILE", "!mine"),
        ("a: &x [1]\nb: *x", "BAD_MAPPING", r"an alias \(\*name\) in line 2"),
        ("a: 1\nb: 2\na: 3", "BAD_MAPPING", "the key 'a' twice in line 3"),
        ("a: [1, 2", "BAD_MAPPING", "expected ',' or"),
        ("? [1]\n: 2", "BAD_MAPPING", "key"),
        ("a: " + "[" * 3000, "BAD_MAPPING", "."),
    ],
)
def test_what_is_no_data_is_refused_and_nothing_runs(
    text: str, code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_yaml(write(tmp_path, text), "BAD_MAPPING")
    assert caught.value.code == code
    assert not (tmp_path / "hacked").exists()


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NOT_FOUND"):
        load_yaml(tmp_path / "none.yaml", "BAD_MAPPING")
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_yaml(tmp_path / "latin.yaml", "BAD_MAPPING")
