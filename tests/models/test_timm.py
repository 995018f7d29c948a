"""Networks of timm by name: timm's own, for any channels and sizes, refused by name, and nothing downloaded."""

from __future__ import annotations

import socket
import sys
from typing import Any, NoReturn

import pytest
import timm as peer
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import timm

# A convolutional network, transformers of patches of 16 and 14 in two modules of timm, one for images of 224 alone, tiny ones.
NAMES = ("test_resnet", "test_vit", "vit_tiny_patch16_224", "eva02_tiny_patch14_224", "levit_128s")


def built(name: str, channels: int = 1, outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return timm.build(timm.Options(name=name), channels, outputs, 2)


@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_it_is_timm_s_own_network(name: str) -> None:
    network = built(name, channels=2, outputs=3).eval()
    torch.manual_seed(0)
    own = peer.create_model(name, pretrained=False, in_chans=2, num_classes=3).eval()
    x = torch.randn(2, 2, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), own(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_any_size_and_channels(name: str, device: str) -> None:
    with torch.device(device):
        network = built(name, channels=5, outputs=4).eval()
        with torch.no_grad():
            for size in ((64, 64), (96, 224)):
                assert network(torch.zeros(1, 5, *size)).shape == (1, 4)


def test_positions_are_fitted_to_the_image_and_not_the_image_to_them() -> None:
    network: Any = built("vit_tiny_patch16_224").eval()
    seen: list[int] = []
    network.network.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    with torch.no_grad():
        network(torch.zeros(1, 1, 64, 96))
    assert seen == [1 + 4 * 6]


def test_what_is_made_for_one_size_sees_the_image_at_that_size() -> None:
    network: Any = built("levit_128s").eval()
    x = torch.randn(1, 1, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network.network(nn.functional.interpolate(x, (224, 224), mode="bilinear"))
        torch.testing.assert_close(network(x), expected)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in NAMES:
        with torch.device("meta"):
            built(name)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet81", "did you mean resnet18 or"),
        ("resnet18.a1_in1k", "did you mean resnet18"),  # the tag of weights, which are not loaded
        ("hf-hub:someone/resnet18", "fix: "),
        ("", "fix: choose one of timm.list_models()"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        built(name)
    assert caught.value.code == "UNKNOWN_MEMBER"
    assert str(caught.value).startswith(f"UNKNOWN_MEMBER --model timm:{name}: found no network of this name")
    assert near in str(caught.value)
    assert len(str(caught.value)) < 300


def test_volumes_are_refused() -> None:
    with pytest.raises(InputError, match=r"--model timm:resnet18: found 3D images, .*fix: --model resnet$") as caught:
        timm.build(timm.Options(), 1, 2, 3)
    assert caught.value.code == "UNSUPPORTED_PAIR"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"found no package timm .*, expected the extra timm; fix: pip install") as caught:
        built("resnet18")
    assert caught.value.code == "MISSING_EXTRA"


def test_a_network_that_gives_no_scores_is_refused() -> None:
    """An encoder: it has maps for an output, whatever the number of classes."""
    with torch.device("meta"):
        network = built("mobilenetv5_300m_enc").eval()
        with pytest.raises(InputError, match=r"found an output of \(1, .*expected scores \(1, 2\)") as caught:
            network(torch.zeros(1, 1, 64, 64))
    assert caught.value.code == "UNSUPPORTED_PAIR"


def test_a_batch_of_one_that_cannot_be_normalised_by_says_so() -> None:
    network = built("test_resnet").train()
    x = torch.zeros(1, 1, 32, 32)
    with pytest.raises(InputError, match=r"found a batch of 1, .*fix: --set training.batch=2") as caught:
        network(x)
    assert caught.value.code == "BAD_PLAN"
    assert network.eval()(x).shape == (1, 2)


def test_an_image_too_small_for_the_network_says_so() -> None:
    with torch.device("meta"):
        network = built("inception_v3").eval()
        with pytest.raises(InputError, match=r"found images of \[64, 64\], expected larger ones") as caught:
            network(torch.zeros(1, 1, 64, 64))
        assert network(torch.zeros(1, 1, 96, 96)).shape == (1, 2)
    assert caught.value.code == "BAD_PLAN"
