"""Which samples train, which select, which report: given splits honoured, others drawn by patient."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.plan import Options
from hounsfield.core.sample import Sample
from hounsfield.core.sample import Split as Part
from hounsfield.data.dataset import Dataset

VAL = 0.2  # part of the training samples that selects, where the dataset gives none
PARTS: tuple[Part, ...] = get_args(Part)


class Split(Options):
    """Sample ids of each part, sorted; no patient stands in two drawn parts.

    drawn: parts that were drawn here rather than given by the dataset. test may be empty.
    leave_out: "column=value" whose samples are the test part.
    folds: of a cross-validation, the training ids of each fold; val is then empty, and `of_fold` says who trains on what.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    drawn: tuple[Part, ...]
    seed: int = 0
    leave_out: str | None = None
    folds: tuple[tuple[str, ...], ...] = ()

    @property
    def source(self) -> Literal["given", "drawn"]:
        """ "given" where the dataset divides train from what is reported on."""
        return "drawn" if "train" in self.drawn else "given"

    def part_of(self) -> dict[str, Part]:
        """The part of every sample id."""
        return {name: part for part in PARTS for name in getattr(self, part)}

    def without(self, ids: Iterable[str]) -> Split:
        """The same split less `ids`."""
        gone = set(ids)
        kept: dict[str, object] = {part: tuple(i for i in getattr(self, part) if i not in gone) for part in PARTS}
        return self.model_copy(update={**kept, "folds": tuple(tuple(i for i in f if i not in gone) for f in self.folds)})

    def of_fold(self, fold: int, copies: Iterable[tuple[str, str]] = ()) -> Split:
        """What the members of a fold train on, and as val what they do not; the split itself where there are no folds.

        copies: pairs of ids of one image: where one is left out, the other teaches nothing either.
        """
        if not self.folds:
            return self
        out = set(self.folds[fold])
        known = {one if other in out else other for one, other in copies if (one in out) != (other in out)}
        rest = tuple(i for i in self.train if i not in out and i not in known)
        return self.model_copy(update={"train": rest, "val": tuple(sorted(out)), "folds": ()})

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str | Path) -> Split:
        """Raises InputError BAD_PLAN for what is no split."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                "BAD_PLAN",
                where,
                found=f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}",
                expected="a split of schema 1",
                fix="let a run write it anew",
            ) from error


def make_split(
    dataset: Dataset,
    seed: int,
    *,
    test: float = 0.0,
    folds: int = 1,
    leave_out: str | None = None,
    select: float = VAL,
) -> Split:
    """The split of `dataset`: a function of seed, ids, patients and targets, never of the samples' order.

    A given split is kept: what it lacks (val; test where asked for) is drawn from its training part. Else all samples are
    divided by patient and stratified: `test`, a fraction of all, is set apart, of the rest a fraction `select` is val.
    `folds`: that rest is all training part, divided once more into folds. `leave_out` "site=A": the test part is every
    patient with a sample whose attribute `site` is "A", whatever split is given.

    Raises InputError TOO_FEW where a part would stay empty, BAD_OPTION for options that do not fit the dataset.
    """
    _check(dataset, test, folds, leave_out)
    given: dict[Part, list[Sample]] = {part: [s for s in dataset.samples if s.split == part] for part in PARTS}
    drawn: list[Part] = []
    if leave_out is None and sum(map(bool, given.values())) > 1:
        if not given["train"]:
            raise InputError(
                "TOO_FEW",
                dataset.root,
                found=f"a given split of {len(given['val'])} val and {len(given['test'])} test cases",
                expected="a training part",
                fix="add it, or give no split",
            )
        held, rest, val = given["test"], given["train"], given["val"]
        if folds > 1:
            rest, val = rest + val, []
    else:
        held, rest, val = [], list(dataset.samples), []
        drawn = ["train", "val"]
        if leave_out is not None:
            column, _, value = leave_out.partition("=")
            groups = {s.group for s in rest if s.attributes.get(column) == value}
            held, rest = [s for s in rest if s.group in groups], [s for s in rest if s.group not in groups]
            drawn.append("test")
    if test > 0:
        held, rest = _draw(dataset, rest, (test, 1 - test), seed, "test")
        drawn.append("test")
    parts: list[list[Sample]] = []
    if folds > 1:
        parts = _draw(dataset, rest, (1 / folds,) * folds, seed, "folds")
    elif not val:
        val, rest = _draw(dataset, rest, (select, 1 - select), seed, "val")
        drawn.append("val")
    ids = {part: tuple(sorted(s.id for s in samples)) for part, samples in zip(PARTS, (rest, val, held), strict=True)}
    return Split(
        **ids,
        drawn=tuple(p for p in PARTS if p in drawn),
        seed=seed,
        leave_out=leave_out,
        folds=tuple(tuple(sorted(s.id for s in part)) for part in parts),
    )


def nested(dataset: Dataset, split: Split, seed: int, count: int) -> list[Split]:
    """`split` without its test part, then with half of its training patients, a quarter and so on, at most `count` in all: each
    training part lies within the one before and is stratified as those of `make_split`, and val stays what it is.
    """
    rest = list(dataset.select(split.train).samples)
    bare = split.model_copy(update={"test": (), "drawn": tuple(part for part in split.drawn if part != "test")})
    splits = [bare]
    while len(splits) < count and len({s.group for s in rest}) > 1:
        rest, _ = _draw(dataset, rest, (0.5, 0.5), seed, f"part {len(splits)}")
        splits.append(bare.model_copy(update={"train": tuple(sorted(s.id for s in rest))}))
    return splits


def _check(dataset: Dataset, test: float, folds: int, leave_out: str | None) -> None:
    def refuse(option: str, found: str, expected: str, fix: str) -> InputError:
        return InputError("BAD_OPTION", option, found=found, expected=expected, fix=fix)

    if not 0 <= test < 1:
        raise refuse("--test", f"{test:g}", "a fraction from 0 to below 1", "--test 0.2 sets a fifth of the patients apart")
    if test > 0 and any(s.split == "test" for s in dataset.samples) and any(s.split == "train" for s in dataset.samples):
        raise refuse("--test", "a test part that the dataset gives", "no second one", "leave out --test")
    if folds < 1:
        raise refuse("--folds", str(folds), "at least 2 folds, or 1 for none", "--folds 5")
    if leave_out is None:
        return
    column, _, value = leave_out.partition("=")
    values = sorted({s.attributes[column] for s in dataset.samples if column in s.attributes})
    if value not in values or len(values) < 2 or test > 0:
        known = sorted({a for s in dataset.samples for a in s.attributes})
        found = f"{leave_out!r} where {column!r} has the values {', '.join(values)}" if values else f"no column {column!r}"
        columns = f"--leave-out COLUMN=VALUE with a column of {', '.join(known)}" if known else "a manifest with such a column"
        fix = f"--leave-out {column}={values[0]}" if len(values) > 1 else columns
        raise refuse("--leave-out", found, "one of two values or more of a column, and no --test", fix)


@dataclass(frozen=True)
class _Group:
    """The samples of one patient. features: how many samples have each stratum."""

    name: str
    samples: tuple[Sample, ...]
    features: Counter[str]


def _draw(dataset: Dataset, samples: Sequence[Sample], fractions: Sequence[float], seed: int, use: str) -> list[list[Sample]]:
    """`samples` divided by patient into parts of about `fractions`, each class in its share.

    Greedy, after iterative stratification (Sechidis et al., ECML 2011): patients in an order drawn from the seed, the
    largest first, go to the part that lacks their classes most, each class weighted by its rarity.
    """
    features = _features(dataset, samples)
    members: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: s.id):
        members[sample.group].append(sample)
    if len(members) < len(fractions):
        unit = "patient" if any(s.patient for s in samples) else "case"
        raise InputError(
            "TOO_FEW",
            dataset.root,
            found=f"{len(members)} {unit}{'s' * (len(members) != 1)} to divide into {len(fractions)} parts",
            expected=f"at least {len(fractions)}",
            fix="add cases, or ask for fewer parts",
        )
    groups = [_Group(name, tuple(own), Counter(f for s in own for f in features[s.id])) for name, own in members.items()]
    groups.sort(key=lambda g: (-len(g.samples), hashlib.blake2b(f"{seed}:{use}:{g.name}".encode()).digest()))
    totals: Counter[str] = Counter()
    for group in groups:
        totals.update(group.features)
    lack = [{f: fraction * n for f, n in totals.items()} for fraction in fractions]
    parts: list[list[_Group]] = [[] for _ in fractions]
    for group in groups:
        need = [sum(n * have[f] / totals[f] for f, n in group.features.items()) for have in lack]
        chosen = max(range(len(parts)), key=lambda k: (round(need[k], 9), fractions[k]))
        parts[chosen].append(group)
        for f, n in group.features.items():
            lack[chosen][f] -= n
    for part in parts:
        if not part:  # few patients: the share of a part rounds to none
            part.append(max(parts, key=len).pop())
    return [[s for group in part for s in group.samples] for part in parts]


def _features(dataset: Dataset, samples: Sequence[Sample]) -> dict[str, tuple[str, ...]]:
    """Strata of each sample: "all", its classes, and for counted masks the quarter that its foreground's size falls in."""
    sizes = {s.id: _foreground(dataset.voxels[s.id]) for s in samples if s.id in dataset.voxels}
    quarters = np.quantile(list(sizes.values()), (0.25, 0.5, 0.75)) if sizes else np.zeros(3)
    features = {}
    for sample in samples:
        names = ["all", *(f"class {c}" for c in _classes(sample, dataset))]
        if sample.id in sizes:
            names.append(f"quarter {int(np.searchsorted(quarters, sizes[sample.id]))}")
        features[sample.id] = tuple(names)
    return features


def _classes(sample: Sample, dataset: Dataset) -> list[int]:
    target = sample.target
    if isinstance(target, int):
        return [target]
    if isinstance(target, tuple):
        return list(target)
    if isinstance(target, Boxes):
        return sorted(set(target.labels.tolist()))
    return [v for v in dataset.voxels.get(sample.id, {}) if v != 0]


def _foreground(counts: Mapping[int, int]) -> float:
    total = sum(counts.values())
    return (total - counts.get(0, 0)) / total if total else 0.0
