"""The command line: options are checked before any work, and what is chosen reaches the workflow that the verb calls."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from hounsfield.cli import main
from hounsfield.data.phantoms import write_dataset
from hounsfield.io.formats import Choices

# Each verb that reads the user's files, and its other words; of these LABELS read labels too.
READERS = {
    "inspect": ["DATA"],
    "image": ["DATA"],
    "convert": ["DATA", "--to", "manifest", "--out", "OUT"],
    "train": ["DATA", "--out", "RUN"],
    "scaling": ["DATA", "--out", "STUDY"],
    "evaluate": ["RUN", "DATA"],
    "predict": ["RUN", "DATA", "--out", "OUT"],
}
LABELS = ("inspect", "convert", "train", "scaling", "evaluate")


class Called(Exception):
    """The workflow was reached."""


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *words])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def choices_of(monkeypatch: pytest.MonkeyPatch, verb: str, *more: str) -> Choices:
    """What the verb's workflow is called with."""
    caught: list[Choices] = []

    def work(*args: Any, **named: Any) -> None:
        caught.append(args[2].choices if verb in ("train", "scaling") else named["choices"])
        raise Called

    monkeypatch.setattr(importlib.import_module(f"hounsfield.workflow.{verb}"), verb, work)
    monkeypatch.setattr(sys, "argv", ["hounsfield", verb, *READERS[verb], *more])
    with pytest.raises(Called):
        main()
    return caught[0]


@pytest.mark.parametrize("verb", READERS)
def test_every_choice_reaches_the_workflow(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--volume", "3", "--frame", "0", "--affine", "qform", "--series", "T2 axial", "--allow-gaps", "--fix-tilt"]
    expected = Choices(volume=3, frame=0, affine="qform", series="T2 axial", allow_gaps=True, fix_tilt=True)
    if verb in LABELS:
        given.append("--drop-invalid")
        expected = expected.model_copy(update={"drop_invalid": True})
        assert set(expected.model_dump(exclude_defaults=True)) == set(Choices.model_fields), "a choice without an option"
    chosen = choices_of(monkeypatch, verb, *given)
    assert chosen == expected
    assert chosen.model_dump_json(exclude={"drop_invalid"}) == (
        '{"volume":3,"frame":0,"affine":"qform","allow_gaps":true,"fix_tilt":true,"series":"T2 axial"}'
    )


@pytest.mark.parametrize("verb", READERS)
def test_nothing_is_chosen_unasked(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices_of(monkeypatch, verb) == Choices()


@pytest.mark.parametrize("verb", READERS)
def test_the_choices_stand_together_in_the_help(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, verb, "--help") == 0
    panel = capsys.readouterr().out.partition("Where a file leaves a choice")[2]
    for name in Choices.model_fields:
        assert (f"--{name.replace('_', '-')} " in panel) == (name != "drop_invalid" or verb in LABELS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--test", "1"], "1 is not below 1"),
        (["--test", "nan"], "--test"),
        (["--test", "-0.1"], "--test"),
        (["--seed", "-1"], "--seed"),
        (["--volume", "-1"], "--volume"),
        (["--volume", "first"], "--volume"),
        (["--frame", "-1"], "--frame"),
        (["--affine", "pixdim"], "--affine"),
    ],
)
def test_values_outside_their_range_stop_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    assert run(monkeypatch, "train", str(tmp_path), "--out", str(tmp_path / "run"), *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert "EMPTY_FOLDER" not in err, "the folder was looked at"


def test_the_version_is_printed_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hounsfield", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert re.fullmatch(r"\d+\.\d+\.\d+", capsys.readouterr().out.strip())


def test_inspect_tells_all_before_it_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    write_dataset(data, "classification", n=24, seed=3)
    assert run(monkeypatch, "inspect", str(data), "--strict", "--json") == 0
    assert json.loads(capsys.readouterr().out)["findings"][-1]["code"] == "PATIENTS_UNKNOWN"
    names = sorted((data / "healthy").glob("*.png"))
    Pillow.new("L", (96, 96), 7).save(names[0])
    assert run(monkeypatch, "inspect", str(data)) == 0
    assert run(monkeypatch, "inspect", str(data), "--strict", "--json") == 2
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["findings"][0]["code"] == "CONSTANT_IMAGE"
    assert told.err.splitlines()[-1].startswith(
        f"FINDINGS {data}: found 1 warning (CONSTANT_IMAGE), expected none with --strict"
    )
    names[1].write_bytes(b"")
    assert run(monkeypatch, "inspect", str(data), "--html", str(tmp_path / "page.html")) == 2
    told = capsys.readouterr()
    assert "Not fit to train on" in told.out
    assert told.err.splitlines()[-1].startswith("EMPTY_FILE ")
    assert (tmp_path / "page.html").is_file()
