"""Axes: round numbers that cover the range, and every point inside the drawing."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hounsfield.workflow.svg import BOTTOM, LEFT, RIGHT, TALL, TICKS, TOP, WIDE, Axes, chart, log_ticks, ticks

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(finite, st.floats(1e-6, 1e6))
def test_numbers_along_an_axis_are_few_round_and_inside(low: float, span: float) -> None:
    assume(span > 1e-9 * abs(low))
    found = ticks(low, low + span)
    values = [value for value, _ in found]
    assert 2 <= len(found) <= TICKS + 1
    assert all(low - 1e-6 * span <= v <= low + span * (1 + 1e-6) for v in values)
    step = values[1] - values[0]
    lead = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(lead - f) for f in (1, 2, 5, 10)) < 1e-3


def test_numbers_as_people_write_them() -> None:
    assert [text for _, text in ticks(0, 60)] == ["0", "20", "40", "60"]
    assert [text for _, text in ticks(0, 20_000)] == ["0", "5,000", "10,000", "15,000", "20,000"]
    assert [text for _, text in ticks(0, 0.26)] == ["0.0", "0.1", "0.2"]
    assert [text for _, text in ticks(0, 4e-5)] == ["0", "1e-05", "2e-05", "3e-05", "4e-05"]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-5, 5)), min_size=1, max_size=30))
def test_points_lie_inside_and_upright(points: list[tuple[float, float]]) -> None:
    axes = Axes((0, 10), (-1, 1))
    x, y = (np.array(values) for values in zip(*points, strict=True))
    across, up = axes.across(x), axes.up(y)
    assert (across >= LEFT).all()
    assert (across <= WIDE - RIGHT).all()
    assert (up >= TOP - 1e-9).all()
    assert (up <= TALL - BOTTOM + 1e-9).all()
    order = np.argsort(y)
    assert (np.diff(up[order]) <= 1e-9).all()


def test_names_are_escaped() -> None:
    axes = Axes((0, 1), (0, 1))
    line = axes.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), about="<b>")
    svg = chart(axes, [line], "a & b", "<i>")
    assert "<title>&lt;b&gt;</title>" in svg
    assert "a &amp; b" in svg
    assert not re.search(r"<[bi]>", svg)


@given(st.floats(1e-4, 1e4), st.floats(1.05, 1e5))
def test_numbers_along_a_logarithmic_axis_are_few_and_inside(low: float, times: float) -> None:
    found = log_ticks(low, low * times)
    assert 1 <= len(found) <= TICKS + 3
    assert all(low * (1 - 1e-9) <= value <= low * times * (1 + 1e-9) for value, _ in found)
    assert [float(text.replace(",", "")) for _, text in found] == pytest.approx([value for value, _ in found], rel=1e-6)


def test_numbers_along_a_logarithmic_axis_as_people_write_them() -> None:
    assert [text for _, text in log_ticks(9, 600)] == ["10", "30", "100", "300"]
    assert [text for _, text in log_ticks(9, 300)] == ["10", "20", "50", "100", "200"]
    assert [text for _, text in log_ticks(0.08, 0.6)] == ["0.1", "0.2", "0.5"]
    assert [text for _, text in log_ticks(0.002, 3)] == ["0.01", "0.1", "1"]
    assert [text for _, text in log_ticks(0.11, 0.19)] == ["0.12", "0.14", "0.16", "0.18"]


def test_equal_ratios_are_equally_far_apart_on_logarithmic_axes() -> None:
    axes = Axes((10, 160), (0.05, 0.4), logarithmic=True)
    across, up = axes.across(np.array([10.0, 20.0, 40.0, 80.0, 160.0])), axes.up(np.array([0.05, 0.1, 0.2, 0.4]))
    assert np.diff(across) == pytest.approx(np.full(4, (WIDE - LEFT - RIGHT) / 4))
    assert np.diff(up) == pytest.approx(np.full(3, -(TALL - TOP - BOTTOM) / 3))
    assert ">0.1<" in chart(axes, [], "cases")
    assert ">100<" in chart(axes, [], "cases")
