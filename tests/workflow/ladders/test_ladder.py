"""The ladder: which parts and sizes are trained, what all of them have in common, and what does not fit the time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.data.phantoms import write_dataset
from hounsfield.plan.budget import ENOUGH, Budget
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.ladders import ladder
from hounsfield.workflow.ladders.ladder import Ladder, Rung, Size, every_rung, in_time, measured_sizes, part_of, pinned
from hounsfield.workflow.plan import make_plan
from hounsfield.workflow.ready import Options, Ready, open_ready
from hounsfield.workflow.run import Run
from hounsfield.workflow.stages import Stages

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """60 phantoms in two classes, 12 of them apart."""
    folder = tmp_path_factory.mktemp("ladder") / "classes"
    write_dataset(folder, "classification", n=60, seed=2)
    return open_ready(folder, Options(test=0.2, device="cpu"), SILENT)


@pytest.fixture(scope="module")
def rungs(ready: Ready) -> list[Rung]:
    return every_rung(ready, 0)


def test_parts_halve_within_each_other_and_are_drawn_a_second_time(ready: Ready, rungs: list[Rung]) -> None:
    assert [r.name for r in rungs] == ["whole", "half", "quarter", "half-again", "quarter-again", "tiny", "small", "base"]
    by_name = {r.name: r for r in rungs}
    whole, half, quarter = (set(by_name[name].split.train) for name in ("whole", "half", "quarter"))
    assert whole == set(ready.split.train)
    assert quarter < half < whole
    assert len(half) == pytest.approx(len(whole) / 2, abs=1)
    again = set(by_name["half-again"].split.train)
    assert again < whole
    assert again != half
    assert set(by_name["quarter-again"].split.train) < again
    assert [r.seed for r in rungs] == [0, 0, 0, 1, 1, 0, 0, 0]
    assert [r.size for r in rungs] == [None] * 5 + ["tiny", "small", "base"]


def test_no_rung_holds_the_test_part_and_all_share_val(ready: Ready, rungs: list[Rung]) -> None:
    assert ready.split.test
    for rung in rungs:
        assert rung.split.test == ()
        assert rung.split.val == ready.split.val
        assert {s.id for s in part_of(ready, rung).dataset.samples} == {*rung.split.train, *rung.split.val}


def test_a_smaller_part_holds_a_handful_of_each_class(ready: Ready, rungs: list[Rung]) -> None:
    quarter = next(r for r in rungs if r.name == "quarter")
    counts = part_of(ready, quarter).audit.classes
    assert all(n >= ladder.HANDFUL for n in counts["train"].values())
    assert sum(counts["train"].values()) == len(quarter.split.train)
    assert sum(counts["test"].values()) == 0


def test_a_rung_says_that_it_is_one(ready: Ready, rungs: list[Rung]) -> None:
    found = part_of(ready, rungs[1]).audit.findings[-1]
    assert found.severity == "note"
    assert found.found == f"a rung of a scaling study: {len(rungs[1].split.train)} of {len(ready.split.train)} training cases"


def test_too_few_patients_are_refused_by_the_class_that_lacks_them(tmp_path: Path) -> None:
    write_dataset(tmp_path / "few", "classification", n=16, seed=2)
    few = open_ready(tmp_path / "few", Options(device="cpu"), SILENT)
    with pytest.raises(
        InputError,
        match=r"TOO_FEW .*few: found \d+ training cases with \w+, [12] of them in a quarter, expected at least 3 of every "
        r"class in a quarter, so about 12 in all; fix: add cases",
    ):
        every_rung(few, 0)


SIZES = [Size("tiny", 1_000_000, 0.05, 100.0), Size("small", 5_000_000, 0.2, 300.0), Size("base", 25_000_000, 2.0, 2500.0)]


def test_time_is_shared_equally_without_sizes_that_would_make_too_few_steps(rungs: list[Rung]) -> None:
    # 1,400 s for five parts and three sizes are 175 s each: 200 steps of base take 400 s.
    found = in_time(rungs, SIZES, 1400.0)
    assert found.rungs == ("whole", "half", "quarter", "half-again", "quarter-again", "tiny", "small")
    assert found.seconds == pytest.approx(1400 / 7)
    assert found.sizes == tuple(SIZES)
    assert in_time(rungs, SIZES, 8 * 401.0).rungs[-1] == "base"


def test_nothing_is_trained_twice_where_trainings_are_short(rungs: list[Rung]) -> None:
    assert in_time(rungs, [], 301.0).rungs == ("whole", "half", "quarter", "half-again", "quarter-again")
    found = in_time(rungs, [], 299.0)
    assert found.rungs == ("whole", "half", "quarter")
    assert found.seconds == pytest.approx(299 / 3)


def test_a_ladder_is_read_as_it_was_written() -> None:
    written = Ladder(12.5, None, ("whole", "half"), tuple(SIZES))
    assert Ladder.from_json(json.loads(json.dumps({"schema": 1, **written.to_json()}))) == written


def test_size_precision_and_layout_are_those_of_the_whole(classifier: Run) -> None:
    plan = classifier.plan
    found = pinned(plan)
    assert found["model_options.width"] == plan.model_dump()["model_options"]["width"]
    assert {key for key in found if key.startswith("training.")} == {
        "training.amp",
        "training.channels_last",
        "training.compile",
    }
    assert plan.override(found, "the same").training == plan.training


def test_sizes_are_measured(ready: Ready, rungs: list[Rung], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "WORDS", ("tiny",))
    whole = part_of(ready, rungs[0])
    planned = make_plan(whole, Options(device="cpu", seeds=1), Budget(steps=1), CPU, Stages(0.0), SILENT)
    (tiny,) = measured_sizes(whole, planned, CPU, 20.0, 7.0)
    assert tiny.word == "tiny"
    assert tiny.parameters == pytest.approx(1e6, rel=0.5)
    assert tiny.enough > 7 + ENOUGH["vector"] * tiny.step


@pytest.mark.parametrize("options", [Options(model="lenet"), Options(changes={"model_options.width": 16})])
def test_there_are_no_sizes_where_the_network_has_one(ready: Ready, rungs: list[Rung], options: Options) -> None:
    whole = part_of(ready, rungs[0])
    planned = make_plan(whole, options, Budget(steps=1), CPU, Stages(0.0), SILENT)
    assert measured_sizes(whole, planned, CPU, 20.0, 7.0) == []
