"""Windowed inference: constants, identities, MONAI, coverage, and memory that does not grow with the volume."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hounsfield.core.plan import Augment, Class, Grid, Inference, Normalise, Plan, Training
from hounsfield.data.cache import Cache
from hounsfield.data.loader import Loader
from hounsfield.models import unet
from hounsfield.tasks import segmentation
from hounsfield.tasks.parts import windows
from hounsfield.tasks.parts.windows import Slab, flips, gaussian, slabs, starts

CPU = torch.device("cpu")


def together(stream: list[Slab], shape: tuple[int, ...], channels: int) -> Tensor:
    """The slabs put where they belong, every voxel filled; tiles agree on the row that they share."""
    out = torch.full((channels, *shape), torch.nan)
    for start, first, values in stream:
        part = out[:, start : start + values.shape[1], first : first + values.shape[2]]
        assert part.shape == values.shape
        both = ~part.isnan()
        assert torch.allclose(part[both], values[both], atol=1e-5)
        part.copy_(values)
    assert not out.isnan().any()
    return out


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 80), st.floats(0, 0.95))
def test_windows_cover_everything_and_overlap_enough(size: int, patch: int, overlap: float) -> None:
    found = starts(size, patch, overlap)
    assert found == sorted(set(found))
    assert found[0] == (0 if size >= patch else (size - patch) // 2)
    assert found[-1] == (size - patch if size >= patch else (size - patch) // 2)
    step = max(1, int(patch * (1 - overlap)))
    assert all(b - a <= step for a, b in pairwise(found))
    assert len(found) == (1 if size <= patch else -(-(size - patch) // step) + 1)


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 20), st.sampled_from((2, 4)), st.floats(0, 0.9))
def test_windows_of_coarse_voxels_begin_where_one_begins(size: int, patch: int, of: int, overlap: float) -> None:
    found = starts(size * of, patch * of, overlap, of)
    assert found == sorted(set(found))
    assert all(start % of == 0 for start in found)
    if size <= patch:
        assert found == [(size - patch) // 2 * of]
        return
    assert (found[0], found[-1]) == (0, (size - patch) * of)
    assert all(b - a <= patch * of for a, b in pairwise(found)), "no voxel is left out"


def test_every_window_of_a_stream_begins_at_a_multiple() -> None:
    x = torch.arange(44.0).repeat(1, 28, 1)
    seen: list[int] = []

    def look(window: Tensor) -> Tensor:
        seen.append(int(window[0, 0, 0, 0]))
        return window

    out = together(list(slabs(look, x, (12, 16), 0.5, 1, CPU, (2, 4))), (28, 44), 1)
    assert torch.allclose(out, x)
    assert set(seen) == {0, 8, 16, 20, 28}


@settings(max_examples=40)
@given(st.data())
def test_an_identity_gives_back_the_image_and_a_constant_itself(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 13)) for _ in range(data.draw(st.sampled_from((2, 3)))))
    patch = tuple(data.draw(st.integers(1, 7)) for _ in shape)
    overlap = data.draw(st.sampled_from((0.0, 0.25, 0.5, 0.8)))
    x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "ACCUMULATOR_BYTES", data.draw(st.sampled_from((1, 500, 2**30))))
        patched.setattr(windows, "SLAB_BYTES", data.draw(st.sampled_from((1, 100, 2**30))))
        same = together(list(slabs(lambda w: w, x, patch, overlap, 2, CPU)), shape, 2)
        five = together(list(slabs(lambda w: torch.full((1, 1, *w.shape[2:]), 5.0), x, patch, overlap, 1, CPU)), shape, 1)
    assert torch.allclose(same, x, atol=1e-5)
    assert torch.allclose(five, torch.tensor(5.0), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "patch", "overlap"), [((40, 24), (16, 8), 0.5), ((16, 20, 24), (8, 8, 12), 0.5), ((12, 10), (6, 5), 0.0)]
)
def test_it_agrees_with_monai(
    shape: tuple[int, ...], patch: tuple[int, ...], overlap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the windows of both begin at the same voxels."""
    from monai.inferers.utils import sliding_window_inference

    torch.manual_seed(0)
    conv = (nn.Conv2d if len(shape) == 2 else nn.Conv3d)(2, 3, 3, padding=1)
    x = torch.randn(1, 2, *shape)
    monkeypatch.setattr(windows, "SLAB_BYTES", 3 * 4 * shape[1] * shape[-1] * 3)  # a row of windows ends within a slab
    with torch.inference_mode():
        expected = sliding_window_inference(x, patch, 1, conv, overlap=overlap, mode="gaussian", sigma_scale=0.125)
        ours = together(list(slabs(conv, x[0], patch, overlap, 3, CPU)), shape, 3)
    assert isinstance(expected, Tensor)
    assert torch.allclose(ours, expected[0], atol=1e-5)


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(1, 2, 3, padding=1)
    x = torch.randn(1, 20, 17, 9)
    with torch.inference_mode():
        whole = together(list(slabs(conv, x, (8, 8, 8), 0.5, 2, CPU)), (20, 17, 9), 2)
        monkeypatch.setattr(windows, "ACCUMULATOR_BYTES", 2 * 4 * 8 * 9 * 5)  # five rows
        stream = list(slabs(conv, x, (8, 8, 8), 0.5, 2, CPU))
    assert sorted({first for _, first, _ in stream}) == [0, 4, 8, 12]
    assert torch.allclose(together(stream, (20, 17, 9), 2), whole, atol=1e-5)


