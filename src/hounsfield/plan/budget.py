"""A time budget becomes a size, a precision, a number of members and a number of steps, by a short measurement.

The rule, learned by measurement (docs/results.md, "What the budget rule rests on"): a network of twice the width is better
where the time holds ENOUGH steps of it, or where its steps take hardly longer (CHEAP), and worse otherwise; after
USEFUL_EPOCHS passes over all voxels of the training part the mean of two networks is better than one of twice the steps;
after MOST_EPOCHS more steps bring nothing.
"""

from __future__ import annotations

import ctypes
import math
import re
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Options, Plan
from hounsfield.data.loader import AHEAD, Loader
from hounsfield.models import MODELS
from hounsfield.models.parts.blocks import recompute
from hounsfield.plan.network import network
from hounsfield.tasks import TASKS

MEASURED_STEPS = 3  # of a candidate, after one that warms up
CONFIRMED_STEPS = 8  # of the one that is chosen
# Steps below which a smaller network learns more in the same time,
ENOUGH = {"dense": 1000, "vector": 3000, "boxes": 1000, "generator": 3000, "masked": 1000}
CHEAP = 1.7  # unless a step of the larger one takes less than this many times as long: 1.4 times was worth it, 2.7 was not
TRIED = 200  # steps below which no larger network is even timed
# Passes over all voxels of the training part after which a second network helps more than further steps; generators have no
# mean.
USEFUL_EPOCHS = {"dense": 300.0, "vector": 30.0, "boxes": 300.0, "generator": math.inf, "masked": math.inf}
# Passes after which more steps bring nothing; He et al. pretrain for 1,600.
MOST_EPOCHS = {"dense": 300.0, "vector": 300.0, "boxes": 300.0, "generator": 1e4, "masked": 1600.0}
MOST_SEEDS = 5  # members that a budget adds by itself
MEASURING, CONFIRMING = 0.01, 0.03  # of the budget that one candidate may take, and the one that is chosen
CLEARLY = 0.9  # of the time: what a precision or a layout must save to be chosen
AGREEING = 0.8  # cosine between gradients in bfloat16 and in 32 bits, of every kernel that matters
COMPILING = 90.0  # seconds that torch.compile takes at most; tried where they are little of the budget
CHOSEN = "set by --set"  # the reason of what the user chose
WATCHED = 0.04  # part of the training time that goes into looking at validation cases
NIGHT = 8 * 3600.0
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Budget:
    """What the user allows: `seconds` of wall-clock time for everything, or a number of `steps` or `epochs` of training."""

    seconds: float | None = None
    steps: int | None = None
    epochs: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "90s", "10m", "2h", "overnight" (8 hours), "200steps", "20epochs". Raises InputError BAD_OPTION."""
        plain = text.strip().lower()
        if plain == "overnight":
            return cls(seconds=NIGHT)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps|epochs)", plain)
        if not found or float(found[1]) <= 0:
            raise InputError(
                "BAD_OPTION",
                "--budget",
                found=repr(text),
                expected="such as 90s, 10m, 2h, overnight, 200steps or 20epochs",
                fix="give number and unit",
            )
        number, unit = float(found[1]), found[2]
        if unit == "steps":
            return cls(steps=max(1, int(number)))
        if unit == "epochs":
            return cls(epochs=number)
        return cls(seconds=number * UNITS[unit])


@dataclass(frozen=True)
class Measured:
    """One candidate: its plan and seconds a step."""

    plan: Plan
    seconds: float


@dataclass(frozen=True)
class Room:
    """Where a time budget stands. started: monotonic time from which it counts. kept: seconds that evaluation and report of a
    plan, with all its members, will take. fits: whether the device holds a plan."""

    started: float
    kept: Callable[[Plan], float]
    fits: Callable[[Plan], bool] = lambda plan: True


@dataclass(frozen=True)
class Settled:
    """The plan with everything decided. step: measured seconds of one, None without a time; kept: for evaluation and report;
    most: steps that a machine which turns out faster than measured may make, 0 for no more than planned."""

    plan: Plan
    step: float | None = None
    kept: float = 0.0
    most: int = 0


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free, instead of returning it to the kernel at every step: a fifth of CPU training time."""
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)
        libc.mallopt(m_top_pad, 256 * 2**20)
    except (OSError, AttributeError):  # another C library: nothing to gain
        return


