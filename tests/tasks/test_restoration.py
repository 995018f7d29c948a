"""The restoration task: what is posed, what a perfect and an idle network make of it, and the source's own voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Augment, Grid, Inference, Normalise, Plan
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import ImageFile
from hounsfield.data.degrade import Noise, Resolution
from hounsfield.data.prepare import place
from hounsfield.models import unet
from hounsfield.tasks import Posing, restoration
from hounsfield.tasks.parts.fidelity import SAME
from hounsfield.tasks.restoration import Options, Solver

Array = npt.NDArray[Any]
CPU = torch.device("cpu")


def plan(ndim: int = 2, channels: int = 1, scope: str = "dataset", **options: Any) -> Plan:
    changes = {key: options.pop(key) for key in ("augment", "inference", "grid", "patch") if key in options}
    how: dict[str, Any] = {"scope": scope, "low": 0, "high": 255, "mean": 100, "std": 50}
    how |= {"low_percentile": 0, "high_percentile": 100}
    return Plan(
        task="restoration",
        model="unet",
        ndim=ndim,
        classes=(),
        channels=tuple(f"c{k}" for k in range(channels)),
        grid=changes.pop("grid", Grid()),
        normalise=(Normalise(**how),) * channels,
        patch=changes.pop("patch", (16,) * ndim),
        task_options=Options(**options),
        model_options=unet.Options(width=4, strides=((2,),), norm="none", deep_supervision=False),
        **changes,
    )


class Adds(nn.Module):
    """A network that adds the same to every voxel."""

    def __init__(self, amount: float = 0.0, channels: int = 1) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(amount))
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.channels] * 0 + self.amount


def drawn(shape: tuple[int, ...], kind: Any = np.uint8, channels: int = 1, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (channels, *shape)).astype(kind)


def saved(path: Path, array: Array, geometry: Geometry | None = None) -> Sample:
    io.write(Image(array, geometry or Geometry.none(array.shape[1:])), path, overwrite=True)
    return Sample(path.name.split(".")[0], (ImageFile(path),))


def turned(shape: tuple[int, ...]) -> Geometry:
    """Axes (L, A, I): two of them flipped, none in canonical order."""
    affine = np.array([[-1.0, 0, 0, 9], [0, 1.5, 0, 8], [0, 0, -2.0, 7], [0, 0, 0, 1]])
    return Geometry(shape, affine)


def restored(solver: Solver, image: Image, *models: nn.Module) -> Image:
    given = solver.prepare(image, CPU)
    with torch.inference_mode():
        return solver.decode(solver.infer([m.eval() for m in models], given.tensor[None]), given)


def test_the_solver_poses_riddles() -> None:
    assert isinstance(Solver(plan()), Posing)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.uint16])
@pytest.mark.parametrize("scope", ["dataset", "case"])
def test_an_idle_network_changes_nothing(kind: Any, scope: str) -> None:
    """Whatever type, orientation and size: windows overlap here, and the last ones reach beyond."""
    image = Image(drawn((21, 33, 18), kind), turned((21, 33, 18)))
    found = restored(Solver(plan(3, scope=scope)), image, Adds())
    assert found.array.dtype == image.array.dtype
    assert found.geometry == image.geometry
    assert found.meta == image.meta
    np.testing.assert_allclose(found.array, image.array, atol=1e-3 if kind == np.float32 else 0)


def test_what_is_added_is_added_in_the_source_s_units_and_kept_within_its_type() -> None:
    image = Image(drawn((20, 24)), Geometry.none((20, 24)))
    found = restored(Solver(plan()), image, Adds(0.5))
    np.testing.assert_array_equal(found.array, np.minimum(image.array.astype(int) + 25, 255))


@pytest.mark.parametrize("ndim", [2, 3])
def test_holes_alone_are_changed(ndim: int) -> None:
    shape = (20, 24, 18)[:ndim]
    geometry = Geometry.none(shape) if ndim == 2 else turned(shape)
    image = Image(drawn(shape, np.float64) / 7, geometry)
    hole = np.random.default_rng(1).random(shape) < 0.3
    both = Image(np.concatenate([image.array, hole[None]]), geometry)
    solver = Solver(plan(ndim, repair="inpaint"))
    found = restored(solver, both, Adds(0.5))
    assert found.channels == 1
    np.testing.assert_array_equal(found.array[0][~hole], image.array[0][~hole])
    idle = restored(solver, both, Adds())
    np.testing.assert_allclose(found.array[0][hole] - idle.array[0][hole], 25, atol=1e-4)


def test_a_network_never_sees_what_is_in_a_hole() -> None:
    solver = Solver(plan(repair="inpaint", scope="case"))
    hole = np.zeros((16, 16))
    hole[3:7, 4:9] = 1
    tensors = []
    for value in (0, 255):
        array = drawn((16, 16)).astype(float)
        array[0][hole > 0] = value
        tensors.append(solver.prepare(Image(np.concatenate([array, hole[None]]), Geometry.none((16, 16))), CPU).tensor)
    assert torch.equal(*tensors)
    assert torch.equal(tensors[0][1], torch.from_numpy(hole).float())
    inside, known = (tensors[0][0][torch.from_numpy(hole) == value] for value in (1, 0))
    assert known.min() <= inside.min() <= inside.max() <= known.max()


def test_a_finer_grid_has_the_same_extent() -> None:
    image = Image(drawn((10, 12, 8), np.int16), turned((10, 12, 8)))
    solver = Solver(plan(3, repair="upscale", resolution=Resolution(axes=(0,))))
    found = restored(solver, image, Adds())
    # The canonical first axis is the source's third, which runs down.
    assert found.array.shape == (1, 10, 12, 16)
    assert found.array.dtype == np.int16
    assert found.geometry == image.geometry.resize((10, 12, 16))
    pairs = found.array.reshape(1, 10, 12, 8, 2).mean(-1)
    assert np.corrcoef(pairs.ravel(), image.array.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("repair", ["denoise", "inpaint", "upscale"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_case_is_posed_the_same_every_time_and_its_answer_is_itself(repair: str, ndim: int, tmp_path: Path) -> None:
    shape = (18, 21, 25)[:ndim]
    geometry = Geometry.none(shape) if ndim == 2 else turned(shape)
    sample = saved(tmp_path / "a.nii.gz", drawn(shape, np.int16), geometry)
    solver = Solver(plan(ndim, repair=repair))
    image = sample.images[0]()
    once, again = solver.pose(image, sample), Solver(plan(ndim, repair=repair)).pose(image, sample)
    np.testing.assert_array_equal(once.array, again.array)
    other = solver.pose(image, Sample("b", sample.images))
    assert np.array_equal(once.array, other.array) == (repair == "upscale"), "another id, another draw where something is drawn"
    riddle = solver.riddle(sample)
    assert riddle.truth.shape == riddle.given.shape
    upright = image.canonical().array[(slice(None), *(slice(n) for n in riddle.truth.shape[1:]))]
    np.testing.assert_array_equal(riddle.truth, upright)
    metrics = solver.metrics()
    prediction = restored(solver, once, Adds())
    assert prediction.geometry.shape == riddle.truth.shape[1:]
    row = metrics.case(sample, prediction)
    assert float(row["gain"]) == pytest.approx(0, abs=0.05), "an idle network restores nothing"
    perfect = metrics.case(sample, Image(riddle.truth, prediction.geometry))
    assert (perfect["psnr"], perfect["mae"]) == (SAME, 0)
    assert perfect["ssim"] == pytest.approx(1)
    assert perfect["psnr_given"] == pytest.approx(row["psnr_given"])


def test_noise_is_measured_in_source_units(tmp_path: Path) -> None:
    sample = saved(tmp_path / "a.png", drawn((64, 64)))
    solver = Solver(plan(noise=Noise(sigma=25.0), scale=(0.0, 255.0)))
    riddle = solver.riddle(sample)
    assert float((riddle.given - riddle.truth).std()) == pytest.approx(25, rel=0.05)
    row = solver.metrics().case(sample, Image(riddle.given, Geometry.none((64, 64))))
    assert row["psnr"] == pytest.approx(20 * np.log10(255 / 25), abs=0.3)
    figures = solver.metrics().summary([row, row], [None, None])
    assert next(iter(figures)) == solver.metrics().headline == "psnr"
    assert set(figures) == {"gain", *(f"{m}{of}" for m in ("psnr", "ssim", "ms_ssim", "mae") for of in ("", "_given"))}


def test_units_come_with_each_case(tmp_path: Path) -> None:
    sample = saved(tmp_path / "a.nii.gz", drawn((9, 10, 11), np.int16), turned((9, 10, 11)))
    where = place(sample.images[0](), Grid())
    assert Solver(plan(3)).encode(sample, where).tolist() == [100, 50]
    array = sample.images[0]().array.astype(np.float64)
    np.testing.assert_allclose(Solver(plan(3, scope="case")).encode(sample, where), [array.mean(), array.std()], rtol=1e-5)


def test_spread_is_that_of_members_and_mirrored_views() -> None:
    how = plan(augment=Augment(mirror=(1,)))
    solver = Solver(how)
    image = Image(drawn((20, 24), np.float32), Geometry.none((20, 24)))
    given = solver.prepare(image, CPU)
    with torch.inference_mode():
        raw = list(solver.infer_spread([Adds(0.0), Adds(0.2), Adds(0.4)], given.tensor[None]))
    for _, _, values in raw:
        torch.testing.assert_close(values[0], torch.full_like(values[0], 0.2), atol=1e-5, rtol=0)
        torch.testing.assert_close(values[1], torch.full_like(values[1], float(np.std([0, 0.2, 0.4]))), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match=r"BAD_OPTION --uncertainty: found one network.*--seeds 3"):
        Solver(plan()).infer_spread([Adds()], given.tensor[None])
    assert not Solver(plan()).can_disagree(1)
    assert Solver(plan()).can_disagree(2)
    assert solver.can_disagree(1)


class Counts(Adds):
    """It says which columns are even, of the window that it is shown."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return super().forward(x) + 1.0 - 2.0 * (torch.arange(x.shape[-1]) % 2)