def test_each_slab_is_its_own_memory_and_comes_as_soon_as_it_is_finished() -> None:
    """Nothing that was handed on changes when windows further down are added."""
    seen = 0

    def model(window: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        return window

    x = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    stream = slabs(model, x, (16, 16, 16), 0.5, 1, CPU)
    start, _, first = next(stream)
    assert (start, seen) == (0, 1)
    kept = first.clone()
    rest = list(stream)
    assert torch.equal(first, kept)
    assert [start for start, _, _ in rest] == [8, 16]
    assert torch.allclose(torch.cat([first, *(values for _, _, values in rest)], dim=1), x, atol=1e-5)


def test_a_small_image_lies_in_the_middle_of_a_window_padded_by_its_border() -> None:
    seen: list[Tensor] = []

    def look(window: Tensor) -> Tensor:
        seen.append(window)
        return window

    x = torch.arange(6.0).reshape(1, 2, 3)
    out = together(list(slabs(look, x, (4, 4), 0.5, 1, CPU)), (2, 3), 1)
    assert seen[0].tolist() == [[[[0, 0, 1, 2], [0, 0, 1, 2], [3, 3, 4, 5], [3, 3, 4, 5]]]]
    assert torch.allclose(out, x)


@pytest.mark.parametrize("shape", [(5, 8, 3), (4, 7, 6), (1, 1, 1), (8, 8, 8)])
def test_a_small_image_lies_in_its_window_as_in_training(shape: tuple[int, ...], tmp_path: Path) -> None:
    """A network may learn where in the window things are: 0.67 in place of 0.86 Dice where prediction padded the end alone."""
    patch = (8, 8, 8)
    image = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0)).half().float()
    entry = Cache(tmp_path, 2**40).get("a", "", lambda: (image.numpy(), np.ones((1, *shape), dtype=np.uint8)))
    plan = Plan(
        task="segmentation",
        model="unet",
        ndim=3,
        classes=(Class(value=1, name="a"),),
        channels=("x",),
        grid=Grid(),
        normalise=(Normalise(scope="case"),),
        patch=patch,
        augment=Augment(probability=0),
        training=Training(batch=1),
        task_options=segmentation.Options(),
        model_options=unet.Options(),
    )
    trained = Loader({"a": entry}, plan, (1, 1, 1)).raw(0).image
    seen: list[Tensor] = []

    def look(window: Tensor) -> Tensor:
        seen.append(window)
        return window

    list(slabs(look, image, patch, 0.5, 1, CPU))
    assert len(seen) == 1
    assert torch.equal(trained, seen[0])


def test_weights_peak_in_the_middle_and_every_voxel_has_a_vote() -> None:
    weight = gaussian((9, 16, 5), CPU)
    assert weight.shape == (9, 16, 5)
    assert float(weight.max()) == pytest.approx(float(weight[4, 7, 2]))
    assert float(weight.min()) == pytest.approx(1e-3)
    line = gaussian((33,), CPU)
    assert float(line[16 + 4] / line[16]) == pytest.approx(float(torch.exp(torch.tensor(-0.5 * (4 / (33 / 8)) ** 2))))


def plan(mirror: tuple[int, ...], inference: bool) -> Plan:
    return Plan(
        task="segmentation",
        model="unet",
        ndim=3,
        classes=(),
        channels=("x",),
        grid=Grid(),
        normalise=(Normalise(scope="case"),),
        patch=(8, 8, 8),
        augment=Augment(mirror=mirror),
        inference=Inference(mirror=inference),
        task_options=segmentation.Options(),
        model_options=unet.Options(),
    )


def test_views_are_every_combination_of_mirrored_axes() -> None:
    assert flips(plan((0, 2), False)) == [()]
    assert flips(plan((), True)) == [()]
    assert flips(plan((0, 2), True)) == [(), (2,), (4,), (2, 4)]


SCRIPT = """
import json, resource, sys, torch
from hounsfield.tasks.parts import windows
torch.set_num_threads(1)
windows.ACCUMULATOR_BYTES = windows.SLAB_BYTES = 32 * 2**20
x = torch.zeros(1, int(sys.argv[1]), 128, 128)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = lambda w: w.expand(1, 20, *w.shape[2:])
count = sum(v.shape[1] * v.shape[2] for _, _, v in windows.slabs(model, x, (32, 64, 64), 0.0, 20, torch.device("cpu")))
print(json.dumps([count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is measured in kB on Linux alone")
def test_memory_does_not_grow_with_the_volume() -> None:
    """All outputs of the larger volume are 160 MiB."""
    used = []
    for depth in (32, 128):
        done = subprocess.run([sys.executable, "-c", SCRIPT, str(depth)], capture_output=True, text=True, check=True)
        count, extra = json.loads(done.stdout)
        assert count >= depth * 128
        used.append(extra)
    assert max(used) < 150 * 2**20
    assert used[1] < used[0] + 30 * 2**20
