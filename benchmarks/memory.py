"""Predicted and measured peak memory of training on the CPU: `python benchmarks/memory.py` prints a table for a dozen plans.

`python benchmarks/memory.py '{"ndim": 2, "patch": [64, 64]}'` prints one of them as JSON, in bytes. Each plan trains in a
process of its own, for three real steps on noise and one checkpoint: the peak of one process never goes down.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from hounsfield.core.plan import Augment, Class, Grid, Normalise, Plan, Training
from hounsfield.data.cache import Entry
from hounsfield.data.loader import Loader
from hounsfield.models import MODELS
from hounsfield.plan.blank import BOXES
from hounsfield.plan.budget import keep_freed_memory
from hounsfield.plan.memory import predict
from hounsfield.tasks import TASKS
from hounsfield.workflow import fit as training
from hounsfield.workflow.run import build

CASES = 8
RESNET = {"task": "classification", "model": "resnet"}
FCOS = {"task": "detection", "model": "fcos"}
PLANS: tuple[dict[str, Any], ...] = (
    {"ndim": 3, "patch": [32, 32, 32], "width": 8},
    {"ndim": 3, "patch": [48, 64, 48], "width": 16},
    {"ndim": 3, "patch": [64, 64, 64], "width": 32},
    {"ndim": 3, "patch": [48, 48, 48], "batch": 1, "width": 16, "accumulate": 4},
    {"ndim": 2, "patch": [256, 256], "batch": 4, "width": 32},
    {"ndim": 2, "patch": [256, 256], "batch": 4, "width": 32, "amp": True},
    {"ndim": 2, "patch": [128, 128], "batch": 32, "width": 16},
    {"ndim": 2, "patch": [256, 256], "batch": 1, "width": 64, "deep_supervision": False},
    {**RESNET, "ndim": 2, "patch": [224, 224], "batch": 16, "width": 64},
    {**RESNET, "ndim": 2, "patch": [224, 224], "batch": 16, "width": 64, "amp": True},
    {**RESNET, "ndim": 2, "patch": [64, 64], "batch": 32, "width": 32, "stem": "small"},
    {**RESNET, "ndim": 3, "patch": [28, 28, 28], "batch": 16, "width": 16, "stem": "small"},
    {"task": "classification", "model": "lenet", "ndim": 2, "patch": [28, 28], "batch": 32},
    {**FCOS, "ndim": 2, "patch": [320, 416], "batch": 4, "width": 32},
    {**FCOS, "ndim": 2, "patch": [320, 416], "batch": 4, "width": 64, "amp": True},
    {**FCOS, "ndim": 2, "patch": [320, 416], "batch": 4, "width": 32, "finest": 1},
    {**FCOS, "ndim": 3, "patch": [64, 64, 64], "width": 32},
    {**FCOS, "ndim": 3, "patch": [64, 64, 64], "width": 32, "finest": 1},
    {**FCOS, "model": "fcos_attention", "ndim": 2, "patch": [320, 416], "batch": 4, "width": 32},
    {**FCOS, "model": "fcos_attention", "ndim": 3, "patch": [64, 64, 64], "width": 32},
    {**FCOS, "model": "fcos_timm", "ndim": 2, "patch": [320, 416], "batch": 4, "name": "resnet18"},
    {"task": "classification", "model": "timm", "ndim": 2, "patch": [224, 224], "batch": 16, "name": "resnet18"},
    {"task": "classification", "model": "timm", "ndim": 2, "patch": [224, 224], "batch": 16, "name": "vit_tiny_patch16_224"},
    {"task": "classification", "model": "vit", "ndim": 2, "patch": [224, 224], "batch": 16, "width": 192, "cut": "conv"},
    {"task": "classification", "model": "swin", "ndim": 2, "patch": [128, 128], "batch": 16, "width": 32, "cut": "conv"},
    {"task": "classification", "model": "hybrid", "ndim": 2, "patch": [64, 64], "batch": 16, "width": 32, "stem": "small"},
    {"model": "unetr", "ndim": 3, "patch": [64, 64, 64], "width": 192},
    {"model": "unetr", "ndim": 3, "patch": [64, 64, 64], "width": 192, "recompute": True},
    {"ndim": 3, "patch": [64, 64, 64], "width": 32, "recompute": True},
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
    batch: int = 2,
    accumulate: int = 1,
    amp: bool = False,
    recompute: bool = False,
    **options: Any,
) -> Plan:
    """A plan of two classes on one channel with the usual augmentation. options: of the model."""
    dense = task == "segmentation"
    return Plan(
        task=task,
        model=model,
        ndim=3 if ndim == 3 else 2,
        classes=(Class(value=1, name="one"), Class(value=2, name="two")),
        channels=("noise",),
        grid=Grid(size=None if dense or (task == "detection" and ndim == 3) else tuple(patch)),
        normalise=(Normalise(scope="case"),),
        patch=tuple(patch),
        augment=Augment(rotation=(15.0,) * (3 if ndim == 3 else 1), elastic=1.0 if dense else 0.0, low_resolution=1.5),
        training=Training(steps=3, lr=1e-5, batch=batch, accumulate=accumulate, amp=amp, recompute=recompute),
        task_options=TASKS.load(task).Options(),
        model_options=MODELS.load(model).Options.parse(options, "options"),
    )


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure(plan: Plan) -> dict[str, int]:
    """Bytes: predicted and measured peak of this process, and what it held before the training."""
    keep_freed_memory()
    predicted, before = predict(plan, "cpu"), resident("VmRSS")
    torch.manual_seed(0)
    training.SAVE_EVERY = 1e9  # one checkpoint, at the end
    model, watched = build(plan), build(plan)  # the second looks at validation cases in a real training
    loader = Loader({str(k): cast(Entry, Noise(plan, k)) for k in range(CASES)}, plan, (1.0,) * plan.ndim)
    solver = TASKS.load(plan.task).Solver(plan)
    with tempfile.TemporaryDirectory() as folder:
        member, clock = training.Member(Path(folder)), training.Clock(None)
        training.fit(model, solver, loader, plan, member, clock, None, lambda *_: None)
    del watched
    return {"predicted": predicted.total - predicted.cases, "measured": resident("VmHWM"), "before": before}


def table() -> None:
    """One line a plan, in MiB. rise: peak over what the process held before, measured and predicted."""
    sys.stdout.write(f"{'predicted':>9} {'measured':>9} {'ratio':>6} {'rise':>7} {'of rise':>8}  plan\n")
    for values in PLANS:
        command = [sys.executable, __file__, json.dumps(values)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        predicted, measured, before = (found[key] / 2**20 for key in ("predicted", "measured", "before"))
        rise = measured - before
        line = f"{predicted:9.0f} {measured:9.0f} {predicted / measured:6.2f} {rise:7.0f} {(predicted - before) / rise:8.2f}  "
        sys.stdout.write(line + " ".join(f"{key}={value}" for key, value in values.items()).replace(", ", "x") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(measure(make(**json.loads(sys.argv[1])))) + "\n")
    else:
        table()
