"""The user's choices reach every read of a dataset: training, resuming, reporting, evaluating and predicting."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.io.formats import Choices
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.inspect import inspect
from hounsfield.workflow.predict import predict
from hounsfield.workflow.ready import Options
from hounsfield.workflow.report import report
from hounsfield.workflow.run import Run, write_json
from hounsfield.workflow.train import train

Nifti: Any = nib.nifti1.Nifti1Image
SECOND = Choices(volume=1)
SIZE = (12, 14, 16)  # x, y, z


def write(folder: Path, cases: int = 6) -> Path:
    """Images of two volumes, of which the second shows the ball that its 3D mask marks; the first is noise."""
    for k in range(cases):
        draw = np.random.default_rng(k)
        distance = np.linalg.norm(np.moveaxis(np.indices(SIZE), 0, -1) - draw.uniform(5, 8, 3), axis=-1)
        ball = (distance < 4).astype(np.uint8)
        volumes = draw.normal(0, 10, (*SIZE, 2)) + np.stack([np.zeros(SIZE), 100 * ball], -1)
        for part, array in (("images", volumes.astype(np.int16)), ("masks", ball)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(Nifti(array, np.diag([1.5, 1.5, 1.5, 1])), folder / part / f"case{k}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "beating")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(budget="2steps", choices=SECOND, device="cpu")
    return train(data, tmp_path_factory.mktemp("runs") / "run", options)


READS: dict[str, Callable[[Run, Path, Path, Choices], object]] = {
    "inspect": lambda run, data, out, choices: inspect(data, choices=choices),
    "train": lambda run, data, out, choices: train(data, out, Options(budget="1steps", choices=choices, device="cpu")),
    "predict": lambda run, data, out, choices: predict(run, [data / "images"], out, choices=choices, device="cpu"),
    "evaluate": lambda run, data, out, choices: evaluate(run, data, choices=choices, device="cpu"),
}


@pytest.mark.parametrize("verb", READS)
def test_every_read_asks_and_takes_the_answer(run: Run, tmp_path: Path, verb: str) -> None:
    other = write(tmp_path / "other", 5)
    with pytest.raises(InputError, match=r"WRONG_DIMENSION .*2 volumes, shape \(12, 14, 16, 2\).*--volume 0 to --volume 1"):
        READS[verb](run, other, tmp_path / "out", Choices())
    assert not (tmp_path / "out").exists()
    READS[verb](run, other, tmp_path / "out", SECOND)


def test_the_chosen_volume_is_the_one_that_is_measured(data: Path) -> None:
    first, second = (inspect(data, choices=Choices(volume=k)).measured for k in (0, 1))
    assert first is not None
    assert second is not None
    assert first.intensity[0].high < 60 < 90 < second.intensity[0].high


def test_a_run_remembers_how_its_data_were_read(run: Run) -> None:
    assert run.record["choices"] == {"volume": 1}
    image = run.dataset().samples[0].images[0]()
    np.testing.assert_array_equal(image.array, io.read(run.dataset().samples[0].images[0].path, SECOND).array)
    assert [i.key for s in run.dataset(Choices(volume=0)).samples for i in s.images] == [
        i.key.replace('"volume":1', '"volume":0') for s in run.dataset().samples for i in s.images
    ]


def test_what_reads_the_runs_own_data_again_asks_nothing(run: Run, data: Path) -> None:
    stored = json.loads((run.root / "evaluation" / "val.json").read_text())["metrics"]["dice"]["value"]
    assert evaluate(run, device="cpu").metrics["dice"].value == pytest.approx(stored)
    assert evaluate(run, data, device="cpu").metrics["dice"].value == pytest.approx(stored)
    other = evaluate(run, choices=Choices(volume=0), device="cpu").metrics["dice"].value
    assert other != pytest.approx(stored)
    weights = (run.members[0] / "weights.safetensors").read_bytes()
    again = train(data, run.root, Options(device="cpu"), resume=True)
    assert (again.members[0] / "weights.safetensors").read_bytes() == weights
    page = report(run, device="cpu").read_text()
    assert page.count("data:image/") >= 2
    assert "--volume 1" in page


def test_every_choice_stands_in_the_command_of_the_report(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.root, tmp_path / "run")
    choices = Choices(volume=0, frame=3, affine="qform", series="T2 axial", allow_gaps=True, fix_tilt=True)
    write_json(tmp_path / "run" / "run.json", {**run.record, "choices": choices.model_dump(exclude_defaults=True)})
    page = html.unescape(report(tmp_path / "run", device="cpu").read_text())
    assert "--volume 0 --frame 3 --affine qform --allow-gaps --fix-tilt --series 'T2 axial'" in page
