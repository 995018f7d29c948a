"""A restoring network that is told how strong the noise is: what is known, and what is estimated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tasks.test_restoration import CPU, Adds, drawn, plan, restored, saved
from torch import nn

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.degrade import Noise
from hounsfield.tasks.parts.noisy import Noisy
from hounsfield.tasks.restoration import Solver


def _inputs(solver: Solver) -> int:
    built: list[int] = []
    solver.network(lambda inputs, _: built.append(inputs) or nn.Identity())  # type: ignore[func-returns-value]
    return built[0]


def test_a_network_is_told_how_strong_the_noise_is_where_that_varies(tmp_path: Path) -> None:
    """What is known, else what is estimated, as of the cases that it is measured on; of one strength it is told nothing."""
    solver = Solver(plan(noise=Noise.parse({"sigma": [5, 50]}, "test")))
    for how, inputs in ((solver, 2), (Solver(plan(noise=Noise(sigma=25.0))), 1), (Solver(plan(blind=True)), 1)):
        assert how.told is (inputs == 2)
        assert _inputs(how) == inputs
    flat = np.full((1, 80, 80), 100, np.uint8)
    drawn_noise = set()
    for name in "abcd":
        sample = saved(tmp_path / f"{name}.png", flat)
        riddle, posed = solver.riddle(sample), solver.pose(sample.images[0](), sample)
        assert riddle.noise is not None
        assert 5 <= riddle.noise <= 50
        assert float(posed.array.std()) == pytest.approx(riddle.noise, rel=0.05)
        seen = solver.prepare(posed, CPU).tensor
        assert seen.shape == (2, 80, 80)
        assert float(seen[1].mean()) == pytest.approx(riddle.noise / 50, rel=0.1)
        told = solver.prepare(Noisy(posed.array, posed.geometry, noise=20.0), CPU).tensor
        torch.testing.assert_close(told[1], torch.full((80, 80), 0.4))
        assert solver.metrics().case(sample, posed)["noise"] == riddle.noise
        drawn_noise.add(riddle.noise)
    assert len(drawn_noise) == 4
    assert solver.strength(Image(flat, Geometry.none((80, 80)))) == pytest.approx(5 / 30, rel=1e-3), "no noise at all"
    assert Solver(plan(repair="upscale")).strength(Image(flat, Geometry.none((80, 80)))) is None


def test_what_is_told_is_not_changed() -> None:
    solver = Solver(plan(noise=Noise.parse({"sigma": [5, 50]}, "test")))
    image = Image(drawn((33, 20)), Geometry.none((33, 20)))
    np.testing.assert_array_equal(restored(solver, image, Adds()).array, image.array)
