"""The ladder of a scaling study: nested parts of the training patients, sizes of network, and the time of each training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch

from hounsfield.core.errors import InputError
from hounsfield.core.finding import Finding
from hounsfield.core.plan import Plan
from hounsfield.data.checks import class_counts, classes_of
from hounsfield.data.split import Split, nested
from hounsfield.models import MODELS
from hounsfield.plan import memory
from hounsfield.plan.budget import CHOSEN, ENOUGH, MEASURING, TRIED, WATCHED, measure
from hounsfield.plan.sizes import parameters, sized
from hounsfield.tasks import TASKS
from hounsfield.workflow.plan import Kept, Planned
from hounsfield.workflow.ready import Ready

PARTS: Final = ("whole", "half", "quarter", "eighth", "sixteenth")  # of the training patients
LEAST: Final = 3  # parts that a law and its check take
HANDFUL: Final = 3  # patients of every class that a part holds at least
WORDS: Final = ("tiny", "small", "base")  # sizes that are compared
WORTH: Final = 60.0  # seconds: where trainings are shorter than that, none is made a second time
AGAIN: Final = "-again"  # behind the name of a part that is drawn and trained on a second time
ANALYSIS: Final = 10.0  # seconds kept for laws, intervals and the page


@dataclass(frozen=True)
class Rung:
    """One training of one network. name: of its run. split: what it learns from. size: a word of WORDS, None for the network
    that was planned for the whole training part. seed: of weights, order and augmentation."""

    name: str
    split: Split
    seed: int
    size: str | None = None


@dataclass(frozen=True)
class Size:
    """A size by its word. parameters: of one network. step: seconds, as measured. enough: seconds of a budget in which it makes
    the steps from which on it is worth its width."""

    word: str
    parameters: int
    step: float
    enough: float


@dataclass(frozen=True)
class Ladder:
    """What is trained. seconds: wall-clock time of each training, or steps: of each, whichever was asked for. rungs: names, in
    order. sizes: those that were measured, trained or not."""

    seconds: float | None
    steps: int | None
    rungs: tuple[str, ...]
    sizes: tuple[Size, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Ladder:
        return cls(values["seconds"], values["steps"], tuple(values["rungs"]), tuple(Size(**size) for size in values["sizes"]))


def every_rung(ready: Ready, seed: int) -> list[Rung]:
    """Every training that a study may make: the whole training part first, then the parts of it from large to small, each drawn
    a second time with the next seed, then the sizes on the whole.

    Raises InputError TOO_FEW where a quarter of the training patients holds less than a HANDFUL of a class.
    """
    once = [s for s in nested(ready.dataset, ready.split, seed, len(PARTS)) if _fewest(ready, s)[0] >= HANDFUL]
    if len(once) < LEAST:
        raise _too_few(ready, seed)
    names = PARTS[: len(once)]
    again = nested(ready.dataset, ready.split, seed + 1, len(once))
    return [
        *(Rung(name, split, seed) for name, split in zip(names, once, strict=True)),
        *(Rung(name + AGAIN, split, seed + 1) for name, split in zip(names[1:], again[1:], strict=False)),
        *(Rung(word, once[0], seed, word) for word in WORDS),
    ]


def in_time(every: Sequence[Rung], sizes: Sequence[Size], seconds: float) -> Ladder:
    """The ladder that fits `seconds` in equal shares: without the sizes that would make too few steps to be tried, and without
    second times where trainings would be shorter than WORTH."""
    parts = [r.name for r in every if r.size is None]
    for kept in (parts, [name for name in parts if not name.endswith(AGAIN)]):
        share = seconds / (len(kept) + len(sizes))
        tried = [s.word for s in sizes if TRIED * s.step <= share]
        share = seconds / (len(kept) + len(tried))
        if share >= WORTH:
            break
    return Ladder(share, None, (*kept, *tried), tuple(sizes))


def measured_sizes(ready: Ready, planned: Planned, device: torch.device, budget: float, spent: float) -> list[Size]:
    """WORDS from small to large with what a step of each takes, as far as the memory holds them and a step is not longer than
    ever worth trying in `budget` seconds; none of a model that has no width, or where the user chose the network.

    spent: seconds that reading and preparing took.
    """
    found: list[Size] = []
    chosen = (key for key, why in planned.plan.reasons.items() if why == CHOSEN)
    if not hasattr(planned.plan.model_options, "width") or any(key.startswith("model_options") for key in chosen):
        return found
    room, kept = memory.available(device), Kept(ready, device)
    for word in WORDS:
        plan = sized(planned.plan, word)
        count = parameters(plan)
        if found and count == found[-1].parameters:
            continue
        if memory.predict(plan, device.type).total > room:
            break
        step = measure(plan, planned.loader(plan, ready.split), device, MEASURING * budget).seconds
        wanted = ENOUGH[TASKS.load(plan.task).KIND] * step / (1 - WATCHED)
        found.append(Size(word, count, step, spent + kept(plan) + wanted))
        if TRIED * step > budget / (len(PARTS) + len(WORDS)):
            break
    return found


def part_of(ready: Ready, rung: Rung) -> Ready:
    """What the training of a rung sees of a dataset that was read and audited as a whole."""
    dataset = ready.dataset.select(rung.split.part_of())
    classes, empty = class_counts(dataset, ready.audit.facts, rung.split)
    found = f"a rung of a scaling study: {len(rung.split.train)} of {len(ready.split.train)} training cases"
    note = Finding(severity="note", code="READER_NOTE", found=found, fix="train on all of them with hounsfield train")
    audit = replace(ready.audit, classes=classes, empty=empty, findings=(*ready.audit.findings, note))
    return Ready(dataset, rung.split, audit)


def pinned(plan: Plan) -> dict[str, Any]:
    """What all parts of the ladder have in common beyond the plan: its size, precision and layout, by dotted key."""
    every = MODELS.load(plan.model).sizes(plan.model_options)
    width = [key for key in type(every[0]).model_fields if len({str(getattr(options, key)) for options in every}) > 1]
    options, training = (part.model_dump(mode="json") for part in (plan.model_options, plan.training))
    return {
        **{f"model_options.{key}": options[key] for key in width},
        **{f"training.{key}": training[key] for key in ("amp", "channels_last", "compile")},
    }


def _fewest(ready: Ready, split: Split) -> tuple[int, str]:
    """Patients of the training part that show its rarest class, and its name; all patients, and "", where no class is rarer."""
    shown = {"": {s.group for s in ready.dataset.select(split.train).samples}, **_by_class(ready, split)}
    name = min(shown, key=lambda n: len(shown[n]))
    return len(shown[name]), name


def _by_class(ready: Ready, split: Split) -> dict[str, set[str]]:
    """Patients by class, of the classes that the whole training part shows."""
    members: dict[str, set[str]] = {}
    inside = set(split.train)
    for sample in ready.part("train"):
        for k in classes_of(sample, ready.audit.facts[sample.id].voxels, ready.dataset):
            own = members.setdefault(ready.dataset.classes[k].name, set())
            own |= {sample.group} if sample.id in inside else set()
    return members


def _too_few(ready: Ready, seed: int) -> InputError:
    quarter = nested(ready.dataset, ready.split, seed, LEAST)[-1]
    left, name = _fewest(ready, quarter)
    every = len(_by_class(ready, ready.split)[name] if name else {s.group for s in ready.part("train")})
    what = "patients" if ready.dataset.patients is not None else "cases"
    of = f" with {name}" if name else ""
    return InputError(
        "TOO_FEW",
        ready.dataset.root,
        found=f"{every} training {what}{of}, {left} of them in a quarter",
        expected=f"at least {HANDFUL} of every class in a quarter, so about {HANDFUL * 2 ** (LEAST - 1)} in all",
        fix="add cases, or train once with hounsfield train",
    )
