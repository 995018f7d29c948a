"""The critic of patches: a place sees its own patch, and no size is too small."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hounsfield.models.parts.patchgan import Adversaries, PatchCritic


@pytest.mark.parametrize("size", [(64, 48), (5, 32, 32), (1, 8), (2, 2, 2)])
def test_a_map_smaller_than_the_image(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    critic = PatchCritic(2, size)
    out = critic(torch.randn(3, 2, *size))
    assert out.shape[:2] == (3, 1)
    assert all(1 <= o <= n for o, n in zip(out.shape[2:], size, strict=True))
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


def test_no_place_sees_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    critic = PatchCritic(1, (128, 128))
    for module in critic.modules():
        if isinstance(module, nn.GroupNorm):  # whose statistics are those of the whole map
            monkeypatch.setattr(module, "forward", lambda x: x)
    x = torch.randn(1, 1, 128, 128)
    far = x.clone()
    far[..., 64:] += 1
    assert torch.equal(critic(x)[..., :4], critic(far)[..., :4])
    assert not torch.equal(critic(x), critic(far))


def test_beside_its_critic_a_network_does_what_it_does_alone() -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    both = Adversaries(network, PatchCritic(1, (8, 8)))
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(both(x), network(x))