def give_back_freed_memory() -> None:
    """Let glibc return every large block to the kernel as soon as it is freed: where memory is worth more than time, as where
    parts of a network are gathered and freed in turn, of which pieces would stay."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        m_mmap_threshold = -3  # set, it no longer grows with what is freed
        ctypes.CDLL("libc.so.6").mallopt(m_mmap_threshold, 256 * 2**10)


def usual_precision(plan: Plan, device: torch.device) -> Plan:
    """The plan in the precision that is tried first on `device`."""
    if not _free(plan, "training.amp"):
        return plan
    if _adversaries(plan):
        why = "adversaries: what a critic that is sure still tells its opponent is lost in 16 bits"
        return _training(plan, "amp", False, why)
    return _training(plan, "amp", device.type == "cuda", "the usual on this device")


def _adversaries(plan: Plan) -> bool:
    """Whether several players are trained against each other."""
    with torch.device("meta"):
        return len(TASKS.load(plan.task).Solver(plan).players(network(plan))) > 1


def settle(plan: Plan, loader: Callable[[Plan], Loader], device: torch.device, budget: Budget, room: Room) -> Settled:
    """The plan with network size, precision, layout, members and steps decided.

    The largest size that makes ENOUGH steps in the time, or whose steps are CHEAP, is taken, else the smallest. What
    `plan.reasons` says the user chose is kept. Raises ResourceError BUDGET_TOO_SMALL where one epoch of the smallest size and
    the evaluation do not fit, naming the least budget that holds them.
    """
    candidates = sizes(plan)
    if budget.seconds is None:
        fitting = [p for p in candidates if room.fits(p)] or candidates[-1:]
        chosen = fitting[0 if device.type == "cuda" else -1]
        steps = budget.steps or math.ceil((budget.epochs or 1) / loader(chosen).epochs(1))
        asked = f"{budget.steps} steps" if budget.steps else f"{budget.epochs:g} epochs"
        return Settled(_with_steps(chosen, steps, f"as asked: {asked}"))
    ends = room.started + budget.seconds
    load = loader(plan)
    trials: list[Measured] = []
    best: Measured | None = None
    for candidate in reversed(candidates):  # the smallest first: what its steps leave no time for is not even tried
        if trials and not room.fits(candidate):
            break
        trials.append(_fastest(candidate, load, device, budget.seconds))
        kept = room.kept(trials[-1].plan)
        left = (ends - time.monotonic() - kept) * (1 - WATCHED) / plan.members.count
        if len(trials) == 1:
            _refuse_too_small(trials[0], load, budget.seconds, time.monotonic() - room.started, kept)
        held = left / trials[-1].seconds
        if best is None or held >= ENOUGH[TASKS.load(plan.task).KIND] or trials[-1].seconds < CHEAP * best.seconds:
            best = trials[-1]
        else:
            break
        if held < TRIED:
            break
    assert best is not None
    best = measure(best.plan, load, device, CONFIRMING * budget.seconds, CONFIRMED_STEPS)
    return _in_time(best, trials, load, ends, room)


def _in_time(best: Measured, trials: list[Measured], load: Loader, ends: float, room: Room) -> Settled:
    """Members and steps of the chosen network in the time that is left."""
    plan, kind = best.plan, TASKS.load(best.plan.task).KIND
    epoch = 1 / (load.epochs(1) * load.share)
    left = (ends - time.monotonic() - room.kept(plan)) * (1 - WATCHED)
    learned = USEFUL_EPOCHS[kind] * epoch * best.seconds
    wanted = min(MOST_SEEDS, int(left / plan.members.count / learned))
    if _free(plan, "members.seeds"):
        plan = _with_seeds(plan, wanted, ends, learned, room)
    kept = room.kept(plan)
    left = (ends - time.monotonic() - kept) * (1 - WATCHED)
    steps = int(left / best.seconds / plan.members.count)
    useful = math.ceil(MOST_EPOCHS[kind] * epoch)
    capped = f", no more than {MOST_EPOCHS[kind]:g} passes over all voxels" if steps > useful else ""
    steps = max(1, min(steps, useful))
    shared = f" of {plan.members.count} networks" if plan.members.count > 1 else ""
    why = f"{best.seconds:.3f} s a step measured, {max(left, 0):.0f} s for training{shared}{capped}"
    plan = _with_steps(plan, steps, why)
    if len(sizes(plan)) > 1:
        others = ", ".join(f"{_size(t.plan.model_options)}: {t.seconds:.2f} s" for t in trials)
        size = f"largest size with {ENOUGH[kind]} steps in the time or hardly slower steps (one takes {others})"
        plan = plan.model_copy(update={"reasons": {**plan.reasons, "model_options": size}})
    return Settled(plan, best.seconds, kept, useful)


def _with_seeds(plan: Plan, wanted: int, ends: float, useful: float, room: Room) -> Plan:
    """The plan with up to `wanted` members of each fold, as many as have `useful` seconds each beside their evaluation."""
    for seeds in range(wanted, 1, -1):
        why = f"the time holds {seeds} networks of {useful:.0f} s, whose mean is better than one that trains longer"
        members = plan.members.model_copy(update={"seeds": seeds})
        several = plan.model_copy(update={"members": members, "reasons": {**plan.reasons, "members.seeds": why}})
        if (ends - time.monotonic() - room.kept(several)) * (1 - WATCHED) >= members.count * useful:
            return several
    return plan


def measure(plan: Plan, loader: Loader, device: torch.device, seconds: float, steps: int = MEASURED_STEPS) -> Measured:
    """The median over `steps` whole training steps, after one that warms up: loading beside it, augmentation, forward,
    backward, clipping, update, averaging. One step alone where more would pass `seconds`."""
    solver, how = TASKS.load(plan.task).Solver(plan), plan.training
    torch.manual_seed(plan.seed)
    model = placed(network(plan), plan, device).train()
    running = fused(model, plan)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    average = [parameter.detach().clone() for parameter in model.parameters() if how.ema]
    times: list[float] = []
    until = time.perf_counter() + seconds
    for step in range(1 + steps + AHEAD):  # what is read for the first time takes longer than ever after
        loader.raw(step)
        if time.perf_counter() > until:
            break
    ahead = loader.ahead(0)
    try:
        for step in range(1 + steps):
            start = time.perf_counter()
            if len(times) > 1 and sum(times) > seconds:
                break
            batch = loader.finish(next(ahead), step, device)
            for turn in zip(*(solver.steps(running, part) for part in batch.parts(loader.parts)), strict=True):
                optimiser.zero_grad(set_to_none=True)
                for _, loss_fn in turn:
                    with torch.autocast(device.type, torch.bfloat16, enabled=how.amp):
                        loss = loss_fn()
                    loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
            for kept, parameter in zip(average, model.parameters(), strict=False):
                kept.lerp_(parameter.detach(), 0.01)
            float(loss.detach())  # waits for the device
            times.append(time.perf_counter() - start)
    finally:
        ahead.close()
    return Measured(plan, statistics.median(times[1:]))


def agrees(plan: Plan, loader: Loader, device: torch.device) -> bool:
    """Whether a first step in bfloat16 has the gradients of one in 32-bit floats, kernel by kernel.

    Not a formality: with torch 2.14.1 on CPUs with AVX512-BF16 the weight gradient of a 3x3x3 convolution of two slices is
    garbage, without a word.
    """
    solver = TASKS.load(plan.task).Solver(plan)
    batch = loader.finish(loader.raw(0), 0, device)
    both: list[list[torch.Tensor]] = []
    for amp in (False, True):
        torch.manual_seed(plan.seed)
        model = placed(network(plan), plan, device).train()
        for _, loss_fn in solver.steps(model, batch):
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                loss = loss_fn()
            loss.backward()  # type: ignore[no-untyped-call]
        kernels = [p for p in model.parameters() if p.ndim > 2]
        both.append([torch.zeros(1) if p.grad is None else p.grad.flatten().double().cpu() for p in kernels])
    whole = sum(float(g.norm()) for g in both[0])
    for exact, half in zip(*both, strict=True):
        alike = float(exact @ half) / max(float(exact.norm() * half.norm()), 1e-30)
        if not alike > AGREEING and float(exact.norm()) > 1e-3 * whole:  # NaN is above nothing
            return False
    return True


def placed(model: nn.Module, plan: Plan, device: torch.device) -> nn.Module:
    """The network on `device`, in the layout of the plan."""
    last = torch.channels_last if plan.ndim == 2 else torch.channels_last_3d
    return model.to(memory_format=last if plan.training.channels_last else torch.contiguous_format).to(device)


def fused(model: nn.Module, plan: Plan) -> nn.Module:
    """What runs in the place of `model`, with the same parameters: recomputed and compiled where the plan says so."""
    if plan.training.recompute:
        recompute(model)
    return torch.compile(model) if plan.training.compile else model  # type: ignore[return-value]


def sizes(plan: Plan) -> list[Plan]:
    """Plans of the sizes that a budget may choose among, the largest first; only the plan's own where the user chose a value in
    which they differ."""
    every = MODELS.load(plan.model).sizes(plan.model_options)
    differing = [key for key in type(every[0]).model_fields if len({str(getattr(options, key)) for options in every}) > 1]
    if not all(_free(plan, f"model_options.{key}") for key in differing):
        return [plan]
    return [plan.model_copy(update={"model_options": options}) for options in every]


def _free(plan: Plan, key: str) -> bool:
    """Whether the user left the decision on `key`, or on a key above or below it, to the rules."""
    chosen = (name for name, why in plan.reasons.items() if why.startswith("--") or why == CHOSEN)
    return not any(f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.") for name in chosen)


def _fastest(plan: Plan, loader: Loader, device: torch.device, budget: float) -> Measured:
    """The plan in the precision, layout and form that a short measurement finds clearly faster."""
    seconds = MEASURING * budget

    def faster(one: Measured, key: str) -> Measured:
        """`one`, or the same with `key` where it is clearly faster; the reason names both times."""
        other = measure(_training(one.plan, key, True, ""), loader, device, seconds)
        won = other.seconds < CLEARLY * one.seconds
        best, said = (other, "faster") if won else (one, "no faster")
        why = f"{said}: a step takes {other.seconds:.3f} s with it, {one.seconds:.3f} s without"
        return Measured(_training(best.plan, key, won, why), best.seconds)

    trial = measure(plan, loader, device, seconds)
    capable = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    if capable and _free(plan, "training.amp") and not _adversaries(plan):
        half = faster(trial, "amp")
        if half.plan.training.amp and not agrees(plan, loader, device):
            why = "its gradients differ from those of 32-bit floats on this machine"
            half = Measured(_training(plan, "amp", False, why), trial.seconds)
        trial = half
    if plan.ndim == 2 and _free(plan, "training.channels_last"):
        trial = faster(trial, "channels_last")
    # On CPUs it was measured to gain nothing and costs minutes.
    if device.type == "cuda" and budget > 20 * COMPILING and _free(plan, "training.compile"):
        trial = faster(trial, "compile")
    return trial


def _training(plan: Plan, key: str, value: object, why: str) -> Plan:
    training = plan.training.model_copy(update={key: value})
    return plan.model_copy(update={"training": training, "reasons": {**plan.reasons, f"training.{key}": why}})


def _refuse_too_small(smallest: Measured, loader: Loader, budget: float, spent: float, kept: float) -> None:
    """Raises ResourceError BUDGET_TOO_SMALL where one epoch of every member and the evaluation do not fit."""
    epoch = smallest.seconds / loader.epochs(1) * smallest.plan.members.count
    least = spent + epoch + kept
    if least <= budget:
        return
    networks = f" of {smallest.plan.members.count} networks" if smallest.plan.members.count > 1 else ""
    raise ResourceError(
        "BUDGET_TOO_SMALL",
        "--budget",
        found=f"{budget:g} s",
        expected=f"at least {least:.0f} s: {spent:.0f} s for reading and measuring, {epoch:.0f} s for one epoch{networks} "
        f"of the smallest size, {kept:.0f} s for evaluation and report",
        fix=f"--budget {math.ceil(1.1 * least / 10) * 10}s or more",
    )


def _with_steps(plan: Plan, steps: int, why: str) -> Plan:
    training = plan.training.model_copy(update={"steps": steps})
    return plan.model_copy(update={"training": training, "reasons": {**plan.reasons, "training.steps": why}})


def _size(options: Options) -> str:
    return f"width {getattr(options, 'width', '-')}"
