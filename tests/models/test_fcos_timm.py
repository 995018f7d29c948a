"""The detector on networks of timm: their own maps, one of stride 2 where they have none, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import timm as peer
import torch

from hounsfield.core.errors import InputError
from hounsfield.models import fcos_timm
from hounsfield.models.parts.pyramid import RARE


def built(name: str, finest: int = 8, channels: int = 1) -> Any:
    torch.manual_seed(0)
    options = fcos_timm.Options.parse({"name": name, "finest": finest, "channels": 16}, "test")
    return fcos_timm.build(options, channels, 3, 2)


@pytest.mark.parametrize("finest", [2, 4, 8])
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_mambaout"])  # strides 2 to 32; 4 to 32; channels last
def test_maps_lie_on_the_strides_that_were_asked_for(name: str, finest: int) -> None:
    network = built(name, finest, channels=2).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 2, 64, 96))
    strides = [s for s in (2, 4, 8, 16, 32) if s >= finest]
    assert [tuple(m.shape) for m in maps] == [(1, 3 + 4, 64 // s, 96 // s) for s in strides]
    first = torch.cat([m[:, :3].flatten() for m in maps]).sigmoid()
    assert first.median().item() == pytest.approx(RARE, rel=0.2)


def test_the_maps_are_timm_s_own_with_its_own_first_weights() -> None:
    network = built("test_resnet")
    torch.manual_seed(0)
    own = peer.create_model("test_resnet", pretrained=False, in_chans=1, features_only=True)
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(network.eval().levels(x), own.eval()(x)[2:], strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_map_of_stride_2_is_made_only_where_it_is_asked_for_and_lacking() -> None:
    assert built("test_resnet", 2).first is None
    assert built("test_convnext", 4).first is None
    network = built("test_convnext", 2)
    assert network.first is not None
    loss = torch.stack([m.square().sum() for m in network.train()(torch.randn(1, 1, 64, 64))]).sum()
    torch.autograd.backward(loss)
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("smallest", "finest"), [(None, 8), ((24.0, 20.0), 8), ((40.0, 19.0), 4), ((10.0, 10.0), 4), ((40.0, 4.0), 2)]
)
def test_small_boxes_ask_for_fine_maps(smallest: tuple[float, ...] | None, finest: int) -> None:
    decision = fcos_timm.rules((320, 416), (1.0, 1.0), smallest)
    assert decision.changes == {"finest": finest}
    if smallest is not None:
        assert "×".join(f"{s:.0f}" for s in smallest) in decision.reasons["finest"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("vit_tiny_patch16_224", "a network for images of 224×224"),
        ("convmixer_768_32", "a network that gives no maps"),
    ],
)
def test_networks_without_such_maps_are_refused(name: str, found: str) -> None:
    with pytest.raises(
        InputError, match=rf"--model fcos_timm:{name}: found {found}.*fix: --model fcos_timm:resnet18"
    ) as caught:
        built(name)
    assert caught.value.code == "UNSUPPORTED_PAIR"


def test_names_and_dimensions_are_checked_as_for_classification() -> None:
    with pytest.raises(InputError, match=r"UNKNOWN_MEMBER --model fcos_timm:resnet81: .*resnet18"):
        built("resnet81")
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR --model fcos_timm:resnet18: found 3D images, .*--model fcos$"):
        fcos_timm.build(fcos_timm.Options(), 1, 2, 3)


@pytest.mark.parametrize("name", ["mixnet_s", "mobilenetv3_small_050", "hrnet_w18_small"])
def test_families_that_cut_their_networks_in_their_own_ways_serve_as_well(name: str) -> None:
    with torch.device("meta"):
        maps = built(name, 4).eval()(torch.zeros(1, 1, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(64 // s, 96 // s) for s in (4, 8, 16, 32)]


def test_maps_that_do_not_cover_the_image_are_refused() -> None:
    """Convolutions without padding leave its border out."""
    with torch.device("meta"):
        network = built("inception_v4").eval()
        with pytest.raises(InputError, match=r"found maps of \[\(9, 17\), .*expected whole strides \[8, 16, 32\]") as caught:
            network(torch.zeros(1, 1, 96, 160))
    assert caught.value.code == "UNSUPPORTED_PAIR"
