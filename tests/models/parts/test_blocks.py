"""The blocks compute what their papers say, at any size."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hounsfield.models.parts import blocks

PLAIN = blocks.Style(blocks.CONV, blocks.instance_norm, nn.ReLU)


def shapes(ndim: int, low: int = 1, high: int = 9) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=ndim, max_size=ndim)


@given(st.data(), st.sampled_from((2, 3)))
def test_sizes_are_rounded_up_and_branch_meets_shortcut(data: st.DataObject, ndim: int) -> None:
    size = data.draw(shapes(ndim))
    stride = data.draw(shapes(ndim, high=3))
    x = torch.zeros(2, 3, *size)
    expected = (2, 4, *(math.ceil(n / s) for n, s in zip(size, stride, strict=True)))
    assert blocks.ConvBlock(PLAIN, 3, 4, (3,) * ndim, stride).eval()(x).shape == expected
    assert blocks.ResidualBlock(PLAIN, 3, 4, (3,) * ndim, stride).eval()(x).shape == expected


@pytest.mark.parametrize(("ndim", "oracle"), [(2, nn.InstanceNorm2d(5, affine=True)), (3, nn.InstanceNorm3d(5, affine=True))])
def test_instance_norm_is_torch_s_own(ndim: int, oracle: nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, *(4, 6, 5)[:ndim]) * 3 + 1
    norm = blocks.instance_norm(5)
    for name in ("weight", "bias"):
        nn.init.normal_(norm.get_parameter(name))
        oracle.get_parameter(name).data.copy_(norm.get_parameter(name).data)
    torch.testing.assert_close(norm(x), oracle(x))


def test_group_norm_is_defined_and_informative_on_one_voxel_and_one_sample() -> None:
    norm = blocks.group_norm(16).train()
    a, b = norm(torch.arange(16.0).reshape(1, 16, 1, 1)), norm(torch.arange(16.0).flip(0).reshape(1, 16, 1, 1))
    assert torch.isfinite(a).all()
    assert not torch.equal(a, b)
    groups = a.reshape(2, 8)
    torch.testing.assert_close(groups.mean(1), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_standardised_weights_ignore_scale_and_offset(ndim: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 4, *(3,) * ndim)
    out = blocks.standardised(weight).flatten(1)
    torch.testing.assert_close(out.mean(1), torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(out.square().sum(1), torch.ones(7))
    torch.testing.assert_close(blocks.standardised(5 * weight + 2), blocks.standardised(weight), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_standardised_convolution_is_a_convolution_with_standardised_weights(ndim: int) -> None:
    torch.manual_seed(0)
    layer = blocks.STANDARDISED_CONV[ndim](3, 4, 3, 2, 1)
    plain = blocks.CONV[ndim](3, 4, 3, 2, 1)
    plain.load_state_dict({**layer.state_dict(), "weight": blocks.standardised(layer.get_parameter("weight").detach())})
    x = torch.randn(1, 3, *(7,) * ndim)
    torch.testing.assert_close(layer(x), plain(x))


def test_a_residual_block_without_its_branch_is_its_shortcut() -> None:
    block = blocks.ResidualBlock(PLAIN, 2, 2, (3, 3), (2, 2))
    nn.init.zeros_(block.branch[-1].get_parameter("weight"))
    x = torch.rand(1, 2, 5, 4)
    # Averages over the stride; at an odd edge over what is there.
    expected = torch.stack([x[..., k : k + 2, :].mean(-2) for k in (0, 2, 4)], -2)
    expected = torch.stack([expected[..., k : k + 2].mean(-1) for k in (0, 2)], -1)
    torch.testing.assert_close(block(x), expected)


def test_initial_weights_keep_the_variance_of_what_follows_a_relu() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 256, 3, padding=1)
    up = nn.ConvTranspose2d(64, 256, 2, 2, bias=False)
    blocks.initialise(nn.Sequential(conv, up))
    x = torch.randn(4, 64, 16, 16)
    inner = conv(x.relu())[..., 1:-1, 1:-1]
    assert inner.var().item() == pytest.approx(1, rel=0.1)
    assert up(x).var().item() == pytest.approx(1, rel=0.1)
    assert conv.bias is not None
    assert conv.bias.abs().max() == 0


@pytest.mark.parametrize("model", ["unet", "resnet", "vit", "swin", "hybrid", "restormer"])
def test_what_is_computed_again_gives_the_same_gradients_and_keeps_fewer_maps(model: str) -> None:
    from hounsfield.models import MODELS

    member = MODELS.load(model)
    options = member.sizes(member.Options())[-1]
    if "drop_path" in type(options).model_fields:  # what is left out is left out the second time, too
        options = options.model_copy(update={"drop_path": 0.3})
    x = torch.randn(4, 1, *(2 * max(16, s) for s in member.stride(options, 2)))
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        network = member.build(options, 1, 2, 2).train()
        if again:
            blocks.recompute(network)
        kept: dict[int, int] = {}

        def keep(value: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            out = network(x)
        maps = out if isinstance(out, tuple) else (out,)
        torch.autograd.backward(torch.stack([m.square().mean() for m in maps]).sum())
        results.append((maps[0].detach(), [p.grad for p in network.parameters()], sum(kept.values())))
    (plain, grads, most), (same, others, least) = results
    assert torch.equal(plain, same)
    for one, other in zip(grads, others, strict=True):
        torch.testing.assert_close(one, other)
    assert least < most
    assert blocks.units(network)


def test_units_lie_in_no_other() -> None:
    row = blocks.in_a_row(PLAIN, blocks.ResidualBlock, 1, 4, (3, 3), (1, 1), 2)
    assert blocks.units(nn.Sequential(nn.ReLU(), row)) == [row]
    assert len(blocks.units(nn.Sequential(*row.children()))) == 2
    assert blocks.units(nn.Conv2d(1, 1, 1)) == []
