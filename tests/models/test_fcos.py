"""The detector's own promises: levels from shapes and boxes, and first scores that call everything rare."""

from __future__ import annotations

import pytest
import torch

from hounsfield.models import fcos, fcos_attention
from hounsfield.models.parts.pyramid import RARE

MEMBERS = (fcos, fcos_attention)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_maps_lie_on_the_levels_that_were_asked_for(member: object, ndim: int) -> None:
    options = member.Options(width=32, strides=((2,),) * 4, finest=2)  # type: ignore[attr-defined]
    network = member.build(options, 1, 3, ndim).eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        maps = network(torch.randn(1, 1, *(32,) * ndim))
    assert [tuple(m.shape) for m in maps] == [(1, 3 + 2 * ndim, *(32 // s,) * ndim) for s in (4, 8, 16)]
    first = torch.cat([m[:, :3].flatten() for m in maps]).sigmoid()
    assert first.median().item() == pytest.approx(RARE, rel=0.2)
    assert first.max() < 0.1
    sides = torch.cat([m[:, 3:].flatten() for m in maps])
    assert sides.median().item() == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize(
    ("shape", "voxel", "smallest", "levels", "finest"),
    [
        ((320, 416), (1.0, 1.0), (24.0, 20.0), 5, 3),
        ((320, 416), (1.0, 1.0), (12.0, 20.0), 5, 2),
        ((320, 416), (1.0, 1.0), (4.0, 4.0), 5, 1),
        ((64, 64, 64), (1.0, 1.0, 1.0), (5.0, 5.0, 5.0), 4, 1),
        ((16, 128, 128), (5.0, 1.0, 1.0), (2.0, 20.0, 20.0), 5, 2),
    ],
)
def test_small_boxes_ask_for_fine_levels(
    shape: tuple[int, ...], voxel: tuple[float, ...], smallest: tuple[float, ...], levels: int, finest: int
) -> None:
    decision = fcos.rules(shape, voxel, smallest)
    assert len(decision.changes["strides"]) == levels
    assert decision.changes["finest"] == finest
    assert "×".join(f"{s:.0f}" for s in smallest) in decision.reasons["finest"]
