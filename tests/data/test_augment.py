"""Augmentation against numpy crops and flips and scipy's rotation, and as a function of its seed alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from hounsfield.core.plan import Augment
from hounsfield.data import augment as module
from hounsfield.data.augment import augment, augment_boxes, generator, margin
from hounsfield.data.prepare import IGNORE

Array = npt.NDArray[Any]

# Everything off but what a test turns on.
STILL = Augment(
    probability=1, rotation=(0.0,), scale=0, shift=0, elastic=0, mirror=(), noise=0, blur=0, gamma=0, contrast=0, brightness=0
)
FULL = {2: Augment(mirror=(1,), elastic=1.0, low_resolution=2.0, rotation=(30.0,))}
FULL[3] = FULL[2].model_copy(update={"mirror": (2,), "rotation": (30.0, 20.0, 10.0)})
READ = {2: (24, 30), 3: (12, 17, 20)}
PATCH = {2: (16, 21), 3: (8, 11, 16)}


def only(**changes: Any) -> Augment:
    return STILL.model_copy(update=changes)


def batch(ndim: int, size: int = 3, channels: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    image = torch.randn((size, channels, *READ[ndim]), generator=draw)
    target = torch.randint(0, 4, (size, 1, *READ[ndim]), generator=draw).to(torch.uint8)
    return image, target


def smooth(ndim: int, size: int = 2) -> Tensor:
    """Images that vary over many voxels."""
    noise = np.random.default_rng(2).normal(size=(size, 1, *READ[ndim]))
    soft = ndimage.gaussian_filter(noise, (0, 0, *[3.0] * ndim))
    return torch.from_numpy((soft / soft.std()).astype(np.float32))


def run(image: Tensor, target: Tensor | None, how: Augment, seed: int = 0, spacing: tuple[float, ...] | None = None) -> Any:
    ndim = image.ndim - 2
    return augment(image, target, PATCH[ndim], spacing or (1.0,) * ndim, how, generator("cpu", seed))


def centre(x: Tensor, ndim: int) -> Tensor:
    cut = [slice((r - p) // 2, (r - p) // 2 + p) for r, p in zip(READ[ndim], PATCH[ndim], strict=True)]
    return x[(slice(None), slice(None), *cut)]


@pytest.mark.parametrize("ndim", [2, 3])
def test_without_probability_the_centre_is_cut_out_exactly(ndim: int) -> None:
    image, target = batch(ndim)
    out, moved = run(image, target, FULL[ndim].model_copy(update={"probability": 0.0}))
    assert torch.equal(out, centre(image, ndim))
    assert torch.equal(moved, centre(target, ndim))
    assert run(image, None, FULL[ndim])[1] is None


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_seed_decides_everything(ndim: int) -> None:
    image, target = batch(ndim)
    one, other, third = (run(image.clone(), target.clone(), FULL[ndim], seed) for seed in (5, 5, 6))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert not torch.equal(one[0], third[0])
    assert one[0].shape == (3, 2, *PATCH[ndim])
    assert one[1].shape == (3, 1, *PATCH[ndim])
    assert one[0].isfinite().all()


def test_the_draws_depend_on_every_part_of_the_seed_and_not_on_the_values() -> None:
    streams = [torch.rand(4, generator=generator("cpu", *seed)).tolist() for seed in ((1, 2), (2, 1), (1, 2, 0), (1, 3))]
    assert len({tuple(s) for s in streams}) == 4
    image, target = batch(2)
    torch.manual_seed(0)
    first = run(image, target, FULL[2])
    torch.manual_seed(1)
    torch.rand(7)
    assert torch.equal(run(image, target, FULL[2])[0], first[0])


@pytest.mark.parametrize("ndim", [2, 3])
def test_labels_stay_labels(ndim: int) -> None:
    image, target = batch(ndim)
    for seed in range(5):
        moved = run(image, target, FULL[ndim], seed)[1]
        assert moved.dtype == torch.uint8
        assert set(moved.unique().tolist()) <= {0, 1, 2, 3, IGNORE}


@pytest.mark.parametrize("ndim", [2, 3])
def test_image_and_target_move_together(ndim: int) -> None:
    """A target that is the image above 0 is the moved image above 0, but where its value is near 0."""
    image = smooth(ndim)
    target = (image > 0).to(torch.uint8)
    how = FULL[ndim].model_copy(
        update={"probability": 1.0, **dict.fromkeys(("noise", "blur", "gamma", "contrast", "brightness"), 0.0)}
    )
    how = how.model_copy(update={"low_resolution": 0.0})
    for seed in range(4):
        out, moved = run(image, target, how, seed)
        clear = (out.abs() > 0.35) & (moved != IGNORE)
        assert clear.float().mean() > 0.3
        assert ((out > 0) == (moved == 1))[clear].float().mean() > 0.995


def test_coarsening_does_not_move_the_image() -> None:
    ramp = torch.arange(64.0).expand(1, 1, 64, 64).contiguous()
    out, _ = augment(ramp, None, (64, 64), (1, 1), only(low_resolution=2.0), generator("cpu", 3))
    assert float((out - ramp).abs().max()) > 0.1
    assert float((out - ramp)[..., 4:-4].mean()) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("ndim", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_mirrored_along_the_declared_axis_alone(ndim: int, axis: int) -> None:
    image, target = batch(ndim, size=12)
    out, moved = run(image, target, only(mirror=(axis,)))
    plain, flipped = centre(image, ndim), centre(image, ndim).flip(axis + 2)
    turned = [bool(torch.allclose(o, f, atol=1e-4)) for o, f in zip(out, flipped, strict=True)]
    kept = [bool(torch.allclose(o, p, atol=1e-4)) for o, p in zip(out, plain, strict=True)]
    assert [a != b for a, b in zip(turned, kept, strict=True)] == [True] * 12
    assert 0 < sum(turned) < 12
    for k in range(12):
        expected = centre(target, ndim)[k].flip(axis + 1) if turned[k] else centre(target, ndim)[k]
        assert torch.equal(moved[k], expected)


def turned_by_scipy(array: Array, matrix_mm: Array, spacing: tuple[float, ...], patch: tuple[int, ...]) -> Array:
    """The centre of `array` where output offset x (mm from the patch's centre) shows input offset matrix @ x."""
    scale = np.diag(spacing)
    matrix = np.linalg.inv(scale) @ matrix_mm @ scale
    middle_in = np.array([(r - p) // 2 + (p - 1) / 2 for r, p in zip(array.shape, patch, strict=True)])
    middle_out = (np.array(patch) - 1) / 2
    offset = middle_in - matrix @ middle_out
    out: Array = ndimage.affine_transform(array.astype(np.float64), matrix, offset, output_shape=patch, order=1, mode="nearest")
    return out


PLANES = {2: [(0, 1)], 3: [(1, 2), (0, 2), (0, 1)]}


@pytest.mark.parametrize(("ndim", "which"), [(2, 0), (3, 0), (3, 1), (3, 2)])
def test_a_rotation_turns_millimetres(ndim: int, which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By 20 degrees, with anisotropic voxels, against scipy: in one plane of two array axes, (x, y) -> (cx - sy, sx + cy)."""
    monkeypatch.setattr(module, "_uniform", lambda shape, limit, draw, device: torch.full(shape, float(limit)))
    spacing = (3.0, 1.0, 0.7)[-ndim:]
    a, b = PLANES[ndim][which]
    turn = np.eye(ndim)
    cos, sin = math.cos(math.radians(20)), math.sin(math.radians(20))
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cos, -sin, sin, cos
    image = smooth(ndim)
    rotation = tuple(20.0 if k == which else 0.0 for k in range(len(PLANES[ndim])))
    out, _ = run(image, None, only(rotation=rotation), spacing=spacing)
    for k in range(len(image)):
        expected = turned_by_scipy(image[k, 0].numpy(), turn, spacing, PATCH[ndim])
        np.testing.assert_allclose(out[k, 0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_zoom_enlarges_and_a_shift_moves(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_uniform", lambda shape, limit, draw, device: torch.full(shape, float(limit)))
    image = smooth(ndim)
    out, _ = run(image, None, only(scale=0.25))
    expected = turned_by_scipy(image[0, 0].numpy(), np.eye(ndim) / 1.25, (1.0,) * ndim, PATCH[ndim])
    np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-4)
    small = {2: (20, 20), 3: (10, 10, 10)}[ndim]
    moved, _ = augment(image, None, small, (1.0,) * ndim, only(shift=0.1), generator("cpu", 0))
    by = {2: 2, 3: 1}[ndim]
    cut = tuple(slice((r - p) // 2 + by, (r - p) // 2 + by + p) for r, p in zip(READ[ndim], small, strict=True))
    inner = tuple(slice(0, min(p, r - (r - p) // 2 - by)) for r, p in zip(READ[ndim], small, strict=True))
    np.testing.assert_allclose(moved[0, 0].numpy()[inner], image[0, 0].numpy()[cut], atol=1e-4)


def test_beyond_the_region_the_target_is_unknown() -> None:
    image = torch.ones(1, 1, 16, 16)
    out, moved = augment(
        image, torch.ones_like(image).to(torch.uint8), (16, 16), (1, 1), only(rotation=(45.0,)), generator("cpu", 1)
    )
    assert moved is not None
    assert set(moved.unique().tolist()) == {1, IGNORE}  # type: ignore[no-untyped-call]
    assert torch.allclose(out, image)  # the image repeats its border


def test_bending_is_smooth_and_as_large_as_asked() -> None:
    """Two ramps show the displacement along each axis."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramps = torch.stack([rows, columns])[None].repeat(8, 1, 1, 1)
    out, _ = augment(ramps, None, (48, 48), (1, 1), only(elastic=2.0), generator("cpu", 0))
    bent = out - ramps[:, :, 8:56, 8:56]
    assert 1.0 < float(bent.std()) < 2.0
    assert float(bent.diff(dim=2).abs().max()) < 1.5
    assert float((bent[:, 0] * bent[:, 1]).mean()) == pytest.approx(0, abs=0.6)


def test_blur_is_a_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = batch(3)
    draw = generator("cpu", 4)
    out = module._soften(image.clone(), only(blur=1.5), draw)
    sigma = torch.rand(3, generator=generator("cpu", 4)) * 1.5
    for k in range(3):
        expected = ndimage.gaussian_filter(image[k].numpy(), (0, *[float(sigma[k])] * 3), mode="nearest", radius=(0, 4, 4, 4))
        np.testing.assert_allclose(out[k].numpy(), expected, atol=1e-4)


def test_what_is_not_chosen_keeps_its_intensities() -> None:
    image, _ = batch(2, size=40)
    how = only(probability=0.5, noise=0.5)
    out, _ = augment(image, None, READ[2], (1, 1), how, generator("cpu", 0))
    same = [bool(torch.equal(o, i)) for o, i in zip(out, image, strict=True)]
    assert 8 < sum(same) < 32
    noise = (out - image)[torch.tensor([not s for s in same])]
    assert 0.1 < float(noise.std()) < 0.4  # uniform sigma up to 0.5


def test_brightness_contrast_and_gamma_stay_in_their_ranges() -> None:
    image = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    lifted, _ = augment(image, None, (16, 16), (1, 1), only(brightness=0.2), generator("cpu", 0))
    lift = (lifted - image).mean(dim=(1, 2, 3))
    assert float((lifted - image - lift.reshape(-1, 1, 1, 1)).abs().max()) < 1e-5
    assert 0.15 < float(lift.abs().max()) <= 0.2
    stretched, _ = augment(image, None, (16, 16), (1, 1), only(contrast=0.3), generator("cpu", 0))
    gain = stretched.std(dim=(1, 2, 3)) / image.std(dim=(1, 2, 3))
    assert torch.allclose(stretched.mean(dim=(1, 2, 3)), image.mean(dim=(1, 2, 3)), atol=1e-5)
    assert float(gain.min()) >= 0.7 - 1e-4
    assert float(gain.max()) <= 1.3 + 1e-4
    assert float(gain.std()) > 0.1
    curved, _ = augment(image, None, (16, 16), (1, 1), only(gamma=0.4), generator("cpu", 0))
    assert torch.allclose(curved.amax(dim=(1, 2, 3)), image.amax(dim=(1, 2, 3)), atol=1e-5)
    assert torch.allclose(curved.amin(dim=(1, 2, 3)), image.amin(dim=(1, 2, 3)), atol=1e-5)
    order = image.flatten(1).argsort(dim=1)
    assert (curved.flatten(1).gather(1, order).diff(dim=1) >= -1e-6).all()
    assert float((curved - image).abs().max()) > 0.02


def test_the_region_that_is_read_holds_the_turned_patch() -> None:
    how = only(rotation=(15.0,), scale=0.1, shift=0.05)
    factor = (math.cos(math.radians(15)) + math.sin(math.radians(15))) / 0.9 + 0.1
    assert margin((100, 40), how) == (math.ceil(100 * factor), math.ceil(40 * factor))
    assert margin((100, 1), only(rotation=(45.0,), scale=0.5)) == (150, 1)
    assert margin((100, 40), how.model_copy(update={"probability": 0.0})) == (100, 40)
    square = torch.ones(1, 1, *margin((40, 40), how), dtype=torch.uint8)
    for seed in range(20):
        _, moved = augment(square.float(), square, (40, 40), (1, 1), how, generator("cpu", seed))
        assert moved is not None
        assert moved.eq(1).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_blocks_change_nothing_and_the_input_is_left_alone(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and samples are resampled together as they fit the cache."""
    image, target = batch(ndim)
    before = image.clone(), target.clone()
    for how in (FULL[ndim].model_copy(update={"probability": 1.0}), only(noise=0.5, gamma=0.3, blur=1.0, contrast=0.3)):
        whole = run(image, target, how)
        for block in (1, 200, 3 * math.prod(PATCH[ndim]) // 2):
            monkeypatch.setattr(module, "BLOCK", block)
            cut = run(image, target, how)
            assert torch.allclose(cut[0], whole[0], atol=1e-4)
            assert torch.equal(cut[1], whole[1])
        assert torch.equal(image, before[0])
        assert torch.equal(target, before[1])


@pytest.mark.parametrize("ndim", [2, 3])
def test_every_channel_and_label_is_read_at_its_own_place(ndim: int) -> None:
    """As torch's own grid_sample reads them, with a rotation, a zoom, a shift and beyond the region."""
    image, target = batch(ndim, size=4)
    target = torch.cat([target, 3 - target], dim=1)
    angles = (30.0,) if ndim == 2 else (0.0, 0.0, 30.0)
    how = only(rotation=angles, scale=0.3, shift=0.2)
    out, moved = run(image, target, how, seed=2)
    draw = generator("cpu", 2)
    turn = (2 * torch.rand(4, generator=draw) - 1) * math.radians(30)
    torch.rand(4, generator=draw)  # who is chosen: everyone
    zoom = 1 + (2 * torch.rand(4, generator=draw) - 1) * 0.3
    torch.rand(4, generator=draw)
    shift = (2 * torch.rand((4, ndim), generator=draw) - 1) * 0.2 * torch.tensor(PATCH[ndim])
    matrix = torch.eye(ndim).repeat(4, 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = turn.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -turn.sin(), turn.sin()
    axes = [torch.arange(p) - (p - 1) / 2 for p in PATCH[ndim]]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    middle = torch.tensor([(r - p) // 2 + (p - 1) / 2 for r, p in zip(READ[ndim], PATCH[ndim], strict=True)])
    at = torch.einsum("bij,...j->b...i", matrix / zoom[:, None, None], offsets) + (shift + middle).reshape(4, *[1] * ndim, ndim)
    grid = ((2 * at + 1) / torch.tensor(READ[ndim]) - 1).flip(-1)
    expected = nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    labels = nn.functional.grid_sample(target.float() - IGNORE, grid, mode="nearest", align_corners=False) + IGNORE
    assert torch.allclose(out, expected, atol=1e-4)
    assert (moved == IGNORE).any()
    assert (moved == labels).float().mean() > 0.999


def test_a_volume_of_one_slice_is_resampled_within_it() -> None:
    image = torch.randn(2, 1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    how = only(rotation=(20.0,), mirror=(2,), elastic=1.0)
    out, _ = augment(image, None, (1, 16, 16), (1.0, 1.0, 1.0), how, generator("cpu", 0))
    assert out.shape == (2, 1, 1, 16, 16)
    assert out.isfinite().all()
    assert float(out.std()) > 0.3


def blob(ndim: int, low: Array, high: Array) -> Array:
    """An ellipsoid that fills a box (low to high, half-open), (*READ)."""
    at = np.stack(np.meshgrid(*[np.arange(s) + 0.5 for s in LARGE[ndim]], indexing="ij"))
    middle, half = ((edge).reshape(-1, *[1] * ndim) for edge in ((low + high) / 2, (high - low) / 2))
    return np.asarray((((at - middle) / half) ** 2).sum(0) < 1)


LARGE = {2: (80, 90), 3: (40, 44, 48)}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_boxes_follow_what_they_hold(ndim: int, seed: int) -> None:
    """The box of a turned, zoomed, moved and mirrored ellipsoid is that of its voxels in the result."""
    draw = np.random.default_rng(seed)
    patch = tuple(s - 16 for s in LARGE[ndim])
    middle = np.array(LARGE[ndim]) / 2 + draw.uniform(-4, 4, ndim)
    half = draw.uniform(5, 9, ndim)
    low, high = middle - half, middle + half
    image = torch.from_numpy(blob(ndim, low, high).astype(np.float32))[None, None]
    boxes = torch.tensor([[[*low, *high, 1.0], [0.0] * 2 * ndim + [-1.0]]], dtype=torch.float32)
    how = only(rotation=(25.0,) if ndim == 2 else (25.0, 15.0, 10.0), scale=0.2, shift=0.05, mirror=(0, ndim - 1))
    spacing = (1.5, 1.0, 1.2)[:ndim]
    out, moved = augment_boxes(image, boxes, patch, spacing, how, generator("cpu", seed))
    where = np.argwhere(out[0, 0].numpy() > 0.5)
    np.testing.assert_allclose(moved[0, 0, :ndim], where.min(axis=0), atol=1.0)
    np.testing.assert_allclose(moved[0, 0, ndim:-1], where.max(axis=0) + 1, atol=1.0)
    assert moved[0, :, -1].tolist() == [1, -1]
    same, _ = augment(image, None, patch, spacing, how, generator("cpu", seed))
    assert torch.equal(out, same)


def test_a_box_is_cut_at_the_patch_and_gone_when_hardly_any_is_left() -> None:
    boxes = torch.tensor([[[0.0, 0, 24, 10, 2], [10, 10, 14, 14, 0], [0, 0, 6, 30, 1], [0, 0, 0, 0, -4]]])
    image = torch.zeros(1, 1, 24, 30)
    _, moved = augment_boxes(image, boxes, (16, 20), (1.0, 1.0), only(), generator("cpu", 0))
    # The patch begins at (4, 5).
    assert moved[0, :2].tolist() == [[0, 0, 16, 5, 2], [6, 5, 10, 9, 0]]
    assert moved[0, 2, -1] == -1  # 2 x 20 of 6 x 30
    assert moved[0, 3, -1] == -4
