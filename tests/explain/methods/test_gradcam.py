"""Grad-CAM equals its formula where that can be written down, and finds what a trained network looks at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.explain.methods import gradcam
from hounsfield.models import resnet, timm, unet

Floats = npt.NDArray[np.float64]


class Known(nn.Module):
    """body, mean over space, then a linear layer: the gradient at the body's output is weight / voxels, everywhere."""

    def __init__(self, body: nn.Module, weight: list[float]) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(len(weight), 1, bias=False)
        self.head.weight.data = torch.tensor([weight])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).flatten(2).mean(2))
        return out


def first(model: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = model(x)
    return out[:, 0]


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_formula(ndim: int) -> None:
    torch.manual_seed(0)
    body = (nn.Conv2d if ndim == 2 else nn.Conv3d)(3, 4, 3, padding=1)
    weight = [1.0, -2.0, 0.5, 3.0]
    x = torch.randn(2, 3, *(6, 5, 7)[:ndim])
    expected = torch.einsum("k,bk...->b...", torch.tensor(weight), body(x).detach()).relu() / x[0, 0].numel()
    heat = gradcam.explain(Known(body, weight), x, first)
    assert heat.dtype == torch.float32
    assert expected.max() > 0
    torch.testing.assert_close(heat, expected)


def test_negative_evidence_is_no_heat() -> None:
    x = torch.rand(1, 1, 5, 5)
    body = nn.Conv2d(1, 1, 1, bias=False)
    body.weight.data.fill_(1)
    assert gradcam.explain(Known(body, [-1.0]), x, first).max() == 0
    torch.testing.assert_close(gradcam.explain(Known(body, [1.0]), x, first), x[:, 0] / 25)


def linear_between_centres(values: Floats, size: int) -> Floats:
    """Along one axis: coarse voxel i has its centre at (i + 1/2) n / len(values) - 1/2 of n fine ones; flat beyond the last."""
    centres = (np.arange(len(values)) + 0.5) * size / len(values) - 0.5
    fine: Floats = np.interp(np.arange(size), centres, values)
    return fine


@pytest.mark.parametrize(("pool", "size"), [((2, 2), (10, 8)), ((3, 2), (15, 14)), ((1, 2, 2), (4, 10, 12))])
def test_coarse_maps_are_interpolated_between_voxel_centres(pool: tuple[int, ...], size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ndim = len(size)
    shrink = nn.AvgPool2d(pool) if ndim == 2 else nn.AvgPool3d(pool)  # type: ignore[arg-type]
    conv = (nn.Conv2d if ndim == 2 else nn.Conv3d)(1, 1, 1, bias=False)
    conv.weight.data.fill_(1)
    x = torch.rand(1, 1, *size)
    coarse = shrink(x)[0, 0].double().numpy()
    expected = coarse / coarse.size
    for axis, n in enumerate(size):
        expected = np.apply_along_axis(linear_between_centres, axis, expected, n)
    heat = gradcam.explain(Known(nn.Sequential(shrink, conv), [1.0]), x, first)
    np.testing.assert_allclose(heat[0].numpy(), expected, rtol=1e-4, atol=1e-7)


def test_a_norm_behind_the_convolution_does_not_erase_the_map() -> None:
    """At the convolution's own output an instance norm makes every weight zero; the maps behind it carry the evidence."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(1, 3, 3, padding=1), nn.GroupNorm(3, 3)
    weight = [1.0, 2.0, -1.0]
    x = torch.randn(1, 1, 8, 8)
    maps = norm(conv(x)).relu().detach()
    expected = torch.einsum("k,bkhw->bhw", torch.tensor(weight), maps).relu() / 64
    heat = gradcam.explain(Known(nn.Sequential(conv, norm, nn.ReLU(inplace=True)), weight), x, first)
    assert expected.max() > 0.01
    torch.testing.assert_close(heat, expected)


def test_maps_too_coarse_to_tell_a_place_give_way_to_finer_ones() -> None:
    torch.manual_seed(0)
    fine = nn.Conv2d(1, 2, 3, 2, 1)
    body = nn.Sequential(fine, nn.Conv2d(2, 2, 3, 4, 1))  # 16 -> 8 -> 2
    model = Known(body, [1.0, 1.0])
    x = torch.randn(1, 1, 16, 16)
    maps = fine(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(body[1](maps).flatten(2).mean(2).sum(), maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    expected = nn.functional.interpolate(expected, (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(gradcam.explain(model, x, first), expected)


def test_a_branch_that_the_score_does_not_use_is_passed_over() -> None:
    class Branched(Known):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(1, 1, 1), [1.0])
            self.aside = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            self.aside(x)
            return out

    x = torch.rand(1, 1, 6, 6)
    model = Branched()
    torch.testing.assert_close(gradcam.explain(model, x, first), gradcam.explain(Known(model.body, [1.0]), x, first))


def test_frozen_models_and_inference_mode_are_explained_too() -> None:
    torch.manual_seed(0)
    model = Known(nn.Conv2d(1, 2, 3, padding=1), [1.0, -1.0])
    x = torch.randn(1, 1, 6, 6)
    expected = gradcam.explain(model, x, first)
    model.requires_grad_(False)
    torch.testing.assert_close(gradcam.explain(model, x, first), expected)
    with torch.inference_mode():
        torch.testing.assert_close(gradcam.explain(model, x * 1, first), expected)


def test_a_model_without_maps_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    with pytest.raises(InputError, match="Sequential without a convolution whose output is a 2D map") as caught:
        gradcam.explain(model, torch.zeros(1, 1, 6, 6), first)
    assert caught.value.code == "UNSUPPORTED_PAIR"
    assert not any(m._forward_hooks for m in model.modules())


def blobs(n: int, ndim: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with a dark cube somewhere; in class 1 also a bright one, whose centre is given."""
    x = 0.5 * torch.randn(n, 1, *(size,) * ndim, generator=generator)
    y = torch.randint(0, 2, (n,), generator=generator)
    corners = torch.randint(0, size - 5, (n, 2, ndim), generator=generator)
    for i in range(n):
        dark, bright = ([slice(a, a + 5) for a in corner] for corner in corners[i].tolist())
        x[i, 0][tuple(dark)] -= 2
        x[i, 0][tuple(bright)] += 2 * y[i]
    return x, y, corners[:, 1] + 2


def train(model: nn.Module, batch: Callable[[], tuple[Tensor, Tensor]], steps: int) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        x, y = batch()
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()


@pytest.mark.parametrize(("ndim", "size", "steps"), [(2, 24, 120), (3, 12, 70)])
def test_a_trained_classifier_s_map_peaks_at_the_planted_cause(ndim: int, size: int, steps: int) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = resnet.build(resnet.Options(width=8, depth=(1, 1), stem="small"), 1, 2, ndim)
    train(model, lambda: blobs(16, ndim, size, generator)[:2], steps)
    x, y, centre = blobs(40, ndim, size, generator)
    assert (model.eval()(x).argmax(1) == y).float().mean() > 0.9
    heat = gradcam.explain(model, x, lambda m, v: m(v)[:, 1])
    peak = torch.stack(torch.unravel_index(heat.flatten(1).argmax(1), heat.shape[1:]), 1)
    near = ((peak - centre).abs().max(1).values <= 3)[y == 1]  # within two voxels of the coarse map; by chance 0.2 or less
    assert near.float().mean() > 0.9
    assert heat[y == 1].mean() > 3 * heat[y == 0].mean()


def test_a_dense_score_s_map_lies_on_the_class_and_not_on_the_background() -> None:
    """Two bright squares are segmented; the score of one of them is explained, whose features are those of both."""
    torch.manual_seed(0)
    model = unet.build(unet.Options(width=8, strides=((2,), (2,)), blocks=(1,), deep_supervision=False), 1, 2, 2)

    def squares() -> tuple[Tensor, Tensor]:
        y = torch.zeros(4, 32, 32, dtype=torch.long)
        for k in range(4):
            top, left, right = (int(v) for v in torch.randint(1, 8, (3,)))
            y[k, top : top + 8, left : left + 8] = 1
            y[k, top + 14 : top + 22, right + 14 : right + 22] = 1
        return y[:, None] + 0.3 * torch.randn(4, 1, 32, 32), y

    train(model, squares, 60)
    x, y = squares()
    upper = y.clone()
    upper[:, 16:] = 0
    heat = gradcam.explain(model, x, lambda m, v: (m(v)[:, 1] * upper).flatten(1).sum(1))
    assert heat[y == 1].mean() > 3 * heat[y == 0].mean()


@pytest.mark.parametrize(
    ("name", "works"),
    [("test_resnet", True), ("test_convnext", True), ("test_vit", False), ("swin_tiny_patch4_window7_224", False)],
)
def test_networks_that_end_in_tokens_are_refused_and_those_that_pass_through_them_are_not(name: str, works: bool) -> None:
    """ConvNeXt computes with rows of a table within each block, and leaves it with a map; a transformer never comes back."""
    torch.manual_seed(0)
    model = timm.build(timm.Options(name=name), 1, 2, 2)
    x = torch.randn(1, 1, 224, 224)
    if works:
        heat = gradcam.explain(model, x, first)
        assert heat.shape == (1, 224, 224)
        assert heat.max() > heat.min()
        return
    with pytest.raises(InputError, match="that ends in tokens, expected a convolutional model") as caught:
        gradcam.explain(model, x, first)
    assert caught.value.code == "UNSUPPORTED_PAIR"
