"""What is hidden is hidden: no network learns it from what it is given, and a vision transformer does not even meet it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hounsfield.models import hybrid, resnet, swin, unet, vit
from hounsfield.models.parts.masked import MaskedFeatures, MaskedMap, MaskedTokens, hidden_of, hide

SIZES = {2: (24, 32), 3: (8, 16, 12)}
PATCH = {2: (8, 8), 3: (4, 4, 4)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "cell"), [((24, 32), (8, 8)), ((25, 30), (8, 8)), ((6, 20, 21), (2, 8, 8)), ((5, 5), (5, 5))])
def test_as_many_whole_cells_are_hidden_of_every_sample(size: tuple[int, ...], cell: tuple[int, ...]) -> None:
    hidden = hide(4, size, cell, 0.6, seeded(1))
    assert hidden.shape == (4, 1, *size)
    assert hidden.dtype == torch.bool
    corners = hidden[:, 0][(slice(None), *(slice(None, None, c) for c in cell))]
    count = math.prod(-(-n // c) for n, c in zip(size, cell, strict=True))
    assert corners.flatten(1).sum(1).tolist() == [hidden_of(count, 0.6)] * 4
    whole = corners
    for axis, (n, c) in enumerate(zip(size, cell, strict=True), start=1):
        whole = whole.repeat_interleave(c, dim=axis).narrow(axis, 0, n)
    assert torch.equal(whole, hidden[:, 0])
    assert torch.equal(hide(4, size, cell, 0.6, seeded(1)), hidden)
    if count > 1:
        assert not torch.equal(hide(4, size, cell, 0.6, seeded(2)), hidden)


def test_something_is_hidden_and_something_shown_where_there_are_two_cells() -> None:
    assert [hidden_of(n, share) for n, share in ((1, 0.6), (2, 0.01), (2, 0.99), (196, 0.75))] == [1, 1, 1, 147]


def test_every_cell_is_hidden_as_often_as_any_other() -> None:
    often = torch.stack([hide(1, (4, 4), (1, 1), 0.75, seeded(k))[0, 0].float() for k in range(800)]).mean(0)
    assert 0.68 < float(often.min()) <= float(often.max()) < 0.82


def networks(ndim: int) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    size, patch = SIZES[ndim], PATCH[ndim]
    return {
        "unet": MaskedMap(unet.build(unet.Options(width=8, strides=((2,), (2,))), 2, 2, ndim), 2, ndim),
        "supervised deeply": MaskedMap(
            unet.build(unet.Options(width=8, strides=((2,), (2,)), deep_supervision=True), 2, 2, ndim), 2, ndim
        ),
        "resnet": MaskedFeatures(resnet.build(resnet.Options(width=8, depth=(1, 1)), 2, 2, ndim), 2, size),
        "hybrid": MaskedFeatures(hybrid.build(hybrid.Options(width=8, depth=(1, 1, 1, 1), stem="small"), 2, 2, ndim), 2, size),
        "swin": MaskedFeatures(swin.build(swin.Options(width=32, depth=(1, 1), patch=(4,)), 2, 2, ndim), 2, size),
        "vit": MaskedTokens(vit.build(vit.Options(width=64, depth=2, patch=patch), 2, 2, ndim), 2, 0.75),
        "cut by convolutions": MaskedTokens(
            vit.build(vit.Options(width=64, depth=2, patch=patch, cut="conv"), 2, 2, ndim), 2, 0.75
        ),
        "table": MaskedTokens(
            vit.build(vit.Options(width=64, depth=2, patch=patch, positions="learned", registers=0), 2, 2, ndim), 2, 0.75
        ),
    }


@pytest.mark.parametrize("name", networks(2))
@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_hidden_changes_nothing_and_all_that_is_asked_learns(name: str, ndim: int) -> None:
    network, size = networks(ndim)[name].train(), SIZES[ndim]
    x, other = (torch.randn(3, 2, *size, generator=seeded(k)) for k in (1, 2))
    hidden = hide(3, size, PATCH[ndim], 0.75, seeded(3))
    out: Tensor = network(x, hidden)
    assert out.shape == x.shape
    torch.testing.assert_close(network(torch.where(hidden, other, x), hidden), out)
    assert not torch.allclose(network(torch.where(hidden, x, other), hidden), out), "what is shown counts"
    torch.autograd.backward(((out - x).square() * hidden).sum())
    silent = {n for n, p in network.named_parameters() if p.grad is None}
    assert all(n.startswith(("network.head", "network.norm")) for n in silent), silent


def test_the_encoder_meets_the_visible_patches_alone() -> None:
    network: Any = networks(2)["vit"]
    seen: list[int] = []
    network.network.encoder.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    network(torch.randn(2, 2, 24, 32), hide(2, (24, 32), (8, 8), 0.75, seeded(1)))
    assert seen == [4 + 3], "registers, and a quarter of 12 patches"


def test_places_keep_what_was_made_of_them() -> None:
    """Shown patches that trade places with their positions give the same tokens, so that each is told by its own place."""
    network: Any = networks(2)["vit"].eval()
    encoder = network.network.encoder
    x = torch.randn(1, 2, 24, 32, generator=seeded(5))
    kept = torch.tensor([[1, 4, 7, 10]])
    shuffled = torch.tensor([[10, 1, 7, 4]])
    first, second = (encoder(x, which)[-1][:, encoder.places_from :] for which in (kept, shuffled))
    torch.testing.assert_close(second, first[:, [3, 0, 2, 1]])
    every = encoder(x, torch.arange(12)[None])[-1]
    torch.testing.assert_close(every, encoder(x)[-1])


def test_a_simple_picture_is_learned() -> None:
    """Stripes are told from what is shown of them within a hundred steps."""
    torch.manual_seed(0)
    network = MaskedTokens(vit.build(vit.Options(width=32, depth=1, patch=(4,)), 1, 1, 2), 1, 0.5)
    stripes = torch.sin(torch.arange(24.0) * math.pi / 4).expand(1, 1, 24, 24)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for step in range(90):
        x = stripes * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]
        hidden = hide(4, (24, 24), (4, 4), 0.5, seeded(step))
        loss = ((network(x, hidden) - x).square() * hidden).sum() / hidden.sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-6:]) < 0.3 * sum(losses[:6])
