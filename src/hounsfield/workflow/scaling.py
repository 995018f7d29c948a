"""How the error falls with more data, and which size of network suits a budget: a ladder of small trainings and its law."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.plan.budget import Budget, keep_freed_memory
from hounsfield.plan.sizes import parameters, sized
from hounsfield.tasks import TASKS
from hounsfield.workflow import init
from hounsfield.workflow.console import SILENT, Console
from hounsfield.workflow.device import choose_device
from hounsfield.workflow.ladders.conclusions import steps_of, study
from hounsfield.workflow.ladders.ladder import (
    AGAIN,
    ANALYSIS,
    Ladder,
    Rung,
    every_rung,
    in_time,
    measured_sizes,
    part_of,
    pinned,
)
from hounsfield.workflow.ladders.study import Study
from hounsfield.workflow.plan import make_plan, settled_options
from hounsfield.workflow.ready import DEFAULTS, Options, Ready, open_ready
from hounsfield.workflow.run import Run, read_json, refuse_existing, write_json
from hounsfield.workflow.scaling_page import write_page
from hounsfield.workflow.stages import Stages
from hounsfield.workflow.train import train, train_ready

BUDGET = "30m"
LADDER, PAGE = "ladder.json", "scaling.html"


def scaling(
    data: str | Path,
    out: str | Path,
    options: Options = DEFAULTS,
    *,
    overwrite: bool = False,
    resume: bool = False,
    console: Console = SILENT,
    started: float | None = None,
) -> Study:
    """Train a ladder of parts of the training patients and of sizes on all of them into `out`, a run each in `runs/`, and write
    `scaling.json` and `scaling.html`.

    options: as of `train`, less what divides or repeats a training itself (folds, seeds, size, plan); the budget is that of
    everything, or a number of steps of each training. resume: go on with the ladder in `out`; what ended stays.
    Raises InputError for what is wrong with the data or options, TOO_FEW where they are too few for three parts;
    ResourceError, DivergedError, RunInterruptedError as `train`.
    """
    started = time.monotonic() if started is None else started
    keep_freed_memory()
    options, budget = _settled(options)
    device = choose_device(options.device)
    folder = Path(out)
    unbegun = folder.is_dir() and [path.name for path in folder.iterdir()] == [LADDER]
    refuse_existing(folder, overwrite or resume or unbegun, "scaling study", LADDER)
    if resume and (folder / "runs" / "whole" / "plan.json").exists():
        options = replace(options, task=options.task or Run(folder / "runs" / "whole").plan.task)
    ready = open_ready(data, options, console)
    rungs = every_rung(ready, options.seed)
    if resume and (folder / LADDER).exists():
        ladder = Ladder.from_json(read_json(folder / LADDER))
    else:
        ladder = _planned(ready, rungs, options, budget, device, started, console)
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / LADDER, ladder.to_json())
    each = Budget(seconds=ladder.seconds, steps=ladder.steps)
    ends = None if budget.seconds is None or ladder.seconds is None else started + budget.seconds
    work = _Work(Path(data), folder, ready, options, each, ends, device, console)
    runs = work.climb([rung for rung in rungs if rung.name in ladder.rungs])
    found = study(Path(data).resolve().stem, runs, rungs, ladder)
    write_json(folder / "scaling.json", found.to_json())
    write_page(found, folder / PAGE)
    return found


def _settled(options: Options) -> tuple[Options, Budget]:
    """The options of each training, and the budget. Raises InputError BAD_OPTION."""
    for option, value, usual in (
        ("--folds", options.folds, 1),
        ("--seeds", options.seeds, None),
        ("--size", options.size, None),
        ("--plan", options.plan, None),
    ):
        if value != usual:
            expected = "nothing: a ladder trains one network a rung, of planned sizes"
            raise _bad(option, str(value), expected, f"leave {option} out")
    if init.asked(options):
        found = f"weights to begin with, {init.asked(options)}, which one size alone takes"
        raise _bad("--set training.init", found, "trainings from fresh weights", "leave it out")
    if options.task is not None and TASKS.load(options.task).KIND == "generator":
        found = "a task whose figures compare sets of images"
        raise _bad(f"--task {options.task}", found, "one with an error of each case", "choose another task")
    if "training.steps" not in (options.changes or {}):
        options = replace(options, budget=options.budget or BUDGET)
    options, budget = settled_options(options)
    if budget is None or budget.epochs is not None:
        expected = "a time, or a number of steps: in epochs a part would train the shorter, the fewer cases it has"
        raise _bad("--budget", str(options.budget), expected, "such as 30m or 2000steps")
    return replace(options, seeds=1), budget


def _bad(option: str, found: str, expected: str, fix: str) -> InputError:
    return InputError("BAD_OPTION", option, found=found, expected=expected, fix=fix)


def _planned(
    ready: Ready, rungs: list[Rung], options: Options, budget: Budget, device: torch.device, started: float, console: Console
) -> Ladder:
    """What is trained in the time, by preparing every case and timing steps of the sizes; with a number of steps the parts
    alone, as sizes compare at equal time."""
    if budget.seconds is None:
        return Ladder(None, budget.steps, tuple(rung.name for rung in rungs if rung.size is None))
    whole = part_of(ready, rungs[0])
    planned = make_plan(whole, options, Budget(steps=1), device, Stages(started), console)
    spent = time.monotonic() - started
    sizes = measured_sizes(whole, planned, device, budget.seconds, spent)
    return in_time(rungs, sizes, max(1.0, started + budget.seconds - time.monotonic() - ANALYSIS))


@dataclass(frozen=True)
class _Work:
    """A ladder on its way up. budget: of the whole and of each size; parts make as many steps as the whole. ends: monotonic
    time when all should be done, None for no limit."""

    data: Path
    folder: Path
    ready: Ready
    options: Options
    budget: Budget
    ends: float | None
    device: torch.device
    console: Console

    def climb(self, rungs: list[Rung]) -> dict[str, Run]:
        """Every rung trained, by name; left out are a size that is that of the plan or does not fit, and what is made a second
        time or in another size where the time is over."""
        runs: dict[str, Run] = {}
        for number, rung in enumerate(rungs, start=1):
            cases, every = len(rung.split.train), len(rungs[0].split.train)
            self.console.say(f"training {number} of {len(rungs)}, {rung.name}: {cases} of {every} cases")
            if self._is_late(rung):
                self.console.say("  left out: the time is over")
                continue
            if rung.size is not None and _is_planned(runs["whole"], rung.size):
                self.console.say(f"  left out: {rung.size} is the size of the plan")
                continue
            try:
                runs[rung.name] = self._train(rung, len(rungs))
            except ResourceError as error:
                if rung.size is None:
                    raise
                self.console.say(f"  left out: {error}")
        return runs

    def _is_late(self, rung: Rung) -> bool:
        """Whether there is no time for a rung that the law can do without and that has not begun."""
        if self.ends is None or self.budget.seconds is None or (self.folder / "runs" / rung.name).exists():
            return False
        spare = rung.size is not None or rung.name.endswith(AGAIN)
        return spare and time.monotonic() + self.budget.seconds > self.ends

    def _train(self, rung: Rung, count: int) -> Run:
        """One rung, or what is left of it. Raises InputError UNPAIRED where it began on other cases."""
        run, whole = self.folder / "runs" / rung.name, self.folder / "runs" / "whole"
        if (run / "plan.json").exists():
            begun = Run(run)
            if begun.split.train != rung.split.train or begun.split.val != rung.split.val:
                raise InputError(
                    "UNPAIRED",
                    run,
                    found="a training on other cases",
                    expected="those that the ladder began with",
                    fix="use the data, seed and split of then, or begin anew with --overwrite",
                )
            if (run / "report.html").exists():  # the last that a training writes
                return begun
            return train(self.data, run, self._options(rung, whole), resume=True, console=self.console)
        options = self._options(rung, whole)
        budget = Budget.parse(str(options.budget))
        stages = Stages(time.monotonic(), budget.seconds)
        try:
            return train_ready(part_of(self.ready, rung), run, options, budget, self.device, stages, self.console)
        except ResourceError as error:
            if error.code != "BUDGET_TOO_SMALL":
                raise
            raise ResourceError(
                error.code,
                error.where,
                found=f"{count} trainings of {error.found} each",
                expected=f"for each {error.expected}",
                fix="a longer --budget, or train once with hounsfield train",
            ) from error

    def _options(self, rung: Rung, whole: Path) -> Options:
        """Of the whole the rules decide; all others obey its plan, the parts with its size, precision and steps."""
        text = f"{self.budget.steps}steps" if self.budget.seconds is None else f"{self.budget.seconds:.1f}s"
        if rung.name == "whole":
            return replace(self.options, budget=text, test=0.0)
        changes = None
        if rung.size is None:
            text, changes = f"{steps_of(Run(whole))}steps", pinned(Run(whole).plan)
        plan = whole / "plan.json"
        own = replace(self.options, plan=plan, changes=changes, size=rung.size, model=None, seed=rung.seed)
        return replace(own, budget=text, test=0.0)


def _is_planned(whole: Run, word: str) -> bool:
    return parameters(sized(whole.plan, word)) == parameters(whole.plan)
