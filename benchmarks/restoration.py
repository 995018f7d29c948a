"""Restored images beside methods that learn nothing, on the held-out cases of a run: differences in dB with intervals.

Usage: python benchmarks/restoration.py RUN [--part test] [--cases N] [--out FILE]

Every method is given the degraded cases that the run was evaluated on, and is measured alike, in the holes where there are
some. Biharmonic inpainting, non-local means and total variation are scikit-image's; the two latter are told the deviation
of the noise, and of several strengths the one that is best on these very cases counts. Bicubic interpolation is the cubic
convolution that the network starts from; the cubic spline is SciPy's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hounsfield.core.image import Image
from hounsfield.metrics import bootstrap
from hounsfield.tasks import restoration
from hounsfield.tasks.parts.fidelity import Riddle, measure
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run

Floats = npt.NDArray[np.float32]
Method = Callable[[Riddle, Image], Floats]
STRENGTHS = {"non-local means": (0.6, 0.8, 1.0, 1.2), "total variation": (0.5, 0.75, 1.0, 1.5, 2.0)}  # times the noise


def channels(work: Callable[[Floats, float], Any]) -> Method:
    """A method that treats every channel by itself, scaled to [0, 1] by its own range, and the noise's deviation with it."""

    def whole(riddle: Riddle, posed: Image) -> Floats:
        assert riddle.noise is not None
        out = []
        for channel in riddle.given:
            low, span = float(channel.min()), max(float(np.ptp(channel)), 1e-6)
            out.append(np.asarray(work((channel - low) / span, riddle.noise / span), dtype=np.float32) * span + low)
        return np.stack(out)

    return whole


def biharmonic(riddle: Riddle, posed: Image) -> Floats:
    from skimage import restoration as skimage

    assert riddle.hole is not None
    return np.stack([skimage.inpaint_biharmonic(channel, riddle.hole) for channel in riddle.given]).astype(np.float32)


def non_local_means(strength: float) -> Method:
    from skimage import restoration as skimage

    tool: Any = skimage

    def work(channel: Floats, noise: float) -> Any:
        return tool.denoise_nl_means(channel, patch_size=5, patch_distance=6, h=strength * noise, sigma=noise, fast_mode=True)

    return channels(work)


def total_variation(strength: float) -> Method:
    from skimage import restoration as skimage

    tool: Any = skimage
    return channels(lambda channel, noise: tool.denoise_tv_chambolle(channel, weight=strength * noise))


def spline(riddle: Riddle, posed: Image) -> Floats:
    """The coarse image by a cubic spline, over the same extent."""
    fine = riddle.truth.shape[1:]
    zoom = [n / m for n, m in zip(fine, posed.geometry.shape, strict=True)]
    planes = (ndimage.zoom(channel, zoom, order=3, mode="nearest", grid_mode=True) for channel in posed.array)
    return np.stack([np.asarray(plane, dtype=np.float32) for plane in planes])


def methods(options: restoration.Options) -> Mapping[str, Mapping[str, Method]]:
    """By name, and by strength."""
    repair = options.repair
    if repair == "inpaint":
        return {"biharmonic": {"": biharmonic}}
    if repair == "upscale":
        return {"bicubic": {"": lambda riddle, posed: riddle.given}, "cubic spline": {"": spline}}
    made = {"non-local means": non_local_means, "total variation": total_variation}
    return {name: {f" at {s:g}": make(s) for s in STRENGTHS[name]} for name, make in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--part", default="test", choices=("val", "test"))
    parser.add_argument("--cases", type=int, help="as many, evenly spaced, instead of all")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    asked = parser.parse_args()
    run = Run(asked.run)
    predictor, dataset = Predictor(run), run.dataset()
    solver = predictor.solver
    assert isinstance(solver, restoration.Solver)
    samples = dataset.select(getattr(run.split, asked.part)).samples
    if asked.cases:
        samples = tuple(samples[k * len(samples) // asked.cases] for k in range(min(asked.cases, len(samples))))
    others = methods(solver.options)
    rows: dict[str, list[dict[str, float]]] = {"network": [], **{n + s: [] for n, each in others.items() for s in each}}
    for sample in samples:
        riddle, posed = solver.riddle(sample), predictor.pose(sample)
        prediction = predictor(posed)
        assert isinstance(prediction, Image)
        made = {n + s: method(riddle, posed) for n, each in others.items() for s, method in each.items()}
        for name, image in {"network": prediction.canonical().array, **made}.items():
            rows[name].append(measure(riddle.truth, image, riddle.hole, solver.options.scale))
    patients = [sample.patient for sample in samples]
    figures: dict[str, Any] = {}
    for name, each in others.items():
        best = max(each, key=lambda s: float(np.mean([row["psnr"] for row in rows[name + s]])))
        for key in ("psnr", "ssim", "ms_ssim", "mae"):
            own, its = ([row[key] for row in rows[who]] for who in ("network", name + best))
            apart = bootstrap.mean(np.subtract(own, its), patients)
            figures[f"{key} - {name}"] = apart.to_json()
            unit = " dB" if key == "psnr" else ""
            print(  # noqa: T201
                f"{key}: network {np.mean(own):.4g}, {name}{best} {np.mean(its):.4g}, difference {apart.text()}{unit}"
            )
    if asked.out:
        asked.out.write_text(json.dumps({"cases": len(samples), "part": asked.part, **figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
