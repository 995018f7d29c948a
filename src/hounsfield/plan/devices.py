"""How one training lies on several devices: who has which part of a step, and what of its memory each of them holds."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan
from hounsfield.plan.budget import CHOSEN
from hounsfield.plan.memory import Memory, gib, predict
from hounsfield.tasks import TASKS

UNIT = 1 / 16  # of the weights: what is gathered at once is no larger where the network can be divided so
COPIES = 3  # of what is gathered at once: as it comes and as it is used, or with its gradients, or these and as they are sent
MOST = 64  # devices that are looked for where one does not hold a plan


@dataclass(frozen=True)
class Spread:
    """count: processes of a training, each with a device of its own. sharded: weights, gradients, moments and averages lie on
    them in rows; else each process has them all, and gradients once more as they are sent."""

    count: int = 1
    sharded: bool = False

    def each(self, memory: Memory) -> Memory:
        """What the process that takes most takes of what one that is alone would take. That is the one that leads: it looks at
        validation cases with a network of its own, into which weights are put together layer by layer."""
        if self.count == 1:
            return memory
        own = replace(memory, batches=-(-memory.batches // self.count))
        if not self.sharded:
            return replace(own, gathered=memory.gradients)
        rows = {name: -(-getattr(memory, name) // self.count) for name in ("weights", "gradients", "optimiser", "average")}
        # The largest layers of a network lie in its middle: when they are gathered, most gradients are still to come.
        gathered = max(COPIES * memory.layer - rows["gradients"], math.ceil(COPIES * UNIT * memory.weights))
        step = rows["gradients"] + memory.activations + gathered
        looking = max(0, memory.weights + 2 * memory.layer - step)
        return replace(own, **rows, gathered=gathered, looking=looking)

    def taken(self, memory: Memory) -> int:
        """Bytes of `each`."""
        return self.each(memory).total


def enough(plan: Plan, device_type: str, room: int) -> str:
    """The options with which the fewest devices of `room` bytes hold the plan together, and what each then takes; "" where
    MOST do not, and of the processes of a CPU, which share its memory."""
    if device_type == "cpu" or TASKS.load(plan.task).KIND == "generator":
        return ""
    count = 2
    while count <= MOST:
        with suppress(InputError):  # a batch that cannot be shared by so many, or what is not sharded
            taken = Spread(count, sharded=True).taken(predict(divided(shardable(plan), count), device_type))
            if taken <= room:
                return f"--devices {count} --strategy fsdp takes {gib(taken)} of each"
        count *= 2
    return ""


def divided(plan: Plan, count: int) -> Plan:
    """The plan with as many parts a step as `count` devices can share evenly: what one device accumulates, several do at once,
    and learn the same. The samples of a step stay as many where they can be divided so.

    Raises InputError BAD_OPTION where they cannot and the user chose how many there are.
    """
    how = plan.training
    pieces = count // math.gcd(count, how.accumulate)
    if pieces == 1:
        return plan
    batch, parts = math.ceil(how.batch / pieces), how.accumulate * pieces
    chosen = any(plan.reasons.get(f"training.{key}") == CHOSEN for key in ("batch", "accumulate"))
    if batch * pieces != how.batch and chosen:
        raise InputError(
            "BAD_OPTION",
            f"--devices {count}",
            found=f"steps of {how.accumulate} x {how.batch} samples",
            expected="as many samples for each device",
            fix=f"--set training.batch={batch * pieces}",
        )
    more = f", as {how.batch * how.accumulate} cannot be shared evenly" if batch * pieces != how.batch else ""
    why = f"{count} devices share the {batch * parts} samples of a step in {parts} parts{more}"
    return plan.override({"training.batch": batch, "training.accumulate": parts}, why)


def shardable(plan: Plan) -> Plan:
    """The plan without what sharded weights do not go together with. Raises InputError BAD_OPTION where the user chose it."""
    if plan.training.compile:
        raise InputError(
            "BAD_OPTION",
            "--strategy fsdp",
            found="training.compile, which would fuse what is gathered block by block",
            expected="a plan without it",
            fix="--set training.compile=false",
        )
    return plan.override({"training.compile": False}, "--strategy fsdp: weights are gathered block by block")
