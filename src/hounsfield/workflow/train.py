"""From a folder to a finished run: read, audit, split, measure, decide, prepare, train, evaluate, report."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.plan.budget import WATCHED, Budget, Settled, give_back_freed_memory, keep_freed_memory, placed
from hounsfield.plan.devices import divided, shardable
from hounsfield.plan.sizes import parameters
from hounsfield.tasks import TASKS
from hounsfield.workflow import init
from hounsfield.workflow.console import SILENT, Console, first_few
from hounsfield.workflow.costs import evenly, fitting, seconds_a_case
from hounsfield.workflow.device import memory_guard
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
from hounsfield.workflow.processes.launch import launch
from hounsfield.workflow.processes.place import Place, options_of
from hounsfield.workflow.processes.several import together
from hounsfield.workflow.processes.team import ALONE, Team
from hounsfield.workflow.ready import DEFAULTS, Options, Ready, audited, open_ready
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run, build, environment, filled, refuse_existing, write_text
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
    budget counts. On several devices each has a process of its own: those that torchrun or srun started, of which this is one,
    else those that are started here.
    Raises InputError for what is wrong with the data or options, ResourceError, DivergedError, RunInterruptedError; of several
    processes one that was started elsewhere and does not lead raises SystemExit instead.
    """
    started = time.monotonic() if started is None else started
    place = Place.of()
    options = options if place else options_of(options, None)
    if place is None and options.processes > 1:
        return launch(data, out, options, {"overwrite": overwrite, "resume": resume, "started": started}, console)
    with together(place, options) as (team, options, device):
        give_back_freed_memory() if team.sharded else keep_freed_memory()
        if not team.leads:
            return _follow(Path(out), device, started, team)
        if resume and (Path(out) / "plan.json").exists():
            return _resume(Run(out), options, device, console, started, team)
        refuse_existing(out, overwrite)
        options, budget = settled_options(options)
        stages = Stages(started, budget.seconds if budget else None)
        source = init.read(init.asked(options))
        with stages.stage("read"):
            ready = open_ready(data, options, console)
        return train_ready(ready, out, options, budget, device, stages, console, team, source)


def train_ready(
    ready: Ready,
    out: str | Path,
    options: Options,
    budget: Budget | None,
    device: torch.device,
    stages: Stages,
    console: Console,
    team: Team = ALONE,
    source: init.Source | None = None,
) -> Run:
    """Train on what was read before, into the run `out`, as `train` does; the budget counts from where `stages` began. source:
    the weights that the options name."""
    with team.first_here():
        planned = make_plan(ready, options, budget, device, stages, console, source)
    began = None if source is None or planned.taken is None else init.record(source, planned.taken, ready)
    run = Run.create(out, planned.plan, ready.split, planned.facts, {**_record(ready, options), "init": began})
    team.opened()
    stages.keep_in(run)
    return _Work(run, ready, planned, device, stages, console, team, source).finish()


def _resume(run: Run, options: Options, device: torch.device, console: Console, started: float, team: Team) -> Run:
    """Continue with the run's own plan and split; the data are read again and must still hold the same cases."""
    budget = Budget.parse(options.budget) if options.budget else Budget()
    run = _divided(run, team, console)
    team.opened()
    stages = Stages(started)
    ready, planned = _again(run, device, stages, console, team)
    kept = 0.0 if budget.seconds is None else Kept(ready, device, budget.seconds)(run.plan)
    planned = replace(planned, settled=Settled(run.plan, kept=kept))
    stages.keep_in(run, go_on=True)
    # Stages count from the first sitting, the budget of a second from its own command.
    stages.budget = None if budget.seconds is None else started - stages.started + budget.seconds
    return _Work(run, ready, planned, device, stages, console, team).finish()


def _follow(root: Path, device: torch.device, started: float, team: Team) -> Run:
    """Do this process's part of the run that another has begun or continues."""
    team.opened()
    run, stages = Run(root), Stages(started)
    ready, planned = _again(run, device, stages, SILENT, team)
    return _Work(run, ready, planned, device, stages, SILENT, team).finish()


