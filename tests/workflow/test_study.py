"""What trainings tell: the check on the held-out rung, the law beyond it, the size to take, and the sentences that say so."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hounsfield.metrics.laws import Estimate, Law
from hounsfield.workflow.ladder import Ladder, Size
from hounsfield.workflow.scaling_page import write_page
from hounsfield.workflow.study import About, Study, Training, conclude

ABOUT = About("scans", "segmentation", "dense", "dice", "patients", "unet", (40, 40), 40)
LADDER = Ladder(180.0, None, ("whole",), (Size("base", 25_100_000, 1.9, 2210.0),))
FACTORS = np.exp(np.random.default_rng(0).normal(0, 0.05, 2000))  # what other patients change, for all trainings alike
PARTS = {"whole": 96, "half": 48, "quarter": 24, "eighth": 12}


def training(name: str, error: float, n: int = 96, size: str | None = None, parameters: int = 1_900_000) -> Training:
    draws = error * FACTORS
    low, high = np.quantile(draws, [0.025, 0.975])
    return Training(name, size, n, 2 * n, parameters, 1000, 0.15, Estimate(error, float(low), float(high)), draws)


def parts(law: Law, off: dict[str, float] | None = None, again: float | None = 1.05) -> list[Training]:
    """Trainings on the law, some of them off it by a factor; each part a second time, off by `again`."""
    first = [training(name, float(law(n)) * (off or {}).get(name, 1.0), n) for name, n in PARTS.items()]
    if again is None:
        return first
    return [*first, *(training(f"{t.name}-again", t.error.value * again, t.n) for t in first[1:])]


def told(trained: Sequence[Training], **about: Any) -> Study:
    return conclude(replace(ABOUT, **about), trained, LADDER)


def test_a_law_that_holds_predicts_the_whole_from_the_smaller_parts() -> None:
    found = told(parts(Law(0.8, 0.4), again=None))
    assert found.check is not None
    assert found.law is not None
    assert found.check.n == 96
    assert found.check.predicted.value == pytest.approx(float(Law(0.8, 0.4)(96)))
    assert found.check.inside is True
    assert found.law.law.b == pytest.approx(0.4)
    assert found.falls is True
    assert [(m.times, m.n) for m in found.more] == [(2, 192), (4, 384)]
    assert found.more[0].error.value == pytest.approx(float(Law(0.8, 0.4)(192)))
    assert found.more[1].ratio.value == pytest.approx(4**-0.4)


def test_the_whole_takes_no_part_in_its_own_prediction() -> None:
    found = told(parts(Law(0.8, 0.4), {"whole": 3.0}, again=None))
    assert found.check is not None
    assert found.check.predicted.value == pytest.approx(float(Law(0.8, 0.4)(96)))
    assert found.check.measured == pytest.approx(3 * float(Law(0.8, 0.4)(96)))
    assert found.check.inside is False
    assert any("outside the interval: take what follows as a direction" in line for line in found.said())


def test_what_trainings_differ_by_widens_the_intervals() -> None:
    once, twice = told(parts(Law(0.8, 0.4), again=None)), told(parts(Law(0.8, 0.4), again=1.2))
    assert once.check is not None
    assert twice.check is not None
    assert once.noise is None
    assert twice.noise is not None
    assert twice.noise.freedom == 3
    assert twice.noise.sd == pytest.approx(math.log(1.2) / math.sqrt(2))
    width = [math.log(s.check.predicted.high / s.check.predicted.low) for s in (once, twice) if s.check]
    assert width[1] > 2 * width[0]
    assert "the intervals cover other patients, not other trainings: none was made twice" in list(once.said())
    assert any(line.startswith("the intervals cover other patients and other trainings: 3 that") for line in twice.said())


def test_an_error_that_does_not_fall_is_said() -> None:
    found = told(parts(Law(0.3, 0.0), {"quarter": 0.9, "half": 1.1}))
    assert found.falls is False
    lines = list(found.said())
    assert any(line.startswith("more data of this kind would not be seen to help") for line in lines)
    assert not any(line.startswith("2 times") for line in lines)


def test_a_floor_is_fitted_from_five_parts_on() -> None:
    law = Law(0.8, 0.6, 0.05)
    own = [training(name, float(law(n)), n) for name, n in {**PARTS, "sixteenth": 6}.items()]
    found = told(own)
    assert found.law is not None
    assert found.law.law.c == pytest.approx(0.05, rel=1e-4)
    without = told(own[:4]).law
    assert without is not None
    assert without.law.c == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (0.0, "no law: half makes no error on the validation part"),
        (math.nan, "no law: half has no Dice on the validation part"),
    ],
)
def test_no_law_is_made_of_what_has_no_error(error: float, words: str) -> None:
    own = parts(Law(0.8, 0.4), again=None)
    own[1] = replace(own[1], error=Estimate(error), draws=own[1].draws * 0)
    found = told(own)
    assert (found.law, found.check, found.more, found.falls) == (None, None, (), None)
    assert next(found.said()).startswith(words)


def sizes(tiny: float, planned: float, small: float, again: float | None = None) -> Study:
    first = parts(Law(planned * 96**0.4, 0.4), again=again)
    return told([*first, training("tiny", tiny, 96, "tiny", 1_000_000), training("small", small, 96, "small", 5_000_000)])


@pytest.mark.parametrize(
    ("tiny", "planned", "small", "again", "recommended"),
    [
        (0.20, 0.15, 0.10, None, "small"),  # clearly better, on the same patients
        (0.10, 0.15, 0.20, None, "tiny"),
        (0.20, 0.0999, 0.10, None, "whole"),
        (0.105, 0.12, 0.10, 1.3, "tiny"),  # trainings differ by more than that
    ],
)
def test_the_size_to_take_is_the_smallest_that_is_not_clearly_worse(
    tiny: float, planned: float, small: float, again: float | None, recommended: str
) -> None:
    found = sizes(tiny, planned, small, again)
    assert [t.name for t in found.sizes] == ["tiny", "whole", "small"]
    assert found.recommended is not None
    assert found.recommended.name == recommended
    word = f"train with --size {recommended}" if recommended != "whole" else "train without --size"
    assert sum(word in line for line in found.said()) == 1


def test_the_budget_of_a_larger_size_is_said() -> None:
    line = next(line for line in sizes(0.2, 0.15, 0.1).said() if line.startswith("base"))
    assert line == (
        "base (25.1 million parameters): 1.9 s a step, 1,000 steps, from which on its width pays, in --budget 37m"
    )


def test_few_patients_and_cases_that_time_did_not_hold_are_said() -> None:
    lines = list(told(parts(Law(0.8, 0.4)), held=(6, 5), unit="cases").said())
    assert "only 5 validation cases: the intervals are likely too narrow" in lines
    assert "measured on 6 of 40 validation cases: the budget held no more" in lines


def test_decibels_become_a_mean_squared_error() -> None:
    assert replace(ABOUT, metric="psnr").error == "10^(-PSNR / 10)"
    assert ABOUT.error == "1 - Dice"
    assert replace(ABOUT, metric="auroc").error == "1 - AUROC"


def test_the_document_is_json_and_holds_what_was_said() -> None:
    found = sizes(0.2, 0.15, 0.1)
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["schema"] == 1
    assert [t["run"] for t in values["trainings"]] == [
        *(f"runs/{name}" for name in PARTS),
        "runs/tiny",
        "runs/small",
    ]
    assert values["recommended"] == "runs/small"
    assert values["check"]["inside"] is True
    assert values["law"]["falls"] is True
    assert values["said"] == list(found.said())


@pytest.fixture
def page(tmp_path: Any) -> Any:
    def written(found: Study) -> str:
        write_page(found, tmp_path / "scaling.html")
        return str((tmp_path / "scaling.html").read_text())

    return written


def test_the_page_answers_first_and_shows_both_charts(page: Any) -> None:
    html = page(sizes(0.2, 0.15, 0.1))
    assert "Twice the patients would take 24% off the error" in html
    assert html.count("<svg") == 2
    assert html.index("Twice the patients") < html.index("<svg") < html.index('id="trainings"')
    assert "<title>predicted from the smaller parts: 0.15" in html
    assert html.count("<circle") == 5  # three smaller parts, two sizes: the whole and the recommended one are diamonds
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_the_page_says_where_more_data_would_not_help_or_nothing_can_be_told(page: Any) -> None:
    level = page(told(parts(Law(0.3, 0.0), {"quarter": 0.9, "half": 1.1})))
    assert "More patients of this kind would not be seen to help" in level
    own = parts(Law(0.8, 0.4), again=None)
    own[1] = replace(own[1], error=Estimate(0.0), draws=own[1].draws * 0)
    assert "Whether more data would help cannot be told" in page(told(own))
    assert "by how much is unsure" in page(told(parts(Law(0.8, 0.4), {"whole": 1.5}, again=None)))


def test_names_are_escaped(page: Any) -> None:
    html = page(told(parts(Law(0.8, 0.4)), data="<b>scans</b>"))
    assert "&lt;b&gt;scans" in html
    assert "<b>scans" not in html
