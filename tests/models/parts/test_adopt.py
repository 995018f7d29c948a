"""Weights of elsewhere are used where they fit, adapted by rules that keep what they answer, and told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.models import MODELS, resnet, unet, unetr, vit
from hounsfield.models.parts.adopt import adopt, channels, fitted, inflated, positions, renamed


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_a_grey_picture_is_answered_as_its_three_copies() -> None:
    kernel, grey = drawn(4, 3, 3, 3), drawn(2, 1, 8, 8)
    torch.testing.assert_close(F.conv2d(grey, channels(kernel, 1)), F.conv2d(grey.expand(-1, 3, -1, -1), kernel))


def test_copies_of_a_grey_picture_are_answered_as_itself() -> None:
    kernel, grey = drawn(4, 1, 3, 3), drawn(2, 1, 8, 8)
    torch.testing.assert_close(F.conv2d(grey.expand(-1, 5, -1, -1), channels(kernel, 5)), F.conv2d(grey, kernel))


def test_channels_come_in_turn_scaled_by_how_many_there_are() -> None:
    kernel = drawn(2, 3, 1, 1)
    torch.testing.assert_close(channels(kernel, 4), torch.cat([kernel, kernel[:, :1]], dim=1) * 3 / 4)
    torch.testing.assert_close(channels(kernel, 2), kernel[:, :2] * 3 / 2)
    assert torch.equal(channels(kernel, 3), kernel)


def test_a_volume_of_equal_slices_is_answered_as_one_of_them() -> None:
    kernel, flat = drawn(4, 2, 3, 3), drawn(1, 2, 9, 9)
    volume = flat[:, :, None].expand(-1, -1, 7, -1, -1)
    found = F.conv3d(volume, inflated(kernel, 3, 3))
    expected = F.conv2d(flat, kernel)
    for k in range(found.shape[2]):
        torch.testing.assert_close(found[:, :, k], expected)


def test_a_transposed_convolution_without_overlap_is_not_divided() -> None:
    up, flat = drawn(4, 2, 2, 2), drawn(1, 4, 5, 5)
    volume = flat[:, :, None].expand(-1, -1, 3, -1, -1)
    found = F.conv_transpose3d(volume, inflated(up, 2, 2 / 2), stride=2)
    expected = F.conv_transpose2d(flat, up, stride=2)
    assert found.shape[2] == 6
    for k in range(6):
        torch.testing.assert_close(found[:, :, k], expected)


def test_positions_are_interpolated_by_their_place_and_serve_every_depth() -> None:
    ramp = torch.arange(8.0)[None, None, :, None].expand(1, 5, 8, 8).contiguous()
    finer = positions(ramp, (1, 5, 16, 16))
    assert finer is not None
    torch.testing.assert_close(finer[0, 0, 4:-4, 0], torch.arange(16.0)[4:-4] / 2 - 0.25, atol=0.05, rtol=0)
    deep = positions(ramp, (1, 5, 3, 8, 8))
    assert deep is not None
    for k in range(3):
        torch.testing.assert_close(deep[:, :, k], ramp)
    assert positions(ramp, (1, 6, 16, 16)) is None, "another width"


def test_tokens_before_the_places_stay_as_they_are() -> None:
    table = drawn(1, 1 + 9, 4)
    wider = positions(table, (1, 1 + 36, 4))
    assert wider is not None
    assert wider.shape == (1, 37, 4)
    assert torch.equal(wider[:, 0], table[:, 0])
    square = table[:, 1:].transpose(1, 2).reshape(1, 4, 3, 3)
    expected = F.interpolate(square, size=(6, 6), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(wider[:, 1:], expected)
    assert positions(table, (1, 1 + 35, 4)) is None, "no square"


@pytest.mark.parametrize(("less", "more"), [("module.", ""), ("", "network."), ("model.backbone.", "network."), ("", "")])
def test_names_that_differ_by_their_beginning_are_told(less: str, more: str) -> None:
    want = {f"{more}stem.weight": drawn(2), f"{more}blocks.0.weight": drawn(3), f"{more}head.bias": drawn(4)}
    have = {f"{less}stem.weight": drawn(2), f"{less}blocks.0.weight": drawn(3), f"{less}projector.weight": drawn(5)}
    found = renamed(have, want)
    assert {name: key for name, (key, _) in found.items()} == {
        f"{more}stem.weight": f"{less}stem.weight",
        f"{more}blocks.0.weight": f"{less}blocks.0.weight",
    }


def parts(network: nn.Module, wider: nn.Module, longer: nn.Module) -> tuple[set[str], set[str]]:
    """Names that follow the input, and the output channels."""
    own = network.state_dict()
    first, last = (
        {name for name, value in own.items() if other.state_dict()[name].shape != value.shape} for other in (wider, longer)
    )
    return first, last


def test_a_network_takes_all_but_the_output_layer_of_its_like() -> None:
    options = resnet.Options(width=8, depth=(1, 1))
    torch.manual_seed(1)
    source, target = resnet.build(options, 1, 5, 2), resnet.build(options, 1, 2, 2)
    inputs, outputs = parts(target, resnet.build(options, 2, 2, 2), resnet.build(options, 1, 3, 2))
    made = adopt(source.state_dict(), target, inputs, outputs)
    assert outputs == {"head.weight", "head.bias"} == set(made.fresh)
    assert made.share == 1
    assert not made.adapted
    assert set(made.unused) == {"head.weight", "head.bias"}
    target.load_state_dict({**target.state_dict(), **made.tensors})
    x = drawn(2, 1, 20, 20)
    torch.testing.assert_close(target.maps(x), source.maps(x))  # type: ignore[operator]


def test_the_output_layer_is_kept_where_the_question_is_the_same() -> None:
    options = resnet.Options(width=8, depth=(1,))
    source, target = resnet.build(options, 1, 2, 2), resnet.build(options, 1, 2, 2)
    inputs, outputs = parts(target, resnet.build(options, 2, 2, 2), resnet.build(options, 1, 3, 2))
    assert not adopt(source.state_dict(), target, inputs, outputs, keep_outputs=True).fresh


def test_colours_and_depth_are_adapted_by_name_and_told() -> None:
    flat, deep = unet.Options(width=4, strides=((2,), (2,))), unet.Options(width=4, strides=((2,), (2,)))
    source, target = unet.build(flat, 3, 3, 2).eval(), unet.build(deep, 1, 2, 3).eval()
    inputs, outputs = parts(target, unet.build(deep, 2, 2, 3), unet.build(deep, 1, 3, 3))
    made = adopt(source.state_dict(), target, inputs, outputs)
    assert made.share == 1
    (first,) = inputs
    assert made.adapted[first] == "3 input channels made 1, inflated to a depth of 3"
    assert any(how == "inflated to a depth of 2" for how in made.adapted.values()), "steps up"
    assert set(made.fresh) == outputs
    assert set(made.used) | set(made.adapted) | set(made.fresh) == set(target.state_dict())


def test_a_vision_transformer_gives_its_encoder_to_a_segmenter() -> None:
    options = unetr.Options(width=32, depth=3, patch=(8,), channels=4)
    source = vit.build(vit.Options(width=32, depth=3, patch=(8,), registers=0), 1, 2, 2)
    target = unetr.build(options, 1, 2, 2)
    inputs, outputs = parts(target, unetr.build(options, 2, 2, 2), unetr.build(options, 1, 3, 2))
    made = adopt(source.state_dict(), target, inputs, outputs)
    assert {name for name in target.state_dict() if name.startswith("encoder.blocks")} <= set(made.used)
    assert all(why == "not there" for name, why in made.fresh.items() if name.startswith("decoder"))


def test_weights_of_another_network_hardly_fit() -> None:
    source = MODELS.load("lenet")
    have = source.build(source.Options(), 1, 2, 2).state_dict()
    target = unet.build(unet.Options(width=4, strides=((2,),)), 1, 2, 2)
    assert adopt(have, target, (), ()).share < 0.1


def test_another_size_is_told_by_its_shape() -> None:
    narrow, wide = (resnet.build(resnet.Options(width=w, depth=(1,)), 1, 2, 2) for w in (8, 16))
    made = adopt(narrow.state_dict(), wide, (), ("head.weight", "head.bias"))
    assert made.share == 0
    assert {why.partition(",")[0] for name, why in made.fresh.items() if name.startswith("stem") and "×" in why} == {
        "of 8×1×7×7"
    }


def test_whole_numbers_of_another_shape_are_not_adapted() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    assert (
        fitted(torch.zeros(3, dtype=torch.long), torch.zeros(2, dtype=torch.long), "0.num_batches_tracked", network, ()) is None
    )
