"""The vision transformer has the published sizes, reads any size of image, and scores as its option says."""

from __future__ import annotations

from typing import Any

import pytest
import timm as peer
import torch
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.models import vit
from hounsfield.models.parts.attention import kept_weights
from hounsfield.models.parts.tokens import TransformerBlock


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("width", "name"), [(192, "vit_tiny_patch16_224"), (768, "vit_base_patch16_224")])
def test_it_has_the_published_number_of_parameters(width: int, name: str) -> None:
    with torch.device("meta"):
        theirs = peer.create_model(name, pretrained=False, num_classes=10)
        ours = vit.build(vit.Options(width=width, positions="learned", registers=0, head="class"), 3, 10, 2)
    assert count(ours) == count(theirs) - width  # its table has a place for the class token too


def test_its_blocks_compute_what_timm_s_do() -> None:
    torch.manual_seed(0)
    theirs: Any = peer.create_model("vit_tiny_patch16_224", num_classes=3, img_size=64, depth=2, pretrained=False).eval()
    options = vit.Options(width=192, depth=2, positions="learned", registers=0, head="class")
    ours = vit.build(options, 3, 3, 2).eval()
    assert isinstance(ours, vit.ViT)
    encoder = ours.encoder
    assert encoder.table is not None
    assert encoder.prefix is not None
    with torch.no_grad():
        encoder.embed.load_state_dict(theirs.patch_embed.proj.state_dict())
        encoder.prefix.copy_(theirs.cls_token + theirs.pos_embed[:, :1])
        table = theirs.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        encoder.table = nn.Parameter(table.clone())
        for mine, its in zip(encoder.blocks, theirs.blocks, strict=True):
            parts = {
                "first": its.norm1,
                "second": its.norm2,
                "attention.qkv": its.attn.qkv,
                "attention.out": its.attn.proj,
                "layers.0": its.mlp.fc1,
                "layers.2": its.mlp.fc2,
            }
            for name, part in parts.items():
                mine.get_submodule(name).load_state_dict(part.state_dict())
        encoder.norms[0].load_state_dict(theirs.norm.state_dict())
        for norm in (m for m in ours.modules() if isinstance(m, nn.LayerNorm)):
            norm.eps = theirs.norm.eps
        ours.head.load_state_dict(theirs.head.state_dict())
        x = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("head", ["mean", "class"])
@pytest.mark.parametrize("size", [(16, 16), (32, 48), (16, 32, 16)])
def test_any_size(positions: str, head: str, size: tuple[int, ...]) -> None:
    options = vit.Options.parse({"width": 32, "depth": 1, "positions": positions, "head": head}, "test")
    network = vit.build(options, 2, 3, len(size)).eval()
    assert network(torch.zeros(2, 2, *size)).shape == (2, 3)


def test_attention_of_every_block_is_there_to_be_seen() -> None:
    network = vit.build(vit.Options(width=64, depth=3, registers=2, head="class", patch=(8,)), 1, 2, 2).eval()
    with kept_weights(network) as layers:
        network(torch.randn(2, 1, 16, 24))
        seen = {name: layer.weights for name, layer in layers.items()}
    assert list(seen) == [f"encoder.blocks.{k}.attention" for k in range(3)]
    for weights in seen.values():
        assert weights is not None
        assert weights.shape == (2, 1, 3 + 6, 3 + 6)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 9))


def test_registers_change_nothing_but_what_patches_hear() -> None:
    with_, without = (vit.build(vit.Options(width=32, depth=1, registers=n), 1, 2, 2) for n in (4, 0))
    assert count(with_) - count(without) == 4 * 32


@pytest.mark.parametrize(
    ("values", "key"),
    [({"width": 40}, "width"), ({"depth": 0}, "depth"), ({"positions": "none"}, "positions"), ({"patch": []}, "patch")],
)
def test_options_name_what_is_wrong(values: dict[str, object], key: str) -> None:
    with pytest.raises(InputError, match=key) as caught:
        vit.Options.parse(values, "plan.json")
    assert caught.value.code == "BAD_PLAN"


def test_the_reason_names_the_image() -> None:
    decision = vit.rules((224, 160), (1.0, 1.0))
    assert decision.changes["patch"] == (16, 16)
    assert "224×160" in decision.reasons["patch"]


def test_what_is_planned_learns_from_few_images_and_what_is_published_is_as_it_was() -> None:
    planned = vit.Options.parse(vit.rules((64, 64), (1.0, 1.0)).changes, "rules")
    assert (planned.cut, planned.drop_path) == ("conv", 0.1)
    assert (vit.Options().cut, vit.Options().drop_path) == ("patch", 0.0)
    network = vit.build(planned, 1, 2, 2)
    assert isinstance(network, vit.ViT)
    dropped = [block.drop.rate for block in network.encoder.blocks if isinstance(block, TransformerBlock)]
    assert dropped == pytest.approx([0.1 * k / 11 for k in range(12)])
    x = torch.randn(8, 1, 64, 64)
    assert not torch.equal(network.train()(x), network(x))
    assert torch.equal(network.eval()(x), network(x))
