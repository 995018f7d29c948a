"""Images from masks: trained, measured and drawn, beside the masks that they were drawn from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.workflow.evaluate import evaluate
from hounsfield.workflow.generate import generate
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train
from hounsfield.workflow.wishes import wishes


def test_what_is_drawn_from_masks_is_a_dataset_with_masks(colourer: Run, tmp_path: Path) -> None:
    generate(colourer, 5, tmp_path / "out", device="cpu")
    found = open_dataset(tmp_path / "out")
    assert (found.reader, found.kind, len(found)) == ("image_masks", "segmentation", 5)
    values = {c.value for c in colourer.plan.classes}
    about = json.loads((tmp_path / "out" / "generation.json").read_text())
    for entry in about["images"]:
        image, mask = io.read(tmp_path / "out" / entry["file"]), io.read(tmp_path / "out" / entry["mask"])
        assert image.geometry.shape == mask.geometry.shape == (64, 64)
        assert entry["class"] is None
        assert set(np.unique(mask.array)) <= {0, *values}
        assert mask.array.any()


def test_masks_of_ones_own_are_taken_in_turn(colourer: Run, tmp_path: Path) -> None:
    """A folder of masks of any size, in the values of the run's classes."""
    value = colourer.plan.classes[0].value
    (tmp_path / "mine").mkdir()
    for k in range(2):
        array = np.zeros((128, 128), dtype=np.uint8)
        array[: 64 if k else 0, :] = value
        Pillow.fromarray(array).save(tmp_path / "mine" / f"{k}.png")
    generate(colourer, 3, tmp_path / "out", masks=tmp_path / "mine", device="cpu")
    masks = [io.read(p).array[0] for p in sorted((tmp_path / "out" / "masks").iterdir())]
    assert [bool(m.any()) for m in masks] == [False, True, False]
    assert (masks[1][:32] == value).all()
    assert not masks[1][32:].any()


def test_masks_of_other_values_are_refused(colourer: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    Pillow.fromarray(np.full((9, 9), 77, dtype=np.uint8)).save(tmp_path / "mine" / "a.png")
    with pytest.raises(InputError, match=r"BAD_LABEL .*a\.png: found 1 channels with the values 77, expected a mask of liver"):
        generate(colourer, 1, tmp_path / "out", masks=tmp_path / "mine", device="cpu")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_masks_and_classes_are_not_taken_for_each_other(colourer: Run, painter: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BAD_OPTION --class liver: found a run that draws from masks"):
        generate(colourer, 1, tmp_path / "out", label="liver")
    with pytest.raises(InputError, match="BAD_OPTION --masks: found a run that does not draw from masks"):
        generate(painter, 1, tmp_path / "out", masks=tmp_path)
    assert wishes(painter, None, None)(3).label == "lesion"


def test_it_is_measured_by_the_masks_of_the_held_out_images(colourer: Run) -> None:
    found = evaluate(colourer, device="cpu")
    assert (found.part, found.used_for) == ("val", "report")
    assert len(found.rows) == len(colourer.split.val)
    assert math.isfinite(found.metrics["kid"].value)


def test_without_masks_there_is_nothing_to_draw_from(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "generation", n=4, seed=1)
    options = Options(task="generation", budget="1steps", device="cpu", changes={"task_options.masks": True})
    with pytest.raises(InputError, match=r"BAD_LABEL .*4 samples without a mask.*task_options.masks"):
        train(tmp_path / "data", tmp_path / "run", options)


def test_a_plan_file_says_it_too(colourer: Run, phantoms: Path, tmp_path: Path) -> None:
    again = train(phantoms, tmp_path / "run", Options(plan=colourer.root / "plan.json", task=None, device="cpu"))
    assert again.members[0].joinpath("weights.safetensors").read_bytes() == (
        colourer.members[0].joinpath("weights.safetensors").read_bytes()
    )
