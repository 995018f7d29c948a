"""Charts: every point of a log is drawn, at a size that does not grow with the training, in the page's own colours."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.workflow.charts import BINS, curves, read_log, read_logs, strip, thinned
from hounsfield.workflow.run import Run


def line(step: int, value: float | None = None) -> dict[str, Any]:
    return {"step": step, "loss": 2.0 - step / 10_000, "lr": 0.001, "seconds": step * 0.1, "value": value}


def looked() -> list[dict[str, Any]]:
    return [line(s, 0.5 if s == 20 else 0.25 if s == 10 else None) for s in range(1, 31)]


def drawn(svg: str, shape: str, ink: str = "accent") -> list[str]:
    return [tag for tag in re.findall(rf"<{shape}[^>]*>", svg) if f"var(--{ink})" in tag]


def test_a_chart_for_loss_looks_and_rate() -> None:
    charts = curves({"0-0": looked()}, "Dice", 0.75)
    assert [c.title for c in charts] == ["Training loss", "Dice while training", "Learning rate"]
    assert "0.250, 0.500; 0.750 on all held-out cases" in charts[1].about
    assert len(drawn(charts[1].svg, "circle")) == 2
    assert len(drawn(charts[1].svg, "path", "second")) == 1
    assert "ends at 1.997" in charts[0].about
    without = curves({"0-0": [line(s) for s in range(1, 5)]}, "Dice")
    assert [c.title for c in without] == ["Training loss", "Learning rate"]
    assert curves({}, "Dice") == ()


def test_every_member_has_its_own_line_with_its_name() -> None:
    logs = {f"{fold}-0": looked() for fold in range(5)}
    for chart in curves(logs, "Dice"):
        assert [f"member {name}" in chart.svg for name in logs] == [True] * 5
        assert len(drawn(chart.svg, "path")) == 5
    assert "last 0.500 to 0.500" in curves(logs, "Dice")[1].about


def test_charts_are_drawn_where_nothing_was_learnt() -> None:
    one = {"step": 1, "loss": float("nan"), "lr": 0.0, "seconds": 0.1, "value": None}
    assert curves({"0-0": [one]}, "Dice") == ()
    flat = [{**line(s), "loss": 0.0, "value": 1.0} for s in (1, 2)]
    for chart in curves({"0-0": flat}, "Dice", 1.0):
        assert "nan" not in chart.svg


def test_charts_take_the_colours_of_the_page_and_bring_nothing_else(segmenter: Run) -> None:
    for chart in curves(read_logs(segmenter), "Dice", 0.5):
        assert chart.svg.startswith("<svg viewBox=")
        assert not re.search(r"xmlns|http|<style|id=|#[0-9a-f]{3}", chart.svg)
        assert drawn(chart.svg, "path")


def test_a_long_training_makes_no_longer_a_page() -> None:
    short = curves({"0-0": [line(s) for s in range(1, 2_001)]}, "Dice")
    long = curves({"0-0": [line(s) for s in range(1, 20_001)]}, "Dice")
    assert len(long[0].svg) < 1.5 * len(short[0].svg) < 30_000


@given(st.integers(1, 2000), st.integers(1, 300))
def test_neighbours_drawn_together_are_all_there(count: int, most: int) -> None:
    starts = thinned(count, most)
    assert len(starts) == min(count, most)
    sizes = np.diff(starts, append=count)
    assert starts[0] == 0
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1


def test_members_come_in_the_order_of_fold_and_seed(tmp_path: Path, segmenter: Run) -> None:
    for name in ("10-0", "2-1", "2-0"):
        (tmp_path / "members" / name).mkdir(parents=True)
        (tmp_path / "members" / name / "metrics.jsonl").write_text(json.dumps(line(1)) + "\n")
    (tmp_path / "members" / "3-0").mkdir()
    shutil.copy(segmenter.root / "plan.json", tmp_path)
    assert list(read_logs(Run(tmp_path))) == ["2-0", "2-1", "10-0"]


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
