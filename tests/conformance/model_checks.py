"""What every network must keep, one function for each promise of `hounsfield.models.Model`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.plan import Options, Training
from hounsfield.models import Model

SHAPES = {2: (21, 26), 3: (18, 21, 23)}  # odd where the stride allows it


class Drawn(nn.Module):
    """A generator as a function of its noise, which says what is asked for, too; in training mode, beside its adversary."""

    def __init__(self, inner: nn.Module, classes: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.inner = inner
        self.classes, self.size = classes, size

    def forward(self, noise: Tensor) -> Tensor | tuple[Tensor, ...]:
        told = (noise.flatten(1)[:, : self.classes] > 0).float()
        asked = told.reshape(len(noise), self.classes, *[1] * len(self.size)).expand(-1, -1, *self.size)
        images: Tensor = self.inner(noise, asked)
        assert images.abs().max() <= 1, "values beyond -1 and 1"
        judge = getattr(self.inner, "discriminator", None)
        if not self.training or judge is None:
            return images
        logits: Tensor = judge(images, asked)
        return images, logits[:, None].expand(-1, images.shape[1])


def check_it_names_its_source(member: Model, folder: Path) -> None:
    assert re.search(r"\b(19|20)\d\d\b", member.__doc__ or ""), "no publication with its year in the docstring"


def check_options_are_strict(member: Model, folder: Path) -> None:
    options = member.Options()
    assert member.Options.parse(json.loads(options.model_dump_json()), "plan") == options, "options change on their way to JSON"
    with pytest.raises(InputError) as caught:
        member.Options.parse({"widht": 3}, "plan")
    assert caught.value.code == "BAD_PLAN"


def check_shapes_in_both_modes(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        for channels, outputs, batch in ((1, 2, 2), (3, 1, 1), (5, 4, 1)):
            network = build(member, channels, outputs, ndim)
            x = sample(member, channels, ndim, batch)
            used, maps = listed(network.eval()(x)), listed(network.train()(x))
            if member.OUTPUT == "boxes":
                expected: tuple[int, ...] = (batch, outputs + 2 * ndim)
                assert all((m[:, outputs:] > 0).all() for m in maps), "a distance that is not above 0"
                assert all(n % s == 0 for m in maps for n, s in zip(x.shape[2:], m.shape[2:], strict=True)), "uneven strides"
            else:
                expected = (batch, outputs) if member.OUTPUT == "vector" else (batch, outputs, *x.shape[2:])
                if member.OUTPUT == "generator":
                    expected = (batch, channels, *SHAPES[ndim])
                assert used[0].shape == expected, f"{ndim}D in use: not {expected}"
                assert maps[0].shape == expected, f"{ndim}D in training: {tuple(maps[0].shape)}, not {expected}"
                assert len(used) == 1, "several maps in use"
            assert member.OUTPUT != "vector" or len(maps) == 1, "several maps from a vector network"
            sizes = [m[0, 0].numel() for m in maps]
            assert sizes == sorted(sizes, reverse=True), "maps not from fine to coarse"
            assert all(m.shape[:2] == expected[:2] for m in maps), "maps with other channels"


def check_weights_follow_the_seed(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        first, again, other = (build(member, 1, 2, ndim, seed).state_dict() for seed in (3, 3, 4))
        assert all(torch.equal(first[k], again[k]) for k in first), "the same seed gives other weights"
        assert any(not torch.equal(first[k], other[k]) for k in first), "another seed gives the same weights"


def check_every_parameter_learns_from_one_sample(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        network = build(member, 1, 2, ndim).train()
        loss = torch.stack([m.square().sum() for m in listed(network(sample(member, 1, ndim, 1)))]).sum()
        torch.autograd.backward(loss)
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{name} gets no gradient"
            assert torch.isfinite(parameter.grad).all(), f"{name} has a gradient that is not finite"


def check_samples_do_not_mix_in_use(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        network = build(member, 2, 2, ndim).eval()
        x = sample(member, 2, ndim, 3)
        together = whole(network(x))
        alone = torch.cat([whole(network(x[k : k + 1])) for k in range(3)])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4, msg="a sample's output depends on its batch")


def check_use_draws_no_random_number(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        network = build(member, 1, 2, ndim).eval()
        x = sample(member, 1, ndim, 1)
        before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
        first = whole(network(x))
        assert torch.equal(before[0], torch.get_rng_state()), "torch's generator was used"
        assert before[1:] == (random.getstate(), str(np.random.get_state())), "a global generator was used"  # noqa: NPY002
        assert torch.equal(first, whole(network(x))), "two calls differ"


def check_weights_survive_safetensors(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        network, other = build(member, 1, 2, ndim, seed=1).eval(), build(member, 1, 2, ndim, seed=2).eval()
        x = sample(member, 1, ndim, 1)
        path = folder / f"{ndim}.safetensors"
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
        other.load_state_dict(load_file(path), strict=True)
        assert torch.equal(whole(network(x)), whole(other(x))), "loaded weights give another output: state outside state_dict"


def check_stride_is_what_the_network_needs(member: Model, folder: Path) -> None:
    for ndim in dimensions(member):
        stride = member.stride(smallest(member, ndim), ndim)
        assert len(stride) == ndim
        assert min(stride) >= 1
        network = build(member, 1, 2, ndim).eval()
        good = sample(member, 1, ndim, 1)
        network(good)
        for axis, step in enumerate(stride):
            if step > 1:
                longer = list(good.shape)
                longer[2 + axis] += 1
                with pytest.raises(ValueError, match=str(longer[2 + axis])):
                    network(torch.zeros(longer))


def check_rules_decide_options_with_reasons(member: Model, folder: Path) -> None:
    for shape in ((28, 28), (300, 500), (6, 90, 90), (40, 40, 40), (1, 1)):
        decision = member.rules(shape, (1.0,) * len(shape))
        assert set(decision.changes) == set(decision.reasons), "a decision without a reason, or a reason without a decision"
        options = member.Options.parse(decision.changes, "rules")
        assert len(member.stride(options, len(shape))) == len(shape)
    if hasattr(member, "training"):
        own = member.training()
        assert set(own.reasons) <= set(own.changes), "a reason without a decision"
        Training.parse(own.changes, "training")


def check_sizes_fall(member: Model, folder: Path) -> None:
    sizes = member.sizes(member.Options())
    numbers = []
    for options in sizes:
        assert type(options) is member.Options
        with torch.device("meta"):
            numbers.append(sum(p.numel() for p in member.build(options, 1, 2, 2).parameters()))
    assert numbers, "no size"
    assert all(a > b for a, b in pairwise(numbers)), f"parameters {numbers}: not from large to small"


CHECKS = (
    check_it_names_its_source,
    check_options_are_strict,
    check_shapes_in_both_modes,
    check_weights_follow_the_seed,
    check_every_parameter_learns_from_one_sample,
    check_samples_do_not_mix_in_use,
    check_use_draws_no_random_number,
    check_weights_survive_safetensors,
    check_stride_is_what_the_network_needs,
    check_rules_decide_options_with_reasons,
    check_sizes_fall,
)


def smallest(member: Model, ndim: int) -> Options:
    """Of a generator for images of SHAPES, as its size is built in."""
    if member.OUTPUT != "generator":
        return member.sizes(member.Options())[-1]
    decided = member.rules(SHAPES[ndim], (1.0,) * ndim).changes
    few = {"evaluations": 2} if "evaluations" in member.Options.model_fields else {}  # as good as many here
    return member.sizes(member.Options.parse({**decided, **few}, "rules"))[-1]


def dimensions(member: Model) -> Iterator[int]:
    """2 and 3, but for what the member refuses by UNSUPPORTED_PAIR; at least one."""
    some = False
    for ndim in (2, 3):
        try:
            build(member, 1, 2, ndim)
        except InputError as error:
            if error.code != "UNSUPPORTED_PAIR":
                raise
            continue
        some = True
        yield ndim
    assert some, "neither 2D nor 3D"


def build(member: Model, channels: int, outputs: int, ndim: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = member.build(smallest(member, ndim), channels, outputs, ndim)
    return Drawn(network, outputs, SHAPES[ndim]) if member.OUTPUT == "generator" else network


def sample(member: Model, channels: int, ndim: int, batch: int) -> Tensor:
    """Noise of a size that is at least the stride, and twice that along the first axis; of a generator what it draws from."""
    draw = torch.Generator().manual_seed(5)
    if member.OUTPUT == "generator":
        network: Any = member.build(smallest(member, ndim), channels, 1, ndim)
        return torch.randn(batch, *network.noise_shape, generator=draw)
    stride = member.stride(smallest(member, ndim), ndim)
    size = [s * max(1 + (axis == 0), -(-n // s)) for axis, (n, s) in enumerate(zip(SHAPES[ndim], stride, strict=True))]
    return torch.randn(batch, channels, *size, generator=draw)


def whole(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """(B, -1) all that the network says of each sample."""
    return torch.cat([m.flatten(1) for m in listed(output)], dim=1)


def listed(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (output,) if isinstance(output, Tensor) else output
