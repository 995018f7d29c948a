"""Training begins with weights that are there already: which are taken, what is told, what learns, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.data.phantoms import write_dataset
from hounsfield.workflow import init
from hounsfield.workflow.console import Silent
from hounsfield.workflow.evaluate import stored
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train

SMALL = {"model_options.width": 8}
SEGMENTING = Options(budget="1steps", device="cpu", test=0.2)


class Noted(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    @contextmanager
    def bar(self, label: str) -> Iterator[Any]:
        yield lambda done, total, about="": None


@pytest.fixture(scope="session")
def filled(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A U-Net that was pretrained for two steps."""
    folder = tmp_path_factory.mktemp("runs") / "filled"
    return train(phantoms, folder, Options(task="pretraining", budget="2steps", device="cpu", changes=SMALL))


@pytest.fixture(scope="session")
def patched(classed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A vision transformer that was pretrained for two steps."""
    changes = {"model_options.width": 32, "model_options.depth": 2}
    options = Options(task="pretraining", model="vit", budget="2steps", device="cpu", changes=changes)
    return train(classed, tmp_path_factory.mktemp("runs") / "patched", options)


def weights(run: Run) -> dict[str, Tensor]:
    return load_file(run.members[0] / "weights.safetensors")


def test_a_pretrained_run_is_a_run_without_labels(filled: Run) -> None:
    assert filled.plan.classes == ()
    (evaluation,) = stored(filled)
    assert evaluation.headline == "explained"
    assert len(filled.split.val) == 1, "all but a few images teach"
    page = (filled.root / "report.html").read_text()
    assert "to fill in what was hidden of them" in page
    assert "what was shown" in page
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR .*pretrained alone.*fix: train on labels with .*--init"):
        predict(filled, [filled.root], filled.root / "out")


def test_segmentation_begins_with_what_was_filled_in(filled: Run, phantoms: Path, tmp_path: Path) -> None:
    console = Noted()
    run = train(phantoms, tmp_path / "run", replace(SEGMENTING, init=str(filled.root)), console=console)
    assert (run.plan.model, run.plan.model_options) == (filled.plan.model, filled.plan.model_options)
    assert run.plan.training.init == str(filled.root.resolve())
    assert run.plan.reasons["model"].startswith("--init")
    began = run.record["init"]
    assert set(began["fresh"]) == {"heads.0.weight", "heads.0.bias"}
    assert began["adapted"] == {}
    assert began["used"] == len(weights(run)) - 2
    assert len(began["sha256"]) == 12
    told = next(line for line in console.lines if line.startswith("begins as filled"))
    assert "100% of the weights" in told
    assert "heads.0.weight (the output layer)" in told
    assert "not used" in told
    # One step of a rate that warms up changes little.
    before, after = weights(filled), weights(run)
    apart = [float((after[name] - before[f"network.{name}"]).abs().max()) for name in after if name not in began["fresh"]]
    assert max(apart) < 0.01
    assert Predictor(run, "cpu")(next(phantoms.rglob("*_0000.png"))).array.any() is not None  # type: ignore[union-attr]


def test_cases_that_taught_the_weights_are_told_beside_the_figures(filled: Run, phantoms: Path, tmp_path: Path) -> None:
    run = train(phantoms, tmp_path / "run", replace(SEGMENTING, init=str(filled.root)))
    seen = run.record["init"]["seen"]
    assert seen["test"] == len(set(run.split.test) & set(filled.split.train)) > 0
    (test,) = [e for e in stored(run) if e.part == "test"]
    assert all(f"{seen['test']} cases taught the weights" in figure.note for figure in test.metrics.values())


def test_a_plan_file_begins_the_same_way(filled: Run, phantoms: Path, tmp_path: Path) -> None:
    first = train(phantoms, tmp_path / "one", replace(SEGMENTING, init=str(filled.root)))
    again = train(phantoms, tmp_path / "two", Options(plan=first.root / "plan.json", device="cpu", test=0.2))
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(first).items())
    assert again.record["init"]["sha256"] == first.record["init"]["sha256"]


@pytest.mark.parametrize("how", [{"training.frozen": "body"}, {"training.layer_decay": 0.7}])
def test_what_is_frozen_stays_bit_by_bit(how: dict[str, Any], patched: Run, classed: Path, tmp_path: Path) -> None:
    options = Options(budget="2steps", device="cpu", init=str(patched.root), changes=how)
    run = train(classed, tmp_path / "run", options)
    assert run.plan.model == "vit"
    before, after = weights(patched), weights(run)
    same = {name for name in after if f"network.{name}" in before and torch.equal(after[name], before[f"network.{name}"])}
    if "training.frozen" in how:
        assert same == set(after) - {"head.weight", "head.bias"}
    else:
        assert not same


def test_low_rank_leaves_a_plain_network_and_goes_on_where_it_stopped(patched: Run, classed: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    options = Options(budget="2steps", device="cpu", init=str(patched.root), changes={"training.lora": 2})
    console = Noted()
    run = train(classed, tmp_path / "run", options, console=console)
    assert set(weights(run)) == {name.removeprefix("network.") for name in weights(patched) if name.startswith("network.")}
    assert any("million weights learn" in line for line in console.lines)
    finished = weights(run)
    (run.members[0] / "weights.safetensors").unlink()
    resumed = train(classed, run.root, options, resume=True)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in finished.items())
    Predictor(run, "cpu")


def test_a_file_of_weights_chooses_the_size_that_it_fits(filled: Run, phantoms: Path, tmp_path: Path) -> None:
    inside = {name.removeprefix("network."): value for name, value in weights(filled).items() if name.startswith("network.")}
    save_file(inside, tmp_path / "w.safetensors")
    run = train(phantoms, tmp_path / "run", replace(SEGMENTING, init=str(tmp_path / "w.safetensors")))
    assert run.plan.model_options.width == 8  # type: ignore[attr-defined]
    assert run.record["init"]["used"] == len(inside) - 2


def test_weights_of_torch_are_converted_first(patched: Run, classed: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights(patched).items()}}, tmp_path / "w.pt")
    source = init.read(str(tmp_path / "w.pt"))
    assert source is not None
    assert source.run is None
    assert {name.removeprefix("module.") for name in source.tensors} == set(weights(patched))
    assert not source.model


def test_weights_of_another_architecture_are_refused_with_the_first_keys(patched: Run, classed: Path, tmp_path: Path) -> None:
    options = Options(budget="1steps", device="cpu", model="resnet", init=str(patched.root))
    with pytest.raises(InputError) as caught:
        train(classed, tmp_path / "run", options)
    line = str(caught.value)
    assert caught.value.code == "BAD_WEIGHTS"
    assert "found 0 of " in line
    assert "missing stem." in line
    assert "unknown " in line
    assert "weights of resnet in 2D" in line
    assert not (tmp_path / "run").exists()


def test_weights_of_another_width_are_refused_with_their_shapes(filled: Run, phantoms: Path, tmp_path: Path) -> None:
    options = replace(SEGMENTING, init=str(filled.root), changes={"model_options.width": 16})
    with pytest.raises(InputError, match=r"BAD_WEIGHTS .*of other shape encoder.0.0.0.weight \(of 8×1×3×3, not 16×1×3×3"):
        train(phantoms, tmp_path / "run", options)


def test_weights_of_a_network_that_cannot_do_the_task_are_refused(filled: Run, classed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR --init: found weights of unet, which gives a dense output"):
        train(classed, tmp_path / "run", Options(budget="1steps", device="cpu", init=str(filled.root)))


def test_a_plan_of_pretraining_is_obeyed_on_labelled_images(filled: Run, phantoms: Path, tmp_path: Path) -> None:
    again = train(phantoms, tmp_path / "again", Options(plan=filled.root / "plan.json", device="cpu"))
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(filled).items())


def test_a_payload_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(InputError, match=r"UNSAFE_FILE .*w.pt"):
        train(tmp_path / "nowhere", tmp_path / "run", Options(init=str(tmp_path / "w.pt")))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nowhere", "NOT_FOUND"),
        ("empty", "NOT_A_RUN"),
        ("cut.safetensors", "BAD_WEIGHTS"),
        ("timm:resnet_18", "UNKNOWN_MEMBER"),
    ],
)
def test_what_is_no_weights_is_refused(name: str, code: str, tmp_path: Path) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    (tmp_path / "empty").mkdir()
    save_file({"a": torch.zeros(100)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-9])
    with pytest.raises(InputError) as caught:
        init.read(name if name.startswith("timm:") else str(tmp_path / name))
    assert caught.value.code == code


def test_published_weights_are_loaded_as_safetensors_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    asked: list[tuple[str, str]] = []
    network = timm.create_model("resnet18", pretrained=False)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "model.safetensors")

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        if len(asked) > 1:
            raise ConnectionError("no network")
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    source = init.read("timm:resnet18.a1_in1k")
    assert source is not None
    assert (source.name, source.model) == ("timm:resnet18.a1_in1k", "timm:resnet18")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    with pytest.raises(ResourceError, match=r"FETCH_FAILED --init timm:resnet18.a1_in1k: found ConnectionError"):
        init.read("timm:resnet18.a1_in1k")


def test_published_weights_of_colours_serve_grey_pictures(
    classed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", pretrained=False)
    source = init.Source("timm:resnet18", dict(network.state_dict()), model="timm:resnet18")
    monkeypatch.setattr(init, "_of_timm", lambda where: source)
    options = Options(budget="1steps", device="cpu", init="timm:resnet18", changes={"training.frozen": "body"})
    run = train(classed, tmp_path / "run", options)
    assert run.plan.network == "timm:resnet18"
    assert run.record["init"]["adapted"] == {"network.conv1.weight": "3 input channels made 1"}
    torch.testing.assert_close(weights(run)["network.conv1.weight"], network.conv1.weight.sum(1, keepdim=True))


def test_flat_weights_become_those_of_volumes(filled: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "volumes", "segmentation", ndim=3, n=4, seed=1)
    changes = {"training.batch": 1, "patch": [32, 32, 32], "grid.spacing": None}
    options = Options(budget="1steps", device="cpu", init=str(filled.root), changes=changes)
    run = train(tmp_path / "volumes", tmp_path / "run", options)
    adapted = run.record["init"]["adapted"]
    assert adapted["encoder.0.0.0.weight"] == "inflated to a depth of 3"
    assert run.plan.ndim == 3
    made: Any = run.plan.model_options
    assert made.strides == ((2, 2, 2),) * len(made.strides)


def test_unreadable_files_stop_a_pretraining_or_are_left_out_by_name(phantoms: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "images"
    shutil.copytree(phantoms / "imagesTr", folder)
    broken = sorted(folder.iterdir())
    broken[0].write_bytes(broken[0].read_bytes()[:100])
    broken[1].write_bytes(b"")
    options = Options(task="pretraining", budget="1steps", device="cpu", changes=SMALL)
    with pytest.raises(InputError) as caught:
        train(folder, tmp_path / "run", options)
    assert all(path.name in str(caught.value) for path in broken[:2])
    assert not (tmp_path / "run").exists()
    console = Noted()
    run = train(folder, tmp_path / "run", replace(options, skip_unreadable=True), console=console)
    said = "\n".join(console.lines)
    assert all(path.name in said for path in broken[:2])
    assert len(run.split.train) + len(run.split.val) == len(broken) - 2
    severities = {f["code"]: f["severity"] for f in run.record["findings"]}
    assert severities["EMPTY_FILE"] == "warning"
    assert json.loads((run.root / "split.json").read_text())["train"] == list(run.split.train)
    for path in broken[2:]:
        path.write_bytes(b"")
    with pytest.raises(InputError):
        train(folder, tmp_path / "other", replace(options, skip_unreadable=True))
