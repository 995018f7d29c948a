"""A file that leaves a choice is refused with the option that makes it, and that option works: through the real command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Pillow

from hounsfield.cli import main
from hounsfield.workflow.ready import Options
from hounsfield.workflow.train import train

Nifti: Any = nib.nifti1.Nifti1Image


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `hounsfield words`."""
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def ball(k: int) -> npt.NDArray[np.int16]:
    """A ball in noise, (x, y, z)."""
    draw = np.random.default_rng(k)
    distance = np.linalg.norm(np.moveaxis(np.indices((12, 13, 14)), 0, -1) - draw.uniform(5, 8, 3), axis=-1)
    values: npt.NDArray[np.float64] = draw.normal(0, 10, distance.shape) + 100 * (distance < 4)
    return values.astype(np.int16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step on small volumes."""
    folder = tmp_path_factory.mktemp("balls")
    for k in range(5):
        for part, array in (("images", ball(k)), ("masks", (ball(k) > 50).astype(np.uint8))):
            (folder / part).mkdir(exist_ok=True)
            nib.save(Nifti(array, np.eye(4)), folder / part / f"{k}.nii.gz")
    return train(folder, folder / "run", Options(budget="1steps", device="cpu")).root


def four_dimensions(path: Path) -> None:
    nib.save(Nifti(np.stack([ball(1), ball(2), ball(3)], -1), np.eye(4)), path)


def two_affines(path: Path) -> None:
    image = Nifti(ball(1), np.diag([1, 1, 2, 1]))
    image.set_qform(np.diag([1, 1, 3, 1]), code=1)
    nib.save(image, path)


@pytest.mark.parametrize(
    ("make", "code", "words", "choice"),
    [
        (four_dimensions, "WRONG_DIMENSION", ["(12, 13, 14, 3)", "--volume 0 to --volume 2"], ["--volume", "1"]),
        (
            two_affines,
            "AFFINE_CONFLICT",
            ["sform [[1.0,0.0,0.0,0.0],[0.0,1.0,0.0,0.0],[0.0,0.0,2.0,0.0]]", "qform [[1.0,", "[0.0,0.0,3.0,0.0]]", "--affine"],
            ["--affine", "sform"],
        ),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "predict"])
def test_what_leaves_a_choice_is_refused_with_advice_that_works(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    code: str,
    words: list[str],
    choice: list[str],
    verb: str,
) -> None:
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    make(scan)
    asked: list[str | Path] = ["predict", trained, scan, "--out", out] if verb == "predict" else ["inspect", scan]
    left, printed, err = run(capsys, monkeypatch, *asked)
    last = err.strip().splitlines()[-1]
    assert (left, last.split()[0], printed) == (2, code, ""), err
    assert str(scan) in last
    assert all(word in last for word in words), last
    assert "Traceback" not in err
    assert not out.exists()
    left, printed, err = run(capsys, monkeypatch, *asked, *choice, "--json")
    assert left == 0, err
    if verb == "inspect":
        measured = json.loads(printed)["measured"]
        assert measured["shape_median"] == [14, 13, 12]
        assert measured["spacing_median"][0] == (1 if code == "WRONG_DIMENSION" else 2)
    else:
        (written,) = json.loads(printed)["written"]
        mask: Any = nib.load(written)
        source: Any = nib.load(scan)
        np.testing.assert_array_equal(mask.affine, source.get_sform())
        assert mask.shape == (12, 13, 14)


def boxed(folder: Path, number: int) -> Path:
    """A COCO set of eight pictures with a bright square each, one of which has a second box without height."""
    (folder / "images").mkdir(parents=True)
    images, boxes = [], []
    for k in range(1, 9):
        picture = np.random.default_rng(100 * number + k).integers(0, 60, (48, 48), dtype=np.uint8)
        picture[4 * k - 3 : 4 * k + 5, 8:20] = 220
        Pillow.fromarray(picture).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 48, "width": 48})
        boxes.append({"id": k, "image_id": k, "category_id": 1, "bbox": [8, 4 * k - 3, 12, 8]})
    boxes.append({"id": 9, "image_id": 5, "category_id": 1, "bbox": [30, 30, 4, 0]})
    values = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "all.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("verb", ["inspect", "plan", "train", "convert", "merge"])
def test_boxes_that_are_none_are_refused_with_advice_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    data, out = boxed(tmp_path / "one", 1), tmp_path / "out"
    steps = ["--budget", "1steps", "--device", "cpu"]
    words: dict[str, list[str | Path]] = {
        "inspect": [data],
        "plan": [data, *steps],
        "train": [data, "--out", out, *steps],
        "convert": [data, "--to", "manifest", "--out", out],
        "merge": [data, tmp_path / "two", "--labels", tmp_path / "labels.yaml", "--out", out],
    }
    if verb == "merge":
        boxed(tmp_path / "two", 2)
        sources = "{one: {labels: {thing: thing}}, two: {labels: {thing: thing}}}"
        (tmp_path / "labels.yaml").write_text(f"classes: {{thing: }}\nsources: {sources}\n")
    left, printed, err = run(capsys, monkeypatch, verb, *words[verb])
    last = err.strip().splitlines()[-1]
    assert (left, printed) == (2, ""), err
    assert last.startswith(f"BAD_LABEL {data}: found 1 boxes without extent (images/5), expected"), last
    assert last.endswith("leave them out with --drop-invalid"), last
    assert not out.exists()
    left, printed, err = run(capsys, monkeypatch, verb, *words[verb], "--drop-invalid")
    assert left == 0, err
    assert "1 boxes without extent were left out (images/5)" in printed + err
    if verb == "train":
        assert json.loads((out / "run.json").read_text())["choices"] == {"drop_invalid": True}
        left, printed, err = run(capsys, monkeypatch, "evaluate", out, "--json", "--device", "cpu")
        assert left == 0, err
        assert "map50" in json.loads(printed)["metrics"]
