"""Splits: by patient, stratified, reproducible, and honouring what the dataset gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Target
from hounsfield.core.sample import Split as Part
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.split import PARTS, Split, make_split, nested

IMAGE = (ImageFile(Path("image.png")),)


def dataset(samples: Sequence[Sample], classes: int = 2) -> Dataset:
    named = name_classes((k, f"class {k}") for k in range(classes))
    return Dataset(tuple(samples), named, ("intensity",), "classification", "test", "", Path("root"))


def sample(k: int, target: Target = 0, patient: str | None = None, split: Part | None = None, **attributes: str) -> Sample:
    return Sample(f"case/{k:04d}", IMAGE, target, patient=patient, split=split, attributes=attributes)


def ids(split: Split) -> dict[str, set[str]]:
    return {part: set(getattr(split, part)) for part in PARTS}


@st.composite
def cohorts(draw: st.DrawFn) -> list[Sample]:
    """2 to 60 samples of up to as many patients, some unknown, in up to 4 classes."""
    count = draw(st.integers(2, 60))
    patients = draw(st.lists(st.one_of(st.none(), st.integers(0, 20)), min_size=count, max_size=count))
    classes = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return [sample(k, c, None if who is None else f"p{who}") for k, (c, who) in enumerate(zip(classes, patients, strict=True))]


@given(cohorts(), st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.4]), st.randoms())
def test_parts_are_disjoint_whole_and_divide_no_patient_whatever_the_order(
    samples: list[Sample], seed: int, test: float, random: object
) -> None:
    parts = 3 if test else 2
    groups = {s.group for s in samples}
    if len(groups) < parts:
        with pytest.raises(InputError, match=r"TOO_FEW"):
            make_split(dataset(samples, 4), seed, test=test)
        return
    split = make_split(dataset(samples, 4), seed, test=test)
    own = ids(split)
    assert sum(map(len, own.values())) == len(samples)
    assert set().union(*own.values()) == {s.id for s in samples}
    assert own["train"]
    assert own["val"]
    assert bool(own["test"]) == (test > 0)
    where = {name: part for part, names in own.items() for name in names}
    assert all(len({where[s.id] for s in samples if s.group == group}) == 1 for group in groups)

    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    unordered = replace(dataset(samples, 4))
    object.__setattr__(unordered, "samples", tuple(shuffled))
    assert make_split(unordered, seed, test=test) == split


@given(st.lists(st.integers(0, 3), min_size=20, max_size=200), st.integers(0, 1000))
def test_every_class_has_its_share_within_two_cases(classes: list[int], seed: int) -> None:
    samples = [sample(k, c) for k, c in enumerate(classes)]
    split = make_split(dataset(samples, 4), seed)
    assert abs(len(split.val) - 0.2 * len(samples)) <= 4  # one for each class
    of_val = Counter(classes[int(name[-4:])] for name in split.val)
    for value, count in Counter(classes).items():
        assert abs(of_val[value] - 0.2 * count) <= 2


@given(st.integers(0, 1000))
def test_patients_of_several_cases_keep_the_classes_near_their_share(seed: int) -> None:
    draw = np.random.default_rng(seed)
    samples = [sample(k, int(draw.random() < 0.3), f"p{k // int(draw.integers(1, 4))}") for k in range(150)]
    split = make_split(dataset(samples), seed)
    ones = [s.id for s in samples if s.target == 1]
    assert 0.1 <= len(set(ones) & set(split.val)) / len(ones) <= 0.3
    assert 0.15 <= len(split.val) / len(samples) <= 0.25


def test_seeds_draw_different_splits() -> None:
    samples = [sample(k, k % 2) for k in range(40)]
    assert len({make_split(dataset(samples), seed).val for seed in range(10)}) == 10


def test_rare_labels_of_multilabel_cases_reach_both_parts() -> None:
    samples = [sample(k, tuple(c for c in range(3) if k % (c * 5 + 1) == 0)) for k in range(60)]
    split = make_split(dataset(samples, 3), 1)
    for label, count in ((1, 10), (2, 6)):
        in_val = sum(label in s.target for s in samples if s.id in split.val and isinstance(s.target, tuple))
        assert abs(in_val - 0.2 * count) <= 1


def test_boxes_are_stratified_by_the_classes_they_hold() -> None:
    boxes = [Boxes(np.array([[0, 0, 2, 2]]), np.array([int(k < 5)])) for k in range(50)]
    split = make_split(dataset([sample(k, b) for k, b in enumerate(boxes)]), 3)
    assert sum(int(name[-4:]) < 5 for name in split.val) == 1


def test_masks_are_stratified_by_the_size_of_the_foreground() -> None:
    data = replace(
        dataset([sample(k, None) for k in range(40)]),
        voxels={f"case/{k:04d}": {0: 100 - k, 1: k} for k in range(40)},
    )
    for seed in range(5):
        sizes = sorted(int(name[-4:]) for name in make_split(data, seed).val)
        assert [sum(q * 10 <= size < (q + 1) * 10 for size in sizes) for q in range(4)] == [2, 2, 2, 2]


def test_given_parts_are_kept_and_only_what_lacks_is_drawn() -> None:
    samples = [sample(k, k % 2, split=("train" if k < 20 else "test")) for k in range(30)]
    split = make_split(dataset(samples), 0)
    assert split.test == tuple(f"case/{k:04d}" for k in range(20, 30))
    assert (len(split.train), len(split.val)) == (16, 4)
    assert (split.source, split.drawn) == ("given", ("val",))

    three = [replace(s, split="val" if s.id < "case/0005" else s.split) for s in samples]
    split = make_split(dataset(three), 0)
    assert split.val == tuple(f"case/{k:04d}" for k in range(5))
    assert (split.source, split.drawn) == ("given", ())

    two = [replace(s, split="val" if s.split == "test" else "train") for s in samples]
    split = make_split(dataset(two), 0, test=0.2)
    assert (len(split.train), len(split.val), len(split.test)) == (16, 10, 4)
    assert split.drawn == ("test",)


def test_all_in_one_given_part_is_no_split() -> None:
    split = make_split(dataset([sample(k, split="test") for k in range(10)]), 0)
    assert (split.source, split.drawn, len(split.val), split.test) == ("drawn", ("train", "val"), 2, ())


def test_given_parts_without_training_are_refused() -> None:
    samples = [sample(k, split="val" if k else "test") for k in range(5)]
    with pytest.raises(InputError, match=r"TOO_FEW root: found a given split of 4 val and 1 test cases"):
        make_split(dataset(samples), 0)


def test_small_sets() -> None:
    for seed in range(5):
        split = make_split(dataset([sample(0), sample(1)]), seed)
        assert (len(split.train), len(split.val)) == (1, 1)
    with pytest.raises(InputError, match=r"TOO_FEW root: found 1 case to divide into 2 parts, expected at least 2"):
        make_split(dataset([sample(0)]), 0)
    with pytest.raises(InputError, match=r"TOO_FEW root: found 1 patient to divide into 2 parts"):
        make_split(dataset([sample(0, patient="a"), sample(1, patient="a")]), 0)


def test_folds_are_disjoint_cover_all_and_divide_no_patient() -> None:
    samples = [sample(k, k % 2, patient=f"p{k // 2}") for k in range(50)]
    whole = make_split(dataset(samples), 7, folds=5)
    assert (whole.train, whole.val) == (tuple(s.id for s in samples), ())
    splits = [whole.of_fold(fold) for fold in range(5)]
    assert sorted(name for split in splits for name in split.val) == [s.id for s in samples]
    for split in splits:
        assert len(split.val) == 10
        assert {int(n[-4:]) // 2 for n in split.val}.isdisjoint({int(n[-4:]) // 2 for n in split.train})
        assert sum(int(name[-4:]) % 2 for name in split.val) == 5
    tested = make_split(dataset(samples), 7, folds=5, test=0.2)
    assert sorted(n for fold in tested.folds for n in fold) == sorted({s.id for s in samples} - set(tested.test))


def test_a_fold_teaches_nothing_of_the_images_that_it_leaves_out() -> None:
    whole = make_split(dataset([sample(k) for k in range(10)]), 7, folds=2)
    out, other = whole.folds[0][0], whole.folds[1][0]
    plain, told = whole.of_fold(0), whole.of_fold(0, [(other, out), (whole.folds[0][1], whole.folds[0][2])])
    assert told.val == plain.val == whole.folds[0]
    assert set(plain.train) - set(told.train) == {other}
    assert not set(told.train) & set(told.val)


def test_without_folds_there_is_one_and_dropped_cases_leave_all() -> None:
    split = make_split(dataset([sample(k) for k in range(10)]), 7)
    assert split.of_fold(0, [(split.train[0], split.val[0])]) == split
    folded = make_split(dataset([sample(k) for k in range(10)]), 7, folds=2)
    gone = folded.folds[1][0]
    less = folded.without([gone])
    assert gone not in less.train
    assert all(gone not in fold for fold in less.folds)


def test_leave_out_holds_a_site_and_its_patients_back() -> None:
    samples = [sample(k, k % 2, patient=f"p{k // 2}", site="A" if k % 10 == 0 else "B") for k in range(40)]
    split = make_split(dataset(samples), 0, leave_out="site=A")
    assert {int(n[-4:]) for n in split.test} == {0, 1, 10, 11, 20, 21, 30, 31}
    assert split.leave_out == "site=A"
    assert split.drawn == ("train", "val", "test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leave_out": "site"}, "'site' where 'site' has the values A, B"),
        ({"leave_out": "scanner=GE"}, "no column 'scanner'.*a column of site"),
        ({"leave_out": "site=A", "test": 0.2}, "no --test"),
        ({"folds": 0}, "found 0, expected at least 2 folds"),
        ({"test": 1.0}, "found 1, expected a fraction"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    samples = [sample(k, site="AB"[k % 2]) for k in range(10)]
    with pytest.raises(InputError, match=f"BAD_OPTION.*{message}"):
        make_split(dataset(samples), 0, **options)  # type: ignore[arg-type]


def test_a_second_test_part_is_refused() -> None:
    samples = [sample(k, split="train" if k else "test") for k in range(10)]
    with pytest.raises(InputError, match="BAD_OPTION --test: found a test part that the dataset gives"):
        make_split(dataset(samples), 0, test=0.2)


def test_json_round_trip_and_its_faults() -> None:
    split = make_split(dataset([sample(k) for k in range(10)]), 5, folds=2)
    text = split.to_json()
    assert '"schema": 1' in text
    assert Split.from_json(text, "split.json") == split
    with pytest.raises(InputError, match=r"BAD_PLAN split\.json"):
        Split.from_json(text.replace('"schema": 1', '"schema": 2'), "split.json")
    with pytest.raises(InputError, match=r"BAD_PLAN split\.json: found the file"):
        Split.from_json("{", "split.json")


def test_parts_of_ids() -> None:
    split = make_split(dataset([sample(k) for k in range(10)]), 5, test=0.2)
    assert Counter(split.part_of().values()) == {"train": 6, "val": 2, "test": 2}
    assert set(split.without(split.test).part_of()) == {*split.train, *split.val}


@given(cohorts(), st.integers(0, 2**32))
def test_smaller_training_parts_lie_within_larger_ones_and_val_stays(samples: list[Sample], seed: int) -> None:
    own = dataset(samples, 4)
    if len({s.group for s in samples}) < 3:
        return
    split = make_split(own, seed, test=0.2)
    splits = nested(own, split, seed, 4)
    assert splits[0].train == split.train
    group = {s.id: s.group for s in samples}
    for larger, smaller in pairwise(splits):
        assert set(smaller.train) < set(larger.train)
        left = {group[i] for i in larger.train} - {group[i] for i in smaller.train}
        assert not left & {group[i] for i in smaller.train}
    assert all(s.train and s.val == split.val and s.test == () and "test" not in s.drawn for s in splits)


def test_halves_of_a_training_part_keep_its_classes_and_follow_the_seed() -> None:
    samples = [sample(k, k % 4 == 0, f"p{k // 2}") for k in range(200)]
    own = dataset(samples)
    split = make_split(own, 0)
    splits = nested(own, split, 0, 5)
    target = {s.id: s.target for s in samples}
    for part, count in zip(splits, (160, 80, 40, 20, 10), strict=True):
        assert len(part.train) == count
        assert sum(bool(target[i]) for i in part.train) == pytest.approx(count / 4, abs=1)
    assert nested(own, split, 0, 5) == splits
    assert nested(own, split, 1, 5)[0] == splits[0]
    assert nested(own, split, 1, 5)[1] != splits[1]
