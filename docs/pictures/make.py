"""Draw the pictures of the documentation, from phantoms alone: `.venv/bin/python docs/pictures/make.py` (some minutes)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.core.image import Image
from hounsfield.core.plan import Class
from hounsfield.data import phantoms
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import open_dataset
from hounsfield.tasks.parts import drawing
from hounsfield.workflow.console import terminal
from hounsfield.workflow.evaluate import stored
from hounsfield.workflow.explain import heatmap
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train

RGB = npt.NDArray[np.uint8]

HERE = Path(__file__).parent
CASES, STEPS, WIDTH = 120, 750, 16
TALL = 288  # pixels of a panel


def main() -> None:
    save(HERE / "phantoms.png", twins())
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "organs"
        phantoms.write_dataset(data, "segmentation", n=CASES)
        options = Options(budget=f"{STEPS}steps", test=0.2, changes={"model_options.width": WIDTH})
        run = train(data, Path(scratch) / "run", options, console=terminal())
        save(HERE / "prediction.png", prediction(run, open_dataset(data)))


def twins() -> dict[str, RGB]:
    """One patient with and without a lesion, and their difference."""
    ill, well = (phantoms.phantom(7, size=(TALL, TALL), lesion=lesion) for lesion in (True, False))
    apart = np.abs(ill.image.array - well.image.array)[0]
    difference = np.repeat((255 * apart / apart.max()).astype(np.uint8)[..., None], 3, axis=2)
    return {"with lesions": shown(ill.image), "without": shown(well.image), "difference": difference}


def prediction(run: Run, dataset: Dataset) -> dict[str, RGB]:
    """The median case with a lesion of the test part: image, truth, prediction, and what speaks for the lesion."""
    test = next(e for e in stored(run) if e.part == "test")
    rows = sorted((r for r in test.rows if float(r["voxels_lesion"]) > 0), key=lambda r: float(r["dice"]))
    sample = dataset.select([str(rows[len(rows) // 2]["id"])]).samples[0]
    predictor = Predictor(run)
    image, labels = predictor.read(sample), predictor(sample)
    assert isinstance(labels, Image)
    assert callable(sample.target)
    classes = run.plan.classes
    lesion = next(k for k, c in enumerate(classes) if c.name == "lesion")
    heat = drawing.heat(image, heatmap(predictor, image, lesion, labels))
    return {
        "phantom": fit(drawing.picture(image)),
        "truth": fit(filled(image, sample.target(), classes)),
        "prediction": fit(filled(image, labels, classes)),
        "Grad-CAM of lesion": fit(heat[:, heat.shape[1] // 2 :]),
    }


def shown(image: Image) -> RGB:
    """(H, W, 3) of a CT image in the abdominal window."""
    return np.repeat(phantoms.grey(image).array[0][..., None], 3, axis=2)


def filled(image: Image, labels: Image, classes: Sequence[Class]) -> RGB:
    """The image with every class in its colour."""
    out = image.preview().astype(np.float64)
    for c in classes:
        inside = labels.array[0] == c.value
        out[inside] = 0.4 * out[inside] + 0.6 * np.array(c.colour)
    return out.astype(np.uint8)


def fit(rgb: RGB) -> RGB:
    """Nearest pixels at the height of a panel."""
    return drawing.enlarge(rgb, like=(TALL, TALL))


def save(path: Path, panels: Mapping[str, RGB]) -> None:
    """The panels side by side, each under its name."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(len(panels) * 3, 3.3), dpi=TALL / 3, layout="constrained")
    FigureCanvasAgg(figure)
    with mpl.rc_context({"font.size": 10}):
        for axes, (name, rgb) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            axes.imshow(rgb, interpolation="nearest")
            axes.set_title(name)
            axes.set_axis_off()
        figure.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main()
