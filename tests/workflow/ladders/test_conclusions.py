"""From trainings to answers: the check on the held-out rung, the law beyond it, the size to take."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.workflow.ladders.trainings import PARTS, parts, sizes, told, training

from hounsfield.metrics.laws import Estimate, Law


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
    line = "more data of this kind would not be seen to help in trainings of 1,000 steps: the interval holds that "
    assert any(said.startswith(line) for said in found.said())


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


def test_an_error_that_has_reached_its_floor_is_not_seen_to_fall() -> None:
    own = [training(name, max(0.17, 5.0 / n), n) for name, n in {"whole": 480, "half": 240, "quarter": 120}.items()]
    own += [training("eighth", 0.172, 60), training("sixteenth", 0.3, 30)]
    found = told([*own, *(training(f"{t.name}-again", t.error.value * 1.05, t.n) for t in own[1:])])
    assert found.law is not None
    assert found.law.law.c > 0.1
    assert found.falls is False
