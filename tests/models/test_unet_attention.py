"""The attending U-Net is a U-Net above, and hears the whole map at its coarsest level."""

from __future__ import annotations

import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.models import unet, unet_attention
from hounsfield.models.parts.attention import AttentionBlock, kept_weights

TINY = unet_attention.Options(width=8, strides=((2,), (2,), (2,)), blocks=1, window=4)


@pytest.mark.parametrize(("attend", "expected"), [(1, [0, 0, 0, 1]), (2, [0, 0, 1, 1]), (9, [0, 1, 1, 1])])
def test_the_coarsest_levels_attend_and_the_finest_never(attend: int, expected: list[int]) -> None:
    network = unet_attention.build(TINY.model_copy(update={"attend": attend}), 1, 2, 2)
    assert isinstance(network, unet_attention.UNetAttention)
    assert [sum(isinstance(m, AttentionBlock) for m in level.modules()) for level in network.encoder] == expected


def test_what_convolves_is_what_unet_has() -> None:
    ours = unet_attention.build(TINY, 1, 2, 2)
    theirs = unet.build(unet.Options(width=8, strides=((2,), (2,), (2,)), blocks=(1,), deep_supervision=False), 1, 2, 2)
    expected = {k: v.shape for k, v in theirs.state_dict().items()}
    found = {k: v.shape for k, v in ours.state_dict().items()}
    assert {k: found.get(k) for k in expected if not k.startswith(("encoder.2", "encoder.3"))} == {
        k: v for k, v in expected.items() if not k.startswith(("encoder.2", "encoder.3"))
    }


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_coarsest_level_attends_as_a_whole_and_those_above_in_windows(ndim: int) -> None:
    network = unet_attention.build(TINY, 1, 2, ndim).eval()
    with kept_weights(network) as layers:
        assert network(torch.randn(1, 1, *(32,) * ndim)).shape == (1, 2, *(32,) * ndim)
        places = [layer.weights.shape[-1] for layer in layers.values() if layer.weights is not None]
    side = 4 if ndim == 2 else 2  # of a window
    assert places == [side**ndim, 4**ndim]


def test_places_hear_each_other_further_than_convolutions_reach() -> None:
    torch.manual_seed(0)
    network = unet_attention.build(TINY, 1, 1, 2).eval()
    assert isinstance(network, unet_attention.UNetAttention)
    coarsest = network.encoder[3]
    with torch.no_grad():
        block = next(m for m in coarsest.modules() if isinstance(m, AttentionBlock))
        wide = torch.randn(1, 64, 8, 8)
        changed = wide.clone()
        changed[..., 7, 7] += 5
        assert float((block(wide) - block(changed))[..., 0, 0].abs().max()) > 0


def test_rules_and_strides_are_those_of_unet() -> None:
    for shape, voxel in (((36, 50, 35), (1.0, 1.0, 1.0)), ((20, 256, 256), (5.0, 0.7, 0.7)), ((6, 5), (1.0, 1.0))):
        ours, theirs = unet_attention.rules(shape, voxel), unet.rules(shape, voxel)
        assert ours.changes["strides"] == theirs.changes["strides"]
        assert ours.reasons["strides"] == theirs.reasons["strides"]


def test_sizes_that_do_not_fit_are_named() -> None:
    network = unet_attention.build(TINY, 1, 2, 2)
    with pytest.raises(ValueError, match=r"\(16, 18\).*multiples of \(8, 8\)"):
        network(torch.zeros(1, 1, 16, 18))
    with pytest.raises(InputError, match="width"):
        unet_attention.Options.parse({"width": 12}, "plan.json")
