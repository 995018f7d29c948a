"""The memory that training takes, predicted before any is taken: one step is traced on tensors without storage.

What autograd keeps of the forward pass is exact, in bytes: a fact of the network, which the trace sees. Beside it the backward
pass takes 1.5 times the largest of these maps; in full traces of the steps below it was 0.3 to 1.6 times.

What a CPU takes beside that goes with the largest map, not with all of them: oneDNN turns what a layer is given, gives, and is
told of its gradients into blocks of 16 channels and back, and glibc keeps in pieces what is freed meanwhile. 32 MiB and 5.5
times the largest map were fitted to the rise of resident memory in 19 trainings on Linux x86-64 with `keep_freed_memory`, of
0.5 to 89 million parameters in 2D and 3D, convolutions and attention: predicted are 0.94 to 1.20 times what was measured, 1.02
in the median. (A constant and a part of all activations, whatever these are, missed by 11 % in the median and 55 % at worst.)
`python benchmarks/forecast.py` repeats it. On CUDA a quarter for cuDNN's workspaces and the caching allocator is assumed, not
measured.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Plan
from hounsfield.data.cache import HELD
from hounsfield.data.loader import AHEAD
from hounsfield.models import MODELS
from hounsfield.plan.budget import CHOSEN
from hounsfield.plan.sizes import step
from hounsfield.plan.trace import traced
from hounsfield.tasks import TASKS

MIB, GIB = 2**20, 2**30
# Of the overhead on a CPU; see above.
PIECES = 32 * MIB
KERNELS = 5.5  # times the largest map
# Of the overhead on an accelerator.
CONTEXT = GIB // 2  # of CUDA itself
WORKSPACE = GIB // 4
CACHED = 0.25  # of activations and gradients
COMFORT = 0.8  # of an accelerator's memory that is filled by choice
GROWTH = 4  # times the batch of the rules that an accelerator with room gets
SMALLEST_SIDE = 16  # voxels that a smaller window keeps along an axis


@dataclass(frozen=True)
class Memory:
    """Bytes that training a plan takes at its peak. average: of the weights, where the plan has one. activations: what a step
    holds at its peak beyond weights and gradients. looking: what the network that looks at validation cases takes beyond what a
    step holds, whose gradients and activations are gone when it does. overhead: of allocator and kernels. batches: as read,
    before augmentation. cases: that stay in the host's memory once read, at most. base: what the process takes without any of
    this. gathered: of what lies on several devices, what each has as a whole while it is used or sent.
    layer: the largest layer, a part of the weights."""

    weights: int
    gradients: int
    optimiser: int
    average: int
    activations: int
    looking: int
    overhead: int
    batches: int
    cases: int
    base: int
    gathered: int = 0
    layer: int = 0

    @property
    def parts(self) -> dict[str, int]:
        """By name, none of which is a part of another."""
        return {name: count for name, count in asdict(self).items() if name != "layer"}

    @property
    def total(self) -> int:
        return sum(self.parts.values())


Taken = Callable[[Memory], int]  # bytes of it that each of the processes of a training takes
ALL: Taken = attrgetter("total")  # of a process that trains alone


def predict(plan: Plan, device_type: str) -> Memory:
    """What training one network of the plan takes. device_type: "cpu", where everything counts, or an accelerator's, where
    only its own memory does. Nothing is allocated.

    Raises InputError UNSUPPORTED_PAIR for a network that cannot be recomputed.
    """
    found = traced(plan, device_type)
    activations = found.recomputed if plan.training.recompute else found.activations
    if activations is None:
        raise InputError(
            "UNSUPPORTED_PAIR",
            "--set training.recompute",
            found=f"{plan.network}, a network without units that could be computed again",
            expected="false",
            fix="--set training.recompute=false",
        )
    beyond = activations + found.gradients
    if device_type == "cpu":
        overhead, base, batches = PIECES + int(KERNELS * found.largest), _base(), AHEAD + 1
    else:
        overhead, base, batches = WORKSPACE + int(CACHED * beyond), CONTEXT, 2  # those ahead wait on the host
    return Memory(
        weights=found.weights,
        gradients=found.gradients,
        optimiser=2 * found.gradients,
        average=found.weights if plan.training.ema else 0,
        activations=activations,
        looking=max(0, found.weights - beyond),
        overhead=overhead,
        batches=batches * found.batch,
        cases=HELD if device_type == "cpu" else 0,
        base=base,
        layer=found.layer,
    )


def available(device: torch.device) -> int:
    """Bytes that this process may hold on `device`, with what it holds already: of a CPU within the limits of its cgroups; of
    the whole machine, or boundless, where nothing says what is free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    information = _fields(Path("/proc/meminfo"))
    if device.type == "cpu" and "MemAvailable" in information:
        about = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        return min([information["MemAvailable"] * 1024, *_cgroup_free(about, Path("/sys/fs/cgroup"))]) + _resident()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


def check(plan: Plan, device_type: str, room: int, taken: Taken = ALL, beside: Callable[[], str] = str) -> None:
    """Raises ResourceError OUT_OF_MEMORY where training takes more than `room` bytes of a process, naming what would fit, and
    what would beside that."""
    needed = taken(predict(plan, device_type))
    if needed <= room:
        return
    fix = "none of its smaller forms fits: free memory, or use another machine"
    for changes, smaller in _smaller(plan, lambda *keys: True):
        total = taken(predict(smaller, device_type))
        if total <= room:
            fix = " ".join(f"--set {key}={_shown(value)}" for key, value in changes.items()) + f" takes {gib(total)}"
            if "model_options.width" in changes and plan.reasons.get("model_options.width", "").startswith("--size"):
                fix = f"without --size, {fix}"
            break
    if other := beside():
        fix = f"{fix}; or {other}"
    raise ResourceError(
        "OUT_OF_MEMORY",
        f"training on {device_type}",
        found=f"a plan that is predicted to take {gib(needed)}",
        expected=f"at most the {gib(room)} available",
        fix=fix,
    )