def test_no_more_views_are_asked_than_may_be() -> None:
    solver = Solver(plan(augment=Augment(mirror=(0, 1)), inference=Inference(mirror=False)))
    given = solver.prepare(Image(drawn((16, 16), np.float32), Geometry.none((16, 16))), CPU)
    for most, views in ((None, 4), (2, 3), (1, 2)):
        network = Counts()
        with torch.inference_mode():
            ((_, _, values),) = solver.infer_spread([network], given.tensor[None], most)
        assert network.seen == views
        torch.testing.assert_close(values[0], Counts()(given.tensor[None])[0, 0])  # the views beside it change nothing


def test_windows_of_a_finer_grid_begin_where_its_coarse_voxels_do() -> None:
    """As in training, where a window is coarsened from its first voxel on."""
    solver = Solver(plan(repair="upscale"))
    image = Image(drawn((11, 21), np.float32), Geometry.none((11, 21)))
    changed = restored(solver, image, Counts()).array - restored(solver, image, Adds()).array
    assert changed.shape == (1, 22, 42)
    np.testing.assert_allclose(changed, np.broadcast_to(50 - 100 * (np.arange(42) % 2), changed.shape), atol=1e-3)


def test_mirrored_views_are_averaged() -> None:
    class Ramp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.one * torch.arange(x.shape[-1]).float().expand(x.shape)

    solver = Solver(plan(augment=Augment(mirror=(1,)), inference=Inference(mirror=True)))
    given = solver.prepare(Image(drawn((16, 16), np.float32), Geometry.none((16, 16))), CPU)
    with torch.inference_mode():
        ((_, _, values),) = solver.infer([Ramp()], given.tensor[None])
    torch.testing.assert_close(values, torch.full_like(values, 7.5))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"grid": Grid(spacing=(1.0, 1.0))}, r"BAD_PLAN grid"),
        ({"scope": "histogram"}, r"BAD_PLAN normalise"),
        ({"resolution": Resolution(axes=(0, 2))}, r"BAD_PLAN task_options.resolution.axes: found \[0, 2\] in 2D"),
        ({"repair": "upscale", "patch": (16, 18), "resolution": Resolution(factor=4)}, r"BAD_PLAN patch.*patch=\[16, 20\]"),
        ({"pairs": True}, r"BAD_PLAN task_options.pairs: found 1 channel, expected two acquisitions of every image"),
    ],
)
def test_plans_that_would_change_the_images_are_refused(changes: dict[str, Any], line: str) -> None:
    how = plan()
    if changes.get("scope") == "histogram":
        marks = ((0.0, 0.0), (100.0, 1.0))
        how = how.model_copy(update={"normalise": (Normalise(scope="histogram", landmarks=marks),)})
    else:
        how = how.model_copy(update={k: v for k, v in changes.items() if k in ("grid", "patch")})
        options = {k: v for k, v in changes.items() if k in ("repair", "resolution", "pairs")}
        how = how.model_copy(update={"task_options": Options(**options)})
    with pytest.raises(InputError, match=line):
        Solver(how)


