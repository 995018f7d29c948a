"""What a rectified flow is trained for: the velocity on the straight line from noise to an image.

Liu, Gong, Liu: "Flow straight and fast", ICLR 2023, equation 1. Times lie mostly in the middle, where the velocity is hardest
to tell (Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", ICML 2024, section 3.1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hounsfield.tasks.parts.adversarial import Steps, noise


def matching(model: Any, real: Tensor, asked: Tensor | None) -> Steps:
    """model: see hounsfield.models.Model. real: (B, C, *size) in [-1, 1]; asked: (B, K, *size) what they are."""

    def match() -> Tensor:
        begun = noise(model, real)
        time = torch.randn(len(real), device=real.device).sigmoid()
        part = time.reshape(-1, *[1] * (real.ndim - 1))
        told: Tensor = model.velocity((1 - part) * begun + part * real, time, asked).float()
        return (told - (real - begun)).square().mean()

    yield "model", match
