"""A dataset made ready: read, divided, audited, and told."""

from __future__ import annotations

from pathlib import Path

from hounsfield.workflow.console import Silent
from hounsfield.workflow.ready import Options, open_ready


class Told(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_what_was_found_and_how_it_was_divided_is_said(phantoms: Path) -> None:
    console = Told()
    ready = open_ready(phantoms, Options(test=0.25), console)
    assert [len(ready.part(p)) for p in ("train", "val", "test")] == [14, 4, 6]
    assert "24 cases" in console.lines[0]
    assert console.lines[-1] == "split (drawn): 14 train, 4 val, 6 test"


def test_folds_divide_what_trains(phantoms: Path) -> None:
    console = Told()
    ready = open_ready(phantoms, Options(folds=3), console)
    assert console.lines[-1] == "split (drawn): 24 train, in 3 folds"
    assert (len(ready.part("train")), ready.part("val")) == (24, ())
    parts = [ready.fold(k) for k in range(3)]
    assert sorted(s.id for part in parts for s in part.part("val")) == [s.id for s in ready.dataset.samples]
    for part in parts:
        assert {s.id for s in part.part("train")}.isdisjoint(s.id for s in part.part("val"))
        assert len(part.part("train")) + len(part.part("val")) == 24
