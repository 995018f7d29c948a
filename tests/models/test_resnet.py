"""ResNet takes small and large, flat and deep images, and learns from batches of one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import resnet

TINY = resnet.Options(width=8, depth=(1, 1, 1), stem="small")


def maps(network: nn.Module, x: torch.Tensor) -> tuple[int, ...]:
    """Size of the last stage's output."""
    assert isinstance(network, resnet.ResNet)
    return tuple(network.stages(network.stem(x)).shape[1:])


def test_resnet_18_has_its_convolutions_and_widths() -> None:
    network = resnet.build(resnet.Options(), 3, 1000, 2)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 16
    assert sum(m.kernel_size == (1, 1) for m in convolutions) == 3
    # 11.69 million in the paper's network; normalisation has the same two numbers a channel.
    assert sum(p.numel() for p in network.parameters()) == 11_689_512


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [
        ("small", (28, 28), (32, 7, 7)),
        ("large", (224, 224), (32, 14, 14)),
        ("small", (28, 28, 28), (32, 7, 7, 7)),
        ("large", (64, 40, 9), (32, 4, 3, 1)),
        ("large", (64, 64, 3), (32, 4, 4, 1)),
        ("small", (1, 1), (32, 1, 1)),
    ],
)
def test_size_of_the_last_maps(stem: str, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    options = resnet.Options.parse({"width": 8, "depth": (1, 1, 1), "stem": stem}, "test")
    network = resnet.build(options, 2, 3, len(size)).eval()
    x = torch.zeros(1, 2, *size)
    assert maps(network, x) == expected
    assert network(x).shape == (1, 3)


@pytest.mark.parametrize("size", [(1, 1), (9, 7), (5, 6, 7)])
def test_training_mode_is_use_mode(size: tuple[int, ...]) -> None:
    """No batch statistics: one sample in training mode gives what it gives in any batch, in any mode."""
    torch.manual_seed(0)
    network = resnet.build(TINY, 1, 2, len(size))
    x = torch.randn(3, 1, *size)
    torch.testing.assert_close(network.train()(x[:1]), network.eval()(x)[:1])
    assert not list(network.buffers())


def test_it_learns_one_pattern_from_batches_of_one() -> None:
    torch.manual_seed(0)
    network = resnet.build(TINY, 1, 2, 2).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    stripes = torch.zeros(2, 1, 12, 12)
    stripes[0, :, ::2], stripes[1, :, :, ::2] = 1, 1
    for step in range(40):
        k = step % 2
        loss = nn.functional.cross_entropy(network(stripes[k : k + 1] + 0.1 * torch.randn(1, 1, 12, 12)), torch.tensor([k]))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert network(stripes).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "key"),
    [({"width": 12}, "width"), ({"depth": []}, "depth"), ({"depth": [2, 0]}, "depth"), ({"stem": "big"}, "stem")],
)
def test_options_name_what_is_wrong(values: dict[str, object], key: str) -> None:
    with pytest.raises(InputError, match=key) as caught:
        resnet.Options.parse(values, "plan.json")
    assert caught.value.code == "BAD_PLAN"


@pytest.mark.parametrize(
    ("shape", "stem"),
    [((28, 28), "small"), ((96, 40), "small"), ((224, 224), "large"), ((28, 28, 28), "small"), ((9, 64, 64), "large")],
)
def test_the_stem_follows_the_longest_side(shape: tuple[int, ...], stem: str) -> None:
    decision = resnet.rules(shape, (1.0,) * len(shape))
    assert resnet.Options.parse(decision.changes, "rules").stem == stem
    assert str(max(shape)) in decision.reasons["stem"]


def test_sizes_fall() -> None:
    numbers = [sum(p.numel() for p in resnet.build(o, 1, 2, 2).parameters()) for o in resnet.sizes(resnet.Options())]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 3
