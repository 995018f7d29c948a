"""`restore`: images come back in their own format, type and grid; what was asked beside them, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.io.formats.nifti_files import nib, patch

from hounsfield import io
from hounsfield.cli import main
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import ImageFile
from hounsfield.data.phantoms import write_dataset
from hounsfield.tasks import restoration
from hounsfield.workflow.console import SILENT
from hounsfield.workflow.evaluate import stored
from hounsfield.workflow.predict import Predictor, predict
from hounsfield.workflow.ready import Options
from hounsfield.workflow.restore import Wanted, ending_of, restore, restore_one, source_of, with_hole
from hounsfield.workflow.run import Run, build
from hounsfield.workflow.train import train

ALL = Wanted(residual=True, uncertainty=True)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen phantoms without noise."""
    folder = tmp_path_factory.mktemp("phantoms") / "clean"
    write_dataset(folder, "restoration", ndim=2, n=12, seed=2)
    return folder


def trained(clean: Path, folder: Path, **changes: Any) -> Run:
    options = {"training.steps": 2, "model_options.width": 8, "augment.mirror": [1]}
    options |= {key.replace("__", "."): value for key, value in changes.items()}
    return train(clean, folder, Options(task="restoration", test=0.2, device="cpu", changes=options))


@pytest.fixture(scope="session")
def denoiser(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(clean, tmp_path_factory.mktemp("runs") / "denoise")


@pytest.fixture(scope="session")
def inpainter(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(clean, tmp_path_factory.mktemp("runs") / "inpaint", task_options__repair="inpaint")


@pytest.fixture(scope="session")
def upscaler(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(clean, tmp_path_factory.mktemp("runs") / "upscale", task_options__repair="upscale")


def first(folder: Path) -> Path:
    return min((folder / "images").glob("*.png"))


def test_a_run_is_measured_beside_what_it_was_given(denoiser: Run) -> None:
    for evaluation in stored(denoiser):
        assert evaluation.headline == "psnr"
        figures = evaluation.metrics
        assert figures["gain"].value == pytest.approx(figures["psnr"].value - figures["psnr_given"].value)
        for row in evaluation.rows:
            # The rules chose noise of 1% to 20% of the range of 255.
            assert 2.54 <= float(row["noise"]) <= 51
            assert row["psnr_given"] == pytest.approx(20 * np.log10(255 / float(row["noise"])), abs=0.2)
    page = (denoiser.root / "report.html").read_text()
    assert "From left to right: what was given" in page
    assert "how far they lie apart" in page
    assert "No heatmaps" in page
    assert "PSNR (dB)" in page
    assert "to take noise away" in page


def test_a_picture_comes_back_as_a_picture(denoiser: Run, clean: Path, tmp_path: Path) -> None:
    written = restore(denoiser, [clean / "images"], tmp_path / "out", wanted=ALL, device="cpu")
    assert len(written) == 3 * 12
    source = first(clean)
    image, made = io.read(source), io.read(tmp_path / "out" / source.name)
    residual, uncertainty = (io.read(tmp_path / "out" / f"{source.stem}.{kind}.tif") for kind in ("residual", "uncertainty"))
    assert made.array.dtype == image.array.dtype == np.uint8
    assert made.array.shape == residual.array.shape == uncertainty.array.shape == image.array.shape
    np.testing.assert_array_equal(residual.array, made.array.astype(np.float32) - image.array)
    assert (uncertainty.array >= 0).all()
    assert uncertainty.array.max() > 0
    predicted = predict(denoiser, [source], tmp_path / "predicted", device="cpu")
    np.testing.assert_array_equal(io.read(predicted[0]).array, made.array)


@pytest.mark.parametrize("name", ["a.tif", "a.npz", "a.nii.gz", "a.mha", "a.nrrd", "a.bmp"])
def test_every_format_keeps_its_own(name: str, denoiser: Run, clean: Path, tmp_path: Path) -> None:
    image = io.read(first(clean))
    (tmp_path / "in").mkdir()
    io.write(image, tmp_path / "in" / name)
    (written,) = restore(denoiser, [tmp_path / "in" / name], tmp_path / "out", device="cpu")
    assert written == tmp_path / "out" / name
    source, made = io.read(tmp_path / "in" / name), io.read(written)
    assert made.array.dtype == source.array.dtype
    assert made.geometry == source.geometry
    assert made.meta.format == source.meta.format


def test_the_spread_of_one_image_is_that_of_its_file(denoiser: Run, clean: Path) -> None:
    found = restore_one(Predictor(denoiser, "cpu"), io.read(first(clean)), wanted=ALL)
    assert found.uncertainty is not None
    assert found.residual is not None
    assert found.uncertainty.geometry == found.image.geometry
    assert restore_one(Predictor(denoiser, "cpu"), io.read(first(clean))).residual is None


def mask_of(source: Path, path: Path, filled: tuple[slice, slice] | None = (slice(30, 40), slice(20, 60))) -> Path:
    shape = io.read(source).geometry.shape
    hole = np.zeros((1, *shape), np.uint8)
    if filled is not None:
        hole[0][filled] = 255
    io.write(Image(hole, Geometry.none(shape)), path)
    return path


def test_outside_the_mask_every_voxel_stays(inpainter: Run, clean: Path, tmp_path: Path) -> None:
    source = first(clean)
    mask = mask_of(source, tmp_path / "mask.png")
    written = restore(inpainter, [source], tmp_path / "out", mask=mask, wanted=ALL, device="cpu")
    image, made, residual, spread = (io.read(path).array[0] for path in (source, *written))
    hole = io.read(mask).array[0] > 0
    np.testing.assert_array_equal(made[~hole], image[~hole])
    assert not np.array_equal(made[hole], image[hole])
    assert not residual[~hole].any()
    assert not spread[~hole].any()
    folder = tmp_path / "masks"
    folder.mkdir()
    mask_of(source, folder / source.name)
    again = restore(inpainter, [source], tmp_path / "again", mask=folder, device="cpu")
    assert again[0].read_bytes() == written[0].read_bytes()


def test_a_finer_picture_has_twice_the_pixels(upscaler: Run, clean: Path, tmp_path: Path) -> None:
    source = first(clean)
    written = restore(upscaler, [source], tmp_path / "out", wanted=ALL, device="cpu")
    height, width = io.read(source).geometry.shape
    assert {io.read(path).geometry.shape for path in written} == {(2 * height, 2 * width)}
    change = io.read(written[1]).array
    assert np.abs(change).mean() < 40, "the residual is not what the cubic interpolation lacks"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda s, p: mask_of(s, p, None), r"BAD_OPTION --mask: found a mask without a voxel"),
        (lambda s, p: mask_of(s, p, (slice(None), slice(None))), r"BAD_OPTION --mask: found a mask of every voxel"),
        (
            lambda s, p: io.write(Image(np.ones((1, 7, 9), np.uint8), Geometry.none((7, 9))), p),
            r"GRID_MISMATCH --mask: found a mask of \(7, 9\)",
        ),
    ],
)
def test_masks_that_say_nothing_are_refused(make: Any, line: str, inpainter: Run, clean: Path, tmp_path: Path) -> None:
    make(first(clean), tmp_path / "mask.png")
    with pytest.raises(InputError, match=line):
        restore(inpainter, [first(clean)], tmp_path / "out", mask=tmp_path / "mask.png", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_lossy_mask_is_refused() -> None:
    grid = Geometry.none((8, 8))
    mask = Image(np.eye(8, dtype=np.uint8)[None], grid, Meta(lossy=True))
    with pytest.raises(InputError, match="LOSSY_MASK --mask"):
        with_hole(Image(np.zeros((1, 8, 8)), grid), mask)


def test_a_mask_is_asked_for_where_it_is_of_use_and_only_there(
    inpainter: Run, denoiser: Run, segmenter: Run, clean: Path, tmp_path: Path
) -> None:
    source = first(clean)
    mask = mask_of(source, tmp_path / "mask.png")
    (tmp_path / "masks").mkdir()
    mask_of(source, tmp_path / "masks" / "other.png")
    for run, given, line in (
        (inpainter, None, r"BAD_OPTION --mask: found none, expected where the holes are"),
        (denoiser, mask, r"BAD_OPTION --mask: found --mask, with a run that learned to denoise, expected neither"),
        (segmenter, None, r"BAD_OPTION .*: found a run of segmentation"),
        (inpainter, tmp_path / "masks", r"UNPAIRED .*: found no mask for 1 of 1 images"),
        (inpainter, tmp_path / "gone.png", r"NOT_FOUND"),
    ):
        with pytest.raises(InputError, match=line):
            restore(run, [source], tmp_path / "out", mask=given, device="cpu")
    assert not (tmp_path / "out").exists()


def test_inputs_are_never_overwritten(denoiser: Run, clean: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OUTPUT_COLLISION"):
        restore(denoiser, [first(clean)], clean / "images", overwrite=True, device="cpu")
    restore(denoiser, [first(clean)], tmp_path, device="cpu")
    with pytest.raises(InputError, match="OUTPUT_EXISTS"):
        restore(denoiser, [first(clean)], tmp_path, device="cpu")


def test_other_channels_sizes_and_ranges(denoiser: Run, clean: Path, tmp_path: Path) -> None:
    """Colours are refused, another size is not, and values of another unit are."""
    colours = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    io.write(Image(colours, Geometry.none((40, 50))), tmp_path / "colours.png")
    with pytest.raises(InputError, match=r"CHANNELS .*: found 3 channels, expected 1"):
        restore(denoiser, [tmp_path / "colours.png"], tmp_path / "out", device="cpu")
    deep = np.random.default_rng(0).integers(0, 4096, (1, 40, 50)).astype(np.uint16)
    io.write(Image(deep, Geometry.none((40, 50))), tmp_path / "deep.png")
    with pytest.raises(InputError, match=r"VALUE_RANGE image: found values from 0 to 409\d, expected 0 to 255"):
        restore(denoiser, [tmp_path / "deep.png"], tmp_path / "out", device="cpu")
    io.write(Image(colours[:1], Geometry.none((40, 50))), tmp_path / "small.png")
    (written,) = restore(denoiser, [tmp_path / "small.png"], tmp_path / "out", device="cpu")
    assert io.read(written).geometry.shape == (40, 50)


@pytest.mark.parametrize(
    ("names", "ending"),
    [
        (["a.png"], ".png"),
        (["a.jpg"], ".png"),
        (["a.TIFF"], ".tiff"),
        (["a.nii"], ".nii"),
        (["a.nii.gz"], ".nii.gz"),
        (["a.dcm"], ".nii.gz"),
        (["series"], ".nii.gz"),
        (["a_0000.png", "a_0001.png"], ".nii.gz"),
        (["a_0000.nii.gz", "a_0001.nii.gz"], ".nii.gz"),
        (["a.npz"], ".npz"),
    ],
)
def test_endings(names: list[str], ending: str) -> None:
    assert ending_of(Sample("a", tuple(ImageFile(Path(name)) for name in names))) == ending
    twice = Sample("a", tuple(ImageFile(Path(name)) for name in names * 2))
    assert ending_of(twice, 2) == ending, "two acquisitions of one image"


def test_the_command(denoiser: Run, clean: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["hounsfield", "restore", denoiser.root, first(clean), "--out", tmp_path / "out", "--residual", "--json"]
    monkeypatch.setattr(sys, "argv", list(map(str, [*words, "--device", "cpu"])))
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert [Path(path).name for path in written] == [first(clean).name, f"{first(clean).stem}.residual.tif"]


def test_a_large_image_is_restored_in_slabs(denoiser: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as without a limit, in more and smaller pieces."""
    from hounsfield.tasks.parts import windows

    image = Image(np.random.default_rng(0).integers(0, 255, (1, 300, 200), dtype=np.uint8), Geometry.none((300, 200)))
    predictor = Predictor(denoiser, "cpu")
    whole = restore_one(predictor, image).image.array
    monkeypatch.setattr(windows, "ACCUMULATOR_BYTES", 2**16)
    monkeypatch.setattr(windows, "SLAB_BYTES", 2**12)
    np.testing.assert_array_equal(restore_one(predictor, image).image.array, whole)


def test_text_is_found_and_filled_and_what_has_none_stays(inpainter: Run, clean: Path, tmp_path: Path) -> None:
    from PIL import ImageDraw, ImageFont

    (tmp_path / "in").mkdir()
    source = first(clean)
    for name in ("lettered.png", "plain.png"):
        with Pillow.open(source) as opened:
            picture = opened.convert("L").resize((192, 192))
        if name == "lettered.png":
            font: Any = ImageFont.load_default(12)
            ImageDraw.Draw(picture).text((6, 6), "MILLER ANNA", fill=255, font=font)
        picture.save(tmp_path / "in" / name)
    wanted = Wanted(residual=True)
    written = restore(inpainter, [tmp_path / "in"], tmp_path / "out", find="text", wanted=wanted, device="cpu")
    assert len(written) == 4
    made, plain = (io.read(tmp_path / "out" / name).array for name in ("lettered.png", "plain.png"))
    lettered, untouched = (io.read(tmp_path / "in" / name).array for name in ("lettered.png", "plain.png"))
    np.testing.assert_array_equal(plain, untouched)
    letters = lettered != untouched
    assert (made != lettered)[letters].mean() > 0.9
    np.testing.assert_array_equal(made[..., 40:, :], lettered[..., 40:, :])
    with pytest.raises(InputError, match="VALUE_RANGE --find metal"):
        restore(inpainter, [source], tmp_path / "other", find="metal", device="cpu")
    with pytest.raises(InputError, match=r"BAD_OPTION --find: found 'txt', expected text or metal; fix: did you mean 'text'"):
        restore(inpainter, [source], tmp_path / "other", find="txt", device="cpu")
    with pytest.raises(InputError, match=r"BAD_OPTION --mask: found --mask and --find"):
        restore(inpainter, [source], tmp_path / "other", find="text", mask=source, device="cpu")


def test_a_grey_picture_is_not_restored_in_colours(denoiser: Run, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (1, 20, 20), dtype=np.uint8)
    for name, array in (("grey", grey), ("equal", np.repeat(grey, 3, axis=0))):
        io.write(Image(array, Geometry.none((20, 20))), tmp_path / f"{name}.png")
    samples = {name: Sample(name, (ImageFile(tmp_path / f"{name}.png"),)) for name in ("grey", "equal")}
    one = Predictor(denoiser, "cpu")
    np.testing.assert_array_equal(source_of(one, samples["equal"]).array, grey)
    how = denoiser.plan.model_copy(update={"channels": ("red", "green", "blue"), "normalise": denoiser.plan.normalise * 3})
    three = Predictor.of(how, [build(how)])
    assert source_of(three, samples["equal"]).channels == 3
    with pytest.raises(InputError, match=r"CHANNELS .*grey.png: found 1 channel, expected 3"):
        source_of(three, samples["grey"])


def test_the_report_draws_given_restored_truth_residual_and_spread(denoiser: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worst first, five panels where the run mirrors, four where nothing can disagree; the figures stay those of evaluation."""
    from hounsfield.workflow import pictures

    evaluation = stored(denoiser)[0]
    shown = pictures.gallery(denoiser, evaluation, "cpu", SILENT)
    assert shown.cases[0].title == "worst"
    assert shown.cases[0].case == min(evaluation.rows, key=lambda row: float(row["psnr"]))["id"]
    drawn: list[Any] = []
    own = denoiser.solver.draw

    def draw(self: restoration.Solver, *given: Any) -> Any:
        drawn.append(given)
        return own(*given)

    monkeypatch.setattr(restoration.Solver, "draw", draw)
    pictures.gallery(denoiser, evaluation, "cpu", SILENT)
    predictor = Predictor(denoiser, "cpu")
    for image, _, made, spread in drawn:
        np.testing.assert_array_equal(made.array, predictor(image).array)  # type: ignore[union-attr]
        assert spread.geometry == made.geometry
        assert spread.array.max() > 0
    drawn.clear()
    monkeypatch.setattr(restoration.Solver, "can_disagree", lambda self, members: False)
    pictures.gallery(denoiser, evaluation, "cpu", SILENT)
    assert {len(given) for given in drawn} == {3}


def test_a_constant_image_stays_constant(denoiser: Run, inpainter: Run, tmp_path: Path) -> None:
    flat = Image(np.full((1, 40, 50), 77, np.uint8), Geometry.none((40, 50)))
    io.write(flat, tmp_path / "flat.png")
    hole = mask_of(tmp_path / "flat.png", tmp_path / "hole.png", (slice(5, 15), slice(8, 30)))
    for run, mask in ((denoiser, None), (inpainter, hole)):
        (written,) = restore(run, [tmp_path / "flat.png"], tmp_path / "out", mask=mask, overwrite=True, device="cpu")
        made = io.read(written)
        assert made.array.shape == flat.array.shape
        if mask is not None:
            known = io.read(hole).array == 0
            np.testing.assert_array_equal(made.array[known], 77)


def test_a_restored_file_says_so_and_nothing_that_its_source_said_of_a_person(
    denoiser: Run, clean: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    io.write(io.read(first(clean)), tmp_path / "in" / "a.nii.gz")
    patch(tmp_path / "in" / "a.nii.gz", descrip=b"MILLER^ANNA", sform_code=4, qform_code=2, xyzt_units=3)
    written = restore(denoiser, [tmp_path / "in"], tmp_path / "out", wanted=ALL, device="cpu")
    for path in written:
        header = nib.load(path).header
        assert re.fullmatch(r"restored: hounsfield \S+, denoise with unet [0-9a-f]{12}", header["descrip"].item().decode())
        assert [int(header[key]) for key in ("sform_code", "qform_code", "xyzt_units")] == [4, 2, 3]
    (picture,) = restore(denoiser, [first(clean)], tmp_path / "picture", device="cpu")
    with Pillow.open(picture) as opened:
        assert opened.text["Description"].startswith("restored: hounsfield")  # type: ignore[attr-defined]