def test_what_does_not_go_together_is_refused() -> None:
    for values in (
        {"blind": True, "repair": "inpaint"},
        {"blind": True, "pairs": True},
        {"pairs": True, "repair": "upscale"},
        {"pairs": True, "adversarial": 0.1},
        {"scale": [3, 3]},
        {"repair": "paint"},
        {"noise": {"sigma": -1}},
        {"noise": {"sigma": [5, 4]}},
    ):
        with pytest.raises(InputError) as caught:
            Options.parse(values, "plan")
        assert caught.value.code == "BAD_PLAN"


@pytest.mark.parametrize(
    ("array", "repair", "line"),
    [
        (drawn((16, 16), channels=3), "denoise", r"CHANNELS image: found 3 channels, expected 1"),
        (drawn((16, 16)), "inpaint", r"BAD_OPTION image: found no mask of the holes.*restore RUN INPUT --mask"),
        (drawn((16, 16)).astype(np.int32) * 20, "denoise", r"VALUE_RANGE image: found values from .*expected 0 to 255"),
        (np.stack([drawn((16, 16))[0], np.ones((16, 16), np.uint8)]), "inpaint", r"BAD_OPTION --mask: found a mask of every"),
    ],
)
def test_inputs_that_cannot_be_restored_are_refused(array: Array, repair: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        Solver(plan(repair=repair)).prepare(Image(array, Geometry.none((16, 16))), CPU)


def test_constant_images_teach_nothing() -> None:
    from tests.plan.test_rules import facts

    with pytest.raises(InputError, match=r"TOO_FEW images: found 100 images, in each of which all voxels are equal"):
        restoration.rules(facts(constant_images=100))


def test_rules_follow_the_values_and_thick_slices() -> None:
    from tests.plan.test_rules import facts

    made = restoration.rules(facts(spacing_median=(5.0, 1.0, 1.0)))
    options = Options.parse(made.changes, "rules")
    assert (options.noise.sigma, options.noise.quanta, options.noise.dose) == ((3, 60), (0.0833, 33.3), (0.05, 0.5))
    assert "1% to 20%" in made.reasons["noise"]
    assert options.resolution.axes == (0,)
    assert options.scale is None
    assert "5.0 times" in made.reasons["resolution"]
    picture = facts(ndim=2, space="none", dtype="uint8", spacing_median=(1.0, 1.0))
    assert Options.parse(restoration.rules(picture).changes, "rules").scale == (0, 255)


@pytest.mark.parametrize(
    ("ndim", "kind", "ending"), [(2, np.uint8, ".png"), (2, np.float32, ".nii.gz"), (3, np.int16, ".nii.gz")]
)
def test_files_hold_the_values(ndim: int, kind: Any, ending: str, tmp_path: Path) -> None:
    array = drawn((9, 8, 7)[:ndim], kind)
    path = Solver(plan(ndim)).write(Image(array, Geometry.none(array.shape[1:])), Sample("x/y", ()), tmp_path)
    assert path == tmp_path / "x" / f"y{ending}"
    np.testing.assert_array_equal(io.read(path).array, array)


@pytest.mark.parametrize("ndim", [2, 3])
def test_pictures_show_given_made_truth_and_what_is_left(ndim: int, tmp_path: Path) -> None:
    shape = (12, 40, 30)[-ndim:]
    sample = saved(tmp_path / "a.nii.gz", drawn(shape, np.int16))
    solver = Solver(plan(ndim))
    posed = solver.pose(sample.images[0](), sample)
    perfect = Image(solver.riddle(sample).truth, posed.geometry)
    rgb = solver.draw(posed, sample, perfect)
    panels = np.split(rgb, 4, axis=1)
    np.testing.assert_array_equal(panels[1], panels[2])
    assert not np.array_equal(panels[0], panels[1])
    assert set(np.unique(panels[3])) == {128}
    assert solver.draw(posed, None, perfect).shape[1] == rgb.shape[1] * 3 // 4
    apart = np.zeros(perfect.array.shape, np.float32)
    apart[..., 3, 5] = 1e6
    five = np.split(solver.draw(posed, sample, perfect, Image(apart, perfect.geometry)), 5, axis=1)
    np.testing.assert_array_equal(np.concatenate(five[:4], axis=1), rgb)
    assert set(np.unique(five[4])) == {0, 255}
    assert (five[4] == 255).mean() == pytest.approx(1 / (40 * 30))
