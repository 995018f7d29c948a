"""Predictions against truth: the run's own parts, other datasets in other words, and what is stored."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class, Grid, Normalise, Plan
from hounsfield.core.prediction import ClassScores
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset
from hounsfield.models import lenet, unet
from hounsfield.tasks import classification, segmentation
from hounsfield.workflow import evaluate as module
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.evaluate import Evaluation, evaluate, measure, stored
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run, build, write_json, write_tensors, write_text


def plan(task: str, classes: tuple[tuple[int, str], ...]) -> Plan:
    dense = task == "segmentation"
    return Plan(
        task=task,
        model="unet" if dense else "lenet",
        ndim=2,
        classes=tuple(Class(value=v, name=n) for v, n in classes),
        channels=("x",),
        grid=Grid() if dense else Grid(size=(8, 8)),
        normalise=(Normalise(scope="dataset"),),
        patch=(8, 8),
        task_options=segmentation.Options() if dense else classification.Options(),
        model_options=unet.Options(width=2, strides=((2,),)) if dense else lenet.Options(),
    )


def run_of(folder: Path, how: Plan, data: Path, **parts: list[str]) -> Run:
    """A run with random weights on `data`, divided as `parts` say."""
    folder.mkdir(parents=True)
    write_text(folder / "plan.json", how.to_json())
    write_json(folder / "split.json", {"train": [], "val": [], "test": [], **parts, "drawn": ["train", "val"]})
    write_json(folder / "run.json", {"data": str(data), "reader": None, "patient_regex": r"p\d"})
    torch.manual_seed(0)
    write_tensors(folder / "members" / "0-0" / "weights.safetensors", build(how).state_dict())
    return Run(folder)


def picture(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    io.write(Image(np.asarray(array, dtype=np.uint8)[None], Geometry.none(np.shape(array))), path)


def classed(folder: Path, names: tuple[str, ...], each: int = 3) -> Path:
    """Class folders of dark and bright squares; the name of a class says how bright."""
    bright = {"cyst": 0, "healthy": 90, "tumour": 250, "a": 0, "b": 90}
    for name in names:
        for k in range(each):
            picture(folder / name / f"p{k}_{name}.png", np.full((8, 8), bright[name] + k))
    return folder


def perfect(image: Image, plan: Plan) -> ClassScores:
    """Knows the classes of `classed` by how bright they are."""
    name = {0: "cyst", 90: "healthy", 250: "tumour"}[int(image.array.min()) // 10 * 10]
    p = np.array([0.9 if c.name == name else 0.1 for c in plan.classes])
    return ClassScores(p / p.sum())


class Oracle(Predictor):
    """Answers by `perfect`, or with the truth read off the image itself."""

    def __call__(self, case: Any) -> Any:
        image = self.read(case)
        if self.plan.task == "classification":
            return perfect(image, self.plan)
        values = np.array([0, *(c.value for c in self.plan.classes)])
        return Image(values[image.array], image.geometry)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Predictor", Oracle)


TWO = ((0, "healthy"), (1, "tumour"))


@pytest.mark.usefixtures("oracle")
def test_the_held_out_part_of_the_run_s_own_data(tmp_path: Path) -> None:
    data = classed(tmp_path / "data", ("healthy", "tumour"))
    ids = [f"{n}/p{k}_{n}" for n in ("healthy", "tumour") for k in range(3)]
    run = run_of(tmp_path / "run", plan("classification", TWO), data, train=ids[:2], val=[ids[2], ids[5]], test=ids[3:5])
    test = evaluate(run, device="cpu")
    assert (test.part, test.used_for, test.task, test.headline) == ("test", "report", "classification", "auroc")
    assert [row["id"] for row in test.rows] == ids[3:5]
    assert [row["patient"] for row in test.rows] == ["p0", "p1"]
    val = evaluate(str(tmp_path / "run"), data, split="val", device="cpu")
    assert (val.part, val.used_for) == ("val", "selection")
    assert val.metrics["auroc"].value == 1
    assert evaluate(run, split="train", device="cpu").used_for == "training"
    without = run_of(tmp_path / "two", plan("classification", TWO), data, train=ids[:4], val=ids[4:])
    assert evaluate(without, device="cpu").part == "val"


@pytest.mark.usefixtures("oracle")
@pytest.mark.parametrize("names", [("healthy", "tumour"), ("tumour", "healthy"), ("cyst", "healthy", "tumour")])
def test_another_dataset_s_classes_are_found_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    """In its own class list they stand at other places than in the plan's."""
    data = classed(tmp_path / "data", ("healthy", "tumour"))
    run = run_of(tmp_path / "run", plan("classification", tuple(enumerate(names))), data, val=["healthy/p0_healthy"])
    other = evaluate(run, classed(tmp_path / "clinic", ("tumour", "healthy")), device="cpu")
    assert (other.part, other.used_for) == ("clinic", "another dataset")
    assert other.metrics["accuracy"].value == 1
    assert all(str(row["id"]).endswith(str(row["truth"])) for row in other.rows)


