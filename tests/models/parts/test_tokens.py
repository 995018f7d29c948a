"""The encoder of vision transformers: rotary positions tell differences of places, and taps what is known on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.models.parts import tokens
from hounsfield.models.parts.attention import turned
from hounsfield.models.parts.tokens import BASE, Encoder, rotary

CPU = torch.device("cpu")


def angle(place: Sequence[int], pair: int, pairs: int) -> float:
    """Of the pair of channels at the place: each axis has an equal share of the pairs, its angles falling geometrically."""
    own = pairs // len(place)
    axis, number = divmod(pair, own)
    return float(place[axis] * BASE ** (-number / own)) if axis < len(place) else 0.0


@pytest.mark.parametrize("places", [(3, 4), (2, 3, 4)])
def test_angles_are_those_of_the_formula_and_of_no_place_0(places: tuple[int, ...]) -> None:
    cos, sin = rotary(places, 2, 32, CPU)
    expected = np.zeros((2 + math.prod(places), 16))
    for number, place in enumerate(np.ndindex(places)):
        expected[2 + number] = [angle(place, pair, 16) for pair in range(16)]
    np.testing.assert_allclose(cos.numpy(), np.cos(expected), atol=1e-6)
    np.testing.assert_allclose(sin.numpy(), np.sin(expected), atol=1e-6)


@pytest.mark.parametrize("places", [(6, 5), (4, 3, 5)])
def test_what_two_places_say_to_each_other_depends_on_their_difference(places: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(32), torch.randn(32)
    cos, sin = rotary(places, 0, 32, CPU)
    count = math.prod(places)
    scores = (turned(query.expand(count, -1), cos, sin) @ turned(key.expand(count, -1), cos, sin).T).reshape(*places, *places)
    first, second, third = ((k,) * len(places) for k in range(3))
    torch.testing.assert_close(scores[first + second], scores[second + third], atol=1e-4, rtol=1e-4)
    assert abs(float(scores[first + second] - scores[second + first])) > 1e-2


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_any_size_tells_places_apart(ndim: int, positions: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(1, 32, (4,) * ndim, (2,), positions, prefix=3)  # type: ignore[arg-type]
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 1, *(12, 8, 16)[:ndim])
    places = (3, 2, 4)[:ndim]
    (told,) = encoder(x)
    assert told.shape == (1, 3 + math.prod(places), 32)
    assert encoder.maps(told, x.shape[2:]).shape == (1, 32, *places)
    torch.testing.assert_close(encoder.maps(told, x.shape[2:])[0].flatten(1)[:, 1], told[0, 3 + 1])
    # The same patches elsewhere: attention alone would not see it.
    moved = x.roll(4, dims=2)
    (other,) = encoder(moved)
    assert not torch.allclose(told[:, :3], other[:, :3], atol=1e-3)


def test_without_positions_attention_would_not_see_a_move() -> None:
    torch.manual_seed(0)
    encoder = Encoder(1, 32, (4, 4), (2,), "learned", prefix=3)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert encoder.table is not None
    torch.nn.init.zeros_(encoder.table)
    x = torch.randn(1, 1, 12, 8)
    torch.testing.assert_close(encoder(x)[0][:, :3], encoder(x.roll(4, dims=2))[0][:, :3], atol=1e-4, rtol=1e-4)


def test_taps_are_what_a_shallower_encoder_knows() -> None:
    torch.manual_seed(0)
    deep, shallow = Encoder(1, 32, (4, 4), (1, 3)), Encoder(1, 32, (4, 4), (1,))
    missing, _ = shallow.load_state_dict(deep.state_dict(), strict=False)
    assert missing == []
    x = torch.randn(2, 1, 8, 8)
    first, last = deep(x)
    torch.testing.assert_close(first, shallow(x)[0])
    assert not torch.allclose(first, last)


@pytest.mark.parametrize(
    ("width", "heads", "blocks"),
    [(96, 3, 12), (192, 3, 12), (384, 6, 12), (768, 12, 12), (1024, 16, 24), (1408, 22, 42), (416, 13, 12)],
)
def test_heads_and_blocks_of_published_widths(width: int, heads: int, blocks: int) -> None:
    assert (tokens.heads(width), tokens.depth(width)) == (heads, blocks)
    assert width % heads == 0


@pytest.mark.parametrize(
    ("shape", "places", "most", "expected"),
    [((224, 224), 14, 16, (16, 16)), ((56, 56), 14, 16, (4, 4)), ((1, 1), 14, 16, (1, 1)), ((6, 90, 90), 8, 16, (1, 8, 8)),
     ((512, 512), 14, 16, (16, 16)), ((56, 56), 32, 4, (2, 2))],
)  # fmt: skip
def test_patches_follow_the_image(shape: tuple[int, ...], places: int, most: int, expected: tuple[int, ...]) -> None:
    assert tokens.patch_of(shape, places, most) == expected


def test_sides_for_another_dimension_are_refused() -> None:
    assert tokens.sides((4,), 3) == (4, 4, 4)
    assert tokens.sides((1, 8, 8), 3) == (1, 8, 8)
    with pytest.raises(InputError, match=r"BAD_PLAN model_options.patch: found \[8, 8\] in 3D, expected 1 or 3 numbers"):
        tokens.sides((8, 8), 3)


def test_short_sides_of_a_patch_are_halved_last() -> None:
    assert tokens.steps((2, 8, 8)) == [(1, 2, 2), (1, 2, 2), (2, 2, 2)]
    assert tokens.steps((1, 4)) == [(1, 2), (1, 2)]
    assert tokens.steps((1, 1)) == []


@pytest.mark.parametrize("cut", ["patch", "conv"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_patches_hear_of_their_neighbours_where_convolutions_cut_them(ndim: int, cut: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(1, 32, (4,) * ndim, (1,), cut=cut)  # type: ignore[arg-type]
    x = torch.randn(1, 1, *(8,) * ndim)
    other = x.clone()
    other[..., 3] += 1  # the last column of the first patch
    with torch.no_grad():
        changed = (encoder.embed(x) - encoder.embed(other)).abs().amax(dim=1)[0]
    assert bool((changed[..., 0] > 0).all())
    assert bool((changed[..., 1] > 1e-6).any()) is (cut == "conv")


def test_every_member_that_attends_trains_by_rules_of_its_own() -> None:
    own = tokens.training()
    assert set(own.reasons) == set(own.changes)
    assert own.changes["lr"] < 2e-3
