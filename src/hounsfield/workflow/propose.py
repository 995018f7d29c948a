"""The command that says what a training would decide and take: in operations, in time, and in memory of each device."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan
from hounsfield.data.loader import Loader
from hounsfield.plan import memory
from hounsfield.plan.budget import CONFIRMED_STEPS, Budget, keep_freed_memory, measure
from hounsfield.plan.devices import Spread
from hounsfield.plan.memory import Memory, gib
from hounsfield.plan.sizes import parameters
from hounsfield.plan.trace import flops
from hounsfield.workflow import init
from hounsfield.workflow.console import SILENT, Console
from hounsfield.workflow.device import choose_device, memory_guard
from hounsfield.workflow.plan import make_plan, settled_options, smaller_batch
from hounsfield.workflow.processes.place import options_of, threads_of
from hounsfield.workflow.ready import DEFAULTS, Options, open_ready
from hounsfield.workflow.run import write_text
from hounsfield.workflow.stages import Stages
from hounsfield.workflow.tables import decisions

if TYPE_CHECKING:
    from rich.console import RenderableType

FORECAST = 10.0  # seconds above which no further step is timed, where the time decides nothing
BYTES = {"MiB": 2**20, "GiB": 2**30, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Proposal:
    """A plan, and what obeying it takes. parameters: of one network. flops: operations of one training step, two for a product
    and its sum, of all devices together. step: seconds of it, of several devices those that one computes; None where it could
    not be measured. seconds: wall-clock time by stage, in order, `train` of all members together, None where nothing was
    measured. memory: predicted, of each of so many `device`s; strategy: of several, "ddp" or "fsdp"."""

    plan: Plan
    parameters: int
    flops: int
    step: float | None
    seconds: Mapping[str, float | None]
    memory: Memory
    device: str
    devices: int = 1
    strategy: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "plan": self.plan.model_dump(mode="json", by_alias=True),
            "parameters": self.parameters,
            "flops_per_step": self.flops,
            "seconds_per_step": self.step,
            "seconds": dict(self.seconds),
            "memory_bytes": self.memory.total,
            "memory": self.memory.parts,
            "device": self.device,
            "devices": self.devices,
            "strategy": self.strategy,
        }


def propose(
    data: str | Path,
    options: Options = DEFAULTS,
    *,
    device_memory: str | None = None,
    console: Console = SILENT,
    started: float | None = None,
) -> Proposal:
    """The plan that `train` would obey; nothing is written but the caches. device_memory: such as "80GiB", of GPUs that are not
    here, for which to plan; nothing is timed then. Raises what `train` raises before its first step, InputError BAD_OPTION
    where a time is to be divided that cannot be measured."""
    keep_freed_memory()
    options, budget = settled_options(options_of(options, None))
    elsewhere = None if device_memory is None else _absent(device_memory, options.device, budget)
    device = choose_device(options.device) if elsewhere is None else torch.device("cuda")
    stages = Stages(time.monotonic() if started is None else started, budget.seconds if budget else None)
    source = init.read(init.asked(options))
    with stages.stage("read"):
        ready = open_ready(data, options, console)
    count, here = options.processes, options.devices or 1
    with threads_of(device, here):
        planned = make_plan(ready, options, budget, device, stages, console, source, elsewhere)
        settled = planned.settled
        found, step = settled.plan, settled.step
        if step is None and elsewhere is None:  # a number of steps was asked for, of which a few say how long they take
            with stages.stage("measure"), memory_guard("training", smaller_batch(found)):
                step = timed(found, planned.loader(found, ready.split.of_fold(0), ranks=count), device)
    seconds: dict[str, float | None] = {str(row["name"]): round(row["end"] - row["start"], 1) for row in stages.rows}
    seconds["train"] = None if step is None else round(step * found.training.steps * found.members.count, 1)
    seconds["evaluate and report"] = round(settled.kept, 1) if settled.kept else None
    spread = Spread(count, count > 1 and options.strategy == "fsdp")
    taken, strategy = spread.each(memory.predict(found, device.type)), options.strategy if count > 1 else None
    return Proposal(found, parameters(found), flops(found), step, seconds, taken, device.type, count, strategy)


def timed(plan: Plan, loader: Loader, device: torch.device) -> float:
    """Seconds of a step, as a few real ones take."""
    return measure(plan, loader, device, FORECAST, CONFIRMED_STEPS).seconds


def _absent(device_memory: str, device: str, budget: Budget | None) -> int:
    """Bytes of a GPU that is not here. Raises InputError BAD_OPTION."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MiB|GiB|MB|GB)", device_memory)
    wrong = [
        (
            found is None or not float(found[1]),
            repr(device_memory),
            "such as 80GiB",
            "give number and unit: MiB, GiB, MB or GB",
        ),
        (device not in ("auto", "cuda"), f"--device {device} beside it", "a GPU that is not here", "leave one of them out"),
        (
            budget is not None and budget.seconds is not None,
            "a device that is not here, where no time can be divided",
            "a number of steps",
            "--budget 20000steps",
        ),
    ]
    for is_wrong, what, expected, fix in wrong:
        if is_wrong:
            raise InputError("BAD_OPTION", "--device-memory", found=what, expected=expected, fix=fix)
    assert found is not None
    return int(float(found[1]) * BYTES[found[2]])


