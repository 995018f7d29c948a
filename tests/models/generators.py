"""What tests of generators share: small ones, sizes to try, and what every adversarial pair must do."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

SIDES = st.lists(st.integers(8, 40), min_size=2, max_size=2) | st.lists(st.integers(8, 18), min_size=3, max_size=3)

N = TypeVar("N", bound=nn.Module)


def small(member: Any, kind: type[N], size: tuple[int, ...], channels: int, asked: int, **options: object) -> N:
    """A network of a module of `models` after its own rules for images of this size, with these options; always the same.
    asked: channels of what is asked for."""
    torch.manual_seed(0)
    decided = member.rules(size, (1.0,) * len(size)).changes
    network = member.build(member.Options.parse({**decided, **options}, "test"), channels, asked, len(size))
    assert isinstance(network, kind)
    return network


def classes(*size: int) -> list[Tensor]:
    """(1, 2, *size) each: two classes, as an image of either is asked for."""
    return [torch.eye(2)[k].reshape(1, 2, *[1] * len(size)).expand(1, 2, *size) for k in (0, 1)]


def check_one_judges_what_the_other_makes(pair: Any, sides: list[int], channels: int, count: int) -> None:
    """pair: for images of these sides and channels, of which `count` channels are asked for."""
    asked = torch.rand(2, count, *sides) if count else None
    with torch.no_grad():
        images = pair(torch.randn(2, *pair.noise_shape), asked)
        assert images.shape == (2, channels, *sides)
        assert pair.discriminator(images, asked).shape == (2,)


def check_what_is_asked_for_counts(pair: Any) -> None:
    """pair: for grey images of 16x16 of two classes."""
    noise, asked = torch.randn(1, *pair.noise_shape), classes(16, 16)
    one, other = (pair(noise, told) for told in asked)
    assert not torch.allclose(one, other)
    judged = [pair.discriminator(one, told) for told in asked]
    assert not torch.allclose(*judged)
