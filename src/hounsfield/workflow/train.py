"""From a folder to a finished run: read, audit, split, measure, decide, prepare, train, evaluate, report."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.plan.budget import WATCHED, Budget, Settled, keep_freed_memory, placed
from hounsfield.tasks import TASKS
from hounsfield.workflow.console import SILENT, Console, first_few
from hounsfield.workflow.costs import fitting, seconds_a_case
from hounsfield.workflow.device import choose_device, memory_guard
from hounsfield.workflow.evaluate import Evaluation, measure, measure_folds
from hounsfield.workflow.fit import WATCHES, Clock, Member, State, Watch, fit
from hounsfield.workflow.plan import (
    DEFAULT_BUDGET,
    PICTURED_CASES,
    REPORT_SECONDS,
    Kept,
    Planned,
    make_plan,
    settled_options,
    smaller_batch,
)
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.prepare import grid_spacing, prepare_all
from hounsfield.workflow.ready import DEFAULTS, Options, Ready, audited, open_ready
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run, build, refuse_existing
from hounsfield.workflow.sets import Beside
from hounsfield.workflow.stages import Stages

APART = 1000  # between the seeds of members, so that runs of neighbouring seeds share none
WATCHED_CASES = 8  # validation cases that are looked at during training
TOLERANCE = 1.03  # of the budget that is never passed knowingly
PAGE_SECONDS = 3.0  # that intervals and a report without pictures take


def train(
    data: str | Path,
    out: str | Path,
    options: Options = DEFAULTS,
    *,
    overwrite: bool = False,
    resume: bool = False,
    console: Console = SILENT,
    started: float | None = None,
) -> Run:
    """Train on the folder `data` into the new run `out`; returns the run, evaluated and reported.

    resume: continue the run in `out`, if it began, with its own plan and split. started: monotonic time from which the
    budget counts.
    Raises InputError for what is wrong with the data or options, ResourceError, DivergedError, RunInterruptedError.
    """
    started = time.monotonic() if started is None else started
    keep_freed_memory()
    device = choose_device(options.device)
    if resume and (Path(out) / "plan.json").exists():
        return _resume(Run(out), options, device, console, started)
    refuse_existing(out, overwrite)
    options, budget = settled_options(options)
    stages = Stages(started, budget.seconds if budget else None)
    with stages.stage("read"):
        ready = open_ready(data, options, console)
    return train_ready(ready, out, options, budget, device, stages, console)


def train_ready(
    ready: Ready,
    out: str | Path,
    options: Options,
    budget: Budget | None,
    device: torch.device,
    stages: Stages,
    console: Console,
) -> Run:
    """Train on what was read before, into the run `out`, as `train` does; the budget counts from where `stages` began."""
    planned = make_plan(ready, options, budget, device, stages, console)
    run = Run.create(out, planned.plan, ready.split, planned.facts, _record(ready, options))
    stages.keep_in(run)
    return _Work(run, ready, planned, device, stages, console).finish()


def _resume(run: Run, options: Options, device: torch.device, console: Console, started: float) -> Run:
    """Continue with the run's own plan and split; the data are read again and must still hold the same cases."""
    budget = Budget.parse(options.budget) if options.budget else Budget()
    stages = Stages(started)
    with stages.stage("read"):
        dataset = run.dataset()
        ready = audited(dataset, run.split, console)
    lacking = set(run.split.train) - set(ready.split.train)
    if lacking:
        raise InputError(
            "UNPAIRED",
            dataset.root,
            found=f"no {first_few(sorted(lacking))}",
            expected="the cases that the run began with",
            fix="put them back",
        )
    with stages.stage("prepare"):
        entries = prepare_all(run.plan, ready.part("train"), ready.audit.facts, device, console)
    kept = 0.0 if budget.seconds is None else Kept(ready, device, budget.seconds)(run.plan)
    planned = Planned(run.fingerprint, Settled(run.plan, kept=kept), entries, grid_spacing(run.plan, run.fingerprint))
    stages.keep_in(run, go_on=True)
    # Stages count from the first sitting, the budget of a second from its own command.
    stages.budget = None if budget.seconds is None else started - stages.started + budget.seconds
    return _Work(run, ready, planned, device, stages, console).finish()


