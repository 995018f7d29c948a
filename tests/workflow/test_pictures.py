"""Pictures for a report: small ones exact, large ones bounded."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield.workflow.console import SILENT
from hounsfield.workflow.evaluate import Evaluation, stored
from hounsfield.workflow.pictures import WIDEST, encode, gallery
from hounsfield.workflow.run import Run


def decoded(source: str) -> np.ndarray:
    head, data = source.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(data))))


def test_blocks_of_an_enlarged_picture_stay_exact() -> None:
    blocks = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    rgb = np.kron(blocks, np.ones((16, 16, 1), dtype=np.uint8))
    source, width, height = encode(rgb)
    assert source.startswith("data:image/png")
    assert (width, height) == (192, 192)
    assert np.array_equal(decoded(source), rgb)


def test_a_large_noisy_picture_is_made_smaller() -> None:
    rgb = np.random.default_rng(0).integers(90, 160, (1200, 2400, 3), dtype=np.uint8)
    source, width, height = encode(rgb)
    assert (width, height) == (WIDEST, 480)
    assert decoded(source).shape == (480, WIDEST, 3)
    assert len(source) < 1_000_000
    assert abs(float(decoded(source).mean()) - float(rgb.mean())) < 2


@pytest.mark.parametrize(
    ("count", "titles"), [(1, ["worst"]), (2, ["worst", "second worst"]), (3, ["worst", "second worst", "best"])]
)
def test_no_case_is_shown_twice(classifier: Run, count: int, titles: list[str]) -> None:
    found = stored(classifier)[0]
    few = Evaluation(found.task, found.part, found.used_for, found.metrics, found.rows[:count], found.headline)
    shown = gallery(classifier, few, "cpu", SILENT)
    assert len({p.case for p in shown.cases}) == count
    assert [p.title for p in shown.cases] == titles


def test_cases_come_without_heatmaps_where_the_method_cannot(classifier: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from hounsfield.core.errors import InputError
    from hounsfield.workflow import pictures

    def refuse(*_: object) -> None:
        raise InputError("UNSUPPORTED_PAIR", "Grad-CAM", found="a/b", expected="c", fix="d")

    monkeypatch.setattr(pictures, "heatmap", refuse)
    shown = gallery(classifier, stored(classifier)[0], "cpu", SILENT)
    assert shown.cases
    assert not shown.heat
    assert shown.no_heat.startswith("this model cannot do this task (UNSUPPORTED_PAIR")


def test_weights_that_are_gone_are_a_reason(classifier: Run, tmp_path: Path) -> None:
    shutil.copytree(classifier.root, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "members")
    shown = gallery(Run(tmp_path / "run"), stored(classifier)[0], "cpu", SILENT)
    assert not shown.cases
    assert "NOT_A_RUN" in shown.no_cases


def test_what_is_explained_is_what_was_predicted(segmenter: Run) -> None:
    shown = gallery(segmenter, stored(segmenter)[0], "cpu", SILENT)
    assert shown.part == "test"
    assert "outlined" in shown.key
    names = {c.name for c in segmenter.plan.classes}
    for picture in shown.heat:
        assert picture.caption.removeprefix("evidence for ").removesuffix(", the largest class that was predicted") in names
    assert [p.title for p in shown.heat] == ["worst", "best"]


def test_a_detector_s_cases_are_drawn_with_what_was_missed(detector: Run) -> None:
    shown = gallery(detector, stored(detector)[0], "cpu", SILENT)
    assert "what was missed and what is false is named" in shown.key
    assert {p.title for p in shown.cases} >= {"worst", "best"}
    assert all(" missed, " in p.caption for p in shown.cases)
    left, right = np.split(decoded(shown.cases[0].source).astype(int), 2, axis=1)
    assert (np.abs(left - right) > 60).any(), "the truth that two steps of training miss is dashed on the right"