def test_a_class_that_the_run_does_not_know_is_refused(tmp_path: Path) -> None:
    data = classed(tmp_path / "data", ("healthy", "tumour"))
    run = run_of(tmp_path / "run", plan("classification", TWO), data, val=["healthy/p0_healthy"])
    with pytest.raises(
        InputError, match=r"^BAD_LABEL .*found classes cyst \(0\), healthy \(1\), expected .*healthy \(0\), tumour \(1\)"
    ):
        evaluate(run, classed(tmp_path / "cysts", ("cyst", "healthy")), device="cpu")


@pytest.mark.usefixtures("oracle")
def test_a_folder_named_like_a_part_is_not_taken_for_it(tmp_path: Path) -> None:
    data = classed(tmp_path / "data", ("healthy", "tumour"))
    run = run_of(tmp_path / "run", plan("classification", TWO), data, val=["healthy/p0_healthy"])
    other = evaluate(run, classed(tmp_path / "clinic" / "test", ("tumour", "healthy")), device="cpu")
    assert (other.part, other.used_for) == ("another test", "another dataset")


def masked(folder: Path, values: tuple[int, ...]) -> Path:
    """Pictures that hold class numbers 0, 1, ..., and masks that hold their values."""
    draw = np.random.default_rng(0)
    for k in range(3):
        numbers = draw.integers(0, len(values) + 1, (8, 8))
        picture(folder / "images" / f"{k}.png", numbers)
        picture(folder / "masks" / f"{k}.png", np.array([0, *values])[numbers])
    return folder


@pytest.mark.usefixtures("oracle")
@pytest.mark.parametrize(("own", "others"), [((1,), (255,)), ((255,), (1,)), ((1, 2), (1, 2)), ((1, 2, 3), (1, 2))])
def test_masks_in_other_values(tmp_path: Path, own: tuple[int, ...], others: tuple[int, ...]) -> None:
    """A single class is the same in any value; several classes by value."""
    data = masked(tmp_path / "data", own)
    names = tuple((v, f"class {v}") for v in own)
    run = run_of(tmp_path / "run", plan("segmentation", names), data, val=["0"])
    found = evaluate(run, masked(tmp_path / "clinic", others), device="cpu")
    assert found.metrics["dice"].value == 1
    assert len(found.rows) == 3


@pytest.mark.usefixtures("oracle")
def test_masks_of_other_classes_are_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", plan("segmentation", ((1, "a"), (2, "b"))), masked(tmp_path / "data", (1, 2)), val=["0"])
    with pytest.raises(
        InputError, match=r"^BAD_LABEL .*found classes 1 \(1\), 9 \(9\), expected those of the run, a \(1\), b \(2\)"
    ):
        evaluate(run, masked(tmp_path / "clinic", (1, 9)), device="cpu")


