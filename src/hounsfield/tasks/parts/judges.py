"""Networks by whose features images are compared: one that learned from other images, one that did not, a classifier.

What learned from data of the kind sees what matters there (`features.py`); where no images can be spared for it, random weights
still see that something differs (Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020,
section 4.3). Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.tasks.parts import features
from hounsfield.tasks.parts.features import Extractor

TOGETHER = 64  # images at a time
DIGITS = 12  # of a digest that people read
SEED = 0
EVEN = 0.1  # least deviation of a feature, of the largest, that few images are trusted to tell


@dataclass(frozen=True, eq=False)
class Named:
    """name: of the network, for people; digest: of its weights."""

    name: str
    digest: str

    @property
    def about(self) -> str:
        return f"features of {self.name} ({self.digest})"


@dataclass(frozen=True, eq=False)
class Judge(Named):
    """of: images (B, C, *grid) in [-1, 1] -> (B, F)."""

    of: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> npt.NDArray[np.float64]:
        """(N, C, *grid) -> (N, F), piece by piece."""
        with torch.inference_mode():
            parts = [self.of(images[k : k + TOGETHER]).double().cpu().numpy() for k in range(0, len(images), TOGETHER)]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Layers(Named):
    """of: an image (1, C, *grid) as the network is given it -> maps (F, *level), fine to coarse."""

    of: Callable[[Tensor], list[npt.NDArray[np.float64]]]


def learned(images: Tensor, progress: Callable[[int, int], None]) -> Judge:
    """Of a network that learns from these images (N, C, *grid), which are compared with nothing. Raises InputError TOO_FEW."""
    network = features.learn(images, seed=SEED, progress=progress)
    return Judge(f"a network that learned from {len(images)} other images", network.digest[:DIGITS], network)


def random(images: Tensor) -> Judge:
    """Of a network that learned nothing but the scale of its features on these images (N, C, *grid)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = Extractor(images.shape[1], images.shape[2:]).eval().requires_grad_(False)
    if len(images) >= features.FEWEST:
        features.whiten(network, images)
    else:
        with torch.inference_mode():
            deviation = network.white(images).std(dim=0, correction=0)
        least = EVEN * float(deviation.max()) or 1.0  # of a single image
        network.basis.div_(deviation.clamp_min(least))
    return Judge("a network of random weights", network.digest[:DIGITS], network)


def classifier(name: str, model: nn.Module) -> Judge:
    """What the last linear layer of `model`, in evaluation mode, is given. Raises InputError UNSUPPORTED_PAIR without one."""
    last = next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
    if last is None:
        raise InputError(
            "UNSUPPORTED_PAIR", name, found="a network without a linear layer", expected="a classifier", fix="use another run"
        )

    def of(images: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
            kept.append(given[0].float().flatten(1))

        hook = last.register_forward_pre_hook(keep)
        try:
            model(images.to(last.weight.device))
        finally:
            hook.remove()
        return kept[0]

    return Judge(name, _digest(model), of)


def layers(name: str, model: nn.Module) -> Layers:
    """What the last convolution at each resolution of `model`, in evaluation mode, makes of an image; a map of one position
    counts only where there is no other. Raises InputError UNSUPPORTED_PAIR without a convolution."""
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    if not convolutions:
        raise InputError(
            "UNSUPPORTED_PAIR",
            name,
            found="a network without a convolution, which has no maps",
            expected="a classifier that convolves",
            fix="use another run",
        )

    def of(image: Tensor) -> list[npt.NDArray[np.float64]]:
        kept: dict[tuple[int, ...], Tensor] = {}

        def keep(module: nn.Module, given: Any, made: Tensor) -> None:
            kept[tuple(made.shape[2:])] = made

        hooks = [convolution.register_forward_hook(keep) for convolution in convolutions]
        try:
            with torch.inference_mode():
                model(image.to(convolutions[0].weight.device))
        finally:
            for hook in hooks:
                hook.remove()
        wide = [made for level, made in kept.items() if prod(level) > 1] or list(kept.values())
        return [made[0].double().cpu().numpy() for made in wide]

    return Layers(name, _digest(model), of)


def _digest(model: nn.Module) -> str:
    content = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        content.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:DIGITS]
