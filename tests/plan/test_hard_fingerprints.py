"""Fingerprints of odd data: each becomes a plan that can train, or one line that says what is wrong."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.plan.test_fingerprint import Lazy, noise, of
from tests.plan.test_rules import facts, plan

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts, Fingerprint, Intensity
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Class, Plan
from hounsfield.core.sample import Sample
from hounsfield.data.audit import audit
from hounsfield.data.dataset import Dataset
from hounsfield.data.facts import FactStore, measure, sample_key
from hounsfield.data.split import make_split
from hounsfield.models import MODELS
from hounsfield.plan.fingerprint import fingerprint
from hounsfield.workflow.distributions import distributions

TASKS = ("segmentation", "classification")
MOST_PATCH = {"cpu": 2**19, "cuda": 2**22}  # voxels of a window
MOST_FINER = 32  # times as many voxels as the source that an image on the model grid may have


def odd(
    *shape: int, spacing: tuple[float, ...] | None = None, least: tuple[float, ...] | None = None, **more: Any
) -> Fingerprint:
    """Facts of images that all have `shape`, with labels of two classes. spacing: median, in mm; none: pixels."""
    own = spacing or (1.0,) * len(shape)
    values: dict[str, Any] = {
        "ndim": len(shape),
        "space": "none" if spacing is None else "patient",
        "shape_min": shape,
        "shape_median": shape,
        "shape_max": shape,
        "spacing_min": least or own,
        "spacing_median": own,
        "spacing_max": own,
        "classes": tuple(ClassFacts(value=k, name=f"c{k}", cases=50, fraction=0.1) for k in (1, 2)),
        **more,
    }
    return facts(**values)


class Named:
    """An image under another name, that is not to be read."""

    def __init__(self, name: str, image: Lazy) -> None:
        self.path, self.key, self.image = Path(name), name, image

    def __call__(self) -> Image:
        assert self.key == "0", "read again"
        return self.image()


def train_step(made: Plan) -> None:
    """A forward pass in training mode on the plan's own patch, of shapes alone."""
    network = MODELS.load(made.model)
    with torch.device("meta"):
        model = network.build(network.sizes(made.model_options)[-1], len(made.channels), len(made.classes) + 1, made.ndim)
        out = model.train()(torch.empty(made.training.batch, len(made.channels), *made.patch))
    first = out[0] if isinstance(out, tuple) else out
    assert first.shape[:2] == (made.training.batch, len(made.classes) + 1)


def check(found: Fingerprint, task: str, device: str = "cpu") -> Plan | None:
    """The plan, of which everything is in bounds; None where the data are refused in one short line."""
    refused = ""
    try:
        made = plan(found, task, device=device)
    except InputError as error:
        refused = str(error)
    if refused:
        assert len(refused) < 400
        assert "\n" not in refused
        return None
    assert 1 < math.prod(made.patch) <= MOST_PATCH[device]
    assert 2 <= made.training.batch <= 32
    if made.grid.spacing is not None:
        finer = [a / b for a, b in zip(found.spacing_median, made.grid.spacing, strict=True)]
        assert math.prod(finer) <= MOST_FINER, f"images become {math.prod(finer):.0f} times as large"
    for n in made.normalise:
        assert np.isfinite([n.low, n.high, n.mean, n.std]).all()
        assert n.std > 0
    assert max(map(len, made.reasons.values())) < 300
    train_step(made)
    return made


SHAPES = [
    (1, 512, 512),
    (512, 1, 512),
    (1, 1, 64),
    (3, 3, 3),
    (2, 2000, 2000),
    (4000, 64, 64),
    (2000, 2000, 2000),
    (1, 300),
    (300, 1),
    (2, 2),
    (7, 20000),
    (40000, 40000),
]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_long_flat_and_tiny_images(shape: tuple[int, ...], task: str, device: str) -> None:
    assert check(odd(*shape), task, device) is not None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1)], ids=str)
def test_images_of_one_voxel(shape: tuple[int, ...], task: str) -> None:
    assert check(odd(*shape), task) is None


