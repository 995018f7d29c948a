"""What every explanation method must keep, one function for each promise of `hounsfield.explain.methods.Method`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from hounsfield.explain.methods import Method
from hounsfield.models import resnet, unet

Score = Callable[[nn.Module, Tensor], Tensor]


def check_it_names_its_source(member: Method, folder: Path) -> None:
    assert re.search(r"\b(19|20)\d\d\b", member.__doc__ or ""), "no publication with its year in the docstring"


def check_a_heatmap_has_the_input_s_size(member: Method, folder: Path) -> None:
    for model, x, score in cases():
        heat = member.explain(model, x, score)
        assert heat.shape == (len(x), *x.shape[2:]), f"{tuple(heat.shape)} for an input of {tuple(x.shape)}"
        assert heat.dtype == torch.float32, f"{heat.dtype}"
        assert torch.isfinite(heat).all(), "not finite"
        assert not heat.requires_grad, "a heatmap with a graph"
        assert heat.max() > heat.min(), "a flat map"


def check_the_model_is_left_as_it_was(member: Method, folder: Path) -> None:
    for model, x, score in cases():
        model.train()
        next(iter(model.children())).eval()
        frozen = next(model.parameters()).requires_grad_(False)
        before = condition(model)
        member.explain(model, x, score)
        after = condition(model)
        assert all(torch.equal(before[0][k], after[0][k]) for k in before[0]), "weights or buffers changed"
        assert before[1] == after[1], "a module's mode changed"
        assert before[2] == after[2], "hooks were left"
        assert all(p.grad is None for p in model.parameters()), "gradients were left"
        assert not frozen.requires_grad, "a frozen parameter was thawed"


def check_the_input_is_left_as_it_was(member: Method, folder: Path) -> None:
    for model, x, score in cases():
        copy = x.clone()
        member.explain(model, x, score)
        assert torch.equal(x, copy), "the input changed"
        assert not x.requires_grad, "the input asks for gradients"
        assert x.grad is None, "a gradient was left at the input"


def check_training_mode_gives_the_same_map(member: Method, folder: Path) -> None:
    for model, x, score in cases():
        torch.testing.assert_close(
            member.explain(model.train(), x, score), member.explain(model.eval(), x, score), msg="the mode changes the map"
        )


def check_samples_do_not_mix(member: Method, folder: Path) -> None:
    for model, x, score in cases():
        together = member.explain(model, x, score)
        alone = torch.cat([member.explain(model, x[k : k + 1], score) for k in range(len(x))])
        scale = float(together.abs().max())
        torch.testing.assert_close(together, alone, atol=1e-4 * scale, rtol=1e-3, msg="a map depends on its batch")


def check_it_repeats_and_draws_no_global_random_number(member: Method, folder: Path) -> None:
    for model, x, score in cases():
        before = torch.get_rng_state()
        first = member.explain(model, x, score)
        assert torch.equal(before, torch.get_rng_state()), "torch's global generator was used"
        assert torch.equal(first, member.explain(model, x, score)), "two calls differ"


def check_heat_lies_where_the_score_comes_from(member: Method, folder: Path) -> None:
    """A score that grows with one bright square: more heat there than elsewhere, in 2D and 3D."""
    for ndim in (2, 3):
        torch.manual_seed(0)
        conv = (nn.Conv2d if ndim == 2 else nn.Conv3d)(1, 1, 3, padding=1, bias=False)
        nn.init.ones_(conv.weight)
        x = torch.zeros(2, 1, *(16,) * ndim)
        for k, corner in enumerate((3, 9)):
            x[k, 0][(slice(corner, corner + 4),) * ndim] = 1
        heat = member.explain(nn.Sequential(conv, nn.ReLU()), x, lambda m, v: m(v).flatten(1).mean(1))
        for k in range(2):
            inside = x[k, 0] == 1
            assert heat[k][inside].mean() > 2 * heat[k][~inside].abs().mean(), f"{ndim}D: the heat is elsewhere"


CHECKS = (
    check_it_names_its_source,
    check_a_heatmap_has_the_input_s_size,
    check_the_model_is_left_as_it_was,
    check_the_input_is_left_as_it_was,
    check_training_mode_gives_the_same_map,
    check_samples_do_not_mix,
    check_it_repeats_and_draws_no_global_random_number,
    check_heat_lies_where_the_score_comes_from,
)


def cases() -> Iterator[tuple[nn.Module, Tensor, Score]]:
    """A vector and a dense network with a score each, in 2D and 3D. Dropout makes training mode differ."""

    def one(model: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = model(x)
        return out[:, 1]

    def summed(model: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = model(x)
        return out[:, 1].flatten(1).mean(1)

    for ndim, size in ((2, (20, 17)), (3, (9, 12, 10))):
        torch.manual_seed(ndim)
        options = resnet.Options(width=8, depth=(1, 1), stem="small", dropout=0.5)
        yield resnet.build(options, 2, 3, ndim), torch.randn(2, 2, *size), one
        dense = unet.build(unet.Options(width=4, strides=((2,), (2,)), blocks=(1,)), 1, 2, ndim)
        yield dense, torch.randn(2, 1, *(4 * (n // 4) for n in size)), summed


def condition(model: nn.Module) -> tuple[dict[str, Tensor], list[bool], list[int]]:
    """Weights, modes, and number of hooks of every module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [sum(len(getattr(module, kind)) for kind in kinds) for module in model.modules()]
    return {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()], hooks
