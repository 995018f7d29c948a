"""The processes of a training on several devices of this machine: started together, watched, and ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError, RunInterruptedError
from hounsfield.workflow.console import Console, Silent
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.processes.place import OURS, Place, check_devices, cores
from hounsfield.workflow.processes.several import check_installed
from hounsfield.workflow.processes.vigil import lost, meet, told
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run, refuse_existing

ENDING = 5.0  # seconds that processes have to end after they are asked to
MEETING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")  # what a user says who starts the command on several machines


def launch(data: str | Path, out: str | Path, options: Options, how: Mapping[str, Any], console: Console) -> Run:
    """`train` in a process for each device of this machine. how: the other arguments of `train`.

    Raises what the first process that failed raised, ResourceError RANK_LOST where it said nothing; InputError BAD_OPTION for
    more devices than there are, MISSING_EXTRA.
    """
    devices = options.devices or 1
    node = _node(options)
    check_devices(choose_device(options.device), devices)
    check_installed(f"--devices {devices}")
    if node == 0 and not how["resume"]:  # else the first machine may have begun
        refuse_existing(out, how["overwrite"])
    store, place = _meeting(options, node)
    asked = {
        "data": str(data),
        "out": str(out),
        "options": _plain(options),
        "how": dict(how),
        "quiet": isinstance(console, Silent),
    }
    processes = [_start(replace(place, rank=node * devices + k, local=k), asked) for k in range(devices)]
    try:
        _watch(processes, node * devices, store)
    finally:
        _end(processes)
        if sys.stderr.isatty():
            sys.stderr.write("\x1b[?25h")  # the cursor, which a bar that was stopped leaves hidden
    return Run(out)


def _plain(options: Options) -> dict[str, Any]:
    """As JSON has it."""
    plan, choices = options.plan and str(options.plan), options.choices.model_dump(mode="json")
    return {**asdict(options), "plan": plan, "choices": choices}


def _node(options: Options) -> int:
    """Which of the machines this is. Raises InputError BAD_OPTION where nobody says."""
    if options.nodes == 1:
        return 0
    lacking = [name for name in MEETING if name not in os.environ]
    if lacking:
        raise InputError(
            "BAD_OPTION",
            "--nodes",
            found=f"{options.nodes} machines, and no {', '.join(lacking)} in the environment",
            expected="where they meet, and which of them this is",
            fix="start with srun or torchrun, or set these on each machine",
        )
    return int(os.environ["NODE_RANK"])


def _meeting(options: Options, node: int) -> tuple[Any, Place]:
    """The store where all processes meet, kept by this process on the first machine, and the place of this machine's first."""
    store: Any = import_module("torch.distributed").TCPStore
    devices = options.devices or 1
    address, port = "127.0.0.1", 0
    if options.nodes > 1:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    kept = store(address, port, is_master=True, wait_for_workers=False) if node == 0 else None
    place = Place(
        node * devices, options.nodes * devices, 0, devices, address, kept.port if kept else port, hosted=True, told=True
    )
    return (meet(place, host=False), kept), place


def _start(place: Place, asked: Mapping[str, Any]) -> subprocess.Popen[str]:
    settings = {
        "RANK": place.rank,
        "WORLD_SIZE": place.size,
        "LOCAL_RANK": place.local,
        "LOCAL_WORLD_SIZE": place.here,
        "MASTER_ADDR": place.address,
        "MASTER_PORT": place.port,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", max(1, cores() // place.here)),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        OURS: 1,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "from hounsfield.workflow.processes.worker import work; work()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # the run's path is this process's to say
        env=os.environ | {name: str(value) for name, value in settings.items()},
        text=True,
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(asked))
        process.stdin.close()
    return process


def _watch(processes: Sequence[subprocess.Popen[str]], first: int, store: tuple[Any, Any]) -> None:
    """Until all processes have ended well; raises why one has not. first: the rank of the first of them."""
    while True:
        try:
            codes = [process.poll() for process in processes]
            if all(code == 0 for code in codes):
                return
            failed = next((k for k, code in enumerate(codes) if code), None)
            if failed is not None:
                raise _why(first + failed, codes[failed] or 0, store[0])
            time.sleep(0.1)
        except KeyboardInterrupt:
            continue  # they were interrupted too, save, and end


def _why(rank: int, code: int, store: Any) -> Exception:
    """The error of the process that was the first to fail; `rank` was the first to end."""
    with suppress(Exception):  # of several machines, the one that kept the store may have gone
        if failure := told(store):
            return failure.error()
    if code == RunInterruptedError.exit_code:
        return RunInterruptedError("INTERRUPTED", "train", found="Ctrl-C", expected="the end", fix="start again")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return lost(rank, f"a process that {how}")


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ask those that are left to end, and end those that do not."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + ENDING
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()
