"""Which of several processes this one is, as torchrun, SLURM or `launch` says, and which device is its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from hounsfield.core.errors import InputError
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.ready import Options

STRATEGIES = ("ddp", "fsdp")
# What torchrun sets, and `launch` as well.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OURS = "HOUNSFIELD_LAUNCHED"  # set in processes that `launch` started, which tell it what went wrong instead of the user
PORTS = range(20000, 30000)  # of which a SLURM job has its own


@dataclass(frozen=True)
class Place:
    """rank: of `size` processes, from 0; local: among the `here` processes of this machine. address, port: where they meet.
    hosted: whether the one that started them keeps that place, else the process of rank 0 does. told: whether the one that
    started them tells the user what went wrong."""

    rank: int
    size: int
    local: int
    here: int
    address: str
    port: int
    hosted: bool = False
    told: bool = False

    @property
    def nodes(self) -> int:
        return self.size // self.here

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Place | None:
        """None for a process that is alone. Raises InputError BAD_OPTION where machines have different numbers of processes."""
        place = _of_torchrun(environment) or _of_slurm(environment)
        if place is None or place.size == 1:
            return None
        if place.size % place.here:
            raise InputError(
                "BAD_OPTION",
                "processes",
                found=f"{place.size} of which {place.here} are on this machine",
                expected="as many on each",
                fix="start one for each device, on every machine",
            )
        return place


def leads() -> bool:
    """Whether this process writes, decides and speaks for all that train together."""
    place = Place.of()
    return place is None or place.rank == 0


def options_of(options: Options, place: Place | None) -> Options:
    """The options with the devices and nodes that there are. Raises InputError BAD_OPTION where others were asked for, or a
    strategy that there is not or that one device has no use for."""
    if options.strategy not in STRATEGIES:
        raise InputError(
            "BAD_OPTION",
            "--strategy",
            found=repr(options.strategy),
            expected=" or ".join(STRATEGIES),
            fix="ddp where a device holds the network, fsdp where it does not",
        )
    if place is None:
        if options.strategy == "fsdp" and options.processes == 1:
            raise InputError(
                "BAD_OPTION",
                "--strategy fsdp",
                found="one device, which has all of the weights anyway",
                expected="several",
                fix="add --devices, or leave --strategy out",
            )
        return replace(options, devices=options.devices or 1)
    started = (place.here, place.nodes)
    asked = (options.devices or place.here, place.nodes if options.nodes == 1 else options.nodes)
    if asked != started:
        raise InputError(
            "BAD_OPTION",
            "--devices",
            found=f"--devices {asked[0]} --nodes {asked[1]}",
            expected=f"the {started[0]} processes on each of {started[1]} nodes that were started",
            fix="leave --devices and --nodes out",
        )
    return replace(options, devices=started[0], nodes=started[1])


def own_device(name: str, place: Place | None) -> torch.device:
    """As `choose_device`, of several processes one that no other of this machine has. Raises InputError BAD_OPTION where there
    are fewer devices than processes."""
    device = choose_device(name)
    if place is None:
        return device
    check_devices(device, place.here)
    if device.type == "cuda":
        # A scheduler may show each process its own device alone.
        shown = torch.cuda.device_count()
        device = torch.device("cuda", place.local if shown >= place.here else 0)
        torch.cuda.set_device(device)
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // place.here))
    return device


@contextmanager
def threads_of(device: torch.device, here: int) -> Iterator[None]:
    """In the block a CPU works with the threads of one of so many processes on this machine."""
    before = torch.get_num_threads()
    if device.type == "cpu" and here > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // here))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_devices(device: torch.device, count: int) -> None:
    """Raises InputError BAD_OPTION where this machine does not have `count` devices like `device`, which names none of them."""
    there = {"cuda": torch.cuda.device_count(), "cpu": cores()}.get(device.type, 1)
    named, alone = ":" in str(device), device.type == "cuda" and there == 1 and "SLURM_STEP_ID" in os.environ
    if count == 1 or (not named and (count <= there or alone)):
        return
    what = {"cuda": "CUDA device", "cpu": "processor core"}.get(device.type, f"{device.type} device")
    raise InputError(
        "BAD_OPTION",
        "--devices",
        found=f"--device {device} for {count} processes" if named else f"{count} processes",
        expected=f"at most the {there} {what}{'s' * (there != 1)} here",
        fix=f"--device {device.type}" if named else f"--devices {there}",
    )


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _of_torchrun(environment: Mapping[str, str]) -> Place | None:
    if not all(environment.get(name) for name in TORCHRUN):
        return None
    rank, size, local, here = (int(environment[name]) for name in TORCHRUN[:4])
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True" or OURS in environment
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    return Place(rank, size, local, here, address, port, hosted, OURS in environment)


def _of_slurm(environment: Mapping[str, str]) -> Place | None:
    """In a step of srun; the batch script itself, which has no step, is alone."""
    size = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if size == 1 or "SLURM_PROCID" not in environment:
        return None
    here = int(environment.get("SLURM_STEP_TASKS_PER_NODE", str(size)).partition("(")[0].partition(",")[0])
    job = int(environment.get("SLURM_JOB_ID", "0"))
    return Place(
        int(environment["SLURM_PROCID"]),
        size,
        int(environment.get("SLURM_LOCALID", "0")),
        here,
        environment.get("MASTER_ADDR") or first_node(environment.get("SLURM_STEP_NODELIST", "localhost")),
        int(environment.get("MASTER_PORT") or PORTS[job % len(PORTS)]),
    )


def first_node(names: str) -> str:
    """ "gpu[07-09,12],cpu1" -> "gpu07"."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", names)
    return "".join(part for part in found.groups() if part) if found else names