def fitted(plan: Plan, device_type: str, room: int, taken: Taken = ALL) -> Plan:
    """The plan made to fit `room` bytes, with the reasons; what the user chose stays as it is.

    An accelerator's memory is filled by a larger batch, as long as a fifth of it stays free. A plan that does not fit gets, in
    this order, a smaller batch that is accumulated, units that are computed again, a smaller window, a smaller width; where
    nothing fits, the smallest of all.
    """
    limit = room if device_type == "cpu" else int(COMFORT * room)
    before = taken(predict(plan, device_type))
    if before <= limit:
        return plan if device_type == "cpu" else _grown(plan, device_type, limit, room, taken)
    best: tuple[dict[str, Any], int] | None = None
    for changes, smaller in _smaller(plan, lambda *keys: not any(_is_chosen(plan, key) for key in keys)):
        best = changes, taken(predict(smaller, device_type))
        if best[1] <= limit:
            break
    if best is None:
        return plan
    return plan.override(best[0], f"takes {gib(best[1])} where {gib(before)} were more than fit in {gib(room)}")


def _grown(plan: Plan, device_type: str, limit: int, room: int, taken: Taken) -> Plan:
    """The plan with the batch doubled while it fits into `limit` bytes."""
    batch = plan.training.batch
    if _is_chosen(plan, "training.batch"):
        return plan
    best, total = batch, 0
    while 2 * best <= GROWTH * batch:
        more = taken(predict(plan.override({"training.batch": 2 * best}, ""), device_type))
        if more > limit:
            break
        best, total = 2 * best, more
    if best == batch:
        return plan
    why = f"{gib(room)} hold {best // batch} times the {batch} of the rules: {gib(total)}"
    return plan.override({"training.batch": best}, why)


def _smaller(plan: Plan, may: Callable[..., bool]) -> Iterator[tuple[dict[str, Any], Plan]]:
    """Smaller and smaller forms of the plan with what they change, as far as all of the keys `may` change."""
    changes: dict[str, Any] = {}
    batch, product = plan.training.batch, plan.training.batch * plan.training.accumulate
    while batch > 1 and may("training.batch", "training.accumulate"):
        batch = next(part for part in range(batch // 2, 0, -1) if product % part == 0)
        changes |= {"training.batch": batch, "training.accumulate": product // batch}
        yield dict(changes), plan.override(changes, "")
    units = traced(plan, "cpu").recomputed is not None
    if not plan.training.recompute and may("training.recompute") and units:
        changes |= {"training.recompute": True}
        yield dict(changes), plan.override(changes, "")
    strides = MODELS.load(plan.model).stride(plan.model_options, plan.ndim)
    keys = ("patch",) if plan.grid.size is None else ("patch", "grid.size")
    patch = plan.patch
    drawn = TASKS.load(plan.task).KIND == "generator"  # whose size the network was made for
    while not drawn and may(*keys) and (less := _less(patch, strides)) != patch:
        patch = less
        changes |= {key: list(patch) for key in keys}
        yield dict(changes), plan.override(changes, "")
    width = getattr(plan.model_options, "width", 0)
    unit = step(plan.model_options) if width else 0
    while width > unit and may("model_options.width"):
        width = max(unit, width // 2 // unit * unit)
        changes |= {"model_options.width": width}
        yield dict(changes), plan.override(changes, "")


def _less(patch: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of about three quarters, each a multiple of its stride, none below SMALLEST_SIDE and two strides."""
    least = [min(p, max(2 * s, math.ceil(SMALLEST_SIDE / s) * s)) for p, s in zip(patch, strides, strict=True)]
    return tuple(max(low, p * 3 // 4 // s * s) for low, p, s in zip(least, patch, strides, strict=True))


def _is_chosen(plan: Plan, key: str) -> bool:
    """Whether the user decided on `key`."""
    why, whole = (plan.reasons.get(name, "") for name in (key, key.partition(".")[0]))
    return why == CHOSEN or why.startswith("--size") or whole.startswith("--init")


def gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"


def _shown(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _fields(path: Path) -> dict[str, int]:
    """Names and first numbers of a file of lines such as "VmRSS:  1200 kB"; {} where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    parts = [line.replace(":", " ").split() for line in lines]
    return {p[0]: int(p[1]) for p in parts if len(p) > 1 and p[1].isdecimal()}


def _resident() -> int:
    """Bytes of physical memory that this process holds."""
    status = _fields(Path("/proc/self/status"))
    if "VmRSS" in status:
        return status["VmRSS"] * 1024
    if sys.platform == "win32":
        return CONTEXT
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _base() -> int:
    """Resident bytes, once those are given back that glibc keeps although they were freed: a training would take them first."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _resident()


def _cgroup_free(about: str, root: Path) -> list[int]:
    """Bytes that each cgroup above this process leaves it. about: /proc/self/cgroup; root: where the hierarchies lie."""
    free = []
    for line in about.splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (
            (root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
            if controllers
            else (root, ("memory.max", "memory.current", "inactive_file"))
        )
        inside = top.joinpath(*[part for part in Path(own).parts if part not in ("/", "..")])
        for folder in (inside, *inside.parents):
            if folder == top.parent:
                break
            try:
                limit, used = ((folder / name).read_text(encoding="utf-8").strip() for name in names[:2])
            except OSError:
                continue
            if limit.isdecimal() and used.isdecimal():
                # Cached files that nobody reads any more give way.
                cached = _fields(folder / "memory.stat").get(names[2], 0)
                free.append(max(0, int(limit) - int(used) + cached))
    return free
