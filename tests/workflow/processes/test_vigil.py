"""One of two processes fails in every way: the other ends soon with the same exit code, and the user reads once why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.workflow.processes.vigil import BEAT, LOST, PATIENCE, Failure, lost

ROOT = Path(__file__).parents[3]
Pairs = Mapping[str, Mapping[str, list[Any]]]
GONE = "RANK_LOST rank {}: found no sign of life {}, expected all processes until the end; fix: look for memory"
LABEL = "BAD_LABEL case 7: found a, expected b; fix: c\n"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked here")
    folder = tmp_path_factory.mktemp("pairs")
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    command = [sys.executable, "-m", "tests.workflow.processes.pairs", str(folder)]
    subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path, "TORCH_CPP_LOG_LEVEL": "ERROR"}, check=True, timeout=90
    )
    found: Pairs = json.loads((folder / "pairs.json").read_text())
    return found


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("both well", [0, 0]),
        ("1 killed", [3, -9]),
        ("1 killed, 0 in a collective", [3, -9]),
        ("0 killed", [-9, 3]),
        ("1 refuses", [2, 2]),
        ("0 refuses", [2, 2]),
        ("1 without memory", [3, 3]),
        ("0 without memory", [3, 3]),
        ("both diverged", [4, 4]),
        ("1 faulty", [1, 1]),
        ("both interrupted", [130, 130]),
    ],
)
def test_both_end_with_one_exit_code(pairs: Pairs, name: str, codes: list[int]) -> None:
    assert pairs[name]["codes"] == codes, pairs[name]["said"]


@pytest.mark.parametrize(
    ("name", "speaker", "words"),
    [
        ("1 killed", 0, GONE.format(1, "for ")),
        ("1 killed, 0 in a collective", 0, GONE.format(1, "for ")),
        ("0 killed", 1, GONE.format(0, "any more")),
        ("1 refuses", 0, LABEL),
        ("0 refuses", 0, LABEL),
        ("1 without memory", 0, "OUT_OF_MEMORY rank 1: training: found 2 GiB, expected memory for it; fix: less\n"),
        ("0 without memory", 0, "OUT_OF_MEMORY rank 0: training: found 2 GiB, expected memory for it; fix: less\n"),
        ("both diverged", 0, "NAN_LOSS members/0-0: found loss nan, expected a finite loss; fix: a lower rate\n"),
    ],
)
def test_one_process_tells_once(pairs: Pairs, name: str, speaker: int, words: str) -> None:
    said = pairs[name]["said"]
    begin = words.split("for ")[0] if "sign of life for" in words else words
    assert said[speaker].startswith(begin), said
    assert said[speaker].count("\n") == 1
    assert said[1 - speaker] == ""


def test_nothing_is_said_of_what_went_well(pairs: Pairs) -> None:
    assert pairs["both well"]["said"] == ["", ""]


def test_a_fault_shows_where_it_is(pairs: Pairs) -> None:
    zero, one = pairs["1 faulty"]["said"]
    assert zero == "rank 1: KeyError: 'a fault of ours'\n"
    assert "Traceback" in one
    assert "in fault" in one


def test_nobody_waits_longer_than_for_the_sign_of_life(pairs: Pairs) -> None:
    """Which is 1.5 s here, and with what it takes to tell well below a minute otherwise."""
    assert max(second for pair in pairs.values() for second in pair["seconds"]) < 15
    assert LOST + 3 * BEAT < PATIENCE < 60


def test_a_failure_survives_the_way_to_the_others() -> None:
    error = InputError("BAD_LABEL", "case", found="a", expected="b", fix="c")
    sent = Failure(**json.loads(json.dumps(asdict(Failure.of(error, 3)))))
    assert (type(sent.error()), str(sent.error())) == (InputError, str(error))
    assert str(Failure.of(error, 3, training=True).error()).startswith("BAD_LABEL rank 3: case: ")
    assert isinstance(lost(2, "nothing"), ResourceError)
    assert lost(-1, "nothing").where == "the process that started the others"
