"""Cells of a manifest: what is written is what is read, and what no cell can say is refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Class
from hounsfield.data.cells import About, about, about_file, boxes_cell, boxes_of, class_words, words

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(min_size=1).map(str.strip).filter(lambda name: name and "|" not in name)


@given(st.lists(st.tuples(names, st.lists(numbers, min_size=4, max_size=6).map(tuple))))
def test_boxes_return_to_the_last_bit(boxes: list[tuple[str, tuple[float, ...]]]) -> None:
    assert boxes_of(boxes_cell(boxes)) == boxes


def test_boxes_as_one_writes_them_by_hand() -> None:
    assert boxes_of("grade 3: 1 2 3.5 4e0|  a: b : 0 0 0 1 1 1 |") == [
        ("grade 3", (1, 2, 3.5, 4)),
        ("a: b", (0, 0, 0, 1, 1, 1)),
    ]
    assert boxes_of(" ") == []
    assert boxes_cell([("mass", (1.0, 2.0, 3.5, 40.0))]) == "mass: 1 2 3.5 40"


@pytest.mark.parametrize("cell", ["1 2 3 4", ": 1 2 3 4", "mass: 1 2 x 4", "mass 1 2 3 4 | a: 1 2 3 4"])
def test_cells_that_are_no_boxes(cell: str) -> None:
    with pytest.raises(ValueError, match=r"without a class|could not convert"):
        boxes_of(cell)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "a", "b", "1", "2", "x|y", " c"])), unique_by=lambda c: c[0]))
def test_a_class_is_found_by_its_word_or_refused(pairs: list[tuple[int, str]]) -> None:
    classes = [Class(value=value, name=name) for value, name in pairs]
    clash = {name for _, name in pairs} & {str(value) for value, _ in pairs}
    with pytest.raises(InputError, match="BAD_OPTION") if clash and refused(classes) else nullcontext():
        assert [words(classes)[word] for word in class_words(classes)] == list(range(len(classes)))


def refused(classes: list[Class]) -> bool:
    """Whether a class can be called neither by its name, which another has or no cell holds, nor by its value, which is
    another's name."""
    names = [c.name for c in classes]
    plain = [n for n in names if names.count(n) == 1 and n == n.strip() != "" and "|" not in n]
    alone = [n for n in names if names.count(n) == 1]
    return any(c.name not in plain and str(c.value) in alone and str(c.value) != c.name for c in classes)


def test_what_stands_beside(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    assert about(manifest) == About(schema=1)
    said = About(schema=1, classes=(Class(value=7, name="a", colour=(1, 2, 3), code=("SCT", "1", "x")),), channels=("T1w",))
    about_file(manifest).write_text(said.to_json())
    assert about(manifest) == said
    assert json.loads(about_file(manifest).read_text())["schema"] == 1


@pytest.mark.parametrize("text", ["[1]", "{", '{"classes": 3}', '{"klasses": []}', '{"classes": [{"name": "a"}]}'])
def test_what_stands_beside_is_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.classes.json").write_text(text)
    with pytest.raises(InputError, match=r"BAD_MANIFEST .*manifest\.classes\.json"):
        about(tmp_path / "manifest.csv")
