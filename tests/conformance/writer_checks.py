"""What every layout that is written must keep, one function for each promise of `hounsfield.data.writers.Writer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.conformance.reader_checks import EXAMPLES, contents

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import READERS, open_dataset
from hounsfield.data.writers import Writer, Written
from hounsfield.io.formats import DEFAULT
from hounsfield.workflow.convert import differences


def check_what_is_written_is_read_back(member: Writer, folder: Path) -> None:
    count = 0
    for data in datasets(folder / "data"):
        for copy in (False, True):
            out = folder / f"{data.reader}-{data.found[:9]}-{copy}"
            made = written(member, data, out, copy)
            if made is None:
                continue
            again = READERS.load(name_of(member)).read(out, DEFAULT)
            assert list(differences(made.dataset, again)) == [], f"{data.reader}: read back, it is another dataset"
            assert [s.split for s in again.samples] == [s.split for s in data.samples], f"{data.reader}: other parts"
            for one, other in zip(data.samples, again.samples, strict=True):
                check_voxels(made.mapping.get("values", {}), one, other)
            count += 1
    assert count >= 2, "nothing can be written"


def check_the_source_is_left_alone_and_the_new_folder_may_be_renamed(member: Writer, folder: Path) -> None:
    for number, name in enumerate(("nnunet", "coco", "class_folders")):
        EXAMPLES[name](folder / name)
        data = open_dataset(folder / name, name)
        before = contents(data.root)
        made = written(member, data, folder / f"out-{number}")
        if made is None:
            continue
        assert contents(data.root) == before, f"{data.reader}: the user's folder was touched"
        (folder / f"out-{number}").rename(folder / f"renamed-{number}")
        again = open_dataset(folder / f"renamed-{number}", name_of(member))
        assert [s.id for s in again.samples] == [s.id for s in made.dataset.samples]
        assert all(lazy().array.size for s in again.samples for lazy in s.images), "an image is lost"


def check_a_dataset_without_images_of_one_kind_is_refused(member: Writer, folder: Path) -> None:
    EXAMPLES["nnunet"](folder / "data")
    data = open_dataset(folder / "data", "nnunet")
    first = data.samples[0]
    uneven = data.only([replace(first, images=(first.images[0],) * 2), *data.samples[1:]])
    assert written(member, uneven, folder / "out") is None, "cases of one and of two files are written"


CHECKS = (
    check_what_is_written_is_read_back,
    check_the_source_is_left_alone_and_the_new_folder_may_be_renamed,
    check_a_dataset_without_images_of_one_kind_is_refused,
)


def written(member: Writer, data: Dataset, out: Path, copy: bool = False) -> Written | None:
    """None where it is refused, by name and before anything is written."""
    caught = None
    try:
        return member.write(data, out, copy, lambda done, of: None)
    except InputError as error:
        caught = error
    assert caught.code == "BAD_OPTION", f"{data.reader}: {caught}"
    assert not out.exists(), f"{data.reader} is refused, and something was written"
    return None


def datasets(folder: Path) -> Iterator[Dataset]:
    """Every reader's example; and one of them with all that a sample can say."""
    for name, make in EXAMPLES.items():
        make(folder / name)
        data = open_dataset(folder / name, name)
        yield data
        parts: tuple[Split, ...] = ("train", "val", "test", "train")
        yield replace(
            data.only(
                replace(s, patient=f"P{k}", split=part, attributes={"site": "Ÿ, north", "age": str(40 + k)})
                for k, (s, part) in enumerate(zip(data.samples, parts, strict=True))
            ),
            found="divided",
        )


def check_voxels(values: Mapping[str, str], one: Sample, other: Sample) -> None:
    first, second = read_case(one), read_case(other)
    assert first.geometry.same_grid(second.geometry), f"{one.id}: another place"
    assert first.geometry.space == second.geometry.space, f"{one.id}: another space"
    np.testing.assert_array_equal(first.array, second.array, err_msg=f"{one.id}: other voxels")
    if callable(one.target) and callable(other.target):
        found = other.target().array
        labels = found.astype(np.int64)
        for new, old in values.items():
            labels[found == int(new)] = int(old)
        np.testing.assert_array_equal(one.target().array, labels, err_msg=f"{one.id}: another mask")


def name_of(member: Writer) -> str:
    return member.__name__.rpartition(".")[2] if hasattr(member, "__name__") else ""
