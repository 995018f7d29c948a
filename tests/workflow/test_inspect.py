"""Inspect tells what a folder holds, with labels or without, lists what would stop a training, and changes nothing."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow
from rich.console import Console

from hounsfield.core.errors import InputError
from hounsfield.workflow.inspect import inspect, show
from hounsfield.workflow.inspection import Inspection


def shown(found: Inspection, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(show(found))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)  # type: ignore[no-untyped-call]


def noise(seed: int, shape: tuple[int, ...] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def folders(root: Path, names: tuple[str, str] = ("cat", "dog"), n: int = 6) -> Path:
    """n different pictures in each of two class folders."""
    for k, name in enumerate(names):
        for i in range(n):
            png(root / name / f"{i}.png", noise(100 * k + i))
    return root


def test_masks_are_counted_as_the_files_say(phantoms: Path) -> None:
    found = inspect(phantoms)
    masks = [np.asarray(Pillow.open(p)) for p in sorted((phantoms / "labelsTr").glob("*.png"))]
    images = [np.asarray(Pillow.open(p)) for p in sorted((phantoms / "imagesTr").glob("*.png"))]
    assert (found.reader, found.kind, found.cases, found.patients, found.split) == ("nnunet", "segmentation", 24, None, "drawn")
    assert sum(p.cases for p in found.parts.values()) == 24
    assert found.parts.keys() == {"train", "val"}
    assert found.measured is not None
    for c in found.measured.classes:
        assert c.cases == sum((m == c.value).any() for m in masks)
        assert c.fraction == pytest.approx(np.mean([(m == c.value).mean() for m in masks]))
        assert sum(p.classes[c.name] for p in found.parts.values()) == c.cases
    assert found.measured.shape_min == found.measured.shape_max == images[0].shape
    assert found.measured.intensity[0].mean == pytest.approx(np.mean(images))
    assert found.dtypes == {"uint8": 24}
    assert not found.faults
    assert not found.copies
    assert not found.near


def test_json_is_plain_and_complete(phantoms: Path) -> None:
    found = inspect(phantoms)
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["schema"] == 1
    assert values["measured"]["schema"] == 1
    assert Inspection.model_validate(values) == found


def test_distributions_are_shown_within_80_columns(phantoms: Path) -> None:
    found = inspect(phantoms)
    text = shown(found, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "  in foreground" in text
    assert "label size, pixels" in text
    assert found.measured is not None
    largest = max(found.measured.classes, key=lambda c: c.fraction)
    (row,) = [line for line in text.splitlines() if line.startswith(f"with {largest.name} ")]
    assert row.split()[-1] == "█" * 20


def test_of_many_classes_the_extremes_are_shown(tmp_path: Path) -> None:
    for k in range(20):
        for i in range(k + 2):
            png(tmp_path / f"c{k:02}" / f"{i}.png", noise(100 * k + i, (8, 8)))
    lines = shown(inspect(tmp_path), 80).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("with"))
    names = [line.split()[1] for line in lines[start : start + 13]]
    assert names == [*(f"c{k}" for k in range(19, 11, -1)), "8", "c03", "c02", "c01", "c00"]
    assert lines[start + 8].strip() == "... 8 more ..."


def test_near_copies_are_counted_without_any_split(tmp_path: Path) -> None:
    one = np.add.outer(np.arange(64) * 2, np.arange(64)).astype(np.uint8)
    for name, array in (("a", one), ("b", one + 9), ("c", one[::-1])):
        png(tmp_path / f"{name}.png", array)
    found = inspect(tmp_path)
    assert found.measured is not None
    assert found.measured.near_copies == 1
    assert "near copies   1 case nearly repeats another " in shown(found)


def test_pictures_without_labels(tmp_path: Path) -> None:
    for i in range(3):
        png(tmp_path / "scans" / f"{i}.png", noise(i))
    png(tmp_path / "scans" / "again.png", noise(0))
    found = inspect(tmp_path / "scans")
    assert (found.kind, found.cases, found.split, found.parts, found.faults) == (None, 4, "none", {}, ())
    assert [c.cases for c in found.copies] == [("0", "again")]
    assert found.measured is not None
    assert found.measured.shape_median == (24, 32)
    assert "none: no labels" in shown(found)


def test_a_single_volume(tmp_path: Path) -> None:
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    array = np.random.default_rng(0).normal(size=(12, 10, 6)).astype(np.float32)
    nifti(tmp_path / "a.nii.gz", array, affine)
    found = inspect(tmp_path / "a.nii.gz")
    assert found.cases == 1
    assert found.measured is not None
    assert found.measured.shape_median == (6, 10, 12)
    assert found.measured.spacing_median == (3.0, 0.75, 0.5)
    assert found.orientations == {"SAR": 1}
    assert found.dtypes == {"float32": 1}
    assert found.measured.intensity[0].mean == pytest.approx(float(array.mean()), rel=1e-4)
    text = shown(found)
    assert "6×10×12 voxels" in text
    assert "3.000×0.750×0.500 mm" in text


def test_copies_across_given_parts_are_told_as_a_training_would_treat_them(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("test", 50)):
        folders(tmp_path / part)
        for name in ("cat", "dog"):
            for i in range(6):
                png(tmp_path / part / name / f"{i}.png", noise(first + i + 500 * (name == "dog")))
    shutil.copy(tmp_path / "train" / "cat" / "2.png", tmp_path / "test" / "cat" / "3.png")
    found = inspect(tmp_path)
    assert found.split == "given"
    assert found.dropped == ("train/cat/2",)
    assert found.cases == 24
    assert sum(p.cases for p in found.parts.values()) == 23
    assert [(c.cases, c.parts, c.correlation) for c in found.copies] == [
        (("test/cat/3", "train/cat/2"), ("test", "train"), 1.0)
    ]
    text = shown(found)
    assert "1 across parts" in text
    assert "dropped 1 exact copy" in text


def test_what_would_stop_a_training_is_listed_beside_what_was_found(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(6):
                png(tmp_path / part / name / f"p{i}.png", noise(i + 50 * (part == "test") + 500 * (name == "dog")))
    found = inspect(tmp_path, patient_regex=r"p\d")
    assert len(found.faults) == 1
    assert found.faults[0].startswith("PATIENT_LEAK")
    assert "6 of 6 patients" in found.faults[0]
    assert (found.cases, found.patients, found.state) == (24, 6, "error")
    assert {name: part.cases for name, part in found.parts.items()} == {"train": 10, "val": 2, "test": 12}
    assert found.measured is not None
    assert found.measured.shape_median == (24, 32)
    assert "error: PATIENT_LEAK 6 of 6 patients in two parts" in shown(found)
    assert "Not fit to train on" in shown(found)


def test_flat_images_beside_volumes(tmp_path: Path) -> None:
    png(tmp_path / "a.png", noise(0))
    nifti(tmp_path / "b.nii", np.zeros((8, 8, 8), dtype=np.int16), np.eye(4))
    found = inspect(tmp_path)
    assert found.measured is None
    assert [f.split()[0] for f in found.faults] == ["WRONG_DIMENSION"]
    assert found.cases == 2


def test_names_are_not_taken_for_markup(tmp_path: Path) -> None:
    found = inspect(folders(tmp_path, ("[red]cat", "[b]dog")))
    assert "with [red]cat" in shown(found)
    assert "with [b]dog" in shown(found)


def test_nothing_is_changed(phantoms: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in phantoms.rglob("*")}

    before = state()
    first, again = inspect(phantoms), inspect(phantoms)
    assert state() == before
    assert first == again


@pytest.mark.parametrize("fast", [True, False])
def test_every_file_that_cannot_be_read_is_named_and_the_rest_is_measured(tmp_path: Path, fast: bool) -> None:
    folders(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(b"")
    (tmp_path / "cat" / "1.png").write_bytes(b"hello, world\n" * 9)
    (tmp_path / "dog" / "2.png").write_bytes(b"")
    found = inspect(tmp_path, fast=fast)
    listed = {f.code: f.cases for f in found.findings if f.severity == "error"}
    assert listed == {"EMPTY_FILE": ("cat/0", "dog/2"), "WRONG_FORMAT": ("cat/1",)}
    assert found.unread == ("cat/0", "cat/1", "dog/2")
    assert (found.cases, sum(p.cases for p in found.parts.values())) == (12, 9)
    text = shown(found)
    assert "0.png: 0 bytes" in text
    assert "2.png: 0 bytes" in text
    refusal = found.refusal(strict=False)
    assert refusal is not None
    assert refusal.code == "EMPTY_FILE"
    assert "dog/2.png" in str(refusal)


def test_where_nothing_can_be_read_that_is_the_error(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"{k}.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        inspect(tmp_path)
    assert caught.value.code == "EMPTY_FILE"


def test_hippocampus(shared_data: Path) -> None:
    found = inspect(shared_data / "hippocampus")
    assert (found.reader, found.kind, found.cases, found.patients) == ("msd", "segmentation", 208, None)
    assert found.measured is not None
    assert [c.name for c in found.measured.classes] == ["Anterior", "Posterior"]
    assert found.measured.spacing_median == (1.0, 1.0, 1.0)


def test_headers_alone_tell_grids_and_leaks_and_decode_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    for k in range(8):
        for part, array in (("images", noise(k, (12, 10, 6))), ("masks", (noise(k, (12, 10, 6)) > 128).astype(np.uint8))):
            (tmp_path / part).mkdir(exist_ok=True)
            nifti(tmp_path / part / f"{k}.nii", array, affine)
    nifti(tmp_path / "masks" / "7.nii", np.ones((12, 10, 5), np.uint8), affine)
    rows = [
        "image,mask,patient,split",
        *(f"images/{k}.nii,masks/{k}.nii,p{k % 4},{'train' if k < 5 else 'val'}" for k in range(8)),
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    full = inspect(tmp_path)
    monkeypatch.setattr("hounsfield.data.audit.measure", None)
    found = inspect(tmp_path, fast=True)
    errors = {"PATIENT_LEAK", "GRID_MISMATCH"}
    assert {f.code for f in found.findings if f.severity == "error"} == errors
    assert {f.code for f in full.findings if f.severity == "error"} == errors
    assert found.grid == full.grid
    assert found.grid is not None
    assert (found.grid.shape_median, found.grid.spacing_median) == ((6, 10, 12), (3.0, 0.75, 0.5))
    assert (found.measured, found.orientations, full.orientations) == (None, {"SAR": 7}, {"SAR": 7})
    assert "the headers alone were read" in shown(found)


def test_strict_says_which(tmp_path: Path) -> None:
    found = inspect(folders(tmp_path, n=12))
    assert found.state == "good"
    assert found.refusal(strict=True) is None
    assert "Fit to train on" in shown(found)
    png(tmp_path / "cat" / "blank.png", np.zeros((24, 32), np.uint8))
    found = inspect(tmp_path)
    assert found.refusal(strict=False) is None
    refusal = found.refusal(strict=True)
    assert refusal is not None
    assert str(refusal).startswith(f"FINDINGS {tmp_path}: found 1 warning (CONSTANT_IMAGE), expected none with --strict; fix: ")
