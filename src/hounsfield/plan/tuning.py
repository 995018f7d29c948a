"""What learns of a network whose weights are known already, and how fast: frozen parts, rates by depth, changes of low rank.

Low rank: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, by the package peft. Rates by depth: Clark
et al., "ELECTRA", ICLR 2020, as masked autoencoders are fine-tuned (He et al., CVPR 2022, appendix A.1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Plan, Training
from hounsfield.plan.network import ends, inner

SCALE = 2.0  # times a change of low rank
WAY_UP = ("up", "join", "skips", "decoder")  # parts of U-shaped networks, level by level back to the size of the image
LAST = ("pyramid", "head", "heads")  # what answers
BY_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"  # parts of names that peft gives


def tuned(whole: nn.Module, plan: Plan, fresh: Collection[str]) -> list[str]:
    """Make `whole` learn as the plan says, in place; fresh: names of weights of the plan's model that begin anew and learn
    whatever the plan says, as the output layer and what the task trains beside the model do. Returns the names that learn.

    Raises InputError MISSING_EXTRA, UNSUPPORTED_PAIR for a network without a layer to change so.
    """
    how = plan.training
    if how.frozen == "none" and not how.lora:
        return [name for name, _ in whole.named_parameters()]
    shapes, _, outputs = ends(plan)
    model = inner(whole, shapes)
    free = {*fresh, *outputs}
    if how.frozen == "encoder":
        free |= {name for name in shapes if _part(name) in (*WAY_UP, *LAST)}
    known = [(name, parameter) for name, parameter in model.named_parameters() if name not in free]
    for _, parameter in known:
        parameter.requires_grad_(False)
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, BY_BATCH) and own and not any(p.requires_grad for p in own):
            layer.register_forward_pre_hook(_as_in_use)
    if how.lora:
        _add_low_rank(model, plan, {name for name, _ in known})
    return [name for name, parameter in whole.named_parameters() if parameter.requires_grad]


def _as_in_use(layer: nn.Module, _: Any) -> None:
    """A frozen normalisation by batches keeps the statistics that its weights were learned with."""
    layer.eval()


def _add_low_rank(model: nn.Module, plan: Plan, known: Collection[str]) -> None:
    """Beside the linear layers whose weights are `known`, or where there are none beside the convolutions."""
    try:
        peft: Any = import_module("peft")
    except ImportError as error:
        raise InputError(
            "MISSING_EXTRA",
            "--set training.lora",
            found=f"no package peft ({error})",
            expected="the extra peft",
            fix="pip install 'hounsfield[peft]'",
        ) from error
    layers = [(name, layer) for name, layer in model.named_modules() if f"{name}.weight" in known]
    linear = [name for name, layer in layers if type(layer) is nn.Linear]
    # Of convolutions whose weights are standardised a sum of two is not what either would give.
    convolutions = [name for name, layer in layers if type(layer) in (nn.Conv2d, nn.Conv3d) and layer.groups == 1]
    if not linear + convolutions:
        raise InputError(
            "UNSUPPORTED_PAIR",
            "--set training.lora",
            found=f"no plain linear or convolutional layer in {plan.network}",
            expected="a network such as unet or vit",
            fix="--set training.lora=0, or training.frozen in its place",
        )
    rank = plan.training.lora
    options = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=linear or convolutions, bias="none")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    peft.inject_adapter_in_model(options, model)
    for parameter in trained:  # peft lets its own alone learn
        parameter.requires_grad_(True)


def plain(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The weights of the network, one by one, without its changes of low rank, which are added to what they change:
    W + SCALE * B A. Of each layer W comes first and B last, as peft has them."""
    held: dict[str, Tensor] = {}
    for name, value in weights:
        layer = name.removesuffix(UP)
        if name.endswith((f"{BASE}weight", DOWN)):
            held[name] = value
        elif layer != name:
            own, down = held.pop(f"{layer}{BASE}weight"), held.pop(f"{layer}{DOWN}")
            change = torch.einsum("or,ri...->oi...", value.float().flatten(1), down.float())
            yield f"{layer}.weight", (own.float() + SCALE * change).to(own.dtype)
        else:
            yield name.replace(BASE, "."), value


def groups(part: nn.Module, how: Training) -> list[dict[str, Any]]:
    """What learns of `part`, for an optimiser; with `layer_decay` by depth, each with the `scale` of its rate."""
    named = [(name, parameter) for name, parameter in part.named_parameters() if parameter.requires_grad]
    if how.layer_decay == 1:
        return [{"params": [parameter for _, parameter in named], "scale": 1.0}]
    depth = depths(name for name, _ in part.named_parameters())
    deepest = max(depth.values())
    made: dict[int, list[nn.Parameter]] = {}
    for name, parameter in named:
        made.setdefault(depth[name], []).append(parameter)
    return [{"params": own, "scale": how.layer_decay ** (deepest - at)} for at, own in sorted(made.items())]


def depths(names: Iterable[str]) -> dict[str, int]:
    """How deep each weight lies, from 0: in the order of the parts, of numbered ones in the order of their numbers; on the
    way up of a U-shaped network all parts of a level lie together; the output layer, last, by itself."""
    own = list(names)
    keys = {name: _layer(name) for name in own}
    down = list(dict.fromkeys(key for key in keys.values() if key[0] not in WAY_UP and key[0] not in LAST))
    levels = sorted({key[1] for key in keys.values() if key[0] in WAY_UP})
    place: dict[tuple[str, int], int] = {key: at for at, key in enumerate(down)}

    def of(key: tuple[str, int]) -> int:
        if key[0] in LAST:
            return len(down) + len(levels)
        return len(down) + levels.index(key[1]) if key[0] in WAY_UP else place[key]

    return {name: of(key) for name, key in keys.items()}


def _part(name: str) -> str:
    """The first word of a weight's name, less its number, within the network of another package."""
    return name.removeprefix("network.").partition(".")[0].rstrip("0123456789")


def _layer(name: str) -> tuple[str, int]:
    """The part of a network that a weight is of: its names down to the first number, and that number; the first two, and -1,
    where there is none. What answers is one part."""
    words = name.split(".")[:-1] or [name]
    if words[0] in LAST:
        return words[0], -1
    for k, word in enumerate(words):
        if word.isdecimal():
            return ".".join(words[:k]), int(word)
    return ".".join(words[:2]), -1


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of every group, by its scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
