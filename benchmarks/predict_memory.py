"""Peak memory of `hounsfield predict` on a large CT-sized volume: `python benchmarks/predict_memory.py CLASSES`.

Writes a random 512 x 512 x 600 int16 NIfTI and a run with a tiny untrained U-Net, predicts through the public entry point in
this process, and prints JSON: classes, peak resident memory in GB (10^9 bytes) and seconds.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan
from hounsfield.models import unet
from hounsfield.tasks import segmentation
from hounsfield.workflow.predict import predict
from hounsfield.workflow.run import Run, build, write_tensors, write_text

SHAPE = (600, 512, 512)  # d, h, w
SPACING = (1.0, 0.8, 0.8)
PATCH = (64, 128, 128)


def plan(classes: int) -> Plan:
    """Windows without overlap through a network of one step: time is not what is measured."""
    return Plan(
        task="segmentation",
        model="unet",
        ndim=3,
        classes=tuple(Class(value=k + 1, name=f"class {k + 1}") for k in range(classes)),
        channels=("CT",),
        grid=Grid(spacing=SPACING),
        normalise=(Normalise(scope="dataset", low=-1000, high=1000, mean=0, std=400),),
        patch=PATCH,
        augment=Augment(),
        inference=Inference(overlap=0.0),
        task_options=segmentation.Options(),
        model_options=unet.Options(width=4, strides=((2,),), blocks=(1,)),
    )


def write_volume(path: Path) -> None:
    """Plain NIfTI, slab by slab, so that writing adds nothing to the peak."""
    import nibabel

    header: Any = nibabel.nifti1.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.int16)
    header.set_data_shape(SHAPE[::-1])
    header.set_sform(np.diag((*SPACING[::-1], 1.0)), code=1)
    header.set_qform(np.diag((*SPACING[::-1], 1.0)), code=1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    draw = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(SHAPE[0]):
            draw.integers(-1000, 1000, SHAPE[1:], dtype=np.int16).tofile(file)


def main(classes: int) -> None:
    """One prediction, measured."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_volume(folder / "scan.nii")
        torch.manual_seed(0)
        (folder / "run").mkdir()
        write_text(folder / "run" / "plan.json", plan(classes).to_json())
        run = Run(folder / "run")
        write_tensors(run.root / "members" / "0-0" / "weights.safetensors", build(run.plan).state_dict())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.monotonic()
        (written,) = predict(run, [folder / "scan.nii"], folder / "out", device="cpu")
        seconds = time.monotonic() - begun
        size = written.stat().st_size
    unit = 1 if sys.platform == "darwin" else 1024
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, before * unit / 1e9
    found = {
        "classes": classes,
        "peak_gb": round(peak, 2),
        "before_gb": round(start, 2),
        "seconds": round(seconds),
        "bytes": size,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