@dataclass(frozen=True)
class _Work:
    """A run on its way from a plan to a report."""

    run: Run
    ready: Ready
    planned: Planned
    device: torch.device
    stages: Stages
    console: Console

    @property
    def ends(self) -> float | None:
        """Monotonic time when all should be done; None for no limit."""
        return None if self.stages.budget is None else self.stages.started + self.stages.budget

    def finish(self) -> Run:
        """Train every member, evaluate, report."""
        plan = self.run.plan
        with memory_guard("training", smaller_batch(plan)):
            weights = sum(p.numel() for p in build(plan).parameters())
            networks = f"{plan.members.count} networks of " if plan.members.count > 1 else ""
            self.console.say(
                f"{plan.task} with {plan.network}, {networks}{weights / 1e6:.2f} million weights, "
                f"{plan.training.steps} steps of {plan.training.batch} on {self.device}"
            )
            todo = [m for m in self._members() if not m[2].weights.exists()]
            for number, (fold, seed, member) in enumerate(todo):
                with self.stages.stage(f"train {fold}-{seed}"):
                    self._train(fold, seed, member, len(todo) - number)
            self._evaluate()
            written = report(self.run, device=str(self.device), console=self.console, seconds=self._left(0.0))
            self.console.say(f"report: {written}")
        return self.run

    def _members(self) -> Iterator[tuple[int, int, Member]]:
        """(fold, seed, folder) of every member of the plan."""
        for fold in range(self.run.plan.members.folds):
            for k in range(self.run.plan.members.seeds):
                seed = self.run.plan.seed + k * APART
                yield fold, seed, Member(self.run.root / "members" / f"{fold}-{seed}")

    def _train(self, fold: int, seed: int, member: Member, share: int) -> None:
        """One member, in its part (one of `share`) of the time that is left."""
        plan = self.run.plan.model_copy(update={"seed": seed})
        ready = self.ready.fold(fold)
        torch.manual_seed(seed)
        model = placed(build(plan), plan, self.device)
        solver = self.run.solver
        settled = self.planned.settled
        clock = Clock(self.ends, reserve=settled.kept or REPORT_SECONDS, expected=settled.step, share=share, most=settled.most)
        watch = _watcher(plan, ready.part("val")[:WATCHED_CASES], clock, self.device)
        name = "training" if self.run.plan.members.count == 1 else f"training {fold}-{seed}"
        with self.console.bar(name) as bar:
            best = ""

            def tell(state: State, loss: float, value: float | None) -> None:
                nonlocal best
                best = best if value is None else f"{solver.metrics().headline} {value:.3f}"
                bar(state.step, state.total, f"loss {loss:.3f} {best}")

            state = fit(model, solver, self.planned.loader(plan, ready.split), plan, member, clock, watch, tell)
        apart = state.step - plan.training.steps
        pace = "more than planned: the machine was faster" if apart > 0 else "fewer than planned: the machine was slower"
        self.console.say(f"trained {state.step} steps in {state.seconds:.0f} s" + (f", {abs(apart)} {pace}" if apart else ""))

    def _evaluate(self) -> None:
        """The test part and val by all members together; with folds every training case by those that did not see it."""
        plan, split = self.run.plan, self.ready.split
        models = self.run.models(self.device)
        predictor = Predictor.of(plan, models)
        each = 0.0
        if self.ends is not None:
            one = Predictor.of(plan, models[:1])
            each = seconds_a_case(one, self.ready.part("val") or self.ready.part("train"))
        parts, beside = self._parts()
        for part, used_for in parts:
            every = self.ready.part(part)
            samples = fitting(every, each * len(models), self._left(each * len(models)))
            if samples:
                with self.stages.stage(f"evaluate {part}"):
                    found = measure(predictor, samples, part, used_for, self.console, beside)
                    self._keep(found, len(samples), len(every))
        if split.folds:
            every, cost = self.ready.part("train"), each * plan.members.seeds
            samples = fitting(every, cost, self._left(cost))
            with self.stages.stage("evaluate folds"):
                self._keep(measure_folds(self.run, samples, self.device, self.console), len(samples), len(every))

    def _parts(self) -> tuple[tuple[tuple[str, str], ...], Beside | None]:
        """The parts that are measured and what for, and what a generator is measured with. Nothing looks at val while one
        trains: features are learned from it where there is a test part, else it is as good as one."""
        if TASKS.load(self.run.plan.task).KIND != "generator":
            return (("test", "report"), ("val", "selection")), None
        tested = bool(self.ready.part("test"))
        spare = self.ready.part("val") if tested else ()
        beside = Beside(self.ready.part("train"), spare, seconds=self.stages.budget)
        return (("test" if tested else "val", "report"),), beside

    def _left(self, each: float) -> float:
        """Seconds for evaluation or pictures, when the page and `each` seconds for a case on it are kept."""
        if self.ends is None:
            return math.inf
        allowed = self.stages.started + TOLERANCE * (self.ends - self.stages.started)
        return allowed - time.monotonic() - PAGE_SECONDS - PICTURED_CASES * each

    def _keep(self, evaluation: Evaluation, measured: int, all_cases: int) -> None:
        if measured < all_cases:
            evaluation = evaluation.noted(f"{measured} of {all_cases} cases: the budget held no more")
        evaluation.save(self.run)
        self.console.say(_headline(evaluation))


