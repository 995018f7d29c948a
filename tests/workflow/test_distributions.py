"""Distributions as block characters: heights that compare, within 80 columns, and plain where the encoding has no blocks."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity, Spread
from hounsfield.workflow.distributions import ASCII, BAR, EIGHTHS, LEVELS, bar, chosen, distributions, heights, number


def spread(low: float, high: float, *counts: int) -> Spread:
    width = (high - low) / len(counts)
    return Spread(
        min=low,
        median=(low + high) / 2,
        max=high,
        histogram=counts,
        edges=tuple(low + width * k for k in range(len(counts) + 1)),
    )


def facts(**changes: Any) -> Fingerprint:
    level = Intensity(low=-1000, median=40, high=1234567, mean=-120.5, std=98765.4, histogram=(0.99 / 32,) * 32)
    values: dict[str, Any] = {
        "cases": 10,
        "patients": None,
        "ndim": 3,
        "space": "patient",
        "channels": ("CT",),
        "modality": "CT",
        "dtype": "int16",
        "shape_min": (10, 512, 512),
        "shape_median": (20, 512, 512),
        "shape_max": (40, 512, 512),
        "shapes": (spread(10, 40, 1, 2, 4, 3), spread(512, 512, 10), spread(512, 512, 10)),
        "spacing_min": (1.0, 0.7, 0.7),
        "spacing_median": (1.0, 0.7, 0.7),
        "spacing_max": (1.0, 0.7, 0.7),
        "spacings": (spread(1, 1, 10), spread(0.7, 0.7001, 10), spread(0.7, 0.9, 9, 1)),
        "intensity": (level,),
        "classes": (),
        **changes,
    }
    return Fingerprint(**values)


def drawn(m: Fingerprint, encoding: str = "utf-8") -> list[str]:
    """The lines on a terminal of 80 columns."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=80)
    for table in distributions(m):
        console.print(table)
    file.seek(0)
    return [line.rstrip() for line in file.read().splitlines()]


def test_bars_are_as_long_as_their_share() -> None:
    assert bar(1, 1) == "█" * BAR
    assert bar(0.5, 1) == "█" * (BAR // 2)
    assert bar(0, 1) == bar(0, 0) == ""
    assert bar(1e-9, 1) == "▏"
    lengths = [
        8 * b.count("█") + (EIGHTHS.index(b[-1]) + 1 if b[-1] != "█" else 0) for b in (bar(k, 160) for k in range(1, 161))
    ]
    assert lengths == list(range(1, 161))


def test_heights_are_counts_and_one_tall_bin_leaves_the_others_their_shape() -> None:
    assert heights([1, 2, 3, 4, 5, 6, 7, 8]) == LEVELS
    assert heights([0, 8, 0, 1e-9, 8]) == " █ ▁█"
    assert heights([1000, 4, 2, 4]) == "█▄▂▄"
    assert heights([7, 0]) == "█ "
    assert heights([]) == ""
    assert heights([0, 0]) == "  "


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1.23456, "1.235"), (-1024, "-1024"), (27762.3, "27,762"), (-8e4, "-80,000"), (1e9, "1e+09")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_only_what_varies_is_drawn() -> None:
    lines = drawn(facts())
    assert [line.split()[0] for line in lines] == ["images", "depth,", "width,", "values", "CT"]
    assert lines[1].split() == ["depth,", "voxels", "10", "25", "40", heights([1, 2, 4, 3])]
    assert lines[2].split()[:2] == ["width,", "mm"]  # that 0.7 and 0.7001 are two spacings is rounding
    assert lines[4].split() == ["CT", "-1000", "40", "1,234,567", "-120.5", "98,765", "█" * 16]


def test_regions_stand_below_their_channel_and_all_fits_80_columns() -> None:
    i = facts().intensity[0]
    classes = (
        ClassFacts(value=1, name="c" * 60, cases=3, fraction=0.1, voxels=spread(1, 9, 3), volume=spread(1e4, 9e6, *[1] * 16)),
    )
    found = facts(
        channels=("a long channel name indeed",) * 8,
        intensity=(i,) * 8,
        intensity_foreground=(i.model_copy(update={"median": 77.0}),) * 8,
        intensity_background=(i.model_copy(update={"median": 33.0}),) * 8,
        classes=classes,
    )
    lines = drawn(found)
    assert max(map(len, lines)) <= 80
    start = next(k for k, line in enumerate(lines) if line.startswith("values"))
    assert [line.split()[-5] for line in lines[start + 1 : start + 4]] == ["40", "77", "33"]
    assert "and 2 more channels" in lines
    assert any(line.startswith("label size, mm³") for line in lines)
    assert lines[-1].endswith("█" * 16)


def test_values_beyond_the_range_drawn_are_told() -> None:
    i = facts().intensity[0].model_copy(update={"histogram": (0.75 / 32,) * 32})
    assert "25% of CT lies beyond the range drawn: cases differ in scale" in drawn(facts(intensity=(i,)))


def test_boxes_are_drawn_side_by_side() -> None:
    classes = (
        ClassFacts(value=0, name="cell", cases=9, fraction=1, boxes=1200, box_sides=(spread(5, 9, 1, 3), spread(7, 7, 4))),
        ClassFacts(value=1, name="none", cases=0, fraction=0),
    )
    two = {"ndim": 2, "space": "none", "shapes": (), "spacings": ()}
    lines = drawn(facts(classes=classes, boxes=spread(1, 30, 4, 1), **two))
    start = next(k for k, line in enumerate(lines) if line.startswith("boxes, pixels"))
    assert [line.split() for line in lines[start + 1 :]] == [
        ["per", "case", "1", "15.5", "30", heights([4, 1])],
        ["cell,", "height", "1,200", "5", "7", "9", heights([1, 3])],
        ["cell,", "width", "7", "7", "7", "all", "equal"],
    ]


def test_of_many_classes_the_most_and_the_least_frequent_are_shown() -> None:
    classes = [ClassFacts(value=k, name=f"{k}", cases=k, fraction=k / 500) for k in range(30)]
    large, small = chosen(classes)
    assert [c.value for c in large] == [29, 28, 27, 26, 25, 24, 23, 22]
    assert [c.value for c in small] == [3, 2, 1, 0]
    assert chosen(classes[:12]) == (classes[:12], [])


def test_plain_characters_where_the_encoding_has_no_blocks() -> None:
    lines = drawn(facts(), "cp1252")
    assert lines[1].endswith(heights([1, 2, 4, 3]).translate(ASCII))
    assert lines[1].isascii()
