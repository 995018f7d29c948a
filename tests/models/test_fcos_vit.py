"""The detector on a plain transformer: maps of every stride from one, and boxes from the level that small ones ask for."""

from __future__ import annotations

import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.models import fcos_vit
from hounsfield.models.parts.attention import kept_weights

TINY = fcos_vit.Options(width=32, depth=2, patch=(8,), channels=16)


@pytest.mark.parametrize(
    ("finest", "coarser", "strides"), [(1, 1, [2, 4, 8, 16]), (3, 1, [8, 16]), (2, 0, [4, 8]), (3, 2, [8, 16, 32])]
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_maps_lie_on_every_stride_from_the_finest_on(ndim: int, finest: int, coarser: int, strides: list[int]) -> None:
    options = TINY.model_copy(update={"finest": finest, "coarser": coarser})
    size = (64, 32, 32)[:ndim]
    maps = fcos_vit.build(options, 1, 2, ndim).eval()(torch.zeros(1, 1, *size))
    assert [tuple(m.shape[2:]) for m in maps] == [tuple(n // s for n in size) for s in strides]
    assert fcos_vit.stride(options, ndim) == (strides[-1],) * ndim


def test_thin_axes_are_not_halved_beyond_the_patch() -> None:
    options = fcos_vit.Options(width=32, depth=1, patch=(1, 4, 4), finest=2, channels=16)
    assert fcos_vit.stride(options, 3) == (1, 8, 8)
    maps = fcos_vit.build(options, 1, 1, 3).eval()(torch.zeros(1, 1, 3, 16, 16))
    assert [tuple(m.shape[2:]) for m in maps] == [(3, 4, 4), (3, 2, 2)]


def test_the_finest_level_follows_the_smallest_boxes() -> None:
    small, large = (fcos_vit.rules((256, 256), (1.0, 1.0), (side, side)).changes["finest"] for side in (5.0, 30.0))
    assert (small, large) == (1, 3)
    options = fcos_vit.Options.parse(fcos_vit.rules((256, 256), (1.0, 1.0), (5.0, 5.0)).changes, "rules")
    assert options.cut == "conv"


def test_attention_of_every_block_is_there_to_be_seen() -> None:
    network = fcos_vit.build(TINY, 1, 1, 2).eval()
    with kept_weights(network) as layers:
        network(torch.zeros(1, 1, 32, 16))
        assert [tuple(layer.weights.shape) for layer in layers.values() if layer.weights is not None] == [(1, 1, 8, 8)] * 2


@pytest.mark.parametrize(
    ("values", "words"), [({"patch": [3]}, "powers of two"), ({"patch": [4], "finest": 3}, "3 of 2 levels")]
)
def test_levels_that_do_not_fit_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        fcos_vit.Options.parse(values, "plan.json")
    assert caught.value.code == "BAD_PLAN"
