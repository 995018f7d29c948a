"""The timeline of a run: stages in order, kept by rename, continued after an interruption."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from hounsfield.workflow.run import Run
from hounsfield.workflow.stages import Stages


@pytest.fixture
def run(segmenter: Run, tmp_path: Path) -> Run:
    (tmp_path / "plan.json").write_text((segmenter.root / "plan.json").read_text())
    return Run(tmp_path)


def read(run: Run) -> dict[str, object]:
    return dict(json.loads((run.root / "timeline.json").read_text()))


def test_stages_are_seconds_since_the_command_began(run: Run) -> None:
    stages = Stages(time.monotonic() - 5, budget=60.0)
    with stages.stage("read"):
        time.sleep(0.05)
    stages.keep_in(run)
    with pytest.raises(ValueError, match="broken"), stages.stage("train 0-0"):
        raise ValueError("broken")
    told = read(run)
    assert (told["schema"], told["budget"]) == (1, 60.0)
    assert [row["name"] for row in stages.rows] == ["read", "train 0-0"]
    assert told["stages"] == stages.rows
    assert 5 <= stages.rows[0]["start"] <= stages.rows[0]["end"] - 0.04 < stages.rows[1]["start"] + 0.04


def test_a_second_sitting_goes_on_where_the_first_ended(run: Run) -> None:
    first = Stages(time.monotonic() - 100, budget=60.0)
    first.keep_in(run)
    with first.stage("train 0-0"):
        pass
    second = Stages(time.monotonic())
    with second.stage("read"):
        pass
    second.keep_in(run, go_on=True)
    with second.stage("train 0-1"):
        pass
    assert [row["name"] for row in second.rows] == ["train 0-0", "read", "train 0-1"]
    assert all(one["end"] <= other["start"] + 0.01 for one, other in pairwise(second.rows))
    assert second.rows[-1]["start"] >= 100
    assert read(run)["budget"] == 60.0
