"""What a training is asked for, and a dataset that was read, divided and audited for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from hounsfield.core.sample import Sample
from hounsfield.data.audit import Audit, audit
from hounsfield.data.cache import cache_root
from hounsfield.data.dataset import Dataset
from hounsfield.data.mask_boxes import for_task, with_masks
from hounsfield.data.readers import open_dataset, unknown_layout
from hounsfield.data.split import VAL, Split, make_split
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.plan.rules import check_pair
from hounsfield.tasks import TASKS
from hounsfield.workflow.console import Console
from hounsfield.workflow.run import draws_from_masks, read_plan

FEW = 0.05  # part of the training cases that is held out where labels are left aside


@dataclass(frozen=True)
class Options:
    """How a dataset is read, divided and trained; the defaults need nothing from the user.

    task, model, reader: member names, None lets the data decide. budget: as Budget.parse reads it. size: a word of
    plan/sizes.py. plan: a plan file instead of the rules. changes: dotted plan keys to values. folds, seeds: members of a
    cross-validation and of each of its folds. test: part of the patients set apart; leave_out: "site=A".
    choices: how files are read that leave one. devices: on each of so many nodes, None: as many as were started, or one.
    strategy: "ddp", each with all of the weights, or "fsdp", with a part of them. init: what the weights begin
    as, see `init.read`. skip_unreadable: leave out cases that cannot be read, and name them, instead of refusing the dataset.
    """

    task: str | None = None
    model: str | None = None
    reader: str | None = None
    budget: str | None = None
    size: str | None = None
    plan: Path | None = None
    changes: Mapping[str, Any] | None = None
    seed: int = 0
    folds: int = 1
    seeds: int | None = None
    test: float = 0.0
    leave_out: str | None = None
    patient_regex: str | None = None
    choices: Choices = DEFAULT
    strict: bool = False
    device: str = "auto"
    devices: int | None = None
    nodes: int = 1
    strategy: str = "ddp"
    init: str | None = None
    skip_unreadable: bool = False

    @property
    def processes(self) -> int:
        """That train together."""
        return (self.devices or 1) * self.nodes


DEFAULTS = Options()


@dataclass(frozen=True)
class Ready:
    """A dataset that was read, audited and divided."""

    dataset: Dataset
    split: Split
    audit: Audit

    def part(self, name: str) -> tuple[Sample, ...]:
        """The samples of "train", "val" or "test"."""
        wanted = set(getattr(self.split, name))
        return tuple(s for s in self.dataset.samples if s.id in wanted)

    def fold(self, fold: int) -> Ready:
        """The same as the members of one fold see it: val is what they do not train on."""
        copies = [(c.first, c.second) for c in self.audit.copies]
        return Ready(self.dataset, self.split.of_fold(fold, copies), self.audit)


def open_ready(data: str | Path, options: Options, console: Console) -> Ready:
    """Read, divide and audit `data`, saying what was found."""
    dataset = open_dataset(Path(data), options.reader, options.patient_regex, options.choices)
    console.say(f"{dataset.reader}: {dataset.found}")
    task = task_of(dataset, options)
    if task is None:
        raise unknown_layout(Path(data))
    if options.model is not None:  # before every case is read
        check_pair(task, options.model.partition(":")[0])
    dataset = with_masks(dataset) if _from_masks(options) else for_task(dataset, task)
    TASKS.load(task).targets(dataset)
    # Where no label is needed, all but a few images teach.
    few = FEW if getattr(TASKS.load(task), "TRUTH", "") == "view" else VAL
    split = make_split(dataset, options.seed, test=options.test, folds=options.folds, leave_out=options.leave_out, select=few)
    ready = audited(dataset, split, console, strict=options.strict, skip=options.skip_unreadable)
    for finding in ready.audit.findings:
        mark = "" if finding.severity == "note" else f"{finding.severity} {finding.code}: "
        console.say(f"  {mark}{shorten(finding.line, 240)}")
    split = ready.split
    sizes = ", ".join(f"{len(getattr(split, part))} {part}" for part in ("train", "val", "test") if getattr(split, part))
    console.say(f"split ({split.source}): {sizes}" + (f", in {len(split.folds)} folds" if split.folds else ""))
    return ready


def task_of(dataset: Dataset, options: Options) -> str | None:
    """What the user says, or a plan file whose task is another one that the data serve, too; else what their labels suggest."""
    if options.task is None and options.plan is not None:
        planned = read_plan(options.plan).task
        boxes_of_masks = planned == "detection" and dataset.kind == "segmentation"
        of_images = planned == "generation" or getattr(TASKS.load(planned), "TRUTH", "labels") != "labels"
        if dataset.kind is None or of_images or boxes_of_masks:
            return planned
    return options.task or dataset.kind


def _from_masks(options: Options) -> bool:
    """Whether images shall be drawn from masks, as the user or the plan file says: then masks are kept whatever the task."""
    if "task_options.masks" in (options.changes or {}):
        return (options.changes or {})["task_options.masks"] is True
    return options.plan is not None and draws_from_masks(read_plan(options.plan))


def audited(dataset: Dataset, split: Split, console: Console, *, strict: bool = False, skip: bool = False) -> Ready:
    """The dataset and split less the copies that leak, and with `skip` less what cannot be read."""
    with console.bar("reading every case") as bar:
        return Ready(*audit(dataset, split, strict=strict, skip=skip, store=cache_root() / "facts", progress=bar))
