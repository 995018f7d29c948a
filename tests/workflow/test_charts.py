"""Charts: every point of a log is drawn, at a size that does not grow with the training, in the page's own colours."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.workflow.charts import BINS, INKS, curves, read_log, strip
from hounsfield.workflow.run import Run


def with_log(run: Run, folder: Path, lines: list[dict[str, object]]) -> Run:
    """A run of one member whose log holds `lines`."""
    shutil.copytree(run.root, folder)
    next(folder.glob("members/*/metrics.jsonl")).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Run(folder)


def line(step: int, value: float | None = None) -> dict[str, object]:
    return {"step": step, "loss": 2.0 - step / 10_000, "lr": 0.001, "seconds": step * 0.1, "value": value}


def test_a_chart_for_loss_looks_and_rate(segmenter: Run, tmp_path: Path) -> None:
    run = with_log(segmenter, tmp_path / "run", [line(s, 0.5 if s == 20 else 0.25 if s == 10 else None) for s in range(1, 31)])
    charts = curves(run, "Dice", 0.75)
    assert [c.title for c in charts] == ["Training loss", "Dice on the validation part", "Learning rate"]
    assert "0.250, 0.500; 0.750 on the whole part" in charts[1].about
    assert "ends at 1.997" in charts[0].about
    without = curves(with_log(segmenter, tmp_path / "other", [line(s) for s in range(1, 5)]), "Dice")
    assert [c.title for c in without] == ["Training loss", "Learning rate"]


def test_charts_take_the_colours_of_the_page_and_bring_nothing_else(segmenter: Run) -> None:
    for chart in curves(segmenter, "Dice", 0.5):
        assert chart.svg.startswith("<svg viewBox=")
        assert not re.search(r"xmlns|http|<\?xml|metadata|DejaVu|<style", chart.svg)
        assert not [ink for ink in INKS if ink in chart.svg]
        assert not re.search(r'<g id="', chart.svg)
        assert "var(--accent)" in chart.svg


def test_a_long_training_makes_no_longer_a_page(segmenter: Run, tmp_path: Path) -> None:
    short = curves(with_log(segmenter, tmp_path / "a", [line(s) for s in range(1, 2_001)]), "Dice")
    long = curves(with_log(segmenter, tmp_path / "b", [line(s) for s in range(1, 20_001)]), "Dice")
    assert len(long[0].svg) < 1.5 * len(short[0].svg) < 100_000


def test_the_same_run_gives_the_same_bytes(segmenter: Run) -> None:
    assert curves(segmenter, "Dice", 0.5) == curves(segmenter, "Dice", 0.5)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}]
    assert read_log(tmp_path / "nowhere") == []


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=200))
def test_a_strip_has_a_bar_for_every_bin_that_holds_a_value(values: list[float]) -> None:
    bars = re.findall(r"M([\d.]+) 20v-([\d.]+)h", strip(values))
    finite = [v for v in values if not math.isnan(v)]
    counts = np.bincount([min(BINS - 1, int(v * BINS)) for v in finite], minlength=BINS)
    at = [round(float(x) * BINS / 100) for x, _ in bars]
    near = set(np.flatnonzero(counts))
    # A value on an edge may fall to either side of it.
    assert {min(abs(k - n) for n in near) for k in at} <= {0, 1} if near else not at
    if finite:
        assert max(float(tall) for _, tall in bars) == 20.0
