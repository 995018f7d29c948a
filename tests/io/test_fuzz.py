"""Damaged files of every format are images or named errors, within memory and time; nothing crashes, nothing hangs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.io.fuzzing import Reader, run

pytest.importorskip("resource", reason="memory is limited by POSIX's resource limits")

NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }".ljust(127) + b"\n\1\2\3\4"


def test_damaged_files_are_images_or_named_errors(tmp_path: Path) -> None:
    result = run(tmp_path / "fuzz", 400)
    assert result.faults == []
    assert result.outcomes.total() == 400
    assert len(result.outcomes) > 8  # images and a good many codes: the damage reaches the readers


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("input(); import os; os.abort()", "fault: the process ended with -6"),
        ("input(); import time; time.sleep(60)", "fault: not done in 0.5 s"),
        ("input(); print('an image', flush=True); input()", "an image"),
    ],
)
def test_a_crash_and_a_hang_are_seen(tmp_path: Path, code: str, told: str) -> None:
    read = Reader((sys.executable, "-c", code), seconds=0.5 if "sleep" in code else 20.0)
    assert read(tmp_path / "a") == told
    read.close()


def test_an_exception_of_another_kind_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(NPY)
    spoilt = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fuzzing; from hounsfield import io\n"
        "io.read = lambda path: 1 / 0\n"
        "fuzzing.serve()"
    )
    read = Reader((sys.executable, "-c", spoilt, str(Path(__file__).parent)))
    assert read(tmp_path / "a.npy").startswith("fault: ZeroDivisionError in <lambda>")
    read.close()


def test_memory_is_limited(tmp_path: Path) -> None:
    greedy = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fuzzing\n"
        "fuzzing.attempt = lambda path: str(len(bytearray(4 << 30)))\n"
        "fuzzing.serve()"
    )
    read = Reader((sys.executable, "-c", greedy, str(Path(__file__).parent)))
    assert read(tmp_path / "a") == "fault: the process ended with 1"
    read.close()
