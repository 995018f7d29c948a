"""Pairs of processes of which one fails, for test_vigil.py: `python -m tests.workflow.processes.pairs FOLDER`.

Every pair meets in a store that its rank 0 keeps, as under srun. What each says and how it ends is written to `pairs.json`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hounsfield.core.errors import DivergedError, HounsfieldError, InputError, ResourceError
from hounsfield.workflow.processes import vigil as module
from hounsfield.workflow.processes.place import Place
from hounsfield.workflow.processes.vigil import Vigil


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def bad_input() -> None:
    raise InputError("BAD_LABEL", "case 7", found="a", expected="b", fix="c")


def no_memory() -> None:
    raise ResourceError("OUT_OF_MEMORY", "training", found="2 GiB", expected="memory for it", fix="less")


def diverged() -> None:
    time.sleep(0.3)
    raise DivergedError("NAN_LOSS", "members/0-0", found="loss nan", expected="a finite loss", fix="a lower rate")


def fault() -> None:
    raise KeyError("a fault of ours")


def peer_gone() -> None:
    """As gloo tells that a process has gone, which is not why it has."""
    time.sleep(0.3)
    raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1234")


def interrupted() -> None:
    raise KeyboardInterrupt


def well() -> None:
    pass


def waits(vigil: Vigil) -> None:
    """For what will never come."""
    vigil.ask("never")


# By name: what rank 0 and rank 1 do, None for waiting; and whether they train.
PAIRS: Mapping[str, tuple[Callable[[], None] | None, Callable[[], None] | None, bool]] = {
    "both well": (well, well, True),
    "1 killed": (None, kill, True),
    "1 killed, 0 in a collective": (peer_gone, kill, True),
    "0 killed": (kill, None, True),
    "1 refuses": (None, bad_input, False),
    "0 refuses": (bad_input, None, False),
    "1 without memory": (None, no_memory, True),
    "0 without memory": (no_memory, None, True),
    "both diverged": (diverged, diverged, True),
    "1 faulty": (None, fault, True),
    "both interrupted": (interrupted, interrupted, False),
}


def act(place: Place, what: Callable[[], None] | None, training: bool) -> None:
    """Ends the process as the command line would."""
    vigil = Vigil(place)
    try:
        with vigil.guarded():
            vigil.training = training
            vigil.tell(f"here/{place.rank}")
            vigil.ask(f"here/{1 - place.rank}")
            time.sleep(3 * module.BEAT)  # so that both have lived
            what() if what else waits(vigil)
    except HounsfieldError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)
    except SystemExit as end:
        os._exit(int(str(end.code)))
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(folder: Path) -> None:
    import torch.distributed  # noqa: F401, once for all that are forked

    module.BEAT, module.LOST = 0.1, 1.5
    running: dict[int, tuple[str, int, float]] = {}
    for name, (*acts, training) in PAIRS.items():
        port = free_port()
        for rank, what in enumerate(acts):
            said = (folder / f"{name} {rank}.txt").open("w")
            child = os.fork()
            if child == 0:
                os.dup2(said.fileno(), 2)
                act(Place(rank, 2, rank, 2, "127.0.0.1", port), what, training)
            running[child] = (name, rank, time.monotonic())
            said.close()
    found: dict[str, dict[str, list[object]]] = {name: {"codes": [0, 0], "said": ["", ""], "seconds": [0, 0]} for name in PAIRS}
    while running:
        child, status = os.wait()
        name, rank, since = running.pop(child)
        found[name]["codes"][rank] = os.waitstatus_to_exitcode(status)
        found[name]["seconds"][rank] = time.monotonic() - since
        found[name]["said"][rank] = (folder / f"{name} {rank}.txt").read_text()
    (folder / "pairs.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
