"""From a folder to a finished run: read, audit, split, measure, decide, prepare, train, evaluate, report."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import Fingerprint
from hounsfield.core.plan import Plan
from hounsfield.core.sample import Sample
from hounsfield.data.audit import Audit, audit
from hounsfield.data.cache import Cache, Entry, cache_root, default_cache
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import Dataset
from hounsfield.data.facts import CaseFacts
from hounsfield.data.loader import Loader
from hounsfield.data.prepare import place, prepare
from hounsfield.data.readers import open_dataset, unknown_layout
from hounsfield.data.split import Split, make_split
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.models import MODELS
from hounsfield.plan.budget import CHOSEN, WATCHED, Budget, keep_freed_memory, settle
from hounsfield.plan.fingerprint import fingerprint
from hounsfield.plan.rules import decide
from hounsfield.tasks import TASKS, Solver
from hounsfield.workflow.console import SILENT, Console, first_few
from hounsfield.workflow.costs import fitting, seconds_a_case
from hounsfield.workflow.device import choose_device, memory_guard
from hounsfield.workflow.evaluate import Evaluation, measure
from hounsfield.workflow.fit import WATCHES, Clock, Member, State, Watch, fit
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run, build, load_weights, read_plan, refuse_existing

WATCHED_CASES = 8  # validation cases that are looked at during training
EVALUATION_MARGIN = 1.3  # of the measured time a case, kept for the evaluation
PICTURED_CASES = 5  # that the report predicts anew
MOST_KEPT = 0.5  # of the budget, for evaluation and report
TOLERANCE = 1.05  # of the budget that is never passed knowingly
REPORT_SECONDS = 12.0  # kept for intervals, pictures and the report
DEFAULT_BUDGET = "10m"


@dataclass(frozen=True)
class Options:
    """How a dataset is read, divided and trained; the defaults need nothing from the user.

    task, model, reader: member names, None lets the data decide. budget: as Budget.parse reads it. plan: a plan file instead
    of the rules. changes: dotted plan keys to values. test: part of the patients set apart; leave_out: "site=A".
    choices: how files are read that leave one.
    """

    task: str | None = None
    model: str | None = None
    reader: str | None = None
    budget: str | None = None
    plan: Path | None = None
    changes: Mapping[str, Any] | None = None
    seed: int = 0
    test: float = 0.0
    leave_out: str | None = None
    patient_regex: str | None = None
    choices: Choices = DEFAULT
    strict: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Ready:
    """A dataset that was read, audited and divided."""

    dataset: Dataset
    split: Split
    audit: Audit

    def part(self, name: str) -> tuple[Sample, ...]:
        wanted = set(getattr(self.split, name))
        return tuple(s for s in self.dataset.samples if s.id in wanted)


def train(
    data: str | Path,
    out: str | Path,
    options: Options = Options(),
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
    budget = Budget.parse(options.budget or DEFAULT_BUDGET)
    ready = open_ready(data, options, console)
    train_part = ready.dataset.select(ready.split.train)
    facts = fingerprint(train_part, ready.audit.facts)
    plan = _first_plan(ready.dataset, facts, options, device)
    entries = _prepare_all(plan, ready.part("train"), ready.audit.facts, console)
    spacing = _spacing(plan, facts.spacing_median, facts.shape_median)

    def loader(which: Plan) -> Loader:
        return Loader(entries, which, spacing)

    ends = None
    with memory_guard("training", f"--set training.batch={max(1, plan.training.batch // 2)} --set training.accumulate=2"):
        if options.plan is None or options.budget is not None:

            def until(which: Plan) -> float | None:
                if budget.seconds is None:
                    return None
                each = seconds_a_case(Predictor.of(which, [build(which).to(device).eval()]), ready.part("val"))
                held = len(ready.split.val) + len(ready.split.test)
                kept = REPORT_SECONDS + (EVALUATION_MARGIN * held + PICTURED_CASES) * each
                return started + budget.seconds - min(kept, MOST_KEPT * budget.seconds)

            plan, ends = settle(plan, loader, device, budget, until)
            plan = plan.override(options.changes, CHOSEN) if options.changes else plan
        run = Run.create(out, plan, ready.split, facts, _record(ready, options, budget))
        over = None if budget.seconds is None else started + budget.seconds * TOLERANCE
        return _finish(run, ready, loader(plan), Clock(ends), over, device, console)


def open_ready(data: str | Path, options: Options, console: Console) -> Ready:
    """Read, divide and audit `data`, saying what was found."""
    dataset = open_dataset(Path(data), options.reader, options.patient_regex, options.choices)
    console.say(f"{dataset.reader}: {dataset.found}")
    task = options.task or dataset.kind
    if task is None:
        raise unknown_layout(Path(data))
    TASKS.load(task).targets(dataset)
    split = make_split(dataset, options.seed, test=options.test, leave_out=options.leave_out)
    with console.bar("reading every case") as bar:
        dataset, split, found = audit(dataset, split, strict=options.strict, store=cache_root() / "facts", progress=bar)
    for note in (*dataset.notes, *found.notes):
        console.say(f"  {shorten(note, 240)}")
    sizes = ", ".join(f"{len(getattr(split, part))} {part}" for part in ("train", "val", "test") if getattr(split, part))
    console.say(f"split ({split.source}): {sizes}")
    return Ready(dataset, split, found)


def _first_plan(dataset: Dataset, facts: Fingerprint, options: Options, device: torch.device) -> Plan:
    """The plan before the budget: from the rules, or the user's file; then the user's single changes."""
    if options.plan is not None:
        plan = read_plan(options.plan).model_copy(update={"seed": options.seed})
        if [c.name for c in plan.classes] != [c.name for c in dataset.classes] or len(plan.channels) != len(dataset.channels):
            raise InputError(
                "BAD_PLAN",
                options.plan,
                found=f"classes {first_few(c.name for c in plan.classes)} on {len(plan.channels)} channels",
                expected=f"the data's {first_few(c.name for c in dataset.classes)} on {len(dataset.channels)} channels",
                fix="use the plan of this dataset",
            )
    else:
        plan = decide(facts, dataset.classes, options.task or str(dataset.kind), options.model, options.seed, device.type)
        if dataset.ignore_value is not None:
            plan = plan.override({"task_options.ignore_value": dataset.ignore_value}, "the dataset says so")
    plan = plan.override(options.changes, CHOSEN) if options.changes else plan
    task, model = TASKS.load(plan.task), MODELS.load(plan.model)
    if task.KIND != model.OUTPUT:
        raise InputError(
            "UNSUPPORTED_PAIR",
            f"--model {plan.model}",
            found=f"a {model.OUTPUT} output",
            expected=f"a {task.KIND} output for {plan.task}",
            fix=f"--model {task.MODEL}",
        )
    return plan


def _prepare_all(plan: Plan, samples: Sequence[Sample], facts: Mapping[str, CaseFacts], console: Console) -> dict[str, Entry]:
    """Every sample prepared in the cache, in threads."""
    cache = default_cache()
    solver = TASKS.load(plan.task).Solver(plan)
    settings = "".join(part.model_dump_json() for part in (plan.grid, plan.task_options, *plan.normalise, *plan.classes))
    keys = {s.id: Cache.key(settings, plan.task, *_parts(s)) for s in samples}
    cache.make_room({keys[s.id]: _entry_bytes(plan, facts[s.id]) for s in samples})

    def one(sample: Sample) -> tuple[str, Entry]:
        return sample.id, cache.get(keys[sample.id], sample.id, lambda: _prepare_one(plan, solver, sample))

    entries: dict[str, Entry] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, console.bar("preparing cases") as bar:
        for name, entry in pool.map(one, samples):
            entries[name] = entry
            bar(len(entries), len(samples))
    if cache.rebuilt:
        console.say(f"  cache: {len(cache.rebuilt)} damaged entries rebuilt ({first_few(sorted(cache.rebuilt))})")
    return entries


def _parts(sample: Sample) -> list[str]:
    """What a prepared case is made of."""
    target = sample.target.key if callable(sample.target) else f"{sample.target!r} of {sample.known_classes}"
    return [target, sample.valid_mask.key if sample.valid_mask else "", *(image.key for image in sample.images)]


def _entry_bytes(plan: Plan, case: CaseFacts) -> int:
    """Upper bound of a case in the cache: its model voxels, uncompressed, in 16 bits a channel and 8 for the target."""
    if plan.grid.size is not None:
        voxels = float(np.prod(plan.grid.size))
    else:
        voxels = float(np.prod(case.shape))
        if plan.grid.spacing is not None and case.space != "none":
            voxels *= float(np.prod(case.spacing)) / float(np.prod(plan.grid.spacing))
    return math.ceil(voxels * (2 * len(plan.channels) + 1))


def _prepare_one(plan: Plan, solver: Solver, sample: Sample) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    image = read_case(sample, len(plan.channels))
    target = solver.encode(sample, place(image, plan.grid))
    return prepare(image, plan.grid, plan.normalise).tensor.numpy(), target


def _finish(
    run: Run, ready: Ready, loader: Loader, clock: Clock, over: float | None, device: torch.device, console: Console
) -> Run:
    """Train, evaluate, report. over: monotonic time when all must be done, None for no limit."""
    plan, member = run.plan, Member(run.root / "members" / f"0-{run.plan.seed}")
    torch.manual_seed(plan.seed)
    model = build(plan).to(device)
    solver = run.solver
    if not member.weights.exists():
        weights = sum(p.numel() for p in model.parameters())
        console.say(
            f"{plan.task} with {plan.model}, {weights / 1e6:.2f} million weights, "
            f"{plan.training.steps} steps of {plan.training.batch} on {device}"
        )
        watch = _watcher(plan, ready.part("val")[:WATCHED_CASES], clock, device)
        with console.bar("training") as bar:
            best = ""

            def tell(state: State, loss: float, value: float | None) -> None:
                nonlocal best
                best = best if value is None else f"{solver.metrics().headline} {value:.3f}"
                bar(state.step, state.total, f"loss {loss:.3f} {best}")

            state = fit(model, solver, loader, plan, member, clock, watch, tell)
        missed = plan.training.steps - state.step
        early = f", {missed} fewer than planned: the machine was slower" if missed else ""
        console.say(f"trained {state.step} steps in {state.seconds:.0f} s{early}")
    final = load_weights(build(plan), member.weights).to(device).eval()
    predictor = Predictor.of(plan, [final])
    each = seconds_a_case(predictor, ready.part("val")) if over is not None else 0.0
    for part, used_for in (("test", "report"), ("val", "selection")):
        every = ready.part(part)
        left = math.inf if over is None else over - time.monotonic() - REPORT_SECONDS - PICTURED_CASES * each
        samples = fitting(every, each, left) if over is not None else every
        if samples:
            evaluation = measure(predictor, samples, part, used_for, console)
            if len(samples) < len(every):
                evaluation = evaluation.noted(f"{len(samples)} of {len(every)} cases: the budget held no more")
            evaluation.save(run)
            console.say(_headline(evaluation))
    console.say(f"report: {report(run, device=str(device), console=console)}")
    return run


def _resume(run: Run, options: Options, device: torch.device, console: Console, started: float) -> Run:
    """Continue with the run's own plan and split; the data are read again and must still hold the same cases."""
    dataset = run.dataset()
    with console.bar("reading every case") as bar:
        dataset, split, found = audit(dataset, run.split, store=cache_root() / "facts", progress=bar)
    ready = Ready(dataset, split, found)
    lacking = set(run.split.train) - set(split.train)
    if lacking:
        raise InputError(
            "UNPAIRED",
            dataset.root,
            found=f"no {first_few(sorted(lacking))}",
            expected="the cases that the run began with",
            fix="put them back",
        )
    facts, plan = run.fingerprint, run.plan
    entries = _prepare_all(plan, ready.part("train"), ready.audit.facts, console)
    loader = Loader(entries, plan, _spacing(plan, facts.spacing_median, facts.shape_median))
    ends = None
    budget = Budget.parse(options.budget) if options.budget else None
    if budget is not None and budget.seconds is not None:
        ends = started + budget.seconds - REPORT_SECONDS
    with memory_guard("training", "train anew with a smaller --set training.batch"):
        return _finish(run, ready, loader, Clock(ends), None, device, console)


