"""Figures of sets: each beside that of real images, copies found where they are planted, and no figure of too few images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.metrics import generative
from hounsfield.tasks.parts.sets import Part, compare

Floats = npt.NDArray[np.float64]


def part(name: str, count: int, seed: int, shift: float = 0.0, features: Floats | None = None) -> Part:
    """Gaussian features, and images of noise."""
    draw = np.random.default_rng(seed)
    found = draw.normal(size=(count, 6)) + shift if features is None else features
    ids = [f"{name} {k}" for k in range(len(found))]
    return Part(ids, ids, draw.uniform(-1, 1, (len(found), 1, 16, 16)).astype(np.float32), found)


REAL, TRAIN = part("real", 60, 1), part("train", 90, 2)


def test_a_good_generator_is_as_near_as_real_images_are() -> None:
    found = compare(REAL, part("made", 60, 3), TRAIN, "some network").figures
    for name in ("kid", "fid", "precision", "recall", "density", "coverage", "diversity"):
        assert found[name].value == pytest.approx(found[f"{name}_real"].value, abs=0.6 if name == "fid" else 0.25), name
    assert found["kid"].low < 0 < found["kid"].high
    assert "passed" in found["nearer_train"].note
    assert found["copies"].value == 0
    assert all("some network" in figure.note for figure in found.values())


def test_figures_are_those_of_the_metrics() -> None:
    made = part("made", 60, 3, shift=0.5)
    found = compare(REAL, made, TRAIN, "").figures
    for name, other in (("", made), ("_real", TRAIN.some(60))):
        assert found[f"fid{name}"].value == pytest.approx(generative.frechet(REAL.features, other.features)[0])
        assert found[f"kid{name}"].value == pytest.approx(generative.kernel_distance(REAL.features, other.features)[0])
        there = generative.support(REAL.features, other.features)
        for figure, each in (("precision", there.precise), ("recall", there.recalled), ("density", there.crowd)):
            assert found[f"{figure}{name}"].value == pytest.approx(each.mean())
        assert found[f"coverage{name}"].value == pytest.approx(there.covered.mean())
    assert found["kid"].value > 5 * abs(found["kid_real"].value)
    assert found["fid"].n == 60


def test_planted_copies_are_found_and_shown_first() -> None:
    made = part("made", 60, 3)
    made.features[[7, 20]] = TRAIN.features[[11, 50]] + 1e-9
    found = compare(REAL, made, TRAIN, "")
    assert found.copies == 2
    assert found.figures["copies"].value == pytest.approx(2 / 60)
    assert "failed: 2 near copies" in found.figures["copies"].note
    assert {pair[:2] for pair in found.closest[:2]} == {(7, 11), (20, 50)}


def test_a_row_for_each_real_image_says_how_near_something_was_generated() -> None:
    made = part("made", 60, 3)
    made.features[4] = REAL.features[9]
    rows = compare(REAL, made, TRAIN, "").rows
    assert [row["id"] for row in rows] == REAL.ids
    assert rows[9]["nearest"] == 0
    assert rows[9]["covered"] == rows[9]["recalled"] == 1
    apart = np.linalg.norm(REAL.features[0] - made.features, axis=1).min()
    assert rows[0]["nearest"] == pytest.approx(apart)
    assert np.mean([float(r["covered"]) for r in rows]) == compare(REAL, made, TRAIN, "").figures["coverage"].value


@pytest.mark.parametrize(
    ("count", "lacking"), [(1, "kid fid precision coverage copies"), (5, "fid precision coverage copies"), (10, "copies")]
)
def test_too_few_images_have_no_figure_but_the_least_number(count: int, lacking: str) -> None:
    found = compare(part("real", count, 1), part("made", count, 3), part("train", count, 2), "").figures
    for name in lacking.split():
        assert math.isnan(found[name].value), name
        assert "at least" in found[name].note, name
    for name in {"kid", "fid", "precision", "coverage"} - set(lacking.split()):
        assert math.isfinite(found[name].value), name


def test_an_evenly_spaced_part() -> None:
    some = TRAIN.some(3)
    assert list(some.ids) == ["train 0", "train 30", "train 60"]
    np.testing.assert_array_equal(some.features, TRAIN.features[[0, 30, 60]])
    assert len(TRAIN.some(1000)) == 90
