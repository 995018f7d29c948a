"""Grad-CAM: where in the image the last features that still know a place speak for the score.

Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017, equations 1
and 2. For dense outputs, whose score is a sum over voxels, each voxel of a feature keeps its own gradient instead of the mean
over the map, as in Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations", 2020: the gradient of a
score of some voxels is local, and its mean would carry the evidence to wherever the feature is strong.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hounsfield.core.errors import InputError
from hounsfield.explain.methods._observe import undisturbed

# Fewer voxels along an axis, on average, than this tell no place: a residual network has 7 on a picture of 224, the paper 14.
SMALLEST_SIDE = 7


def explain(model: nn.Module, x: Tensor, score: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
    """(B, *spatial) float32 heatmap, 0 or more, in units of the score (not scaled to a maximum).

    x: (B, C, *spatial) model input; score(model, x) -> (B,), each of its own sample alone. The map is computed on the
    model's coarsest features (see `_Features`) and interpolated linearly between their voxel centres.
    Raises InputError UNSUPPORTED_PAIR where the model has no convolution whose output is a map, or leaves its maps for tokens.
    """
    with undisturbed(model), _Features(model, x.ndim - 2) as features:
        # Input with a gradient, so that a graph is recorded even where all parameters are frozen.
        value = score(model, x.detach().clone().requires_grad_())
        maps, gradient = features.used_by(value.sum())
    spatial = tuple(range(2, x.ndim))
    weights = gradient.float() if features.dense else gradient.float().mean(spatial, keepdim=True)  # equation 1
    heat = F.relu((weights * maps.detach().float()).sum(1, keepdim=True))  # equation 2
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return F.interpolate(heat, x.shape[2:], mode=mode, align_corners=False)[:, 0]


class _Features:
    """The maps that a forward pass leaves at the coarsest resolution of a convolution, after all that follows there.

    Not the convolution's own output: an instance norm behind it makes the mean of that output's gradient exactly zero, and
    with it every weight. Normalisation, activation and a residual sum keep the resolution, so the last module output of the
    same size is what the next resolution, or the head, is given.
    """

    def __init__(self, model: nn.Module, ndim: int) -> None:
        self.model = model
        self.ndim = ndim
        self.dense = False  # whether the model's own output is a map
        self.worth = (0, 1)
        self.latest: torch.Size | None = None  # of a convolution's map
        self.tokens = False  # whether places have become rows of a table since, which need not keep to themselves
        self.maps: list[Tensor] = []
        self.hooks: list[RemovableHandle] = []

    def __enter__(self) -> _Features:
        self.hooks = [module.register_forward_hook(self._see) for module in self.model.modules()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def used_by(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The last of the maps on which the scalar `value` depends, and its gradient there."""
        gradients = torch.autograd.grad(value, self.maps, allow_unused=True) if self.maps else ()
        for maps, gradient in zip(reversed(self.maps), reversed(gradients), strict=True):
            if gradient is not None and not self.tokens:
                return maps, gradient
        why = "that ends in tokens" if self.tokens else f"without a convolution whose output is a {self.ndim}D map"
        raise InputError(
            "UNSUPPORTED_PAIR",
            "Grad-CAM",
            found=f"a {type(self.model).__name__} {why}",
            expected="a convolutional model",
            fix="choose another method",
        )

    def _see(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if module is self.model and isinstance(output, tuple):  # maps of several scales
            self.dense = True
        if not isinstance(output, Tensor) or not output.requires_grad:
            return
        if isinstance(module, nn.Linear):
            self.tokens = self.tokens or output.ndim > 2
            return
        if output.ndim != self.ndim + 2:
            return
        self.dense = self.dense or module is self.model
        size, convolved = output.shape[2:], isinstance(module, nn.Conv2d | nn.Conv3d)
        if convolved or size == self.latest:
            self.latest, self.tokens = size, False
        worth = self._worth(size)
        if convolved and worth > self.worth:
            self.worth, self.maps = worth, [output]
        elif self.maps and size == self.maps[0].shape[2:]:
            self.maps.append(output)

    def _worth(self, size: torch.Size) -> tuple[int, int]:
        """Greater is better: the coarsest map that tells a place, else the finest of those that hardly do."""
        voxels = prod(size)
        return (1, -voxels) if voxels >= SMALLEST_SIDE**self.ndim else (0, voxels)
