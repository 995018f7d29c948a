"""What stays as it is does, rates fall with depth, and changes of low rank are added up as they were used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.plan.test_rules import facts, plan
from torch import nn

from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import ClassFacts
from hounsfield.core.plan import Plan, Training
from hounsfield.models import timm as named
from hounsfield.plan.network import ends, inner, network
from hounsfield.plan.tuning import DOWN, SCALE, UP, depths, groups, plain, set_rate, tuned

FLAT: dict[str, Any] = {"ndim": 2, "space": "none", "dtype": "uint8"}
for part in ("min", "median", "max"):
    FLAT |= {f"shape_{part}": (64, 64), f"spacing_{part}": (1.0, 1.0)}


def with_weights(task: str = "segmentation", model: str | None = None, **training: Any) -> Plan:
    changes: dict[str, Any] = {"training.init": "there", **{f"training.{key}": value for key, value in training.items()}}
    if (width := {"unet": 8, "vit": 32, "resnet": 8}.get(model or "unet")) is not None:
        changes["model_options.width"] = width
    if model == "vit":
        changes["model_options.cut"] = "patch"
    return plan(facts(**FLAT), task, model).override(changes, "test")


def test_ends_are_what_follows_the_numbers_of_channels() -> None:
    shapes, inputs, outputs = ends(with_weights())
    assert set(shapes) == set(network(with_weights()).state_dict())
    assert inputs == {"encoder.0.0.0.weight"}
    assert outputs == {"heads.0.weight", "heads.0.bias"}
    _, inputs, outputs = ends(with_weights("classification", "vit"))
    assert inputs == {"encoder.embed.weight"}
    assert outputs == {"head.weight", "head.bias"}


@pytest.mark.parametrize("model", ["unet", "resnet", "vit"])
def test_ends_and_the_model_are_found_within_what_a_task_trains_beside_it(model: str) -> None:
    made = with_weights("pretraining", model)
    shapes, inputs, _ = ends(made)
    whole = network(made)
    assert inner(whole, shapes) is whole.network
    assert len(inputs) == 1


def test_a_linear_probe_learns_the_output_layer_alone() -> None:
    whole = network(with_weights(frozen="body"))
    assert tuned(whole, with_weights(frozen="body"), ()) == ["heads.0.weight", "heads.0.bias"]
    assert {n for n, p in whole.named_parameters() if p.requires_grad} == {"heads.0.weight", "heads.0.bias"}


def test_with_a_frozen_encoder_the_way_up_learns() -> None:
    made = with_weights(frozen="encoder")
    names = tuned(network(made), made, ())
    assert {name.split(".")[0] for name in names} == {"up", "decoder", "heads"}


def test_with_a_frozen_encoder_a_detector_learns_to_answer() -> None:
    boxes = (ClassFacts(value=1, name="cell", cases=90, fraction=1.0, boxes=900),)
    changes = {"training.init": "x", "training.frozen": "encoder"}
    made = plan(facts(**FLAT, classes=boxes), "detection").override(changes, "test")
    names = tuned(network(made), made, ())
    assert {name.split(".")[0] for name in names} == {"pyramid", "head"}
    at = depths(network(made).state_dict())
    assert at["pyramid.smooth.0.0.weight"] == at["head.scale"] == max(at.values()) > at["stages.0.0.weight"] == 0


def test_what_begins_anew_is_never_frozen() -> None:
    made = with_weights(frozen="body")
    assert "encoder.0.0.0.weight" in tuned(network(made), made, ["encoder.0.0.0.weight"])


def test_what_fills_in_learns_beside_a_frozen_network() -> None:
    made = with_weights("pretraining", "vit", frozen="body")
    names = tuned(network(made), made, ())
    assert all(not name.startswith("network.encoder") for name in names)
    assert {"bridge.weight", "token"} <= set(names)


def test_frozen_batch_statistics_stay() -> None:
    pytest.importorskip("timm")
    made = with_weights("classification", "timm:resnet18", frozen="body")
    assert isinstance(made.model_options, named.Options)
    whole = network(made)
    tuned(whole, made, ())
    whole.train()
    before = {name: value.clone() for name, value in whole.named_buffers()}
    whole(torch.randn(2, 1, 64, 64) * 5 + 3)
    assert all(torch.equal(value, before[name]) for name, value in whole.named_buffers())


def test_depths_follow_the_network_and_its_way_back_up() -> None:
    at = depths(network(with_weights()).state_dict())
    levels = [at[f"encoder.{k}.0.0.weight"] for k in range(5)]
    assert levels == sorted(set(levels))
    assert at["up.0.weight"] == at["decoder.0.0.0.weight"] == max(levels) + 1
    assert at["up.1.weight"] == at["up.0.weight"] + 1
    assert at["heads.0.weight"] == max(at.values())
    at = depths(network(with_weights("classification", "vit")).state_dict())
    assert at["encoder.prefix"] < at["encoder.embed.weight"] < at["encoder.blocks.0.first.weight"]
    assert at["encoder.blocks.3.attention.qkv.weight"] == at["encoder.blocks.3.layers.0.bias"]
    assert at["encoder.blocks.11.first.weight"] < at["encoder.norms.0.weight"] < at["head.weight"]
    at = depths(["network.conv1.weight", "network.layer1.0.conv1.weight", "network.layer2.0.conv1.weight", "network.fc.weight"])
    assert list(at.values()) == [0, 1, 2, 3]


def test_rates_fall_by_the_same_factor_from_layer_to_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].bias.requires_grad_(False)
    optimiser = torch.optim.AdamW(groups(model, Training(init="x", layer_decay=0.5)), 1.0)
    set_rate(optimiser, 0.8)
    assert [group["lr"] for group in optimiser.param_groups] == [0.2, 0.4, 0.8]
    assert [len(group["params"]) for group in optimiser.param_groups] == [2, 1, 2]
    (whole,) = groups(model, Training())
    assert len(whole["params"]) == 5
    assert whole["scale"] == 1


@pytest.mark.parametrize("kernel", [(), (3, 3), (3, 3, 3)])
def test_changes_of_low_rank_are_added_to_what_they_change(kernel: tuple[int, ...]) -> None:
    own, down = torch.randn(5, 4, *kernel), torch.randn(2, 4, *kernel)
    up = torch.randn(5, 2, *[1] * len(kernel))
    layer = "encoder.3.qkv"
    weights = {f"{layer}.base_layer.weight": own, f"{layer}.base_layer.bias": torch.ones(5), layer + DOWN: down, layer + UP: up}
    merged = dict(plain({**weights, "head.weight": torch.ones(1)}.items()))
    assert set(merged) == {f"{layer}.weight", f"{layer}.bias", "head.weight"}
    change = sum(up[:, r].reshape(5, 1, *[1] * len(kernel)) * down[r][None] for r in range(2))
    torch.testing.assert_close(merged[f"{layer}.weight"], own + SCALE * change)
    assert next(plain(iter([("a.weight", own)])))[1] is own


@pytest.mark.parametrize(("task", "model"), [("classification", "vit"), ("segmentation", "unet")])
def test_low_rank_learns_beside_frozen_weights_and_merges_into_the_plain_network(task: str, model: str) -> None:
    pytest.importorskip("peft")
    made = with_weights(task, model, lora=2)
    torch.manual_seed(0)
    whole = network(made).eval()
    x = torch.randn(2, 1, *made.patch)
    before = whole(x)
    names = tuned(whole, made, ())
    own = {name for name in names if ".lora_" not in name}
    assert own == ends(made)[2]
    assert len(names) > len(own)
    torch.testing.assert_close(whole(x), before)
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name.endswith(UP):
                parameter.normal_(std=0.1)
    again = network(made).eval()
    again.load_state_dict(dict(plain(whole.state_dict().items())))
    assert not torch.allclose(whole(x), before)
    torch.testing.assert_close(again(x), whole(x), atol=1e-4, rtol=1e-4)


def test_standardised_convolutions_take_no_low_rank() -> None:
    pytest.importorskip("peft")
    made = with_weights("classification", "resnet", lora=2)
    with pytest.raises(InputError, match=r"UNSUPPORTED_PAIR --set training.lora: found no plain linear or .* in resnet"):
        tuned(network(made), made, ())


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    made = with_weights("classification", "vit", lora=2)
    with pytest.raises(InputError, match=r"MISSING_EXTRA --set training.lora: .*pip install 'hounsfield\[peft\]'"):
        tuned(network(made), made, ())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"frozen": "body"}, "training.frozen of weights that are drawn anew"),
        ({"lora": 4}, "training.lora of weights that are drawn anew"),
        ({"layer_decay": 0.7}, "training.layer_decay of weights that are drawn anew"),
        ({"init": "x", "lora": 4, "frozen": "encoder"}, "training.frozen = encoder beside training.lora"),
    ],
)
def test_what_says_nothing_is_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"BAD_PLAN.*{line}"):
        Training.parse(changes, "plan")
