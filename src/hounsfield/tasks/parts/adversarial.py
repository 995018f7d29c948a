"""What two adversaries are trained for, a generator and a discriminator, as steps of the training loop.

Goodfellow et al., "Generative adversarial nets", NeurIPS 2014: the discriminator's logits tell real from generated, by the
logistic loss, and the generator wants its images taken for real (section 3, the loss that does not saturate). Jolicoeur-
Martineau, "The relativistic discriminator", ICLR 2019: only the difference between a real and a generated image counts. With
penalties on the gradient at both (Mescheder, Geiger, Nowozin, ICML 2018) that converges where neither does alone (Huang et al.,
"The GAN is dead; long live the GAN!", NeurIPS 2024, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.tasks.parts.jitter import adapt, jitter

Steps = Iterator[tuple[str, Callable[[], Tensor]]]

# Losses between which both still learn: a discriminator below has nothing left to tell, a generator above is told nothing.
BOUNDS = {"discriminator": (1e-3, float("inf")), "generator": (float("-inf"), 50.0)}
# Of so many images one bears the penalty: as much on average, and a gradient of a gradient costs four times one.
PENALISED = 4


def logistic(model: Any, real: Tensor, asked: Tensor | None) -> Steps:
    """model: see hounsfield.models.Model. real: (B, C, *size) in [-1, 1]; asked: (B, K, *size) what they are, and what is asked
    of the generator."""

    def discriminate() -> Tensor:
        with torch.no_grad():
            made = model.generator(noise(model, real), asked)
        found, taken = (model.discriminator(images, asked).float() for images in (real, made))
        return F.softplus(-found).mean() + F.softplus(taken).mean()

    def generate() -> Tensor:
        with frozen(model.discriminator):
            taken = model.discriminator(model.generator(noise(model, real), asked), asked)
        return F.softplus(-taken.float()).mean()

    yield "discriminator", discriminate
    yield "generator", generate


def relativistic(model: Any, real: Tensor, asked: Tensor | None, penalty: float) -> Steps:
    """As `logistic`, by the logits' differences in pairs. penalty: half of it times the squared gradient of the logit by the
    image, at both. Images are changed before they are judged, with the probability `model.changed`, which this adapts."""

    def discriminate() -> Tensor:
        with torch.no_grad():
            made = model.generator(noise(model, real), asked).to(real.dtype)
            both = [jitter(images, asked, model.changed) for images in (real, made)]
        found, taken = _judged(model, both).chunk(2)
        adapt(model.changed, (found - taken).detach())
        # The batch is in no order. As many real as generated ones bear it: half of the sum of both means is the mean over all.
        every = max(1, min(PENALISED, len(real)))
        few = [(x[::every].requires_grad_(), None if told is None else told[::every]) for x, told in both]
        slopes = torch.autograd.grad(_judged(model, few).sum(), [x for x, _ in few], create_graph=True)
        steep = torch.cat(slopes).flatten(1).square().sum(dim=1).mean()
        return F.softplus(taken - found).mean() + penalty * steep

    def generate() -> Tensor:
        with frozen(model.discriminator):
            made = jitter(model.generator(noise(model, real), asked), asked, model.changed)
            with torch.no_grad():
                found = _judged(model, [jitter(real, asked, model.changed)])
            return F.softplus(found - _judged(model, [made])).mean()

    yield "discriminator", discriminate
    yield "generator", generate


def _judged(model: Any, parts: list[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Logits of several batches together. parts: images and what was asked for."""
    told = [asked for _, asked in parts if asked is not None]
    logits: Tensor = model.discriminator(torch.cat([x for x, _ in parts]), torch.cat(told) if told else None)
    return logits.float()


def noise(model: Any, like: Tensor) -> Tensor:
    """(B, *model.noise_shape) from torch's own generator, which the training loop seeds."""
    return torch.randn((len(like), *model.noise_shape), device=like.device)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What is computed inside gives this network no gradients, and passes them through."""
    parameters = list(network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
