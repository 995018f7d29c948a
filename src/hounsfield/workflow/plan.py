"""From an audited dataset to a plan: measured, decided, prepared, settled in the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Members, Plan
from hounsfield.data.cache import Entry
from hounsfield.data.dataset import Dataset
from hounsfield.data.loader import Loader
from hounsfield.data.split import Split
from hounsfield.models.parts.adopt import Adopted
from hounsfield.plan import memory
from hounsfield.plan.budget import CHOSEN, Budget, Room, Settled, settle, sizes, usual_precision
from hounsfield.plan.devices import Spread, divided, enough, shardable
from hounsfield.plan.fingerprint import fingerprint
from hounsfield.plan.rules import check, decide
from hounsfield.plan.sizes import sized
from hounsfield.tasks import TASKS
from hounsfield.workflow import init
from hounsfield.workflow.console import Console, first_few
from hounsfield.workflow.costs import seconds_a_case
from hounsfield.workflow.device import memory_guard
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.prepare import grid_spacing, prepare_all
from hounsfield.workflow.ready import Options, Ready, task_of
from hounsfield.workflow.run import build, read_plan
from hounsfield.workflow.sets import learning
from hounsfield.workflow.stages import Stages

EVALUATION_MARGIN = 1.3  # of the measured time a case, kept for the evaluation
PICTURED_CASES = 5  # that the report predicts anew
REPORT_SECONDS = 6.0  # kept for intervals, pictures and the report, which took 2 to 3 on two cores
SETS_SECONDS = 10.0  # kept for what compares sets of images
DEFAULT_BUDGET = "10m"


@dataclass(frozen=True)
class Planned:
    """What a training needs. settled: the plan, and what its steps and its evaluation take; entries: the prepared training
    cases by id; spacing: voxel sides of the model grid, which augmentation turns in; taken: of weights to begin with, None
    without any."""

    facts: Fingerprint
    settled: Settled
    entries: Mapping[str, Entry]
    spacing: tuple[float, ...]
    taken: Adopted | None = None

    @property
    def plan(self) -> Plan:
        return self.settled.plan

    def loader(self, plan: Plan, split: Split, rank: int = 0, ranks: int = 1) -> Loader:
        """Batches of the training part of `split`, or one of so many shares of them."""
        return Loader({name: self.entries[name] for name in split.train}, plan, self.spacing, rank, ranks)


def settled_options(options: Options) -> tuple[Options, Budget | None]:
    """The options with what a plan file says filled in, and the budget; None where the plan file alone says how long.

    Raises InputError BAD_OPTION, BAD_PLAN for options that contradict each other.
    """
    changes = dict(options.changes or {})
    _contradictions(options, changes)
    if options.plan is not None:
        members = read_plan(options.plan).members
        if options.folds not in (1, members.folds):
            raise _clash(f"--folds {options.folds}", f"{options.plan}, which has {members.folds}")
        return replace(options, folds=members.folds), Budget.parse(options.budget) if options.budget else None
    steps = changes.get("training.steps")
    if isinstance(steps, int) and steps > 0:
        return options, Budget(steps=steps)
    return options, Budget.parse(options.budget or DEFAULT_BUDGET)


def _contradictions(options: Options, changes: Mapping[str, Any]) -> None:
    given = [f"--{name} {value}" for name in ("task", "model", "size") if (value := getattr(options, name)) is not None]
    if options.plan is not None and given:
        raise _clash(" ".join(given), f"--plan {options.plan}, which says it too")
    if options.budget is not None and "training.steps" in changes:
        raise _clash(f"--set training.steps={changes['training.steps']}", f"--budget {options.budget}")
    if options.size is not None and "model_options.width" in changes:
        raise _clash(f"--set model_options.width={changes['model_options.width']}", f"--size {options.size}")
    if ":" in (options.model or "") and "model_options.name" in changes:
        raise _clash(f"--set model_options.name={changes['model_options.name']}", f"--model {options.model}")
    for key, instead in (("members.folds", "--folds"), ("members.seeds", "--seeds"), ("seed", "--seed")):
        if key in changes:
            raise _clash(f"--set {key}={changes[key]}", f"{instead}, which divides the work too", fix=f"use {instead}")


def _clash(one: str, other: str, fix: str = "leave one of them out") -> InputError:
    return InputError("BAD_OPTION", one.split(" ")[0], found=f"{one} beside {other}", expected="one of them", fix=fix)


def make_plan(
    ready: Ready,
    options: Options,
    budget: Budget | None,
    device: torch.device,
    stages: Stages,
    console: Console,
    source: init.Source | None = None,
    elsewhere: int | None = None,
) -> Planned:
    """Fingerprint, rules, prepared cases, and what the budget decides. source: weights to begin with; raises InputError
    BAD_WEIGHTS where too few of them fit. elsewhere: bytes of `device` where that is none of this machine, on which no step can
    be timed."""
    train_part = ready.dataset.select(ready.split.train)
    facts = fingerprint(train_part, ready.audit.facts, ready.audit.inside)
    first = _first_plan(ready.dataset, facts, options, device, source)
    taken = None if source is None else init.adopted(first, source)
    if source is not None and taken is not None:
        console.say(init.said(first, source, taken))
    first = first if budget is None else usual_precision(first, device)
    count, spread = options.processes, Spread(options.processes, options.processes > 1 and options.strategy == "fsdp")
    first = divided(shardable(first) if spread.sharded else first, count)
    # The processes of one machine share its memory, but not that of accelerators.
    room = elsewhere or memory.available(device) // (options.devices or 1 if device.type == "cpu" else 1)
    if options.plan is None:
        first = divided(memory.fitted(first, device.type, room, spread.taken), count)
    least = first if budget is None else _smallest(first)
    memory.check(least, device.type, room, spread.taken, partial(enough, least, device.type, room))
    with stages.stage("prepare"):
        here = device if elsewhere is None else torch.device("cpu")
        entries = prepare_all(first, ready.part("train"), ready.audit.facts, here, console)
    planned = Planned(facts, Settled(first), entries, grid_spacing(first, facts), taken)
    if budget is None:
        return planned
    split = ready.split.of_fold(0)
    # What is timed is timed by one process, which has all of it.
    ways = (spread.taken,) if budget.seconds is None else (spread.taken, memory.ALL)
    with stages.stage("measure"), memory_guard("training", smaller_batch(first)):
        settled = settle(
            first,
            lambda which: planned.loader(which, split, ranks=count),
            device,
            budget,
            Room(
                stages.started,
                Kept(ready, device, budget.seconds),
                lambda which: max(taken(memory.predict(which, device.type)) for taken in ways) <= room,
            ),
        )
    return replace(planned, settled=settled)


def _smallest(plan: Plan) -> Plan:
    """The plan at the smallest size that a budget may choose."""
    return sizes(plan)[-1]


class Kept:
    """Seconds that evaluation and report of a plan will take, by predicting one held-out case. budget: in seconds, of which the
    evaluation of a generator takes a part; None for no limit."""

    def __init__(self, ready: Ready, device: torch.device, budget: float | None = None) -> None:
        self.ready = ready
        self.device = device
        self.budget = budget
        self.known: dict[str, tuple[float, float]] = {}

    def __call__(self, plan: Plan) -> float:
        key = plan.model_options.model_dump_json()
        if key not in self.known:
            self.known[key] = self._measure(plan)
        split, members = self.ready.split, plan.members
        reading, each = self.known[key]
        whole, out = len(split.test) + len(split.val), len(split.train) if split.folds else 0
        if TASKS.load(plan.task).KIND == "generator":
            seconds = self._sets(plan, reading, each)
        else:
            seconds = (whole + out) * reading + (whole * members.count + out * members.seeds) * each
        return REPORT_SECONDS + EVALUATION_MARGIN * seconds + PICTURED_CASES * (reading + members.count * each)

    def _sets(self, plan: Plan, reading: float, each: float) -> float:
        """Of a generator: every case is read, as many images are drawn as are held out, and features are learned from val where
        there is a test part."""
        split = self.ready.split
        held, spare = (split.test, len(split.val)) if split.test else (split.val, 0)
        read = len(split.train) + len(held) + spare
        return SETS_SECONDS + read * reading + len(held) * each + learning(plan, spare, self.budget)

    def _measure(self, plan: Plan) -> tuple[float, float]:
        """Seconds that a case takes whatever the number of networks, and those of each network."""
        model = build(plan).to(self.device).eval()
        samples = self.ready.part("val") or self.ready.part("train")
        one, two = (seconds_a_case(Predictor.of(plan, [model] * k), samples) for k in (1, 2))
        each = min(one, max(two - one, 0.1 * one))
        return one - each, each


def smaller_batch(plan: Plan) -> str:
    """What to say where a batch does not fit."""
    how = plan.training
    return f"--set training.batch={max(1, how.batch // 2)} --set training.accumulate={2 * how.accumulate}"


def _first_plan(
    dataset: Dataset, facts: Fingerprint, options: Options, device: torch.device, source: init.Source | None
) -> Plan:
    """The plan before the budget: from the rules, or the user's file; then the user's single changes."""
    kind = str(task_of(dataset, options))
    if options.plan is not None:
        plan = _read_plan_for(dataset, facts, kind, options.plan).model_copy(update={"seed": options.seed})
    else:
        model, like = (options.model, None) if source is None else source.of(kind, options.model, facts.ndim)
        plan = decide(facts, dataset.classes, kind, model, options.seed, device.type, like)
        if source is not None:
            plan = init.planned(plan, source, options)
        if dataset.ignore_value is not None and hasattr(plan.task_options, "ignore_value"):
            plan = plan.override({"task_options.ignore_value": dataset.ignore_value}, "the dataset says so")
    if source is not None or plan.training.init:  # by its whole name, whichever way it was asked for
        plan = plan.override({"training.init": "" if source is None else source.name}, "--init")
    plan = sized(plan, options.size) if options.size is not None else plan
    changes = {key: value for key, value in (options.changes or {}).items() if key != "training.init"}
    plan = plan.override(changes, CHOSEN) if changes else plan
    if options.folds > 1 or options.seeds is not None:
        seeds = options.seeds if options.seeds is not None else plan.members.seeds
        reasons = {**plan.reasons, "members.folds": f"--folds {options.folds}"}
        reasons |= {"members.seeds": f"--seeds {options.seeds}"} if options.seeds is not None else {}
        members = Members.parse({"folds": options.folds, "seeds": seeds}, "--seeds")
        plan = plan.model_copy(update={"members": members, "reasons": reasons})
    check(plan)
    return plan


def _read_plan_for(dataset: Dataset, facts: Fingerprint, task: str, path: Path) -> Plan:
    """A plan file that fits the data. Raises InputError BAD_PLAN."""
    plan = read_plan(path)
    wrong = [
        (f"a plan for {plan.task}", f"one for {task}", plan.task != task),
        (f"a plan in {plan.ndim}D", f"one in {facts.ndim}D", plan.ndim != facts.ndim),
        (
            f"classes {first_few(c.name for c in plan.classes)} on {len(plan.channels)} channels",
            f"the data's {first_few(c.name for c in dataset.classes)} on {len(dataset.channels)} channels",
            [c.name for c in plan.classes] != [c.name for c in dataset.classes] or len(plan.channels) != len(dataset.channels),
        ),
    ]
    for found, expected, is_wrong in wrong:
        if is_wrong:
            raise InputError("BAD_PLAN", path, found=found, expected=expected, fix="use the plan of this dataset")
    return plan
