"""Trainings of restoration from start to end: odd images, pairs of noisy ones, and players that win or break."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests.workflow.test_restore import trained

from hounsfield import io
from hounsfield.core.errors import DivergedError, InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.phantoms import write_dataset
from hounsfield.tasks import restoration
from hounsfield.workflow import contest
from hounsfield.workflow.evaluate import stored
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.restore import Wanted, restore, restore_one


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen phantoms without noise."""
    folder = tmp_path_factory.mktemp("phantoms") / "clean"
    write_dataset(folder, "restoration", ndim=2, n=12, seed=2)
    return folder


def test_mixed_sizes_and_a_constant_image_are_learned_from(tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    draw = np.random.default_rng(0)
    for k in range(10):
        shape = (int(draw.integers(20, 70)), int(draw.integers(20, 70)))
        array = draw.integers(0, 255, (1, *shape), dtype=np.uint8) if k else np.full((1, *shape), 9, np.uint8)
        io.write(Image(array, Geometry.none(shape)), tmp_path / "mixed" / f"{k}.png")
    run = trained(tmp_path / "mixed", tmp_path / "run", task_options__repair="upscale", training__steps=1)
    for evaluation in stored(run):
        assert all(np.isfinite(float(row["psnr"])) for row in evaluation.rows)


def test_images_that_are_all_constant_are_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for k in range(6):
        shape = (20 + k, 30)
        io.write(Image(np.full((1, *shape), 10 * k, np.uint8), Geometry.none(shape)), tmp_path / "flat" / f"{k}.png")
    with pytest.raises(InputError, match=r"TOO_FEW images: found \d images, in each of which all voxels are equal"):
        trained(tmp_path / "flat", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_critic_that_wins_stops_the_training(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its loss is, it lies beyond these bounds."""
    monkeypatch.setattr(contest, "LOST", 3)
    monkeypatch.setattr(restoration.Solver, "bounds", {"discriminator": (1e6, math.inf)})
    with pytest.raises(DivergedError, match=r"COLLAPSED .*a loss of the discriminator .* as for 3 steps, at step 2"):
        trained(clean, tmp_path / "run", training__steps=9, task_options__adversarial=0.05)
    assert '"player": "discriminator"' in (tmp_path / "run" / "members" / "0-0" / "diverged.json").read_text()


def test_a_network_whose_values_are_no_numbers_stops_it_too(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoration, "structural", lambda made, truth: made.mean() * math.nan)
    with pytest.raises(DivergedError, match=r"NAN_LOSS .*loss nan of the generator at step 0"):
        trained(clean, tmp_path / "run", task_options__adversarial=0.05)


def test_pairs_of_noisy_acquisitions_are_learned_from(tmp_path: Path) -> None:
    """Columns of a manifest name them; in use one acquisition is restored, or the mean of what is made of both."""
    write_dataset(tmp_path / "clean", "restoration", ndim=2, n=12, seed=4)
    draw, lines = np.random.default_rng(0), ["image_first,image_second"]
    for source in sorted((tmp_path / "clean" / "images").glob("*.png")):
        image = io.read(source)
        names = [f"{source.stem}-{k}.png" for k in (1, 2)]
        for name in names:
            clean = 80 + image.array / 3  # so that hardly any noise is cut off
            noisy = (clean + draw.normal(0, 20, image.array.shape)).round().clip(0, 255).astype(np.uint8)
            (tmp_path / "pairs").mkdir(exist_ok=True)
            io.write(Image(noisy, image.geometry), tmp_path / "pairs" / name)
        lines.append(",".join(names))
    (tmp_path / "pairs" / "manifest.csv").write_text("\n".join(lines) + "\n")
    run = trained(tmp_path / "pairs", tmp_path / "run", task_options__pairs=True)
    for evaluation in stored(run):
        assert "a second acquisition, noisy itself" in evaluation.metrics["psnr"].note
        # Of both the noise is 20 of 255.
        given = evaluation.metrics["psnr_given"].value
        assert given == pytest.approx(20 * np.log10(255 / (20 * 2**0.5)), abs=1)
    one = tmp_path / "pairs" / lines[1].split(",")[1]
    (written,) = restore(run, [one], tmp_path / "out", device="cpu")
    assert io.read(written).array.shape == io.read(one).array.shape
    assert predict(run, [one], tmp_path / "predicted", device="cpu")
    wanted = Wanted(residual=True, uncertainty=True)
    of_both = restore(run, [tmp_path / "pairs"], tmp_path / "both", wanted=wanted, device="cpu")
    assert len(of_both) == 3 * 12
    assert {path.suffix for path in of_both} == {".png", ".tif"}
    names = lines[1].split(",")
    each = [io.read(tmp_path / "pairs" / name).array.astype(np.float32) for name in names]
    predictor, grid = Predictor(run, "cpu"), io.read(written).geometry
    apart = [restore_one(predictor, Image(array, grid)).image.array for array in each]
    np.testing.assert_allclose(io.read(of_both[0]).array, np.mean(apart, axis=0), atol=0.51)
    np.testing.assert_allclose(io.read(of_both[1]).array, io.read(of_both[0]).array - np.mean(each, axis=0), atol=1e-3)
    held = predict(run, [tmp_path / "pairs"], tmp_path / "held", split="test", device="cpu")
    assert len(held) == len(run.split.test) > 0
    np.testing.assert_array_equal(io.read(held[0]).array, io.read(tmp_path / "both" / held[0].name).array)
    single = tmp_path / "clean"
    with pytest.raises(InputError, match=r"BAD_PLAN task_options\.pairs: found 1 channel, expected two acquisitions"):
        trained(single, tmp_path / "other", task_options__pairs=True)
    assert not (tmp_path / "other").exists()
