"""Drawing from a run: files in units that say what they are, by seed and class, all or nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tests.io.formats.nifti_files import nib

from hounsfield import io
from hounsfield.cli import main
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.data.phantoms import write_dataset
from hounsfield.data.readers import open_dataset
from hounsfield.workflow.generate import between_two, generate
from hounsfield.workflow.predict import predict
from hounsfield.workflow.ready import Options
from hounsfield.workflow.run import Run
from hounsfield.workflow.train import train


def test_images_of_every_class_in_turn_that_say_what_they_are(painter: Run, tmp_path: Path) -> None:
    files = generate(painter, 5, tmp_path / "out", seed=3, device="cpu")
    names = [path.relative_to(tmp_path / "out").as_posix() for path in files]
    assert names == [f"images/{('healthy', 'lesion')[k % 2]}/synthetic-{k:06d}.png" for k in range(5)]
    about = json.loads((tmp_path / "out" / "generation.json").read_text())
    assert about["synthetic"] is True
    assert (about["run"], about["model"], about["seed"]) == ("painter", "dcgan", 3)
    assert [(entry["file"], entry["class"]) for entry in about["images"]] == [(n, n.split("/")[1]) for n in names]
    for k, path in enumerate(files):
        with Pillow.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (64, 64))
            told = picture.text["Description"]  # type: ignore[attr-defined]
        assert told.startswith("synthetic: hounsfield ")
        assert f"dcgan {about['weights']}, seed 3, image {k}" in told
    for name in ("contact-sheet.png", "interpolation.png"):
        with Pillow.open(tmp_path / "out" / name) as picture:
            assert "synthetic" in picture.text["Description"]  # type: ignore[attr-defined]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_they_are_a_dataset_to_train_on(painter: Run, tmp_path: Path) -> None:
    generate(painter, 6, tmp_path / "out", device="cpu")
    found = open_dataset(tmp_path / "out" / "images")
    assert (found.reader, [c.name for c in found.classes], len(found)) == ("class_folders", ["healthy", "lesion"], 6)


def test_the_same_seed_gives_the_same_images_and_another_others(painter: Run, tmp_path: Path) -> None:
    first, again = (generate(painter, 4, tmp_path / name, seed=1, device="cpu") for name in ("first", "again"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    more = generate(painter, 20, tmp_path / "more", seed=1, device="cpu")
    for one, other in zip(first, more, strict=False):
        apart = io.read(one).array.astype(int) - io.read(other).array
        assert abs(apart).max() <= 1  # of rounding, as they are drawn among others
    others = generate(painter, 4, tmp_path / "others", seed=2, device="cpu")
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(first, others, strict=True))


def test_one_class_alone(painter: Run, tmp_path: Path) -> None:
    files = generate(painter, 3, tmp_path / "out", label="lesion", device="cpu")
    assert {path.parent.name for path in files} == {"lesion"}


@pytest.mark.parametrize(
    ("count", "label", "words"),
    [
        (0, None, "BAD_OPTION --count: found 0, expected 1 to"),
        (-3, None, "BAD_OPTION --count: found -3"),
        (1, "lesoin", "BAD_OPTION --class lesoin: found no such class, expected one of healthy, lesion; .*mean 'lesion'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(painter: Run, tmp_path: Path, count: int, label: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        generate(painter, count, tmp_path / "out", label=label)
    assert not list(tmp_path.iterdir())


def test_only_runs_of_generation_draw_and_they_predict_nothing(painter: Run, classifier: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR .*found a run of classification, expected one of generation"):
        generate(classifier, 1, tmp_path / "out")
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR .*found a run that draws images.*hounsfield generate"):
        predict(painter, [tmp_path], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_that_was_not_drawn(painter: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(painter, 3, out, device="cpu")
    with pytest.raises(InputError, match=r"OUTPUT_EXISTS .*found generated images.*--overwrite"):
        generate(painter, 1, out)
    generate(painter, 1, out, overwrite=True, device="cpu")
    assert len(list((out / "images").rglob("*.png"))) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"OUTPUT_EXISTS .*something else"):
        generate(painter, 1, other, overwrite=True)
    assert (other / "mine.txt").read_text() == "mine"


def test_a_full_disk_leaves_neither_half_a_folder_nor_less_than_before(
    painter: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(painter, 2, tmp_path / "out", seed=1, device="cpu")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    done = []

    def fails(*given: object, **named: object) -> None:
        done.append(given)
        if len(done) > 1:
            raise ResourceError("DISK_FULL", "disk", found="0 bytes", expected="more", fix="free some")

    monkeypatch.setattr(io, "write", fails)
    with pytest.raises(ResourceError, match="DISK_FULL"):
        generate(painter, 5, tmp_path / "out", overwrite=True, device="cpu")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.png")} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_volumes_are_nifti_in_units_on_a_grid_of_their_extent(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "generation", ndim=3, n=5, seed=2)
    changes = {"model_options.width": 4}
    options = Options(task="generation", model="dcgan", budget="1steps", device="cpu", changes=changes)
    run = train(tmp_path / "data", tmp_path / "run", options)
    (path,) = generate(run, 1, tmp_path / "out", seed=9, device="cpu")
    assert path.name == "synthetic-000000.nii.gz"
    drawn, real = io.read(path), io.read(next((tmp_path / "data").rglob("*.nii.gz")))
    assert drawn.array.dtype == real.array.dtype == np.int16
    assert drawn.geometry.shape == run.plan.grid.size
    facts = run.fingerprint
    for n, side, shape, spacing in zip(
        drawn.geometry.shape, drawn.geometry.spacing, facts.shape_median, facts.spacing_median, strict=True
    ):
        assert n * side == pytest.approx(shape * spacing, rel=1e-4)
    assert (drawn.geometry.space, drawn.geometry.orientation) == ("patient", "SAR")
    spread = facts.intensity[0]
    assert spread.low - 1 <= drawn.array.min() < drawn.array.max() <= spread.high + 1

    told = nib.load(path).header["descrip"].item().decode()
    assert told.startswith("synthetic: hounsfield ")
    assert told.endswith("seed 9, image 0")


def test_a_run_without_classes_has_none_to_choose(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "generation", n=6, seed=2)
    changes = {"model_options.width": 8}
    options = Options(task="generation", model="flow", budget="1steps", device="cpu", changes=changes)
    run = train(tmp_path / "data", tmp_path / "run", options)
    with pytest.raises(InputError, match="BAD_OPTION --class lesion: found a run without classes"):
        generate(run, 1, tmp_path / "out", label="lesion")
    assert [p.parent.name for p in generate(run, 1, tmp_path / "out", device="cpu")] == ["images"]


def test_between_two_noises_all_are_as_far_from_nothing() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 1000)
    torch.testing.assert_close(between_two(one, other, 0.0), one)
    torch.testing.assert_close(between_two(one, other, 1.0), other)
    lengths = [float(between_two(one, other, part / 10).norm()) for part in range(11)]
    assert min(lengths) > 0.97 * min(float(one.norm()), float(other.norm()))
    torch.testing.assert_close(between_two(one, one, 0.3), one)


def test_the_command_prints_the_files(
    painter: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["generate", str(painter.root), "-n", "2", "--class", "lesion", "--seed", "4", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["hounsfield", *words, "--json", "--device", "cpu"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert len(written) == 2
    assert all(Path(path).is_file() for path in written)


def test_a_plan_file_trains_the_same_again(painter: Run, classed: Path, tmp_path: Path) -> None:
    """Also of data whose labels suggest another task."""
    options = Options(plan=painter.root / "plan.json", test=0.25, device="cpu")
    again = train(classed, tmp_path / "again", options)
    first, second = (run.members[0].joinpath("weights.safetensors").read_bytes() for run in (painter, again))
    assert first == second
