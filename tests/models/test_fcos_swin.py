"""The detector on windows that shift: each stage is a level, and small boxes ask for small patches."""

from __future__ import annotations

import pytest
import torch

from hounsfield.models import fcos_swin
from hounsfield.models.parts.attention import AttentionBlock

TINY = fcos_swin.Options(width=32, depth=(1, 1, 2), patch=(2,), channels=16, window=4)


@pytest.mark.parametrize("ndim", [2, 3])
def test_each_stage_is_a_level(ndim: int) -> None:
    size = (24, 16, 16)[:ndim]
    maps = fcos_swin.build(TINY, 1, 2, ndim).eval()(torch.zeros(1, 1, *size))
    assert [tuple(m.shape[2:]) for m in maps] == [tuple(n // s for n in size) for s in (2, 4, 8)]
    assert fcos_swin.stride(TINY, ndim) == (8,) * ndim


def test_blocks_begin_without_places_and_are_left_out_more_often_the_deeper_they_lie() -> None:
    network = fcos_swin.build(TINY.model_copy(update={"drop_path": 0.3}), 1, 2, 2)
    blocks = [m for m in network.modules() if isinstance(m, AttentionBlock)]
    assert [block.drop.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert all(float(p.abs().max()) == 0 for block in blocks for p in block.place.parameters())


@pytest.mark.parametrize(
    ("smallest", "patch"), [(None, (4, 4)), ((30.0, 30.0), (4, 4)), ((5.5, 5.5), (2, 2)), ((2.0, 9.0), (2, 2))]
)
def test_patches_are_no_larger_than_small_boxes_bear(smallest: tuple[float, ...] | None, patch: tuple[int, ...]) -> None:
    decision = fcos_swin.rules((256, 256), (1.0, 1.0), smallest)
    assert decision.changes["patch"] == patch
    assert ("smallest tenth" in decision.reasons["patch"]) is (smallest is not None)
