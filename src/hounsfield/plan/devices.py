"""How one training lies on several devices: who has which part of a step, and what of its memory each of them holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan
from hounsfield.plan.budget import CHOSEN
from hounsfield.plan.memory import Memory

GATHERED = 0.25  # of the weights, and of the gradients, that a process has as a whole beside its own rows, at most


@dataclass(frozen=True)
class Spread:
    """count: processes of a training, each with a device of its own. sharded: weights, gradients, moments and averages lie on
    them in rows; else each process has them all, and gradients once more as they are sent."""

    count: int = 1
    sharded: bool = False

    def taken(self, memory: Memory) -> int:
        """Bytes that each process takes of what one that is alone would take. The one that leads also looks at validation
        cases, which nothing else happens beside."""
        if self.count == 1:
            return memory.total
        if not self.sharded:
            return memory.total + memory.gradients
        state = memory.weights + memory.gradients + memory.optimiser + memory.average
        gathered = GATHERED * (memory.weights + memory.gradients)
        return memory.total - state + math.ceil(state / self.count + gathered)


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