SPACINGS = [
    ((1e-6, 1e-6, 1e-6), None),
    ((1e6, 1e6, 1e6), None),
    ((1e3, 1.0, 1.0), None),
    ((1e3, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((1.0, 1.0, 1e3), (1e-6, 1e-6, 1e-6)),
    ((1e6, 1.0, 1e-6), None),
    ((5e-5, 3e-4, 3e-4), (2e-6, 3e-4, 3e-4)),
    ((2e-4, 2e-4), None),  # microscopy: 0.2 micrometres
    ((1e-6, 1e6), None),
]


@pytest.mark.parametrize(("spacing", "least"), SPACINGS, ids=str)
def test_absurd_spacings_of_masks(spacing: tuple[float, ...], least: tuple[float, ...] | None) -> None:
    check(odd(*(40, 120, 120)[: len(spacing)], spacing=spacing, least=least), "segmentation")


@pytest.mark.parametrize("spacing", [(1e-6,) * 3, (1e6,) * 3, (1e3, 1.0, 1.0), (1e6, 1.0, 1e-6), (1e-6, 1e6)], ids=str)
def test_absurd_spacings_of_whole_images(spacing: tuple[float, ...]) -> None:
    assert check(odd(*(40, 120, 120)[: len(spacing)], spacing=spacing), "classification") is not None


def test_microscopy_is_planned_on_its_own_grid() -> None:
    made = check(odd(400, 400, spacing=(2.53e-4, 2.51e-4)), "segmentation")
    assert made is not None
    assert made.grid.spacing == pytest.approx((2.53e-4, 2.51e-4), rel=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_a_single_case(task: str) -> None:
    one = odd(64, 64, cases=1, classes=(ClassFacts(value=1, name="a", cases=1, fraction=0.1),) * 2)
    assert check(one, task) is not None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("level", [0.0, 1e-30, 7.0, 1e30])
@pytest.mark.parametrize("more", [{"modality": "CT"}, {"dtype": "uint8"}, {"dtype": "float16"}], ids=str)
def test_constant_images(level: float, more: dict[str, Any], task: str) -> None:
    same = Intensity(low=level, median=level, high=level, mean=level, std=0)
    check(odd(64, 64, intensity=(same,), constant_images=100, **more), task)


def test_a_class_of_one_case_and_one_of_none() -> None:
    classes = tuple(ClassFacts(value=k, name=f"c{k}", cases=n, fraction=n / 5000) for k, n in enumerate((5000, 1, 0)))
    made = check(odd(64, 64, classes=classes), "classification")
    assert made is not None
    weights = made.task_options.model_dump()["weights"]
    assert max(weights) <= 100 * min(weights)
    assert check(odd(64, 64, classes=classes), "segmentation") is not None


def test_ten_thousand_classes_are_planned_in_a_moment() -> None:
    classes = tuple(ClassFacts(value=k, name=f"class {k}", cases=1 + k % 9, fraction=1e-4) for k in range(10_000))
    begun = time.perf_counter()
    made = check(odd(64, 64, classes=classes), "classification")
    assert made is not None
    assert time.perf_counter() - begun < 5
    assert len(made.to_json()) < 2_000_000


def test_254_classes_of_voxels() -> None:
    classes = tuple(ClassFacts(value=k + 1, name=f"{k}", cases=3, fraction=1e-4) for k in range(254))
    made = check(odd(96, 96, 96, classes=classes), "segmentation")
    assert made is not None
    # The output of a step, which is as large as so many images, stays within what a machine has.
    assert made.training.batch * math.prod(made.patch) * 255 * 4 <= 2**31


# The same from the data on.


def test_volumes_one_voxel_thick_and_half_precision() -> None:
    draw = np.random.default_rng(0)
    grid = Geometry.from_spacing((1, 40, 50), (5.0, 0.5, 0.5))
    arrays = [draw.uniform(-6e4, 6e4, (1, 1, 40, 50)).astype(np.float16) for _ in range(4)]
    samples = [
        Sample(f"{k}", (Lazy(f"{k}", a, grid),), Lazy(f"m{k}", (a > 0).astype(np.uint8), grid)) for k, a in enumerate(arrays)
    ]
    found = of(samples, "segmentation", ("c",), 1)
    assert found.dtype == "float16"
    assert found.intensity[0].std == pytest.approx(np.array(arrays, dtype=np.float64).std(), rel=1e-6)
    assert found.intensity_foreground[0].mean == pytest.approx(np.array(arrays, dtype=np.float64)[np.array(arrays) > 0].mean())
    assert check(found, "segmentation") is not None


def test_254_labels_in_masks() -> None:
    labels = (np.arange(64 * 64) % 255).reshape(1, 64, 64).astype(np.uint8)
    samples = [Sample(f"{k}", (Lazy(f"{k}", labels + np.uint8(k)),), Lazy(f"m{k}", labels)) for k in range(3)]
    found = of(samples, "segmentation", tuple(map(str, range(254))), 1)
    assert [c.cases for c in found.classes] == [3] * 254
    assert [c.voxels.max for c in found.classes if c.voxels] == np.bincount(labels.ravel())[1:].tolist()


def test_ten_thousand_cases_of_as_many_classes_take_seconds(tmp_path: Path) -> None:
    # Whatever compared every class with every case, or every pair of classes, would take minutes. Facts are kept already.
    number = 10_000
    image = Lazy("image", noise(0))
    samples = tuple(Sample(f"{k:05}", (Named(f"{k}", image),), k) for k in range(number))
    classes = tuple(Class(value=k, name=f"{k}") for k in range(number))
    data = Dataset(samples, classes, ("a",), "classification", "test", "", tmp_path)
    one = measure(samples[0])
    alike = np.random.default_rng(0).standard_normal((number, 256)).astype("<f4")
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    store = FactStore(tmp_path, data.root)
    store.save(
        [
            replace(one, id=s.id, key=sample_key(s), digest=s.id, thumbnail=t.tobytes())
            for s, t in zip(samples, alike, strict=True)
        ]
    )
    begun = time.perf_counter()
    kept, split, checked = audit(data, make_split(data, 0), store=tmp_path)
    found = fingerprint(kept.select(split.train), checked.facts)
    assert sum(c.cases for c in found.classes) == found.cases == len(split.train)
    assert (found.fewest_cases, found.near_copies) == (0, 0)
    assert len(list(distributions(found))) == 1
    assert time.perf_counter() - begun < 30
