"""`restore` and noise: told or estimated and said, and refused where it was not learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workflow.test_restore import trained

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.phantoms import write_dataset
from hounsfield.workflow.console import Silent
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.restore import restore, restore_one
from hounsfield.workflow.run import Run


class Heard(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Of noise of 2.55 to 51, as the rules choose, after two steps on a dozen phantoms."""
    folder = tmp_path_factory.mktemp("noise")
    write_dataset(folder / "clean", "restoration", ndim=2, n=12, seed=2)
    return trained(folder / "clean", folder / "run")


def noisy(path: Path, sigma: float, seed: int = 0) -> Image:
    array = 120 + np.random.default_rng(seed).normal(0, sigma, (1, 64, 64))
    image = Image(array.round().clip(0, 255).astype(np.uint8), Geometry.none((64, 64)))
    path.parent.mkdir(exist_ok=True)
    io.write(image, path)
    return image


def relearned(run: Run, folder: Path, **changes: Any) -> Run:
    """A copy of a run whose plan says that it learned something else."""
    shutil.copytree(run.root, folder)
    plan = json.loads((folder / "plan.json").read_text())
    plan["task_options"] |= changes
    (folder / "plan.json").write_text(json.dumps(plan))
    return Run(folder)


def test_what_nobody_tells_is_estimated_and_said(denoiser: Run, tmp_path: Path) -> None:
    images = [noisy(tmp_path / "in" / f"{name}.png", sigma) for name, sigma in (("a", 10.0), ("b", 30.0))]
    heard = Heard()
    written = restore(denoiser, [tmp_path / "in"], tmp_path / "out", device="cpu", console=heard)
    (line,) = [line for line in heard.lines if "estimated" in line]
    words = line.split()
    assert words[:3] == ["noise.sigma", "estimated", "at"]
    assert [float(words[k]) for k in (3, 5)] == pytest.approx([10, 30], rel=0.12)
    assert not any("beyond" in line for line in heard.lines)
    found = restore_one(Predictor(denoiser, "cpu"), images[0])
    assert found.noise == pytest.approx(10, rel=0.12)
    np.testing.assert_array_equal(found.image.array, io.read(written[0]).array)


def test_what_is_told_is_believed(denoiser: Run, tmp_path: Path) -> None:
    image = noisy(tmp_path / "in" / "a.png", 10.0)
    heard, made = Heard(), []
    for noise in (10.0, 40.0):
        (path,) = restore(denoiser, [tmp_path / "in"], tmp_path / f"{noise}", noise=noise, device="cpu", console=heard)
        made.append(io.read(path).array)
    assert not any("estimated" in line for line in heard.lines)
    predictor = Predictor(denoiser, "cpu")
    for noise, array in zip((10.0, 40.0), made, strict=True):
        found = restore_one(predictor, Image(image.array, image.geometry), noise=noise)
        np.testing.assert_array_equal(found.image.array, array)
        assert found.noise == noise
    exact = Image(image.array.astype(np.float32), image.geometry)
    one, other = (restore_one(predictor, exact, noise=noise).image.array for noise in (10.0, 40.0))
    assert np.abs(one - other).max() > 0


def test_noise_beyond_what_was_learned_is_said(denoiser: Run, tmp_path: Path) -> None:
    noisy(tmp_path / "in" / "weak.png", 1.0)
    noisy(tmp_path / "in" / "usual.png", 20.0)
    heard = Heard()
    restore(denoiser, [tmp_path / "in"], tmp_path / "out", device="cpu", console=heard)
    (line,) = [line for line in heard.lines if "beyond" in line]
    assert "beyond what was learned in 1 of 2: weak (noise.sigma seems to be " in line
    assert line.endswith(", and 2.55 to 51 was learned)")
    heard = Heard()
    predict(denoiser, [tmp_path / "in" / "weak.png"], tmp_path / "predicted", device="cpu", console=heard)
    assert [line for line in heard.lines if line.startswith("  weak: noise.sigma seems to be ")]


def test_a_run_of_one_strength_says_where_the_noise_is_another(denoiser: Run, tmp_path: Path) -> None:
    root = denoiser.record["data"]
    one = trained(Path(root), tmp_path / "one", task_options__noise__sigma=20.0)
    noisy(tmp_path / "in" / "alike.png", 20.0)
    noisy(tmp_path / "in" / "strong.png", 45.0)
    heard = Heard()
    restore(one, [tmp_path / "in"], tmp_path / "out", device="cpu", console=heard)
    (line,) = [line for line in heard.lines if "beyond" in line]
    assert "in 1 of 2: strong" in line
    assert line.endswith(", and 20 was learned)")
    learned = r"BAD_OPTION --noise: found 20, with a run that learned one strength, noise\.sigma = 20, expected"
    with pytest.raises(InputError, match=learned):
        restore(one, [tmp_path / "in"], tmp_path / "other", noise=20.0, device="cpu")


@pytest.mark.parametrize(
    ("changes", "noise", "line"),
    [
        ({}, 80.0, r"found 80, expected noise\.sigma of 2\.55 to 51, .*--set task_options\.noise\.sigma=\[LOWEST,HIGHEST\]"),
        ({}, -1.0, r"found -1, expected noise\.sigma of 2\.55 to 51"),
        ({}, float("nan"), "found nan, expected"),
        ({"repair": "upscale"}, 20.0, "found 20, with a run that learned to upscale"),
        ({"blind": True}, 20.0, "found 20, with a run that learned from noisy images"),
    ],
)
def test_noise_that_was_not_learned_is_refused(
    changes: dict[str, Any], noise: float, line: str, denoiser: Run, tmp_path: Path
) -> None:
    noisy(tmp_path / "in" / "a.png", 20.0)
    run = relearned(denoiser, tmp_path / "run", **changes)
    with pytest.raises(InputError, match=f"BAD_OPTION --noise: {line}"):
        restore(run, [tmp_path / "in"], tmp_path / "out", noise=noise, device="cpu")
    assert not (tmp_path / "out").exists()
