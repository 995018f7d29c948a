"""A program of its own: the tensors of a file that torch saved become safetensors, in a process that may do nothing else.

Usage: python -I _unpickle.py SOURCE TARGET BYTES. Prints one JSON object: the number of `tensors` that were written and the
`part` of the file that held them, or `refused`: "unsafe" (and `what` it asks for), "memory" or "damaged". Nothing but tensors
and plain containers is unpickled (weights_only); and whatever should still get to run finds no network, no other program, no
file but the target to write, BYTES of memory and SECONDS of time.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

SECONDS = 600  # of processor time
NAMED = ("state_dict", "model_state_dict", "network_weights", "model", "module", "net", "teacher", "student")
# Beginnings of what an audit hook is told of (PEP 578).
FORBIDDEN = ("socket.", "subprocess.", "ctypes.", "shutil.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def bound(allowed: int) -> None:
    """Bounds on memory and time, where the system has them."""
    try:
        import resource
    except ImportError:
        return
    for what, limit in ((resource.RLIMIT_DATA, allowed), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(what, (limit, limit))


def forbid(target: str) -> None:
    """From here on no connection, no other program, no file written but `target`; there is no way back."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and bool(arguments[2] & WRITING) and arguments[0] != target
        if writes or event.startswith((*FORBIDDEN, *CHANGING)):
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)


def tensors_of(found: Any, part: str = "") -> tuple[dict[str, Tensor], str]:
    """The tensors by name, and the part of the file that holds them; {} where there are none."""
    if not isinstance(found, Mapping):
        return {}, part
    own = {str(name): value.detach() for name, value in found.items() if isinstance(value, Tensor)}
    if own:
        return own, part
    for name in (*NAMED, *(key for key in found if key not in NAMED)):
        inside, where = tensors_of(found.get(name), f"{part}.{name}".strip("."))
        if inside:
            return inside, where
    return {}, part


def main(source: str, target: str, allowed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    bound(allowed)
    forbid(target)
    try:
        tensors, part = tensors_of(torch.load(source, map_location="cpu", weights_only=True))
        if sum(value.numel() * value.element_size() for value in tensors.values()) > allowed // 2:
            return {"refused": "memory"}
        whole = {name: value.clone().contiguous() for name, value in tensors.items() if value.layout == torch.strided}
    except MemoryError:
        return {"refused": "memory"}
    except Exception as error:  # whatever a damaged or hostile file brings
        said = str(error)
        asked = re.search(r"GLOBAL ([\w.]{1,80})", said)
        if asked or type(error).__name__ == "UnpicklingError":
            return {"refused": "unsafe", "what": asked[1] if asked else ""}
        return {"refused": "memory" if "can't allocate memory" in said else "damaged"}
    save_file(whole, target)
    return {"tensors": len(whole), "part": part}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))) + "\n")
