"""A scaling study from a folder to its answers: what it leaves behind, that it goes on, repeats, and refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.data.phantoms import write_dataset
from hounsfield.workflow.ladders.study import Study
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.scaling import scaling

STEPS = Options(budget="3steps", device="cpu")


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """44 phantoms with masks."""
    folder = tmp_path_factory.mktemp("scaling") / "masks"
    write_dataset(folder, "segmentation", n=44, seed=4)
    return folder


@pytest.fixture(scope="module")
def studied(masks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    folder = tmp_path_factory.mktemp("scaling") / "study"
    return folder, scaling(masks, folder, Options(budget="3steps", test=0.2, device="cpu"))


def test_every_part_is_a_run_and_the_answers_lie_beside(studied: tuple[Path, Study]) -> None:
    folder, found = studied
    assert {p.name for p in folder.iterdir()} == {"ladder.json", "runs", "scaling.json", "scaling.html"}
    assert [t.name for t in found.trainings] == ["whole", "half", "quarter", "half-again", "quarter-again"]
    assert {p.name for p in (folder / "runs").iterdir()} == {t.name for t in found.trainings}
    values = json.loads((folder / "scaling.json").read_text())
    assert values == found.to_json()
    for t in found.trainings:
        run = Run(folder / "runs" / t.name)
        assert t.cases == len(run.split.train)
        assert t.steps == 3
        dice = json.loads((run.root / "evaluation" / "val.json").read_text())["metrics"]["dice"]
        assert t.error.value == pytest.approx(1 - dice["value"])
        assert (t.error.low, t.error.high) == pytest.approx((1 - dice["high"], 1 - dice["low"]))


def test_parts_differ_in_their_cases_alone(studied: tuple[Path, Study]) -> None:
    folder, found = studied
    runs = {t.name: Run(folder / "runs" / t.name) for t in found.trainings}
    whole = runs["whole"]
    assert set(runs["quarter"].split.train) < set(runs["half"].split.train) < set(whole.split.train)
    for name, run in runs.items():
        assert run.split.val == whole.split.val
        assert run.split.test == ()
        assert not (run.root / "evaluation" / "test.json").exists()
        same = run.plan.model_copy(update={"seed": 0, "reasons": {}})
        assert same == whole.plan.model_copy(update={"reasons": {}}), name
        assert run.plan.seed == (1 if name.endswith("-again") else 0)
        assert run.record["cases"] == {"train": len(run.split.train), "val": len(run.split.val), "test": 0}


def test_the_law_is_that_of_the_trainings(studied: tuple[Path, Study]) -> None:
    _, found = studied
    assert found.about.unit == "cases"
    assert found.check is not None
    assert found.law is not None
    assert found.check.measured == found.whole.error.value
    assert found.noise is not None
    assert found.noise.freedom == 2
    assert found.law.exponent.known
    assert found.more[0].n == 2 * found.whole.n


def test_a_study_that_was_stopped_goes_on_and_tells_the_same(studied: tuple[Path, Study], masks: Path, tmp_path: Path) -> None:
    folder, found = studied
    shutil.copytree(folder, tmp_path / "study")
    runs = tmp_path / "study" / "runs"
    shutil.rmtree(runs / "half-again")
    (runs / "quarter" / "report.html").unlink()
    (runs / "quarter" / "members" / "0-0" / "weights.safetensors").unlink()
    (tmp_path / "study" / "scaling.json").unlink()
    before = (runs / "whole" / "members" / "0-0" / "weights.safetensors").stat().st_mtime_ns
    again = scaling(masks, tmp_path / "study", Options(budget="3steps", test=0.2, device="cpu"), resume=True)
    assert (runs / "whole" / "members" / "0-0" / "weights.safetensors").stat().st_mtime_ns == before
    assert [t.error for t in again.trainings] == [t.error for t in found.trainings]
    assert again.check is not None
    assert found.check is not None
    assert again.check.to_json() == found.check.to_json()
    assert (tmp_path / "study" / "scaling.json").exists()


def test_sizes_are_trained_on_the_whole(studied: tuple[Path, Study], masks: Path, tmp_path: Path) -> None:
    folder, found = studied
    shutil.copytree(folder, tmp_path / "study")
    path = tmp_path / "study" / "ladder.json"
    ladder = json.loads(path.read_text())
    path.write_text(json.dumps({**ladder, "rungs": [*ladder["rungs"], "tiny"]}))
    again = scaling(masks, tmp_path / "study", Options(budget="3steps", test=0.2, device="cpu"), resume=True)
    tiny = next(t for t in again.sizes if t.size == "tiny")
    assert tiny.parameters == pytest.approx(1e6, rel=0.5)
    assert tiny.cases == found.whole.cases
    assert {t.name for t in again.sizes} == {"whole", "tiny"}
    assert again.recommended in again.sizes
    assert again.check is not None
    assert again.check.measured == found.whole.error.value
    assert "Size of the network" in (tmp_path / "study" / "scaling.html").read_text()


def test_what_the_law_can_do_without_is_left_out_where_the_time_is_over(
    studied: tuple[Path, Study], masks: Path, tmp_path: Path
) -> None:
    shutil.copytree(studied[0], tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "runs" / "half-again")
    path = tmp_path / "study" / "ladder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 1000.0, "steps": None}))
    again = scaling(masks, tmp_path / "study", Options(budget="60s", test=0.2, device="cpu"), resume=True)
    assert [t.name for t in again.trainings] == ["whole", "half", "quarter", "quarter-again"]
    assert again.noise is not None
    assert again.noise.freedom == 1


def test_other_cases_are_no_continuation(studied: tuple[Path, Study], masks: Path, tmp_path: Path) -> None:
    shutil.copytree(studied[0], tmp_path / "study")
    with pytest.raises(InputError, match=r"UNPAIRED .*whole: found a training on other cases"):
        scaling(masks, tmp_path / "study", Options(budget="3steps", test=0.1, device="cpu"), resume=True)


def test_what_exists_is_refused_and_left_alone(studied: tuple[Path, Study], masks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"RUN_EXISTS .*found a scaling study, .*--resume continues it"):
        scaling(masks, studied[0], STEPS)
    (tmp_path / "thesis.txt").write_text("three years")
    for overwrite in (True, False):
        with pytest.raises(InputError, match=r"RUN_EXISTS .*found a folder that is not empty"):
            scaling(masks, tmp_path, STEPS, overwrite=overwrite, resume=not overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "three years"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(task="generation"), r"BAD_OPTION --task generation: .*expected one with an error of each case"),
        (Options(budget="20epochs"), r"BAD_OPTION --budget: found 20epochs, expected a time, or a number of steps"),
        (Options(folds=3), r"BAD_OPTION --folds: found 3"),
        (
            Options(changes={"training.init": "runs/knows"}),
            r"BAD_OPTION --set training.init: found weights .*leave it out",
        ),
        (Options(seeds=2), r"BAD_OPTION --seeds: found 2"),
        (Options(size="tiny"), r"BAD_OPTION --size: found tiny"),
        (Options(budget="soon"), r"BAD_OPTION --budget: found 'soon'"),
    ],
)
def test_what_has_no_ladder_is_refused_before_anything_is_read(options: Options, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        scaling(tmp_path / "nowhere", tmp_path / "study", options)
    assert not (tmp_path / "study").exists()


def test_too_few_cases_leave_nothing_behind(tmp_path: Path) -> None:
    write_dataset(tmp_path / "few", "segmentation", n=10, seed=4)
    with pytest.raises(InputError, match=r"TOO_FEW .*in a quarter"):
        scaling(tmp_path / "few", tmp_path / "study", STEPS)
    assert not (tmp_path / "study").exists()


def test_too_little_time_is_said_for_each_training_and_leaves_the_way_free(tmp_path: Path) -> None:
    write_dataset(tmp_path / "classes", "classification", n=40, seed=4)
    options = Options(budget="6s", model="lenet", device="cpu")
    for _ in range(2):
        with pytest.raises(
            ResourceError, match=r"BUDGET_TOO_SMALL --budget: found 3 trainings of .* s each, expected for each"
        ):
            scaling(tmp_path / "classes", tmp_path / "study", options)


def test_the_keys_of_a_study_are_those_listed(studied: tuple[Path, Study]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "interfaces.md").read_text()
    section = re.search(r"^### scaling\n(.*?)(?=^##)", text, re.M | re.S)
    assert section is not None
    listed = {key for row in re.findall(r"^\|(.+?)\|", section[1], re.M) for key in re.findall(r"`(\w+)`", row)}
    assert listed == set(studied[1].to_json())
