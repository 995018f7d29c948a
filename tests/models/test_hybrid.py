"""The hybrid convolves first and attends over the whole map then, and learns from few images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import hybrid, resnet
from hounsfield.models.parts.attention import AttentionBlock, kept_weights

TINY = hybrid.Options(width=8, depth=(1, 1, 1, 1), stem="small")


def test_two_stages_convolve_as_those_of_resnet_and_two_attend() -> None:
    network = hybrid.build(TINY, 1, 2, 2)
    same = resnet.build(resnet.Options(width=8, depth=(1, 1), stem="small"), 1, 2, 2)
    assert isinstance(network, hybrid.Hybrid)
    assert isinstance(same, resnet.ResNet)
    first = nn.Sequential(network.stem, network.stages[:2])
    shapes = [tuple(p.shape) for p in first.parameters()]
    assert shapes == [tuple(p.shape) for p in nn.Sequential(same.stem, same.stages).parameters()]
    kinds = [any(isinstance(m, AttentionBlock) for m in stage.modules()) for stage in network.stages]
    assert kinds == [False, False, True, True]


def test_every_place_hears_every_other_in_the_third_stage() -> None:
    network = hybrid.build(TINY, 1, 2, 2).eval()
    with kept_weights(network) as layers:
        network(torch.randn(2, 1, 24, 32))
        seen = [layer.weights for layer in layers.values()]
    assert [tuple(w.shape) for w in seen if w is not None] == [(2, 1, 48, 48), (2, 2, 12, 12)]
    assert all(bool((w > 0).all()) for w in seen if w is not None)


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (33, 47), (9, 12, 10)])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_any_size(size: tuple[int, ...], stem: str) -> None:
    options = hybrid.Options.parse({"width": 8, "depth": [1, 1, 1, 1], "stem": stem}, "test")
    network = hybrid.build(options, 2, 3, len(size)).eval()
    assert network(torch.zeros(2, 2, *size)).shape == (2, 3)


def test_it_learns_one_pattern_from_batches_of_one() -> None:
    torch.manual_seed(0)
    network = hybrid.build(TINY, 1, 2, 2).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    stripes = torch.zeros(2, 1, 16, 16)
    stripes[0, :, ::2], stripes[1, :, :, ::2] = 1, 1
    for step in range(40):
        k = step % 2
        loss = nn.functional.cross_entropy(network(stripes[k : k + 1] + 0.1 * torch.randn(1, 1, 16, 16)), torch.tensor([k]))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert network(stripes).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize(("width", "third"), [(16, 2), (32, 2), (64, 6), (96, 10)])
def test_large_ones_are_deepest_in_the_third_stage(width: int, third: int) -> None:
    with torch.device("meta"):
        network = hybrid.build(hybrid.Options(width=width), 1, 2, 2)
    assert isinstance(network, hybrid.Hybrid)
    blocks = [sum(isinstance(m, AttentionBlock) for m in stage.modules()) for stage in network.stages]
    assert blocks == [0, 0, third, 2]


@pytest.mark.parametrize(("shape", "stem"), [((56, 56), "small"), ((224, 224), "large"), ((28, 28, 28), "small")])
def test_the_stem_follows_the_longest_side_as_in_resnet(shape: tuple[int, ...], stem: str) -> None:
    decision = hybrid.rules(shape, (1.0,) * len(shape))
    assert decision.changes == {**resnet.rules(shape, (1.0,) * len(shape)).changes, "drop_path": 0.1}
    assert decision.changes["stem"] == stem


@pytest.mark.parametrize(
    ("values", "key"), [({"width": 12}, "width"), ({"depth": [2, 2, 2]}, "depth"), ({"stem": "big"}, "stem")]
)
def test_options_name_what_is_wrong(values: dict[str, object], key: str) -> None:
    with pytest.raises(InputError, match=key) as caught:
        hybrid.Options.parse(values, "plan.json")
    assert caught.value.code == "BAD_PLAN"
