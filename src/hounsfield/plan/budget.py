"""A time budget becomes a size, a precision and a number of steps, by a short measurement."""

from __future__ import annotations

import ctypes
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Options, Plan
from hounsfield.data.loader import Loader
from hounsfield.models import MODELS
from hounsfield.tasks import TASKS

MEASURED_STEPS = 3  # after one that warms up
ENOUGH = {"dense": 350, "vector": 600}  # steps below which a smaller network learns more in the same time
MOST_EPOCHS = 300.0  # passes over the training part after which more steps were seen to bring nothing
CHOSEN = "set by --set"  # the reason of what the user chose
WATCHED = 0.04  # part of the training time that goes into looking at validation cases


@dataclass(frozen=True)
class Budget:
    """What the user allows: `seconds` of wall-clock time for everything, or a number of `steps` or `epochs` of training."""

    seconds: float | None = None
    steps: int | None = None
    epochs: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "90s", "10m", "2h", "200steps", "20epochs". Raises InputError BAD_OPTION."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps|epochs)", text.strip().lower())
        if not found or float(found[1]) <= 0:
            raise InputError(
                "BAD_OPTION",
                "--budget",
                found=repr(text),
                expected="such as 90s, 10m, 2h, 200steps or 20epochs",
                fix="give number and unit",
            )
        number, unit = float(found[1]), found[2]
        if unit == "steps":
            return cls(steps=max(1, int(number)))
        if unit == "epochs":
            return cls(epochs=number)
        return cls(seconds=number * {"s": 1, "m": 60, "h": 3600}[unit])


@dataclass(frozen=True)
class Measured:
    """One candidate: its options, precision and seconds a step."""

    options: Options
    amp: bool
    seconds: float


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


def settle(
    plan: Plan, loader: Callable[[Plan], Loader], device: torch.device, budget: Budget, until: Callable[[Plan], float | None]
) -> tuple[Plan, float | None]:
    """The plan with network size, precision, steps and averaging decided, and the monotonic time when training must end.

    until: when training with a plan must end to leave time for evaluation; None: never. The largest size that makes ENOUGH
    steps in the time is taken, else the smallest. Raises ResourceError BUDGET_TOO_SMALL.
    """
    member, kind = MODELS.load(plan.model), TASKS.load(plan.task).KIND
    fixed = any(key.startswith("model_options.") and why == CHOSEN for key, why in plan.reasons.items())
    candidates = (plan.model_options,) if fixed else member.sizes(plan.model_options)
    if budget.seconds is None:
        chosen = plan.model_copy(update={"model_options": candidates[0 if device.type == "cuda" else -1]})
        steps = budget.steps or math.ceil((budget.epochs or 1) / loader(chosen).epochs(1))
        asked = f"{budget.steps} steps" if budget.steps else f"{budget.epochs:g} epochs"
        return _with_steps(chosen, steps, f"as asked: {asked}", plan.training.amp), None
    trials: list[Measured] = []
    best, left, ends = None, math.inf, None
    for options in reversed(candidates):  # the smallest first: what its steps leave no time for is not even tried
        candidate = plan.model_copy(update={"model_options": options})
        trials.append(measure(candidate, loader(plan), device, amp=device.type == "cuda"))
        limit = until(candidate)
        time_left = math.inf if limit is None else (limit - time.monotonic()) * (1 - WATCHED)
        enough = time_left / trials[-1].seconds >= ENOUGH[kind]
        if best is None or enough:
            best, left, ends = trials[-1], time_left, limit
        if not enough:
            break
    assert best is not None
    if device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512":
        half = measure(plan.model_copy(update={"model_options": best.options}), loader(plan), device, amp=True)
        best = half if half.seconds < 0.9 * best.seconds else best
    affordable = int(left / best.seconds)
    if affordable < 1:
        raise ResourceError(
            "BUDGET_TOO_SMALL",
            "--budget",
            found=f"{max(left, 0):.0f} s left for training at {best.seconds:.1f} s a step",
            expected="time for one step",
            fix="allow more time",
        )
    useful = math.ceil(MOST_EPOCHS / loader(plan).epochs(1))
    capped = f", no more than {MOST_EPOCHS:g} epochs" if useful < affordable else ""
    chosen = plan.model_copy(update={"model_options": best.options})
    why = f"{best.seconds:.3f} s a step measured, {left:.0f} s for training{capped}"
    chosen = _with_steps(chosen, min(affordable, useful), why, best.amp)
    others = ", ".join(f"{_size(t.options)}: {t.seconds:.2f} s" for t in trials)
    size = f"largest size with {ENOUGH[kind]} steps in the time (a step takes {others})"
    return chosen.model_copy(update={"reasons": {**chosen.reasons, "model_options": size}}), ends


def measure(plan: Plan, loader: Loader, device: torch.device, amp: bool) -> Measured:
    """Seconds of a whole training step: loading, augmentation, forward, backward, update."""
    solver = TASKS.load(plan.task).Solver(plan)
    torch.manual_seed(plan.seed)
    model = MODELS.load(plan.model).build(plan.model_options, len(plan.channels), solver.out_channels, plan.ndim)
    model = model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    times = []
    for step in range(1 + MEASURED_STEPS):
        start = time.perf_counter()
        batch = loader.finish(loader.raw(step), step, device)
        for _, loss_fn in solver.steps(model, batch):
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                loss = loss_fn()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        float(loss.detach())  # waits for the device
        times.append(time.perf_counter() - start)
    return Measured(plan.model_options, amp, sorted(times[1:])[MEASURED_STEPS // 2])


def _with_steps(plan: Plan, steps: int, why: str, amp: bool) -> Plan:
    # The average remembers about a tenth of the training: the annealed tail, not the noisy middle.
    decay = round(max(0.0, min(0.999, 1 - 10 / steps)), 5)
    training = plan.training.model_copy(update={"steps": steps, "amp": amp, "ema": decay})
    reasons = {
        **plan.reasons,
        "training.steps": why,
        "training.amp": "bfloat16 measured faster" if amp else "32-bit floats measured as fast",
        "training.ema": f"remembers about a tenth of {steps} steps",
    }
    return plan.model_copy(update={"training": training, "reasons": reasons})


def _size(options: Options) -> str:
    return f"width {getattr(options, 'width', '-')}"
