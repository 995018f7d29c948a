"""The data in a report: counts as recorded, shares as measured, numbers without powers of ten."""

from __future__ import annotations

import pytest

from hounsfield.workflow.cohort import class_lines, number, spreads
from hounsfield.workflow.run import Run


def test_classes_with_cases_and_share(segmenter: Run) -> None:
    lines = class_lines(segmenter.plan, segmenter.record, segmenter.fingerprint, ["train", "test"])
    assert [line.name for line in lines] == [c.name for c in segmenter.plan.classes]
    counts = segmenter.record["classes"]
    assert [line.cases for line in lines] == [(counts["train"][line.name], counts["test"][line.name]) for line in lines]
    shares = {c.name: c.fraction for c in segmenter.fingerprint.classes}
    largest = max(shares, key=shares.__getitem__)
    assert {line.name for line in lines if line.bar == 100} == {largest}


def test_what_was_not_counted_is_unknown(segmenter: Run) -> None:
    facts = segmenter.fingerprint.model_copy(update={"classes": ()})
    line = class_lines(segmenter.plan, {"classes": {}}, facts, ["train"])[0]
    assert (line.cases, line.share, line.bar) == (("unknown",), "unknown", 0)


def test_intensities_between_their_percentiles(segmenter: Run) -> None:
    facts = segmenter.fingerprint
    values = facts.intensity[0].model_copy(update={"low": 0.0, "median": 25.0, "high": 100.0, "mean": 50.0, "std": 20.0})
    line = spreads(facts.model_copy(update={"intensity": (values,)}))[0]
    assert (line.median, line.left, line.width) == (25, 30, 40)
    assert line.mean == "50 ± 20"
    far = values.model_copy(update={"mean": 5000.0, "std": 9000.0})
    line = spreads(facts.model_copy(update={"intensity": (far,)}))[0]
    assert 0 <= line.left <= line.left + line.width <= 100
    flat = values.model_copy(update={"high": 0.0, "median": 0.0, "mean": 0.0, "std": 0.0})
    assert spreads(facts.model_copy(update={"intensity": (flat,)}))[0].width == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.1235"),
        (-1024.0, "-1,024"),
        (24991.4, "24,991"),
        (498.25, "498.2"),
        (1e12, "1e+12"),
        (100.0, "100"),
    ],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert number(value) == text
