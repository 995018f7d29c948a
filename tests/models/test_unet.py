"""U-Net keeps the input's size, obeys its strides and kernels, and supervises every level."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.models import unet

TINY = unet.Options(width=4, strides=((2,), (2,)), blocks=(1,))


def kernels(network: nn.Module) -> list[tuple[int, ...]]:
    """Kernel of the first convolution of each encoder level."""
    assert isinstance(network, unet.UNet)
    return [next(m.kernel_size for m in level.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)) for level in network.encoder]


@settings(max_examples=20)
@given(st.data(), st.sampled_from((2, 3)), st.booleans())
def test_output_has_the_input_s_size(data: st.DataObject, ndim: int, residual: bool) -> None:
    step = st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim).map(tuple)
    strides = tuple(data.draw(st.lists(step, min_size=1, max_size=2)))
    options = unet.Options(width=2, strides=strides, blocks=(1,), residual=residual)
    whole = unet.stride(options, ndim)
    size = [2 * s for s in whole]
    network = unet.build(options, 2, 3, ndim)
    maps = network.train()(torch.zeros(2, 2, *size))
    halved = [tuple(size)]
    for level in strides[:-1]:
        halved.append(tuple(n // s for n, s in zip(halved[-1], level, strict=True)))
    assert [tuple(m.shape) for m in maps] == [(2, 3, *n) for n in halved]
    assert network.eval()(torch.zeros(1, 2, *size)).shape == (1, 3, *size)


def test_deep_supervision_s_finest_map_is_the_one_in_use() -> None:
    torch.manual_seed(0)
    network = unet.build(TINY, 1, 2, 2)
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(network.train()(x)[0], network.eval()(x))


def test_without_deep_supervision_training_gives_one_map() -> None:
    network = unet.build(TINY.model_copy(update={"deep_supervision": False}), 1, 2, 2)
    assert isinstance(network.train()(torch.zeros(1, 1, 16, 16)), Tensor)
    assert isinstance(network, unet.UNet)
    assert len(network.heads) == 1


@pytest.mark.parametrize(("size", "numbers"), [((16, 18), "(16, 18)"), ((4, 4), "(4, 4)"), ((2, 8), "(2, 8)")])
def test_a_size_that_does_not_fit_is_named_with_what_would(size: tuple[int, ...], numbers: str) -> None:
    network = unet.build(TINY, 1, 2, 2)
    with pytest.raises(ValueError, match=re.escape(numbers) + r".*multiples of \(4, 4\)"):
        network(torch.zeros(1, 1, *size))


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        # Thick slices: nothing is convolved across them until the plane is as coarse.
        (((1, 2, 2), (1, 2, 2), (2, 2, 2)), [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]),
        (((2, 2, 2), (1, 2, 2)), [(3, 3, 3), (3, 3, 3), (3, 3, 3)]),
        (((1, 2, 2), (2, 2, 2), (1, 2, 2)), [(1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)]),
        (((1,), (2,)), [(3, 3, 3)] * 3),
    ],
)
def test_kernels_are_flat_across_thick_slices(strides: tuple[tuple[int, ...], ...], expected: list[tuple[int, ...]]) -> None:
    options = unet.Options(width=2, strides=strides)
    assert kernels(unet.build(options, 1, 2, 3)) == expected
    full = options.model_copy(update={"flat_kernels": False})
    assert kernels(unet.build(full, 1, 2, 3)) == [(3, 3, 3)] * len(expected)


def test_flat_kernels_see_no_other_slice_before_the_slices_are_merged() -> None:
    torch.manual_seed(0)
    network = unet.build(unet.Options(width=4, strides=((1, 2, 2),), blocks=(1,)), 1, 2, 3)
    assert isinstance(network, unet.UNet)
    x = torch.randn(1, 1, 3, 8, 8, requires_grad=True)
    conv = next(m for m in network.encoder[0].modules() if isinstance(m, nn.Conv3d))
    conv(x)[:, :, 0].sum().backward()
    assert x.grad is not None
    assert x.grad[:, :, 1:].abs().max() == 0


def test_widths_double_up_to_the_largest() -> None:
    options = unet.Options(width=4, max_width=10, strides=((2,), (2,), (2,)), blocks=(1,))
    network = unet.build(options, 1, 2, 2)
    assert isinstance(network, unet.UNet)
    firsts = [next(m.out_channels for m in level.modules() if isinstance(m, nn.Conv2d)) for level in network.encoder]
    assert firsts == [4, 8, 10, 10]


@pytest.mark.parametrize("residual", [False, True])
def test_blocks_a_level(residual: bool) -> None:
    options = unet.Options(width=2, strides=((2,), (2,)), blocks=(1, 3, 2), decoder_blocks=2, residual=residual)
    network = unet.build(options, 1, 2, 2)
    assert isinstance(network, unet.UNet)
    assert [len(level) for level in network.encoder if isinstance(level, nn.Sequential)] == [1, 3, 2]
    assert [len(level) for level in network.decoder if isinstance(level, nn.Sequential)] == [2, 2]


def test_options_that_disagree_are_refused() -> None:
    with pytest.raises(InputError, match="3 levels need 1 or 3 numbers of blocks") as caught:
        unet.Options.parse({"strides": [[2], [2]], "blocks": [1, 2]}, "plan.json")
    assert caught.value.code == "BAD_PLAN"
    with pytest.raises(InputError, match=r"\(2, 2\) in 3D") as caught:
        unet.build(unet.Options(strides=((2, 2),)), 1, 2, 3)
    assert caught.value.code == "BAD_PLAN"


@pytest.mark.parametrize(
    ("shape", "voxel", "whole"),
    [
        ((36, 50, 35), (1.0, 1.0, 1.0), (8, 8, 8)),
        ((512, 512), (1.0, 1.0), (32, 32)),
        ((20, 256, 256), (5.0, 0.7, 0.7), (4, 32, 32)),
        ((6, 5), (1.0, 1.0), (1, 1)),
    ],
)
def test_rules_halve_what_is_long_and_fine(shape: tuple[int, ...], voxel: tuple[float, ...], whole: tuple[int, ...]) -> None:
    decision = unet.rules(shape, voxel)
    options = unet.Options.parse(decision.changes, "rules")
    assert unet.stride(options, len(shape)) == whole
    assert "×".join(map(str, shape)) in decision.reasons["strides"]
    # Thick slices are merged only once the plane is nearly as coarse.
    if voxel[0] > 3 * voxel[-1]:
        assert [step[0] for step in options.strides[:2]] == [1, 1]
