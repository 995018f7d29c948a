"""The transformer segmenter comes back to the input's size from patches of any shape, with what it knew on the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import unetr
from hounsfield.models.parts.attention import kept_weights


@pytest.mark.parametrize(
    ("patch", "size"),
    [((8,), (16, 24)), ((4, 2), (8, 6)), ((2,), (4, 6, 2)), ((1, 8, 4), (3, 16, 8)), ((2, 4, 4), (4, 8, 4)), ((16,), (16, 16))],
)
def test_the_output_has_the_input_s_size(patch: tuple[int, ...], size: tuple[int, ...]) -> None:
    options = unetr.Options(width=32, depth=4, patch=patch, channels=4)
    network = unetr.build(options, 2, 3, len(size))
    assert network(torch.zeros(2, 2, *size)).shape == (2, 3, *size)
    sides = patch if len(patch) > 1 else patch * len(size)
    assert unetr.stride(options, len(size)) == sides


def test_levels_hear_from_equal_parts_of_the_blocks() -> None:
    network = unetr.build(unetr.Options(width=32, depth=12, patch=(16,), channels=4), 1, 2, 2)
    assert isinstance(network, unetr.UNETR)
    assert network.encoder.taps == (3, 6, 9, 12)  # as in the paper
    ups = [m for m in network.up if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in ups] == [32, 16, 8, 4]


def test_every_tap_reaches_the_output() -> None:
    torch.manual_seed(0)
    network = unetr.build(unetr.Options(width=32, depth=4, patch=(8,), channels=4), 1, 2, 2).eval()
    assert isinstance(network, unetr.UNETR)
    x = torch.randn(1, 1, 16, 16)
    before = network(x)
    for norm in network.encoder.norms:
        weight = norm.get_parameter("weight")
        weight.data.mul_(2)
        assert not torch.allclose(network(x), before, atol=1e-4)
        weight.data.div_(2)
    torch.testing.assert_close(network(x), before)


def test_attention_of_every_block_is_there_to_be_seen() -> None:
    network = unetr.build(unetr.Options(width=64, depth=3, patch=(8,), channels=4), 1, 2, 2).eval()
    with kept_weights(network) as layers:
        network(torch.randn(1, 1, 16, 24))
        assert [tuple(layer.weights.shape) for layer in layers.values() if layer.weights is not None] == [(1, 1, 6, 6)] * 3


@pytest.mark.parametrize(
    ("shape", "patch"), [((64, 64, 64), (8, 8, 8)), ((256, 256), (16, 16)), ((6, 128, 128), (1, 16, 16)), ((1, 1), (2, 2))]
)
def test_the_patch_follows_the_window(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    decision = unetr.rules(shape, (1.0,) * len(shape))
    assert decision.changes["patch"] == patch
    assert "×".join(map(str, shape)) in decision.reasons["patch"]


@pytest.mark.parametrize("patch", [[3], [8, 6], [1], [1, 1, 1]])
def test_patches_that_do_not_halve_are_refused(patch: list[int]) -> None:
    with pytest.raises(InputError, match="powers of two, not all of them 1") as caught:
        unetr.Options.parse({"patch": patch}, "plan.json")
    assert caught.value.code == "BAD_PLAN"


def test_fewer_blocks_than_levels_are_refused() -> None:
    with pytest.raises(InputError, match=r"BAD_PLAN model_options.depth: found 2 blocks, .* 3 levels .*depth=3"):
        unetr.build(unetr.Options(depth=2, patch=(8,)), 1, 2, 3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_change_of_images_begins_as_hardly_any(ndim: int) -> None:
    torch.manual_seed(0)
    options = unetr.Options(width=32, depth=3, patch=(4,), channels=8, norm="none")
    network = unetr.build(options, 1, 1, ndim)
    x = torch.randn(1, 1, *(16,) * ndim)
    assert float(network(x).abs().max()) < 0.2
    assert not any(isinstance(module, nn.GroupNorm) for module in network.modules())
