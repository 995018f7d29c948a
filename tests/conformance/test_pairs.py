"""Every model with every task in 2D and 3D trains, predicts or draws, saves, loads, repeats, or says by name why it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.conformance.model_checks import dimensions

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.image import Image
from hounsfield.core.prediction import ClassScores, Prediction
from hounsfield.data.phantoms import TASKS as DRAWN
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.models import MODELS
from hounsfield.tasks import TASKS
from hounsfield.workflow.generate import generate
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train

PAIRS = [(model, task, ndim) for model in MODELS.names() for task in TASKS.names() if task in DRAWN for ndim in (2, 3)]
CASES = 6


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


def data(root: Path, task: str, ndim: int) -> Path:
    """A few phantoms with this task's truth, drawn once."""
    folder = root / f"{task}-{ndim}"
    if not folder.exists():
        write_dataset(folder, task, ndim=ndim, n=CASES, seed=1)
    return folder


def same(a: Prediction, b: Prediction) -> bool:
    if isinstance(a, ClassScores) and isinstance(b, ClassScores):
        return np.array_equal(a.probabilities, b.probabilities)
    if isinstance(a, Boxes) and isinstance(b, Boxes):
        return np.array_equal(a.corners, b.corners) and np.array_equal(a.labels, b.labels)
    return isinstance(a, Image) and isinstance(b, Image) and np.array_equal(a.array, b.array) and a.geometry == b.geometry


@pytest.mark.parametrize(("model", "task", "ndim"), PAIRS)
def test_pair(model: str, task: str, ndim: int, drawn: Path, tmp_path: Path) -> None:
    folder = data(drawn, task, ndim)
    # One view of each window, as few as there are: what several make of it is the same for all models.
    changes = {"inference.mirror": False, "inference.overlap": 0.0}
    options = Options(task=task, model=model, budget="1steps", device="cpu", changes=changes)
    if MODELS.load(model).OUTPUT != TASKS.load(task).KIND:
        with pytest.raises(InputError, match=rf"--model {model}.*fix: --model {TASKS.load(task).MODEL}") as caught:
            train(folder, tmp_path / "run", options)
        assert caught.value.code == "UNSUPPORTED_PAIR"
        assert list(tmp_path.iterdir()) == []
        return
    if ndim not in dimensions(MODELS.load(model)):
        with pytest.raises(InputError, match=rf"--model {model}.*found {ndim}D.*fix: --model ") as caught:
            train(folder, tmp_path / "run", options)
        assert caught.value.code == "UNSUPPORTED_PAIR"
        assert list(tmp_path.iterdir()) == []
        return

    run = train(folder, tmp_path / "run", options)
    assert (run.plan.model, run.plan.task, run.plan.ndim) == (model, task, ndim)
    again = train(folder, tmp_path / "again", options)
    stored, repeated = (load_file(r.members[0] / "weights.safetensors") for r in (run, again))
    assert all(torch.equal(stored[k], repeated[k]) for k in stored), "the same seed trained other weights"

    loaded = Run(tmp_path / "run").models(torch.device("cpu"))[0].state_dict()
    assert set(loaded) == set(stored)
    assert all(torch.equal(loaded[k], stored[k]) for k in stored), "other weights came back"

    sample = open_dataset(folder).samples[0]
    first = Predictor(run, "cpu")(sample)
    assert same(first, Predictor(Run(tmp_path / "run"), "cpu")(sample)), "two predictions differ"
    if isinstance(first, Image):
        assert first.geometry == sample.images[0]().geometry, "not on the source's grid"
    if TASKS.load(task).KIND == "generator":
        written, once_more = (generate(run, 1, tmp_path / name, device="cpu") for name in ("out", "once more"))
        assert written[0].read_bytes() == once_more[0].read_bytes(), "the same seed drew another image"
    else:
        written = predict(run, [sample.images[0].path], tmp_path / "out", device="cpu")
    assert len(written) == 1
    assert written[0].stat().st_size > 0
