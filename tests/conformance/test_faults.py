"""The contract of every error, through the real command: exit code, one line, no traceback, no partial output."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from hounsfield.cli import main
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.phantoms import write_dataset
from hounsfield.io import write as hu_write


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `hounsfield words`."""
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Twelve phantoms in images/ and masks/ of one name, to be broken."""
    write_dataset(tmp_path / "drawn", "segmentation", ndim=2, n=12, seed=3)
    folder = tmp_path / "data"
    for part, of in (("images", "imagesTr"), ("masks", "labelsTr")):
        (folder / part).mkdir(parents=True)
        for path in (tmp_path / "drawn" / of).iterdir():
            path.rename(folder / part / path.name.replace("_0000", ""))
    return folder


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_dataset(folder, "classification", ndim=2, n=12, seed=3)
    return folder


def first(folder: Path) -> Path:
    return next(p for p in sorted(folder.rglob("*.png")))


def empty_file(data: Path) -> None:
    first(data / "images").write_bytes(b"")


def text_as_png(data: Path) -> None:
    first(data / "images").write_text("patient did not attend")


def truncated(data: Path) -> None:
    path = first(data / "images")
    path.write_bytes(path.read_bytes()[:200])


def mask_without_image(data: Path) -> None:
    first(data / "images").unlink()


def image_without_mask(data: Path) -> None:
    first(data / "masks").unlink()


def other_grid(data: Path) -> None:
    Pillow.new("L", (10, 10), 1).save(first(data / "masks"))


def all_empty(data: Path) -> None:
    for path in (data / "masks").glob("*.png"):
        Pillow.new("L", Pillow.open(path).size, 0).save(path)


def float_mask(data: Path) -> None:
    path = first(data / "masks")
    size = Pillow.open(path).size
    path.unlink()
    soft = Image(np.full((1, *size), 0.37, np.float32), Geometry.from_spacing(size, (1, 1)))
    hu_write(soft, path.with_suffix(".nii.gz"))


def lossy_mask(data: Path) -> None:
    path = first(data / "masks")
    Pillow.open(path).convert("L").save(path.with_suffix(".jpg"))
    path.unlink()


def huge_png(data: Path) -> None:
    path = first(data / "images")
    raw = bytearray(path.read_bytes())
    raw[16:24] = (50_000).to_bytes(4, "big") * 2
    import zlib

    raw[29:33] = zlib.crc32(bytes(raw[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    ("damage", "codes", "words"),
    [
        (empty_file, {"EMPTY_FILE"}, ["0 bytes"]),
        (text_as_png, {"WRONG_FORMAT", "UNKNOWN_FORMAT"}, ["text"]),
        (truncated, {"TRUNCATED"}, []),
        (mask_without_image, {"UNPAIRED"}, ["mask"]),
        (image_without_mask, {"UNPAIRED"}, ["image"]),
        (other_grid, {"GRID_MISMATCH"}, ["(10, 10)"]),
        (all_empty, {"NO_FOREGROUND"}, ["12"]),
        (float_mask, {"BAD_LABEL", "GRID_MISMATCH"}, []),
        (lossy_mask, {"LOSSY_MASK"}, ["lossy"]),
        (huge_png, {"TOO_LARGE"}, ["50000"]),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_broken_segmentation_data(
    masks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    codes: set[str],
    words: list[str],
    verb: str,
) -> None:
    damage(masks)
    more: list[str | Path] = ["--out", tmp_path / "run", "--budget", "1steps", "--device", "cpu"] if verb == "train" else []
    code, out, err = run(capsys, monkeypatch, verb, masks, *more)
    last = err.strip().splitlines()[-1]
    assert code == 2, err
    assert last.split()[0] in codes, last
    assert "found" in last
    assert "expected" in last
    assert "fix" in last
    assert all(word in last.replace(",", "").replace("\u202f", "") or word in last for word in words), last
    assert "Traceback" not in err
    assert out == "" or verb == "inspect"  # which goes on, and tells of the other cases
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))


def test_one_class_only(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, drop = sorted(p for p in classes.iterdir() if p.is_dir())[:2]
    for path in drop.iterdir():
        path.unlink()
    code, _, err = run(capsys, monkeypatch, "train", classes, "--out", tmp_path / "run", "--budget", "1steps")
    assert code == 2
    assert err.strip().splitlines()[-1].split()[0] in {"ONE_CLASS", "UNKNOWN_LAYOUT", "BAD_LABEL"}, err
    assert keep.exists()


@pytest.mark.parametrize("verb", ["inspect", "train"])
def test_empty_and_unknown_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    more: list[str | Path] = ["--out", tmp_path / "run"] if verb == "train" else []
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, monkeypatch, verb, tmp_path / "empty", *more)
    assert (code, err.split()[0]) == (2, "EMPTY_FOLDER")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "letter.docx").write_bytes(b"PK\x03\x04")
    code, _, err = run(capsys, monkeypatch, verb, tmp_path / "odd", *more)
    assert code == 2
    assert err.split()[0] in {"EMPTY_FOLDER", "UNKNOWN_LAYOUT"}
    code, _, err = run(capsys, monkeypatch, verb, tmp_path / "nowhere", *more)
    assert (code, err.split()[0]) == (2, "NOT_FOUND")


def test_a_patient_in_two_splits(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(p.name for p in (masks / "images").glob("*.png"))
    rows = ["image,mask,patient,split"]
    for k, name in enumerate(names):
        rows.append(f"images/{name},masks/{name},P{k // 2},{'train' if k % 3 else 'val'}")
    (masks / "manifest.csv").write_text("\n".join(rows) + "\n")
    code, _, err = run(capsys, monkeypatch, "train", masks, "--out", tmp_path / "run", "--budget", "1steps")
    assert (code, err.strip().splitlines()[-1].split()[0]) == (2, "PATIENT_LEAK"), err


def test_object_arrays_are_refused_and_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, train_images=np.array([{"a": 1}], dtype=object), train_labels=np.zeros(1))
    code, _, err = run(capsys, monkeypatch, "inspect", path)
    assert code == 2
    assert "Traceback" not in err
    assert err.split()[0] in {"UNSAFE_FILE", "UNKNOWN_LAYOUT", "BAD_LABEL"}, err


def test_a_bomb_in_an_npz(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "set.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train_images.npy", header.getvalue() + bytes(100))
        file.writestr("train_labels.npy", header.getvalue())
    code, _, err = run(capsys, monkeypatch, "inspect", tmp_path / "set.npz")
    assert code == 2
    assert err.split()[0] in {"TOO_LARGE", "TRUNCATED", "EXPANDS_TOO_FAR"}, err


def test_predict_collisions_and_existing_outputs(
    masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(capsys, monkeypatch, "train", masks, "--out", tmp_path / "run", "--budget", "1steps", "--device", "cpu")
    assert code == 0, err
    one, other = first(masks / "images"), tmp_path / "elsewhere" / first(masks / "images").name
    other.parent.mkdir()
    shutil.copy(one, other)
    code, _, err = run(capsys, monkeypatch, "predict", tmp_path / "run", one, other, "--out", tmp_path / "out")
    assert (code, err.strip().splitlines()[-1].split()[0]) == (2, "OUTPUT_COLLISION"), err
    assert not (tmp_path / "out").exists()
    code, out, err = run(capsys, monkeypatch, "predict", tmp_path / "run", one, "--out", tmp_path / "out", "--json")
    assert code == 0, err
    (written,) = json.loads(out)["written"]
    assert Pillow.open(written).size == Pillow.open(one).size
    code, _, err = run(capsys, monkeypatch, "predict", tmp_path / "run", one, "--out", tmp_path / "out")
    assert (code, err.strip().splitlines()[-1].split()[0]) == (2, "OUTPUT_EXISTS"), err
    one.write_bytes(one.read_bytes()[:150])
    code, _, err = run(capsys, monkeypatch, "predict", tmp_path / "run", one, "--out", tmp_path / "again")
    assert (code, err.strip().splitlines()[-1].split()[0]) == (2, "TRUNCATED"), err
    assert not (tmp_path / "again").exists()
    code, _, err = run(capsys, monkeypatch, "evaluate", tmp_path / "nothing", "--json")
    assert (code, err.split()[0]) == (2, "NOT_A_RUN")


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hounsfield.core.errors import InputError

    monkeypatch.setenv("HOUNSFIELD_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["hounsfield", "inspect", str(tmp_path / "nowhere")])
    with pytest.raises(InputError):
        main()
