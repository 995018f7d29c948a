"""LeNet-5 has the paper's size on the paper's input, and takes any other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hounsfield.models import lenet


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_classic_number_of_parameters() -> None:
    assert count(lenet.build(lenet.Options(), 1, 10, 2)) == 61_706


def test_layer_sizes_are_the_paper_s() -> None:
    network = lenet.build(lenet.Options(), 1, 10, 2)
    weights = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert weights == [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def test_28_pixels_are_padded_to_32() -> None:
    torch.manual_seed(0)
    network = lenet.build(lenet.Options(), 1, 10, 2).eval()
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(network(x), network(F.pad(x, (2, 2, 2, 2))))


def test_padding_goes_to_the_axis_that_is_short() -> None:
    torch.manual_seed(0)
    network = lenet.build(lenet.Options(), 1, 2, 3).eval()
    x = torch.randn(1, 1, 5, 32, 31)
    torch.testing.assert_close(network(x), network(F.pad(x, (0, 1, 0, 0, 13, 14))))


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (33, 47), (200, 64), (4, 40, 40), (28, 28, 28), (70, 33, 36)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_channels(size: tuple[int, ...], channels: int) -> None:
    network = lenet.build(lenet.Options(), channels, 4, len(size)).eval()
    assert network(torch.zeros(2, channels, *size)).shape == (2, 4)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network = lenet.build(lenet.Options(dropout=0.5), 1, 3, 2)
    x = torch.randn(1, 1, 32, 32)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
