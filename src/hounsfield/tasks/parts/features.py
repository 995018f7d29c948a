"""Features of images, by which sets of images are compared: what a network's last layer is given, and which network it is.

A network that learned from data of the kind sees what matters there; random weights see that something differs, and are at hand
for any channels and dimensions (Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020,
section 4.3). Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.models import MODELS

TOGETHER = 16  # images at a time
RANDOM = {"width": 16, "depth": (1, 1, 1)}  # a resnet with 64 features
SEED = 0


@dataclass(frozen=True, eq=False)
class Features:
    """name: of the network, for people; digest: of its weights. of: (B, C, *spatial) -> (B, F)."""

    name: str
    digest: str
    of: Callable[[Tensor], Tensor]

    @property
    def about(self) -> str:
        return f"features of {self.name} ({self.digest})"

    def __call__(self, images: Tensor) -> npt.NDArray[np.float64]:
        """(N, C, *spatial) -> (N, F), piece by piece."""
        with torch.inference_mode():
            parts = [self.of(images[k : k + TOGETHER]).double().cpu().numpy() for k in range(0, len(images), TOGETHER)]
        return np.concatenate(parts)


def before_the_last_layer(name: str, model: nn.Module) -> Features:
    """What the last linear layer of `model`, in evaluation mode, is given. Raises InputError UNSUPPORTED_PAIR where it has none."""
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

    return Features(name, digest(model), of)


def random(channels: int, ndim: int) -> Features:
    """Of a network that learned nothing, always the same, for images of so many channels."""
    member = MODELS.load("resnet")
    options = member.Options.parse({**RANDOM, "stem": "small" if ndim == 2 else "large"}, "features")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = member.build(options, channels, 1, ndim)
    return before_the_last_layer("a resnet with random weights", network.eval())


def digest(model: nn.Module) -> str:
    """Twelve hexadecimal digits that stand for the weights."""
    content = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        content.update(key.encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
