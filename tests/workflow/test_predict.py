"""The Predictor and `predict`: one road from a file to a file, outputs apart from inputs, and large volumes within bounds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hounsfield import io
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class, Grid, Normalise, Plan
from hounsfield.core.prediction import ClassScores
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.readers import open_dataset
from hounsfield.models import lenet, unet
from hounsfield.tasks import classification, segmentation
from hounsfield.workflow import predict as module
from hounsfield.workflow.predict import Predictor, cases_of, predict
from hounsfield.workflow.run import Run, build, write_json, write_tensors, write_text


def plan(task: str, ndim: int = 2, values: tuple[int, ...] = (255,), **grid: Any) -> Plan:
    dense = task == "segmentation"
    return Plan(
        task=task,
        model="unet" if dense else "lenet",
        ndim=ndim,
        classes=tuple(Class(value=v, name=f"class {v}") for v in values),
        channels=("x",),
        grid=Grid(**grid) if dense else Grid(size=(16,) * ndim),
        normalise=(Normalise(scope="case"),),
        patch=(16,) * ndim,
        task_options=segmentation.Options() if dense else classification.Options(),
        model_options=unet.Options(width=4, strides=((2,),)) if dense else lenet.Options(),
    )


def untrained(
    folder: Path, how: Plan, members: int = 1, split: dict[str, Any] | None = None, data: Path = Path("/gone")
) -> Run:
    """A run whose weights are random."""
    folder.mkdir(parents=True)
    write_text(folder / "plan.json", how.to_json())
    parts = {"train": (), "val": (), "test": (), **(split or {})}
    write_json(folder / "split.json", {**parts, "drawn": ["train", "val"]})
    write_json(folder / "run.json", {"data": str(data), "reader": "images", "patient_regex": None})
    run = Run(folder)
    for seed in range(members):
        torch.manual_seed(seed)
        write_tensors(folder / "members" / f"0-{seed}" / "weights.safetensors", build(run.plan).state_dict())
    return run


def picture(path: Path, seed: int = 0, shape: tuple[int, int] = (24, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 255, (1, *shape), dtype=np.uint8)
    io.write(Image(array, Geometry.none(shape)), path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for k, name in enumerate(("a.png", "site 1/b.png", "site 1/c.png")):
        picture(tmp_path / "in" / name, k)
    return tmp_path / "in"


def test_masks_are_written_in_the_source_s_values_below_the_inputs_folders(tmp_path: Path, pictures: Path) -> None:
    run = untrained(tmp_path / "run", plan("segmentation"))
    written = predict(run, [pictures], tmp_path / "out", device="cpu")
    names = ["a.png", "site 1/b.png", "site 1/c.png"]
    assert written == [tmp_path / "out" / name for name in names]
    predictor = Predictor(run, "cpu")
    for name in names:
        mask = io.read(tmp_path / "out" / name)
        assert mask.array.shape == (1, 24, 20)
        assert set(np.unique(mask.array)) <= {0, 255}
        np.testing.assert_array_equal(mask.array, predictor(pictures / name).array)  # type: ignore[union-attr]
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["a.png", "b.png", "c.png"]


def test_a_small_image_is_one_window_of_the_network(tmp_path: Path, pictures: Path) -> None:
    """The whole road by hand: read, normalise, network, argmax, values."""
    io.write(
        Image(np.random.default_rng(5).integers(0, 255, (1, 16, 16), dtype=np.uint8), Geometry.none((16, 16))),
        tmp_path / "x.png",
    )
    run = untrained(tmp_path / "run", plan("segmentation", values=(128, 255)), members=2)
    pixels = io.read(tmp_path / "x.png").array.astype(np.float64)
    low, high = np.percentile(pixels, (0.5, 99.5))
    clipped = pixels.clip(low, high)
    x = torch.from_numpy(((clipped - clipped.mean()) / clipped.std()).astype(np.float32))[None]
    with torch.inference_mode():
        p = torch.stack([m(x).softmax(1) for m in run.models(torch.device("cpu"))]).mean(0)[0]
    expected = np.array([0, 128, 255])[p.argmax(0).numpy()]
    found = Predictor(run, "cpu")(tmp_path / "x.png")
    assert isinstance(found, Image)
    np.testing.assert_array_equal(found.array[0], expected)


def test_one_table_of_probabilities(tmp_path: Path, pictures: Path) -> None:
    run = untrained(tmp_path / "run", plan("classification", values=(0, 1, 2)))
    (path,) = predict(run, [pictures], tmp_path / "out", device="cpu")
    with path.open() as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "class 0", "class 1", "class 2"]
    assert [row[0] for row in rows] == ["a", "site 1/b", "site 1/c"]
    for row in rows:
        scores = Predictor(run, "cpu")(pictures / f"{row[0]}.png")
        assert isinstance(scores, ClassScores)
        assert [float(v) for v in row[1:]] == pytest.approx(scores.probabilities.tolist(), abs=1e-6)
        assert scores.probabilities.sum() == pytest.approx(1)


def test_a_volume_comes_back_on_its_own_grid(tmp_path: Path) -> None:
    """Sagittal, flipped, anisotropic; the model grid is coarser."""
    affine = np.array([[1.2, 0, 0, -9], [0, 0, -0.9, 20], [0, -0.8, 0, 30], [0, 0, 0, 1]])
    image = Image(
        np.random.default_rng(0).integers(-1000, 1000, (1, 20, 22, 24)).astype(np.int16), Geometry((20, 22, 24), affine)
    )
    io.write(image, tmp_path / "scan.nii.gz")
    run = untrained(tmp_path / "run", plan("segmentation", 3, values=(1, 2), spacing=(1.1, 1.3, 1.5)))
    (path,) = predict(run, [tmp_path / "scan.nii.gz"], tmp_path / "out", device="cpu")
    assert path == tmp_path / "out" / "scan.nii.gz"
    mask = io.read(path)
    assert mask.geometry.same_grid(image.geometry)
    assert len(np.unique(mask.array)) > 1
    prepared = Predictor(run, "cpu").prepare(image)
    assert prepared.tensor.shape[1:] == tuple(
        round(n * a / b) for n, a, b in zip((22, 24, 20), (0.8, 0.9, 1.2), (1.1, 1.3, 1.5), strict=True)
    )


@pytest.mark.parametrize("case", ["path", "text", "image", "sample"])
def test_a_case_may_be_given_in_many_ways(tmp_path: Path, case: str) -> None:
    path = picture(tmp_path / "a.png")
    predictor = Predictor(untrained(tmp_path / "run", plan("segmentation")), "cpu")
    given: Any = {"path": path, "text": str(path), "image": io.read(path), "sample": Sample("a", (ImageFile(path),))}[case]
    found = predictor(given)
    assert isinstance(found, Image)
    np.testing.assert_array_equal(found.array, predictor(path).array)  # type: ignore[union-attr]


def test_from_models_at_hand(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", plan("classification", values=(0, 1)))
    models = run.models(torch.device("cpu"))
    path = picture(tmp_path / "a.png")
    ours, theirs = Predictor.of(run.plan, models)(path), Predictor(tmp_path / "run", "cpu")(path)
    assert isinstance(ours, ClassScores)
    assert isinstance(theirs, ClassScores)
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def test_another_number_of_axes_or_channels_is_refused(tmp_path: Path) -> None:
    predictor = Predictor(untrained(tmp_path / "run", plan("segmentation")), "cpu")
    with pytest.raises(InputError, match=r"^WRONG_DIMENSION image: found 3 spatial axes \(4, 5, 6\), expected 2 axes"):
        predictor(Image(np.zeros((1, 4, 5, 6)), Geometry.none((4, 5, 6))))
    with pytest.raises(InputError, match=r"^CHANNELS image: found 2 channels, expected 1"):
        predictor(Image(np.zeros((2, 4, 5)), Geometry.none((4, 5))))


def test_existing_outputs_are_refused_before_any_work(tmp_path: Path, pictures: Path) -> None:
    run = untrained(tmp_path / "run", plan("segmentation"))
    old = tmp_path / "out" / "site 1" / "c.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"^OUTPUT_EXISTS .*c\.png: .*--overwrite"):
        predict(run, [pictures], tmp_path / "out", device="cpu")
    assert old.read_bytes() == b"mine"
    assert not (tmp_path / "out" / "a.png").exists()
    assert len(predict(run, [pictures], tmp_path / "out", overwrite=True, device="cpu")) == 3
    assert old.read_bytes() != b"mine"


def test_an_input_is_never_overwritten(tmp_path: Path, pictures: Path) -> None:
    run = untrained(tmp_path / "run", plan("segmentation"))
    before = (pictures / "a.png").read_bytes()
    with pytest.raises(InputError, match=r"^OUTPUT_COLLISION .*a\.png: found an input where its prediction would be written"):
        predict(run, [pictures], pictures, overwrite=True, device="cpu")
    assert (pictures / "a.png").read_bytes() == before


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", plan("segmentation"))
    paths = [picture(tmp_path / "one" / "a.png"), picture(tmp_path / "two" / "a.png")]
    with pytest.raises(InputError, match=r"^OUTPUT_COLLISION .*one/a\.png and .*two/a\.png, both named 'a'"):
        predict(run, paths, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_parts_of_the_run_s_own_data_and_of_others(tmp_path: Path, pictures: Path) -> None:
    split = {"train": ["a"], "test": ["site 1/c"]}
    run = untrained(tmp_path / "run", plan("segmentation"), split=split, data=pictures)
    own = open_dataset(pictures)
    assert [s.id for s in cases_of(own, run, None)] == ["a", "site 1/b", "site 1/c"]
    assert [s.id for s in cases_of(own, run, "test")] == ["site 1/c"]
    with pytest.raises(InputError, match="BAD_OPTION --split: found no val part in in"):
        cases_of(own, run, "val")
    with pytest.raises(InputError, match="BAD_OPTION --split: found 'tset', expected train, val or test"):
        cases_of(own, run, "tset")
    samples = (Sample("x", (), split="test"), Sample("a", (), split="train"))
    other = Dataset(samples, (), ("x",), None, "test", "", tmp_path / "other")
    assert [s.id for s in cases_of(other, run, "test")] == ["x"]
    (path,) = predict(run, [pictures], tmp_path / "out", split="test", device="cpu")
    assert path == tmp_path / "out" / "site 1" / "c.png"


def test_no_memory_is_said_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(untrained(tmp_path / "run", plan("segmentation")), "cpu")

    def hungry(*args: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(predictor.solver, "infer", hungry)
    with pytest.raises(ResourceError, match=r"^OUT_OF_MEMORY predict: found no room, .*smaller window"):
        predictor(picture(tmp_path / "a.png"))


def test_a_run_without_weights_predicts_nothing(tmp_path: Path) -> None:
    untrained(tmp_path / "run", plan("segmentation"), members=0)
    with pytest.raises(InputError, match=r"^NOT_A_RUN .*no finished weights"):
        predict(tmp_path / "run", [picture(tmp_path / "a.png")], tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_it_says_what_it_does(tmp_path: Path, pictures: Path) -> None:
    said: list[str] = []

    class Told(type(module.SILENT)):  # type: ignore[misc]
        def say(self, message: str) -> None:
            said.append(message)

    predict(untrained(tmp_path / "run", plan("segmentation")), [pictures], tmp_path / "out", device="cpu", console=Told())
    assert said == ["3 cases, segmentation with unet on cpu"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["schema"] == 1


def test_a_model_sees_the_same_as_in_training(tmp_path: Path) -> None:
    """What the cache holds of a case is what the Predictor prepares, to 16 bits: no second road."""
    from hounsfield.data.cache import Cache
    from hounsfield.data.channels import read_case
    from hounsfield.data.prepare import prepare

    path, how = picture(tmp_path / "a.png", shape=(40, 30)), plan("segmentation", size=(16, 16))
    sample = Sample("a", (ImageFile(path),))
    stored = prepare(read_case(sample, 1), how.grid, how.normalise).tensor
    entry = Cache(tmp_path / "cache", 2**30).get("k", "a", lambda: (stored.numpy(), np.array(0)))
    seen = Predictor(untrained(tmp_path / "run", how), "cpu").prepare(Predictor(Run(tmp_path / "run"), "cpu").read(path)).tensor
    assert F.l1_loss(torch.from_numpy(entry.image((slice(None), slice(None)))), seen).item() < 1e-3