def save(proposal: Proposal, path: Path, *, overwrite: bool = False) -> None:
    """The plan as a file for `train --plan`. Raises InputError OUTPUT_EXISTS."""
    if path.exists() and not overwrite:
        raise InputError(
            "OUTPUT_EXISTS", path, found="a file of this name", expected="none", fix="choose another name, or --overwrite"
        )
    write_text(path, proposal.plan.to_json())


def show(proposal: Proposal) -> RenderableType:
    """The plan for a terminal: what it takes, then every decision with its reason."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    plan, device = proposal.plan, proposal.device
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("key", "value", "reason"):
        table.add_column(heading, overflow="fold")
    for group in decisions(plan):
        prefix = f"{group.group}." if group.group else ""
        if group.group:
            table.add_row(Text(group.group, style="bold"), "", Text(group.reason, style="dim"))
        for key, value, reason in group.rows:
            table.add_row(Text(prefix + key), Text(value), Text(reason, style="dim"))
        if group.others:
            table.add_row("", Text(", ".join(f"{key} {value}" for key, value in group.others), style="dim"), "")
    networks = f"{plan.members.count} networks" if plan.members.count > 1 else "one network"
    length = f"{plan.training.steps:,} steps of {plan.training.batch * plan.training.accumulate}"
    several = proposal.devices > 1
    share = f" for one of {proposal.devices} shares, without what devices send each other" if several else ""
    pace = "not measured" if proposal.step is None else f"{proposal.step:.3g} s measured on {device}{share}"
    where = f"each of {proposal.devices} {device} devices with {proposal.strategy}" if several else device
    said = [
        f"{plan.task} with {plan.network}: {networks} of {proposal.parameters / 1e6:.2f} million parameters, {length}",
        "time: " + ", ".join(f"{k} {'not measured' if v is None else f'{v:.0f} s'}" for k, v in proposal.seconds.items()),
        f"work: {_short(proposal.flops)}FLOP a step, {pace}",
        f"memory: {gib(proposal.memory.total)} predicted on {where}: {_shares(proposal.memory)}",
    ]
    return Group(*(Text(line) for line in said), Text(), table)


def _short(number: int) -> str:
    """Such as "38.2 G"."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}"
    return f"{number:,} "


def _shares(taken: Memory) -> str:
    """What takes it, in GiB."""
    parts = {"weights": taken.weights, "gradients": taken.gradients, "optimiser": taken.optimiser + taken.average}
    parts["activations"] = taken.activations
    rest = taken.total - sum(parts.values())
    return ", ".join(f"{name} {count / memory.GIB:.2f}" for name, count in {**parts, "the rest": rest}.items())
