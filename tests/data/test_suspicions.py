"""What makes figures doubtful: units, spacings, balance, attributes, each against a planted case and a sound one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.finding import FINDINGS, Finding
from hounsfield.core.sample import Sample
from hounsfield.data import checks, suspicions
from hounsfield.data.dataset import Dataset, name_classes
from hounsfield.data.facts import CaseFacts, measure
from hounsfield.data.split import Split

Array = npt.NDArray[Any]
Make = Callable[..., tuple[Dataset, dict[str, CaseFacts]]]


@pytest.fixture
def made(lazy: Any) -> Make:
    """made([array, ...], targets, affines): a dataset of volumes, and their facts."""

    def build(
        arrays: Sequence[Array], targets: Sequence[int | None] = (), affines: Sequence[Array | None] = (), **more: Any
    ) -> tuple[Dataset, dict[str, CaseFacts]]:
        samples = []
        for k, array in enumerate(arrays):
            image = lazy(f"{k:03}.nii", array[None], affines[k] if affines else None)
            samples.append(Sample(f"{k:03}", (image,), targets[k] if targets else None))
        classes = name_classes(enumerate(more.pop("names", ("benign", "malignant"))))
        channels = more.pop("channels", ("CT",))
        kind = "classification" if targets else None
        data = Dataset(tuple(samples), classes, channels, kind, "test", "", Path("root"), **more)
        return data, {s.id: measure(s) for s in data.samples}

    return build


def hu(seed: int) -> Array:
    """A made-up CT: air, water, bone."""
    values: Array = np.random.default_rng(seed).choice([-1000, -100, 0, 60, 900], (6, 8, 8)).astype(np.int16)
    return values


def codes(found: Any) -> list[tuple[str, str]]:
    return [(f.severity, f.code) for f in found]


def test_windowed_cases_among_hu_are_found(made: Make) -> None:
    arrays = [hu(k) for k in range(10)]
    assert codes(suspicions.pixels(*made(arrays))) == []
    for k in (3, 7):
        arrays[k] = ((arrays[k] + 160).clip(0, 400) / 400 * 255).astype(np.uint8)
    (finding,) = suspicions.pixels(*made(arrays))
    assert (finding.severity, finding.code, finding.cases) == ("warning", "MIXED_UNITS", ("003", "007"))
    assert "2 cases of values from 0 to 255 among 8 cases of signed values such as HU" in finding.found


@pytest.mark.parametrize(("channel", "severity"), [("intensity", "warning"), ("T2", "note"), ("MRI", "note")])
def test_ranges_far_apart_are_found(made: Make, channel: str, severity: str) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.normal(500 * draw.uniform(0.7, 1.6), 90, (6, 8, 8)).astype(np.float32).clip(0) for _ in range(12)]
    assert codes(suspicions.pixels(*made(arrays, channels=(channel,)))) == []
    arrays[4] *= 100
    (finding,) = suspicions.pixels(*made(arrays, channels=(channel,)))
    assert (finding.severity, finding.code, finding.cases) == (severity, "MIXED_UNITS", ("004",))


def test_images_of_one_value_and_nearly_so_are_found(made: Make) -> None:
    arrays = [hu(k) for k in range(5)]
    arrays[1] = np.full((6, 8, 8), -1000, np.int16)
    arrays[3] = np.where(np.arange(384).reshape(6, 8, 8) == 5, 3000, 0).astype(np.int16)
    (finding,) = suspicions.pixels(*made(arrays))
    assert (finding.severity, finding.code, finding.cases) == ("warning", "CONSTANT_IMAGE", ("001", "003"))


def test_what_a_file_says_of_its_text_is_told(made: Make) -> None:
    data, facts = made([hu(k) for k in range(3)])
    facts["001"] = replace(facts["001"], burned_in=True)
    facts["002"] = replace(facts["002"], characters=7)
    (finding,) = suspicions.pixels(data, facts)
    assert (finding.code, finding.cases) == ("BURNED_IN_TEXT", ("001", "002"))
    assert "1 file that say so themselves and 1 image with rows" in finding.found


def test_spacings_unknown_and_far_off_are_found(made: Make) -> None:
    affines: list[Array | None] = [np.diag([1.0 + k / 10, 1, 1, 1]) for k in range(6)]
    assert codes(suspicions.geometry(*made([hu(k) for k in range(6)], affines=affines))) == []
    affines[2], affines[4] = None, np.diag([0.001, 0.001, 0.001, 1])
    blind, far = suspicions.geometry(*made([hu(k) for k in range(6)], affines=affines))
    assert (blind.severity, blind.code, blind.cases) == ("warning", "SPACING_UNKNOWN", ("002",))
    assert (far.severity, far.code, far.cases) == ("warning", "SPACING_OUTLIER", ("004",))
    assert far.details == ("004.nii: 0.001×0.001×0.001 mm",)


def balance(train: Mapping[str, int], val: Mapping[str, int], made: Make) -> list[Finding]:
    data, _ = made([hu(0), hu(1)], [0, 1])
    split = Split(train=("000",), val=("001",), drawn=("train",))
    empty: dict[Any, int] = {"train": 0, "val": 0, "test": 0}
    none = dict.fromkeys(train, 0)
    return list(suspicions.balance(data, split, {"train": train, "val": val, "test": none}, empty))


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        ({"a": 40, "b": 38}, {"a": 10, "b": 9}, []),
        ({"a": 40, "b": 9}, {"a": 10, "b": 2}, [("note", "CLASS_IMBALANCE")]),
        ({"a": 90, "b": 8}, {"a": 20, "b": 2}, [("warning", "CLASS_IMBALANCE")]),
        ({"a": 12, "b": 4}, {"a": 3, "b": 1}, [("warning", "RARE_CLASS")]),
        ({"a": 12, "b": 8}, {"a": 3, "b": 0}, [("warning", "RARE_CLASS")]),
    ],
)
def test_rare_and_unequal_classes(train: dict[str, int], val: dict[str, int], expected: list[Any], made: Make) -> None:
    assert codes(balance(train, val, made))[:-1] == expected
    assert balance(train, val, made)[-1].code == "PATIENTS_UNKNOWN"


def test_what_only_repeats_the_class_is_no_shortcut(made: Make) -> None:
    targets = [k % 2 for k in range(40)]
    data, facts = made([hu(k) for k in range(40)], targets)

    def told(**columns: list[str]) -> list[str]:
        samples = [replace(s, attributes={c: v[k] for c, v in columns.items()}) for k, s in enumerate(data.samples)]
        return [f.found.split(" alone")[0] for f in suspicions.determined(data.only(samples), facts)]

    assert told(diagnosis=[("benign", "malignant")[t] for t in targets]) == []
    assert told(scanner=[("one", "two")[t] for t in targets]) == ["scanner"]
    assert told(scanner=[("one", "two")[k // 2 % 2] for k in range(40)]) == []


def test_a_spacing_that_tells_the_class_is_a_shortcut(made: Make) -> None:
    targets = [k % 2 for k in range(40)]
    affines = [np.diag([1.0 + t, 1, 1, 1]) for t in targets]
    (finding,) = suspicions.determined(*made([hu(k) for k in range(40)], targets, affines))
    assert (finding.severity, finding.code) == ("warning", "SHORTCUT")
    assert finding.found.startswith("spacing alone nearly tells")


def test_every_code_is_one_that_a_check_gives() -> None:
    source = "".join(Path(str(module.__file__)).read_text() for module in (checks, suspicions))
    assert [code for code in FINDINGS if f'"{code}"' not in source] == []
