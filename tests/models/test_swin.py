"""The hierarchical transformer merges neighbours, takes any size, and reaches across its windows block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import swin
from hounsfield.models.parts.attention import kept_weights
from hounsfield.models.parts.hierarchy import Merge

TINY = swin.Options(width=32, depth=(2, 2), patch=(2,), window=4)


@pytest.mark.parametrize("size", [(4, 6), (5, 4), (3, 4, 5)])
def test_merging_sets_neighbours_side_by_side(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ndim = len(size)
    merge = Merge(3, ndim)
    merge.norm = nn.LayerNorm(3 * 2**ndim, elementwise_affine=False)
    x = torch.randn(2, 3, *size)
    padded = np.zeros((2, 3, *(n + n % 2 for n in size)), dtype=np.float32)
    padded[(slice(None), slice(None), *(slice(n) for n in size))] = x.numpy()
    weight = merge.reduce.weight.detach().numpy()
    expected = np.empty((2, 6, *((n + 1) // 2 for n in size)), dtype=np.float32)
    for place in np.ndindex(expected.shape[2:]):
        beside = np.concatenate(
            [padded[(slice(None), slice(None), *(2 * p + o for p, o in zip(place, corner, strict=True)))]
             for corner in np.ndindex((2,) * ndim)], axis=1)  # fmt: skip
        normed = (beside - beside.mean(1, keepdims=True)) / np.sqrt(beside.var(1, keepdims=True) + 1e-5)
        expected[(slice(None), slice(None), *place)] = normed @ weight.T
    np.testing.assert_allclose(merge(x).detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(2, 2), (10, 26), (56, 56), (6, 10, 14)])
def test_any_multiple_of_the_patch(size: tuple[int, ...]) -> None:
    network = swin.build(TINY, 2, 3, len(size)).eval()
    assert network(torch.zeros(2, 2, *size)).shape == (2, 3)


def test_windows_of_the_second_block_reach_across_those_of_the_first() -> None:
    torch.manual_seed(0)
    one, two = (swin.build(swin.Options(width=32, depth=(n,), patch=(1,), window=4), 1, 2, 2).eval() for n in (1, 2))
    x = torch.randn(1, 1, 8, 8)
    other = x.clone()
    other[..., 3, 3] += 5  # at the far corner of the first window
    for network, reached in ((one, False), (two, True)):
        assert isinstance(network, swin.Swin)
        with torch.no_grad():
            changed = (network.stages(x) - network.stages(other)).abs().amax(dim=1)[0]
        assert bool(changed[4, 4] > 0) is reached


def test_swin_t_has_about_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = swin.build(swin.Options(), 3, 1000, 2)
    # 28.3 million in table 1 of the paper; positions by convolution in place of tables, no norm of the embedding.
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(28.3e6, rel=0.01)


def test_attention_of_every_block_is_there_to_be_seen() -> None:
    network = swin.build(TINY, 1, 2, 2).eval()
    with kept_weights(network) as layers:
        network(torch.zeros(1, 1, 16, 16))
        seen = [layer.weights for layer in layers.values()]
    # 8 x 8 places in windows of 4 x 4, begun half of one earlier in the second block; then 4 x 4 in one.
    assert [tuple(w.shape) for w in seen if w is not None] == [(4, 1, 16, 16), (9, 1, 16, 16), (1, 2, 16, 16), (1, 2, 16, 16)]


@pytest.mark.parametrize(
    ("shape", "patch"), [((224, 224), (4, 4)), ((56, 56), (2, 2)), ((28, 28, 28), (2, 2, 2)), ((6, 90, 90), (1, 4, 4))]
)
def test_the_patch_follows_the_image(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    decision = swin.rules(shape, (1.0,) * len(shape))
    assert decision.changes["patch"] == patch
    assert "×".join(map(str, shape)) in decision.reasons["patch"]


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="width"):
        swin.Options.parse({"width": 40}, "plan.json")