def _again(run: Run, device: torch.device, stages: Stages, console: Console, team: Team) -> tuple[Ready, Planned]:
    """The data of a run that has begun, read and prepared once more. Raises InputError UNPAIRED where cases are missing."""
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
    with stages.stage("prepare"), team.first_here():
        entries = prepare_all(run.plan, ready.part("train"), ready.audit.facts, device, console)
    return ready, Planned(run.fingerprint, Settled(run.plan), entries, grid_spacing(run.plan, run.fingerprint))


def _divided(run: Run, team: Team, console: Console) -> Run:
    """The run with a plan whose steps so many processes can share, of as many samples as before. Raises InputError
    BAD_OPTION."""
    before = run.plan
    plan = divided(shardable(before) if team.sharded else before, team.size)
    if plan.training.accumulate == before.training.accumulate:
        return run
    one, other = (p.training.batch * p.training.accumulate for p in (before, plan))
    if one != other:
        raise InputError(
            "BAD_OPTION",
            f"--devices {team.size}",
            found=f"a run whose steps have {one} samples",
            expected="as many for each device",
            fix="continue on as many devices as it began with",
        )
    console.say(plan.reasons["training.accumulate"])
    write_text(run.root / "plan.json", plan.to_json())
    return Run(run.root)


@dataclass(frozen=True)
class _Work:
    """A run on its way from a plan to a report."""

    run: Run
    ready: Ready
    planned: Planned
    device: torch.device
    stages: Stages
    console: Console
    team: Team
    source: init.Source | None = None  # of the weights, where they are at hand already

    @property
    def ends(self) -> float | None:
        """Monotonic time when all should be done; None for no limit."""
        return None if self.stages.budget is None else self.stages.started + self.stages.budget

    def finish(self) -> Run:
        """Train every member, evaluate, report."""
        plan, team = self.run.plan, self.team
        team.same(lambda: _sight(self.run, self.ready))
        smaller = smaller_batch(plan) + (" or --strategy fsdp" if team.size > 1 and not team.sharded else "")
        with memory_guard("training", smaller):
            weights = parameters(plan)
            networks = f"{plan.members.count} networks of " if plan.members.count > 1 else ""
            where = f"{team.size} {self.device.type} devices" if team.size > 1 else f"{self.device}"
            self.console.say(
                f"{plan.task} with {plan.network}, {networks}{weights / 1e6:.2f} million weights, "
                f"{plan.training.steps} steps of {plan.training.batch * plan.training.accumulate} on {where}"
            )
            todo = [m for m in self._members() if not m[2].weights.exists()]
            for number, (fold, seed, member) in enumerate(todo):
                with self.stages.stage(f"train {fold}-{seed}"):
                    self._train(fold, seed, member, len(todo) - number)
            if TASKS.load(plan.task).KIND == "generator":  # sets of images are compared by one process
                replace(self, team=ALONE)._evaluate() if team.leads else None
            else:
                self._evaluate()
            if not team.leads:
                return self.run
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
        model = placed(self._begun(plan, member), plan, self.device)
        solver = self.run.solver
        settled = self.planned.settled
        clock = Clock(self.ends, reserve=settled.kept or REPORT_SECONDS, expected=settled.step, share=share, most=settled.most)
        watch = _watcher(plan, ready.part("val")[:WATCHED_CASES], clock, self.device) if self.team.leads else None
        name = "training" if self.run.plan.members.count == 1 else f"training {fold}-{seed}"
        with self.console.bar(name) as bar:
            best = ""

            def tell(state: State, loss: float, value: float | None) -> None:
                nonlocal best
                best = best if value is None else f"{solver.metrics().headline} {value:.3f}"
                bar(state.step, state.total, f"loss {loss:.3f} {best}")

            loader = self.planned.loader(plan, ready.split, self.team.rank, self.team.size)
            state = fit(model, solver, loader, plan, member, clock, watch, tell, self.team)
        apart = state.step - plan.training.steps
        pace = "more than planned: the machine was faster" if apart > 0 else "fewer than planned: the machine was slower"
        self.console.say(f"trained {state.step} steps in {state.seconds:.0f} s" + (f", {abs(apart)} {pace}" if apart else ""))

    def _begun(self, plan: Plan, member: Member) -> nn.Module:
        """The network as it begins: with fresh weights, or with those that the plan names; a checkpoint brings its own."""
        model, began = build(plan), self.run.record.get("init")
        if began is not None:
            source = None if member.saved else self.source or init.read(plan.training.init)
            init.start(model, plan, began["fresh"], source)
        return model

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
            samples = self._held(every, each * len(models))
            if samples:
                with self.stages.stage(f"evaluate {part}"):
                    found = self._noted(measure(predictor, samples, part, used_for, self.console, beside, team=self.team))
                    self._keep(found, len(samples), len(every))
        if split.folds:
            every, cost = self.ready.part("train"), each * plan.members.seeds
            samples = self._held(every, cost)
            with self.stages.stage("evaluate folds"):
                found = measure_folds(self.run, samples, self.device, self.console, team=self.team)
                self._keep(found, len(samples), len(every))

    def _held(self, every: Sequence[Sample], each: float) -> Sequence[Sample]:
        """As many of the samples, the same in all processes, as the time holds where one takes `each` seconds."""
        held = len(fitting(every, each / self.team.size, self._left(each)))
        return evenly(every, int(self.team.led([held])[0]))

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

    def _noted(self, evaluation: Evaluation) -> Evaluation:
        """The same, with a note where the weights to begin with had seen its cases."""
        began = self.run.record.get("init")
        seen = began["seen"][evaluation.part] if began else 0
        return evaluation.noted(f"{seen} cases taught the weights that it began with") if seen else evaluation

    def _keep(self, evaluation: Evaluation, measured: int, all_cases: int) -> None:
        if measured < all_cases:
            evaluation = evaluation.noted(f"{measured} of {all_cases} cases: the budget held no more")
        if self.team.leads:
            evaluation.save(self.run)
        self.console.say(_headline(evaluation))


