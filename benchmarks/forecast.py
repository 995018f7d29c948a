"""What `plan` forecasts beside what a training then takes on a CPU: memory at its peak, and the time of a step.

`python benchmarks/forecast.py [FOLDER]` prints a table of a score of plans. Each is forecast in one process and trained in
another, on noise, for STEPS real steps with looks at validation cases and checkpoints between them: the peak of one process
never goes down. What was found lies in FOLDER, a JSON file a plan, and is not measured again. The aim is judged by the rise:
the peak of resident memory beyond what the process held before, as the libraries take as much whatever is trained.
`python benchmarks/forecast.py train '{"ndim": 2, "patch": [64, 64]}'` prints as JSON what one takes, `plan` its forecast.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hounsfield.core.plan import Augment, Class, Grid, Normalise, Plan, Training
from hounsfield.data.cache import Entry
from hounsfield.data.loader import Loader
from hounsfield.models import MODELS
from hounsfield.plan.blank import BOXES
from hounsfield.plan.budget import keep_freed_memory
from hounsfield.plan.memory import MIB, predict
from hounsfield.plan.sizes import parameters, sized
from hounsfield.plan.trace import flops
from hounsfield.tasks import TASKS
from hounsfield.workflow import fit as training
from hounsfield.workflow.propose import timed
from hounsfield.workflow.run import build, filled

CASES = 8
STEPS = 20
CPU = torch.device("cpu")
CLASSES, BOXED = {"task": "classification"}, {"task": "detection"}
PLANS: tuple[dict[str, Any], ...] = (
    {"model": "unet", "ndim": 2, "size": "tiny", "patch": [128, 128], "batch": 8},
    {"model": "unet", "ndim": 2, "size": "small", "patch": [256, 256], "batch": 2, "amp": True},
    {"model": "unet", "ndim": 3, "size": "tiny", "patch": [48, 48, 48], "batch": 2},
    {"model": "unet", "ndim": 3, "size": "small", "patch": [64, 64, 64], "batch": 1, "accumulate": 2},
    {"model": "unet", "ndim": 3, "size": "small", "patch": [64, 64, 64], "batch": 2, "recompute": True},
    {"model": "unet", "ndim": 3, "size": "base", "patch": [48, 48, 32], "batch": 1},
    {"model": "unet", "ndim": 3, "size": "large", "patch": [32, 32, 32], "batch": 1},
    {"model": "unetr", "ndim": 3, "size": "small", "patch": [64, 64, 64], "batch": 1},
    {"model": "swinunetr", "ndim": 3, "size": "small", "patch": [64, 64, 64], "batch": 1},
    {**CLASSES, "model": "resnet", "ndim": 2, "size": "small", "patch": [128, 128], "batch": 16},
    {**CLASSES, "model": "resnet", "ndim": 2, "size": "base", "patch": [224, 224], "batch": 4},
    {**CLASSES, "model": "resnet", "ndim": 3, "size": "tiny", "patch": [48, 48, 48], "batch": 4},
    {**CLASSES, "model": "vit", "ndim": 2, "size": "small", "patch": [224, 224], "batch": 8, "cut": "conv"},
    {**CLASSES, "model": "vit", "ndim": 2, "size": "large", "patch": [224, 224], "batch": 2},
    {**CLASSES, "model": "vit", "ndim": 3, "size": "small", "patch": [128, 128, 128], "batch": 2},
    {**CLASSES, "model": "swin", "ndim": 2, "size": "small", "patch": [128, 128], "batch": 8, "cut": "conv"},
    {**CLASSES, "model": "hybrid", "ndim": 2, "size": "small", "patch": [128, 128], "batch": 8},
    {**BOXED, "model": "fcos", "ndim": 2, "size": "small", "patch": [256, 320], "batch": 2},
    {**BOXED, "model": "fcos", "ndim": 3, "size": "tiny", "patch": [64, 64, 64], "batch": 1},
    {**BOXED, "model": "fcos_vit", "ndim": 2, "size": "small", "patch": [256, 256], "batch": 2},
)


class Noise:
    """A prepared case of random values, half as large again as a window."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.dense, self.boxes = plan.task == "segmentation", plan.task == "detection"
        self.shape = tuple(p * 3 // 2 for p in plan.patch) if plan.grid.size is None else plan.patch
        self.points: dict[int, npt.NDArray[np.int32]] = {}
        self.channels, self.classes, self.number = len(plan.channels), len(plan.classes), number

    def image(self, window: tuple[slice, ...]) -> npt.NDArray[np.float32]:
        size = (self.channels, *(s.stop - s.start for s in window))
        return np.random.default_rng(self.number).standard_normal(size, dtype=np.float32)

    def target(self, window: tuple[slice, ...]) -> npt.NDArray[np.generic]:
        if self.boxes:
            return self._boxes()
        if not self.dense:
            return np.array(self.number % self.classes, dtype=np.int64)
        size = (1, *(s.stop - s.start for s in window))
        return np.random.default_rng(self.number).integers(0, self.classes + 1, size, dtype=np.uint8)

    def _boxes(self) -> npt.NDArray[np.float32]:
        """As many as are predicted, in the middle of the case, so that no change moves one out of the window."""
        draw = np.random.default_rng(self.number)
        middle = draw.uniform(0.4, 0.6, (BOXES, len(self.shape))) * self.shape
        side = draw.uniform(4, 12, (BOXES, len(self.shape)))
        labels = draw.integers(0, self.classes, (BOXES, 1))
        return np.concatenate([middle - side / 2, middle + side / 2, labels], axis=1).astype(np.float32)


def make(
    ndim: int,
    patch: list[int],
    task: str = "segmentation",
    model: str = "unet",
    size: str | None = None,
    steps: int = STEPS,
    batch: int = 2,
    accumulate: int = 1,
    amp: bool = False,
    recompute: bool = False,
    **options: Any,
) -> Plan:
    """A plan of two classes on one channel with the usual augmentation. size: in a word. options: of the model."""
    dense, own = task == "segmentation", getattr(MODELS.load(model), "training", None)
    ema = own().changes.get("ema", 0.0) if own is not None else 0.0
    plan = Plan(
        task=task,
        model=model,
        ndim=3 if ndim == 3 else 2,
        classes=(Class(value=1, name="one"), Class(value=2, name="two")),
        channels=("noise",),
        grid=Grid(size=None if dense or (task == "detection" and ndim == 3) else tuple(patch)),
        normalise=(Normalise(scope="case"),),
        patch=tuple(patch),
        augment=Augment(rotation=(15.0,) * (3 if ndim == 3 else 1), elastic=1.0 if dense else 0.0, low_resolution=1.5),
        training=Training(steps=steps, lr=1e-5, batch=batch, accumulate=accumulate, amp=amp, recompute=recompute, ema=ema),
        task_options=TASKS.load(task).Options(),
        model_options=MODELS.load(model).Options.parse(options, "options"),
    )
    return plan if size is None else sized(plan, size)


def loader_of(plan: Plan, rank: int = 0, ranks: int = 1) -> Loader:
    entries = {str(k): cast(Entry, Noise(plan, k)) for k in range(CASES)}
    return Loader(entries, plan, (1.0,) * plan.ndim, rank, ranks)


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


class Look:
    """As a training looks at validation cases: with a second network, made when it is needed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, weights: Iterable[tuple[str, Tensor]]) -> float:
        filled(build(self.plan), weights)
        return 0.0


def forecast(plan: Plan) -> dict[str, float]:
    """Parameters, operations of a step, and the seconds of one that `plan` measures."""
    keep_freed_memory()
    return {"parameters": parameters(plan), "flops": flops(plan), "forecast": timed(plan, loader_of(plan), CPU)}


def train(plan: Plan) -> dict[str, float]:
    """Bytes: what is predicted and what is measured of a training, beyond `before`, what this process holds before it. step:
    the median of its seconds."""
    keep_freed_memory()
    predicted = predict(plan, "cpu")
    before = resident("VmRSS")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        member, solver = training.Member(Path(folder)), TASKS.load(plan.task).Solver(plan)
        training.fit(build(plan), solver, loader_of(plan), plan, member, training.Clock(), Look(plan), lambda *_: None)
        until = [0.0, *(line["seconds"] for line in training.read_log(member))]
    return {
        "predicted": predicted.total - predicted.cases - predicted.base,
        "measured": resident("VmHWM") - before,
        "before": before,
        "step": statistics.median(b - a for a, b in pairwise(until)),
    }


def found(values: dict[str, Any], folder: Path) -> dict[str, float]:
    """What is forecast and measured of a plan, from its file where there is one."""
    path = folder / f"{name(values).replace(' ', '-')}.json"
    if not path.exists():
        both: dict[str, float] = {}
        for what in ("plan", "train"):
            command = [sys.executable, __file__, what, json.dumps(values)]
            both |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(both) + "\n")
    known: dict[str, float] = json.loads(path.read_text())
    return known


def name(values: dict[str, Any]) -> str:
    """Such as "unet 3D tiny 48x48x48 batch 2"."""
    side, batch = "x".join(map(str, values["patch"])), f"{values.get('accumulate', 1)}x{values['batch']}".removeprefix("1x")
    more = [key for key in ("amp", "recompute") if values.get(key)]
    return " ".join([values["model"], f"{values['ndim']}D", values["size"], side, f"batch {batch}", *more])


def table(folder: Path) -> None:
    """One line a plan; rise and peak in MiB, steps in seconds, each as predicted, as measured, and the one over the other."""
    sys.stdout.write(f"{'plan':42} {'million':>8} {'GFLOP':>7} {'rise':>17} {'peak':>17} {'step':>19}\n")
    rises, steps = list[float](), list[float]()
    for values in PLANS:
        if values["model"] == "swinunetr" and find_spec("monai") is None:
            sys.stdout.write(f"{name(values):42} left out: the extra monai is not installed\n")
            continue
        one = found(values, folder)
        predicted, measured, before = (one[key] / MIB for key in ("predicted", "measured", "before"))
        rises.append(predicted / measured)
        steps.append(one["forecast"] / one["step"])
        sys.stdout.write(
            f"{name(values):42} {one['parameters'] / 1e6:8.2f} {one['flops'] / 1e9:7.1f} "
            f"{predicted:5.0f} {measured:5.0f} {rises[-1]:5.2f} "
            f"{predicted + before:5.0f} {measured + before:5.0f} {(predicted + before) / (measured + before):5.2f} "
            f"{one['forecast']:6.3f} {one['step']:6.3f} {steps[-1]:5.2f}\n"
        )
        sys.stdout.flush()
    for what, ratios in (("rise", rises), ("step", steps)):
        errors = [abs(ratio - 1) for ratio in ratios]
        sys.stdout.write(
            f"{what} of {len(ratios)}: error {statistics.median(errors):.0%} in the median, {max(errors):.0%} at worst; "
            f"predicted {max(0.0, 1 - min(ratios)):.0%} too little at most\n"
        )


if __name__ == "__main__":
    if sys.argv[1:2] in (["plan"], ["train"]):
        asked = make(**json.loads(sys.argv[2]))
        sys.stdout.write(json.dumps(forecast(asked) if sys.argv[1] == "plan" else train(asked)) + "\n")
    else:
        table(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/forecast"))
