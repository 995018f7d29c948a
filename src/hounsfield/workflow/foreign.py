"""Weights that torch saved, as safetensors: read in another process, which is allowed nothing but that, never in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.io.limits import check_disk, size_text

PROGRAM: Final = Path(__file__).with_name("_unpickle.py")
ROOM: Final = 2**32  # bytes of memory that the program may take, beside
TIMES: Final = 4  # what the file holds: as it is read, and as it is written
SECONDS: Final = 900.0  # of wall-clock time
KEPT: Final = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # of the environment


def is_foreign(path: Path) -> bool:
    """Whether a file is a pickle or an archive of torch, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(9)
    # Safetensors begin with the length of a JSON header, whose first byte may be that of a pickle.
    return head[8:] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")


@contextmanager
def converted(path: Path) -> Iterator[Path]:
    """The tensors of a foreign file as safetensors, in a file that is gone afterwards.

    Raises InputError UNSAFE_FILE for a pickle of more than tensors, of which nothing ran; BAD_WEIGHTS for one that is damaged
    or holds no tensors; ResourceError OUT_OF_MEMORY, DISK_FULL.
    """
    size = path.stat().st_size
    with tempfile.TemporaryDirectory(prefix="hounsfield-") as folder:
        check_disk(Path(folder), 2 * size)
        target = Path(folder).resolve() / "weights.safetensors"
        found = _run(path, target, ROOM + TIMES * size)
        refused = found.get("refused", "")
        if refused == "unsafe":
            asks = f" that asks for {found['what']}" if found.get("what") else ""
            raise InputError(
                "UNSAFE_FILE",
                path,
                found=f"a pickle{asks}; nothing of it was run",
                expected="tensors alone, which cannot run code",
                fix="save the state_dict alone, or as safetensors, in the framework that wrote it",
            )
        if refused == "memory":
            raise ResourceError(
                "OUT_OF_MEMORY",
                path,
                found=f"tensors that need more than {size_text(ROOM + TIMES * size)} to be read",
                expected=f"no more than the file of {size_text(size)} can hold",
                fix="save it as safetensors in the framework that wrote it",
            )
        if refused or not found.get("tensors"):
            what = "no tensors" if not refused else f"{size_text(size)} that do not parse"
            raise InputError(
                "BAD_WEIGHTS", path, found=what, expected="weights that torch saved", fix="copy it again, or name another file"
            )
        yield target


def _run(path: Path, target: Path, allowed: int) -> dict[str, Any]:
    """What the program prints; a program that is stopped says that the file is damaged."""
    words = [sys.executable, "-I", str(PROGRAM), str(path.resolve()), str(target), str(allowed)]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603
            words, capture_output=True, text=True, check=False, timeout=SECONDS, env=kept, cwd=target.parent
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return {"refused": "damaged"}
    return found if isinstance(found, dict) else {"refused": "damaged"}