def _watcher(plan: Plan, samples: Sequence[Sample], clock: Clock, device: torch.device) -> Watch | None:
    """The headline figure of given weights on a few validation cases; None where looking would cost too much time, and of
    generators, of which a few cases say nothing."""
    if TASKS.load(plan.task).KIND == "generator":
        return None

    def network() -> nn.Module:
        return placed(build(plan), plan, device).eval()

    if clock.ends is not None:
        each = seconds_a_case(Predictor.of(plan, [network()]), samples)
        affordable = int(WATCHED * clock.left / WATCHES / max(each, 1e-9))
        samples = samples[: max(0, affordable)]
    if not samples:
        return None

    def watch(weights: Iterator[tuple[str, Tensor]]) -> float:
        watched = filled(network(), weights)  # made when it is needed: memory is worth more in the steps between
        evaluation = measure(Predictor.of(plan, [watched]), samples, "val", "watching", SILENT)
        return evaluation.metrics[evaluation.headline].value

    return watch


def _sight(run: Run, ready: Ready) -> dict[str, str]:
    """What processes that train together must all have seen: the same plan, cases and versions."""
    cases = hashlib.sha256()
    for sample in ready.dataset.samples:
        facts, target = ready.audit.facts.get(sample.id), sample.target
        label = target.corners.tolist() if isinstance(target, Boxes) else target if isinstance(target, int | tuple) else ""
        content = ("", "") if facts is None else (facts.digest, sorted(facts.voxels.items()))
        cases.update(f"{sample.id} {content} {label}\n".encode())
    about = environment()
    return {
        "hounsfield": about["hounsfield"],
        "python": about["python"],
        **about["packages"],
        "plan.json": hashlib.sha256(run.plan.to_json().encode()).hexdigest()[:12],
        "data": f"{len(ready.dataset)} cases ({cases.hexdigest()[:12]})",
    }


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
    return f"{evaluation.part}: {evaluation.headline} {interval.text()} on {interval.n} case{'s' * (interval.n != 1)}{note}"
