"""One tiny trained run for each task, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hounsfield.data.phantoms import write_dataset
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small 2D phantoms with masks."""
    folder = tmp_path_factory.mktemp("phantoms") / "masks"
    write_dataset(folder, "segmentation", ndim=2, n=24, seed=1)
    return folder


@pytest.fixture(scope="session")
def classed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small 2D phantoms in class folders."""
    folder = tmp_path_factory.mktemp("phantoms") / "classes"
    write_dataset(folder, "classification", ndim=2, n=24, seed=1)
    return folder


@pytest.fixture(scope="session")
def segmenter(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of twelve steps."""
    return train(phantoms, tmp_path_factory.mktemp("runs") / "segmenter", Options(budget="12steps", test=0.2, device="cpu"))


@pytest.fixture(scope="session")
def classifier(classed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of twelve steps."""
    return train(classed, tmp_path_factory.mktemp("runs") / "classifier", Options(budget="12steps", test=0.2, device="cpu"))


@pytest.fixture(scope="session")
def detector(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two steps by windows, on boxes around the masks."""
    folder = tmp_path_factory.mktemp("runs") / "detector"
    return train(phantoms, folder, Options(task="detection", budget="2steps", device="cpu", changes={"grid.size": None}))


@pytest.fixture(scope="session")
def painter(classed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A generator of two classes after two steps, with a test part."""
    changes = {"model_options.width": 4}
    options = Options(task="generation", model="dcgan", budget="2steps", test=0.25, device="cpu", changes=changes)
    return train(classed, tmp_path_factory.mktemp("runs") / "painter", options)


@pytest.fixture(scope="session")
def colourer(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A generator that draws from masks, after two steps."""
    changes = {"model_options.width": 4, "task_options.masks": True}
    options = Options(task="generation", model="dcgan", budget="2steps", device="cpu", changes=changes)
    return train(phantoms, tmp_path_factory.mktemp("runs") / "colourer", options)
