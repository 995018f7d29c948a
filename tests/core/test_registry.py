"""The registry: a folder's files are its members; typos, damaged plug-ins and third parties are met by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.registry import Folder, nearest, third_parties
from hounsfield.io.formats import FORMATS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder[Any]]:
    package = tmp_path / "made_up_members"
    package.mkdir()
    for name, text in {"__init__": "", "circle": "sides = 0", "square": "sides = 4", "_shared": "", "broken": "x = 1"}.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Folder("made_up_members", "shape", ("sides",))
    for name in [name for name in sys.modules if name.startswith("made_up_members")]:
        del sys.modules[name]


def test_members_are_the_public_files(folder: Folder[Any]) -> None:
    assert folder.names() == ["broken", "circle", "square"]
    assert "made_up_members.circle" not in sys.modules
    assert folder.load("square").sides == 4


def test_a_typo_is_answered_with_the_nearest_name(folder: Folder[Any]) -> None:
    with pytest.raises(InputError) as caught:
        folder.load("sqaure")
    assert caught.value.code == "UNKNOWN_MEMBER"
    assert caught.value.fix == "did you mean 'square'?"


@pytest.mark.parametrize("name", ["_shared", "__init__", "../circle", "os"])
def test_what_is_no_member_is_not_loaded(folder: Folder[Any], name: str) -> None:
    with pytest.raises(InputError) as caught:
        folder.load(name)
    assert caught.value.code == "UNKNOWN_MEMBER"


def test_a_member_without_what_is_needed_is_named(folder: Folder[Any]) -> None:
    with pytest.raises(InputError) as caught:
        folder.load("broken")
    assert caught.value.code == "BAD_MEMBER"
    assert caught.value.found == "no sides"


class Entry:
    """An entry point of a third party."""

    name = "hexagon"

    def __init__(self, api: int) -> None:
        self.api = api

    def load(self) -> object:
        return type("Hexagon", (), {"sides": 6, "api": self.api})


@pytest.fixture
def _forgetful() -> Iterator[None]:
    """What is found in this test is not kept, and what was kept is not found."""
    third_parties.cache_clear()
    yield
    third_parties.cache_clear()


@pytest.mark.usefixtures("_forgetful")
def test_third_parties_join_by_entry_points(folder: Folder[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Entry(1)] if group == "made_up_members" else [])
    assert folder.names() == ["broken", "circle", "hexagon", "square"]
    assert folder.load("hexagon").sides == 6


@pytest.mark.usefixtures("_forgetful")
def test_a_third_party_of_another_api_is_refused(folder: Folder[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Entry(2)])
    with pytest.raises(InputError) as caught:
        folder.load("hexagon")
    assert caught.value.code == "BAD_MEMBER"
    assert caught.value.found == "api 2"


@pytest.mark.usefixtures("_forgetful")
def test_entry_points_are_looked_for_once(folder: Folder[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def entry_points(group: str) -> list[Entry]:
        asked.append(group)
        return [Entry(1)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    for _ in range(3):
        assert folder.load("hexagon").sides == 6
    assert asked == ["made_up_members"]


def test_nearest_lists_all_where_nothing_is_near() -> None:
    assert nearest("zzz", ["unet", "lenet"]) == "choose one of lenet, unet"


def test_the_real_formats_load() -> None:
    assert set(FORMATS.all()) >= {"dicom", "nifti", "numpy", "raster"}