def _watcher(plan: Plan, samples: Sequence[Sample], clock: Clock, device: torch.device) -> Watch | None:
    """The headline figure of given weights on a few validation cases; None where looking would cost too much time."""
    watched = build(plan).to(device).eval()
    predictor = Predictor.of(plan, [watched])
    if clock.ends is not None:
        each = seconds_a_case(predictor, samples)
        affordable = int(WATCHED * (clock.ends - time.monotonic()) / WATCHES / max(each, 1e-9))
        samples = samples[: max(0, affordable)]
    if not samples:
        return None

    def watch(weights: Mapping[str, Tensor]) -> float:
        watched.load_state_dict(dict(weights))
        evaluation = measure(predictor, samples, "val", "watching", SILENT)
        return evaluation.metrics[evaluation.headline].value

    return watch


def _spacing(plan: Plan, spacing: Sequence[float], shape: Sequence[int]) -> tuple[float, ...]:
    """Voxel sides of the model grid, which augmentation turns in."""
    if plan.grid.size is not None:
        return tuple(s * n / m for s, n, m in zip(spacing, shape, plan.grid.size, strict=True))
    return plan.grid.spacing or tuple(spacing)


def _record(ready: Ready, options: Options, budget: Budget) -> dict[str, Any]:
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
        "notes": [*ready.dataset.notes, *found.notes],
        "cases": {part: len(ready.part(part)) for part in found.classes},
        "patients": {part: len({s.group for s in ready.part(part)}) for part in found.classes},
        "classes": {part: dict(counts) for part, counts in found.classes.items()},
        "dropped": list(found.dropped),
    }


def _headline(evaluation: Evaluation) -> str:
    interval = evaluation.metrics[evaluation.headline]
    note = f" ({interval.note})" if interval.note else ""
    return f"{evaluation.part}: {evaluation.headline} {interval.text()} on {interval.n} cases{note}"