def test_masks_follow_the_names_of_their_classes() -> None:
    """The values of two classes exchanged."""
    mask = Image(np.array([[[0, 1, 2, 7]]], dtype=np.uint8), Geometry.none((1, 4)))

    class Held:
        path, key = Path("m.png"), "m"

        def __call__(self) -> Image:
            return mask

    classes = (Class(value=1, name="b"), Class(value=2, name="a"))
    data = Dataset((Sample("x", (), target=Held()),), classes, ("x",), "segmentation", "test", "", Path("data"))
    aligned = module._in_classes_of(plan("segmentation", ((1, "a"), (2, "b"))), data)
    target: Any = aligned.samples[0].target
    assert target().array.tolist() == [[[0, 2, 1, 7]]]
    assert target.path == Path("m.png")
    assert target.key != "m"
    assert mask.array.tolist() == [[[0, 1, 2, 7]]]


def test_any_of_several_classes_by_name() -> None:
    """Classes that the other dataset does not name are unknown there, not absent."""
    how = plan("classification", ((0, "a"), (1, "b"), (2, "c"))).model_copy(
        update={"task_options": classification.Options(multilabel=True)}
    )
    classes = (Class(value=0, name="c"), Class(value=1, name="a"))
    samples = (Sample("x", (), target=(0,)), Sample("y", (), target=(), known_classes=(1,)), Sample("z", (), target=(0, 1)))
    data = Dataset(samples, classes, ("x",), "classification", "test", "", Path("data"), multilabel=True)
    x, y, z = module._in_classes_of(how, data).samples
    assert (x.target, x.known_classes) == ((2,), (2, 0))
    assert (y.target, y.known_classes) == ((), (0,))
    assert z.target == (2, 0)


def test_a_part_without_cases(tmp_path: Path) -> None:
    how = plan("classification", TWO)
    predictor = Predictor.of(how, [build(how).eval()])
    with pytest.raises(InputError, match=r"^TOO_FEW test: found no case"):
        measure(predictor, (), "test", "report", SILENT)


def test_labels_that_do_not_fit_the_task(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", plan("segmentation", ((1, "a"),)), masked(tmp_path / "data", (1,)), val=["0"])
    with pytest.raises(InputError, match=r"^BAD_LABEL .*without a mask"):
        evaluate(run, classed(tmp_path / "other", ("a", "b")), device="cpu")


@pytest.mark.usefixtures("oracle")
def test_what_is_stored_is_read_again(tmp_path: Path) -> None:
    """Figures without a value included; the test part first."""
    data = classed(tmp_path / "data", ("healthy", "tumour"))
    run = run_of(
        tmp_path / "run",
        plan("classification", TWO),
        data,
        val=["tumour/p0_tumour"],
        test=["healthy/p0_healthy", "tumour/p1_tumour"],
    )
    val, test = evaluate(run, split="val", device="cpu"), evaluate(run, device="cpu")
    assert math.isnan(val.metrics["auroc"].value)
    val.save(run)
    test.save(run)
    text = (run.root / "evaluation" / "val.json").read_text()
    assert json.loads(text)["schema"] == 1
    assert "NaN" not in text
    found = stored(run)
    assert [e.part for e in found] == ["test", "val"]

    def same(a: Evaluation, b: Evaluation) -> bool:
        return repr(a) == repr(b)  # NaN is not equal to itself

    assert same(found[0], test)
    assert same(found[1], val)


def test_the_figures_of_a_detector_have_the_names_of_interfaces(detector: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(json.dumps(evaluate(detector, device="cpu").to_json(), allow_nan=False))
    text = (Path(__file__).parents[2] / "docs" / "interfaces.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| detection | `map50`"))
    listed = set(re.findall(r"`([\w<>]+)`", row))
    assert {m.replace("<class>", c.name) for m in listed for c in detector.plan.classes} == set(found["metrics"])
    assert found["headline"] == "map50"
    assert set(found["metrics"]["froc"]) == {"value", "low", "high", "n", "clusters", "note"}
    assert json.loads((detector.root / "evaluation" / "val.json").read_text())["metrics"] == found["metrics"]
