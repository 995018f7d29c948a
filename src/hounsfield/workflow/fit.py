"""The training loop: knows players and steps, no task. Everything it does is a function of plan, seed and step."""

from __future__ import annotations

import json
import math
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from hounsfield.core.errors import DivergedError, RunInterruptedError
from hounsfield.core.plan import Plan, Training
from hounsfield.data.loader import Loader
from hounsfield.plan.tuning import plain
from hounsfield.tasks import Solver
from hounsfield.workflow import checkpoint
from hounsfield.workflow.average import Average
from hounsfield.workflow.checkpoint import Groups
from hounsfield.workflow.contest import Contest
from hounsfield.workflow.processes.team import ALONE, Team
from hounsfield.workflow.run import write_json, write_tensors, write_text
from hounsfield.workflow.step import Stepper

SAVE_SHARE = 0.01  # of the time that may go into checkpoints, and
SAVE_EVERY = 2.0  # seconds that at least lie between them
WATCHES = 5  # looks at validation cases during a training
SLOWDOWN_STEPS = 100  # whose median says how much longer than expected the evaluation will take
PACE_STEPS = 20  # whose mean duration says how fast the machine is


@dataclass(frozen=True)
class State:
    """step: of `total` that are done. progress: of the schedule, 0 to 1. seconds: trained so far, over all sittings."""

    step: int
    total: int
    progress: float = 0.0
    seconds: float = 0.0

    def advance(self, seconds: float) -> State:
        left = self.total - self.step
        progress = self.progress + (1 - self.progress) / left
        return replace(self, step=self.step + 1, progress=progress, seconds=self.seconds + seconds)


