"""The headers of many DICOM files, half of them read by a second process: pydicom keeps an interpreter to itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Final

from hounsfield.io.series import Header, read_header

# From as many files on a second process pays: it takes half a second to start.
_MANY: Final = 500
_PIECE: Final = 50
# -P: no module is taken from the folder that the user happens to be in.
_HELPER: Final = ("-P", "-c", "from hounsfield.io.headers import answer; answer()")

Pieces = deque[tuple[int, Sequence[Path]]]
Found = dict[int, list[Header | None]]


def read_headers(files: Sequence[Path]) -> list[Header | None]:
    """`series.read_header` of each file, in order."""
    starts = range(0, len(files), _PIECE)
    pieces: Pieces = deque((at, files[at : at + _PIECE]) for at in starts)
    found: Found = {}
    helper = Thread(target=_help, args=(pieces, found), name="headers", daemon=True)
    if len(files) >= _MANY and sys.executable:
        helper.start()
    try:
        while True:
            at, piece = pieces.popleft()
            found[at] = [read_header(file) for file in piece]
    except IndexError:  # all are taken
        pass
    finally:
        pieces.clear()
        if helper.ident is not None:
            helper.join()
    return [header for at in starts for header in found.get(at) or map(read_header, files[at : at + _PIECE])]


def answer() -> None:
    """The second process: a line of paths on the standard input is answered by a line of their headers."""
    for line in sys.stdin:
        headers = [read_header(Path(file)) for file in json.loads(line)]
        sys.stdout.write(json.dumps([asdict(header) if header else None for header in headers]) + "\n")
        sys.stdout.flush()


def _help(pieces: Pieces, found: Found) -> None:
    """Takes pieces from the end to a second process until none is left. A piece that fails there is left to the caller."""
    try:
        with subprocess.Popen(  # noqa: S603
            [sys.executable, *_HELPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            while True:
                at, piece = pieces.pop()
                process.stdin.write(json.dumps([str(file) for file in piece]) + "\n")
                process.stdin.flush()
                headers = json.loads(process.stdout.readline())
                found[at] = [Header(**header) if header else None for header in headers]
    except (IndexError, OSError, TypeError, ValueError):  # none is left, it did not start, it ended
        return
