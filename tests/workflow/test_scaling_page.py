"""The page of a scaling study: the answer first, both charts, names escaped, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.workflow.ladders.trainings import parts, sizes, told

from hounsfield.metrics.laws import Estimate, Law
from hounsfield.workflow.ladders.study import Study
from hounsfield.workflow.scaling_page import write_page

Page = Callable[[Study], str]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    def written(found: Study) -> str:
        write_page(found, tmp_path / "scaling.html")
        return (tmp_path / "scaling.html").read_text()

    return written


def test_the_page_answers_first_and_shows_both_charts(page: Page) -> None:
    html = page(sizes(0.2, 0.15, 0.1))
    assert "Twice the patients would take 24% off the error" in html
    assert html.count("<svg") == 2
    assert html.index("Twice the patients") < html.index("<svg") < html.index('id="trainings"')
    assert "<title>predicted from the smaller parts: 0.15" in html
    assert html.count("<circle") == 5  # three smaller parts, two sizes: the whole and the recommended one are diamonds
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_the_page_says_where_more_data_would_not_help_or_nothing_can_be_told(page: Page) -> None:
    level = page(told(parts(Law(0.3, 0.0), {"quarter": 0.9, "half": 1.1})))
    assert "More patients of this kind would not be seen to help" in level
    own = parts(Law(0.8, 0.4), again=None)
    own[1] = replace(own[1], error=Estimate(0.0), draws=own[1].draws * 0)
    assert "Whether more data would help cannot be told" in page(told(own))
    assert "by how much is unsure" in page(told(parts(Law(0.8, 0.4), {"whole": 1.5}, again=None)))


def test_names_are_escaped(page: Page) -> None:
    html = page(told(parts(Law(0.8, 0.4)), data="<b>scans</b>"))
    assert "&lt;b&gt;scans" in html
    assert "<b>scans" not in html