@dataclass(frozen=True)
class Member:
    """The folder of one member: `weights.safetensors` when finished, `last/` with a checkpoint before, `metrics.jsonl`."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "last" / checkpoint.WHOLE

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint."""
        return any((self.folder / "last" / name).exists() for name in (checkpoint.WHOLE, checkpoint.INDEX))

    def save(self, state: State, groups: Groups, team: Team = ALONE) -> None:
        checkpoint.write(self.folder / "last", asdict(state), groups, team)

    def load(self) -> tuple[State, Groups] | None:
        """The last checkpoint, or None before the first. Raises InputError BAD_WEIGHTS where it is damaged."""
        found = checkpoint.read(self.folder / "last")
        return None if found is None else (State(**found[0]), found[1])

    def log(self, line: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the log of steps that will be done again."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
            write_text(path, "".join(line + "\n" for line in kept))


class Clock:
    """Wall-clock time for one member's training. ends: monotonic seconds when all must be over, None for no limit. reserve:
    seconds of that for evaluation and report, on a machine whose step takes `expected` seconds. share: members that still have
    to train in what is left, this one among them. most: steps that a machine which turns out faster may make, where these are
    more than planned.

    Only the monotonic clock is asked: a wall clock that jumps changes nothing.
    """

    def __init__(
        self,
        ends: float | None = None,
        reserve: float = 0.0,
        expected: float | None = None,
        share: int = 1,
        most: int = 0,
    ) -> None:
        self.ends = ends
        self.reserve = reserve
        self.expected = expected
        self.share = share
        self.most = most
        self.begun = self.last = time.monotonic()
        self.recent: deque[float] = deque(maxlen=PACE_STEPS)
        self.longer: deque[float] = deque(maxlen=SLOWDOWN_STEPS)

    def tick(self) -> float:
        """Seconds that the step took which ends now."""
        now = time.monotonic()
        spent, self.last = now - self.last, now
        self.recent.append(spent)
        self.longer.append(spent)
        return spent

    def skip(self) -> None:
        """What was done since the last tick was no step."""
        self.last = time.monotonic()

    @property
    def pace(self) -> float:
        """Seconds of a usual step: the median, as one step during which the machine slept says nothing of the others."""
        return statistics.median(self.recent) if self.recent else self.expected or 0.0

    @property
    def left(self) -> float:
        """Seconds left for this member, when what the evaluation needs is kept: more of it on a machine that is slower."""
        assert self.ends is not None
        slower = 1.0
        # By many steps: the first epoch reads every case from disk, and that says nothing of the evaluation.
        if self.expected and len(self.longer) >= SLOWDOWN_STEPS // 2:
            slower = max(1.0, statistics.median(self.longer) / self.expected)
        over = self.ends - slower * self.reserve
        return self.begun + (over - self.begun) / self.share - self.last

    def fit(self, state: State, planned: int) -> State:
        """The same state with as many steps to go as the pace allows: on a machine that turns slower the schedule anneals
        early, on one that turns faster later, at most after `most` steps; smoothly, as progress only moves on from where it
        is. No step to go when time is over."""
        if self.ends is None:
            return state
        left = self.left
        if left > 0 and len(self.recent) < PACE_STEPS // 2:
            return state
        affordable = int(left / self.pace) if left > 0 else 0
        return replace(state, total=min(max(planned, self.most, state.total), state.step + affordable))


def one_cycle(progress: float, how: Training) -> float:
    """Learning rate at `progress` in [0, 1]: linear warm-up, then a cosine to a thousandth (Smith and Topin 2018)."""
    if progress < how.warmup:
        return how.lr * (0.04 + 0.96 * progress / how.warmup)
    done = (progress - how.warmup) / max(1 - how.warmup, 1e-9)
    return how.lr * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


Watch = Callable[[Iterator[tuple[str, Tensor]]], float]
Tell = Callable[[State, float, float | None], None]


def fit(
    model: nn.Module,
    solver: Solver,
    loader: Loader,
    plan: Plan,
    member: Member,
    clock: Clock,
    watch: Watch | None,
    tell: Tell,
    team: Team = ALONE,
) -> State:
    """Train `model` in place to the end of the plan and write its weights, or their average; goes on from the last checkpoint.

    watch: the headline figure of these weights, given one by one, on a few validation cases, or None. tell: called after every
    step with (state, loss, figure), the loss being the sum over the players. team: the processes that train together, each with
    its own part of every batch (`loader`); the one that leads decides by its clock and writes.
    Raises DivergedError NAN_LOSS or COLLAPSED (the last checkpoint of a step within all bounds stays), RunInterruptedError
    after Ctrl-C, which waits for the end of the step; a second one does not.
    """
    how, device = plan.training, next(model.parameters()).device
    stepper = Stepper(model, solver, plan, team)
    average = Average(model, how.ema)
    contest = Contest(getattr(solver, "bounds", {}))
    state = _restore(member, stepper, average) or State(0, how.steps)
    watched = time.monotonic()
    due = watched + SAVE_EVERY
    whole = True  # whether model, average, optimisers and state are of one step
    clock.skip()
    idle = time.monotonic()
    with closing(loader.ahead(state.step)) as ahead, _held_interrupt() as asked_to_stop:
        try:
            for raw in ahead:
                if state.step >= state.total:
                    break
                waited = time.monotonic() - idle
                batch = loader.finish(raw, state.step, device)
                augmented = time.monotonic() - idle - waited
                rate = one_cycle(state.progress, how)
                stepper.set_rate(rate)
                whole = False
                losses = stepper.step(batch, loader, state.step)
                loss = sum(losses.values())
                contest.judge(losses)
                if not math.isfinite(loss) or contest.decided:
                    _stop_diverged(member, state, loader.names(state.step), losses, contest, team)
                average.update(state.step)
                state = clock.fit(state.advance(clock.tick()), how.steps)
                asked = [_due(state, how.steps, watched) and watch is not None, time.monotonic() > due and contest.sound]
                total, look, save, stop = team.led([state.total, *asked, asked_to_stop()])
                state = replace(state, total=int(total))
                whole = True
                value = None
                if look:
                    weights = plain(team.whole(average.kept))
                    value = watch(weights) if watch is not None else None
                    dict(weights)  # of several processes all put together what one looks at
                    watched = time.monotonic()
                    clock.skip()
                line = {
                    "step": state.step,
                    "loss": round(loss, 6),
                    "lr": rate,
                    "seconds": round(state.seconds, 4),
                    "value": value,
                }
                each = {f"loss_{name}": round(part, 6) for name, part in losses.items()} if len(losses) > 1 else {}
                if team.leads:
                    member.log({**line, "wait": round(waited, 5), "augment": round(augmented, 5), **each})
                tell(state, loss, value)
                if save:
                    due = _save(member, state, stepper, average)
                    clock.skip()
                if stop:
                    raise KeyboardInterrupt
                idle = time.monotonic()
        except KeyboardInterrupt:
            if whole:
                _save(member, state, stepper, average)
            raise RunInterruptedError(
                "INTERRUPTED",
                member.folder,
                found=f"Ctrl-C at step {state.step} of {state.total}",
                expected="the end",
                fix="continue with --resume",
            ) from None
    _save(member, state, stepper, average)
    stepper.optimisers.clear()  # the weights as a whole have the room of their moments
    whole_weights = dict(plain(team.whole(average.kept)))
    if team.leads:
        write_tensors(member.weights, whole_weights)
    team.wait()
    return state


@contextmanager
def _held_interrupt() -> Iterator[Callable[[], bool]]:
    """While the block runs Ctrl-C is held back, so that no checkpoint is of half a step; the function that it is given says
    whether there was one. A second Ctrl-C is not. Only the main thread is told of it at all."""
    asked = threading.Event()

    def hold(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def _due(state: State, planned: int, watched: float) -> bool:
    """WATCHES times over the training, and not more than once a second; never at the end, where evaluation follows.

    By the steps that were planned: those that are left change with the pace, and their fractions would be missed.
    """
    step = max(1, planned // (WATCHES + 1))
    return state.step % step == 0 and state.total - state.step >= step and time.monotonic() - watched > 1.0


def _stop_diverged(
    member: Member, state: State, ids: Sequence[str], losses: Mapping[str, float], contest: Contest, team: Team
) -> NoReturn:
    player, loss = next(((p, v) for p, v in losses.items() if not math.isfinite(v)), (contest.player, contest.loss))
    about = {"step": state.step, "player": player, "loss": str(loss), "cases": list(ids)}
    if team.leads:
        write_json(member.folder / "diverged.json", about)
    kept = "; the last good weights are in last/" if member.saved else ""
    if math.isfinite(loss):
        low, high = contest.bounds[player]
        raise DivergedError(
            "COLLAPSED",
            member.folder,
            found=f"a loss of the {player} of {loss:.3g}, as for {contest.steps} steps, at step {state.step}",
            expected=f"from {low:g} to {high:g}: one player has won, and the others learn nothing any more",
            fix=f"a lower rate with --set training.lr=..., more images, or another model with --model{kept}",
        )
    of = "" if player == "model" else f" of the {player}"
    raise DivergedError(
        "NAN_LOSS",
        member.folder,
        found=f"loss {loss}{of} at step {state.step} on {', '.join(ids[:4])} (all in diverged.json)",
        expected="a finite loss",
        fix=f"look at these cases, or lower the rate with --set training.lr=...{kept}",
    )


def _save(member: Member, state: State, stepper: Stepper, average: Average) -> float:
    """Write the checkpoint; returns the monotonic time when the next one is due."""
    begun = time.monotonic()
    groups: dict[str, Mapping[str, Tensor]] = {"model": stepper.model.state_dict()}
    if average.decay:
        groups["average"] = average.kept
    for name, optimiser in stepper.optimisers.items():
        moments = optimiser.state_dict()["state"]
        groups[f"optimiser.{name}"] = {
            f"{i}.{k}": v if isinstance(v, Tensor) else torch.as_tensor(v)
            for i, values in moments.items()
            for k, v in values.items()
        }
    member.save(state, groups, stepper.team)
    ended = time.monotonic()
    return ended + max(SAVE_EVERY, (ended - begun) / SAVE_SHARE)


def _restore(member: Member, stepper: Stepper, average: Average) -> State | None:
    team, found = stepper.team, member.load()
    if found is None:
        if team.leads:
            member.forget_after(0)
        return None
    state, groups = found
    try:
        checkpoint.fill(stepper.model.state_dict(), groups["model"], team)
        if average.decay:
            checkpoint.fill(average.kept, groups["average"], team)
        for name, optimiser in stepper.optimisers.items():
            before = optimiser.state_dict()["param_groups"]
            parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in groups.get(f"optimiser.{name}", {}).items():
                index, what = key.split(".", 1)
                moments.setdefault(int(index), {})[what] = checkpoint.like(parameters[int(index)], value, team)
            optimiser.load_state_dict({"state": moments, "param_groups": before})
    except (RuntimeError, LookupError, ValueError) as error:
        raise checkpoint.foreign(member.checkpoint) from error
    if team.leads:
        member.forget_after(state.step)
    return state


def read_log(member: Member) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl: step, loss, lr, seconds, and value where validation cases were looked at."""
    path = member.folder / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        yield json.loads(line)