def _watcher(plan: Plan, samples: Sequence[Sample], clock: Clock, device: torch.device) -> Watch | None:
    """The headline figure of given weights on a few validation cases; None where looking would cost too much time, and of
    generators, of which a few cases say nothing."""
    if TASKS.load(plan.task).KIND == "generator":
        return None
    watched = placed(build(plan), plan, device).eval()
    predictor = Predictor.of(plan, [watched])
    if clock.ends is not None:
        each = seconds_a_case(predictor, samples)
        affordable = int(WATCHED * clock.left / WATCHES / max(each, 1e-9))
        samples = samples[: max(0, affordable)]
    if not samples:
        return None

    def watch(weights: Mapping[str, Tensor]) -> float:
        watched.load_state_dict(dict(weights))
        evaluation = measure(predictor, samples, "val", "watching", SILENT)
        return evaluation.metrics[evaluation.headline].value

    return watch


def _record(ready: Ready, options: Options) -> dict[str, Any]:
    """What the run was made from (`run.json`)."""
    found = ready.audit
    return {
        "data": str(ready.dataset.root.resolve()),
        "reader": ready.dataset.reader,
        "found": ready.dataset.found,
        "patient_regex": options.patient_regex,
        "choices": options.choices.model_dump(exclude_defaults=True),
        "test": options.test,
        "budget": options.budget or ("" if options.plan else DEFAULT_BUDGET),
        "notes": [finding.line for finding in found.findings],
        "findings": [finding.model_dump(mode="json") for finding in found.findings],
        "cases": {part: len(ready.part(part)) for part in found.classes},
        "patients": {part: len({s.group for s in ready.part(part)}) for part in found.classes},
        "classes": {part: dict(counts) for part, counts in found.classes.items()},
        "dropped": list(found.dropped),
    }


def _headline(evaluation: Evaluation) -> str:
    interval = evaluation.metrics[evaluation.headline]
    note = f" ({interval.note})" if interval.note else ""
    return f"{evaluation.part}: {evaluation.headline} {interval.text()} on {interval.n} cases{note}"
