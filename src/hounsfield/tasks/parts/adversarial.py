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


def logistic(model: Any, real: Tensor, labels: Tensor | None) -> Steps:
    """model: see hounsfield.models.Model. real: (B, C, *size) in [-1, 1]; labels: (B,), also of what is generated."""

    def discriminate() -> Tensor:
        with torch.no_grad():
            made = model.generator(noise(model, real), labels)
        found, taken = (model.discriminator(images, labels).float() for images in (real, made))
        return F.softplus(-found).mean() + F.softplus(taken).mean()

    def generate() -> Tensor:
        with frozen(model.discriminator):
            taken = model.discriminator(model.generator(noise(model, real), labels), labels)
        return F.softplus(-taken.float()).mean()

    yield "discriminator", discriminate
    yield "generator", generate


def relativistic(model: Any, real: Tensor, labels: Tensor | None, penalty: float) -> Steps:
    """As `logistic`, by the logits' differences in pairs. penalty: half of it times the squared gradient of the logit by the
    image, at both. Images are changed before they are judged, with the probability `model.changed`, which this adapts."""

    def discriminate() -> Tensor:
        with torch.no_grad():
            made = model.generator(noise(model, real), labels)
            both = torch.cat([jitter(real, model.changed), jitter(made.to(real.dtype), model.changed)])
        twice = None if labels is None else torch.cat([labels, labels])
        found, taken = model.discriminator(both, twice).float().chunk(2)
        adapt(model.changed, (found - taken).detach())
        # The batch is in no order. As many real as generated ones bear it: half of the sum of both means is the mean over all.
        every = max(1, min(PENALISED, len(real)))
        some = torch.cat([part[::every] for part in both.chunk(2)]).requires_grad_()
        told = None if labels is None else labels[::every].repeat(2)
        logits = model.discriminator(some, told).float()
        (slope,) = torch.autograd.grad(logits.sum(), some, create_graph=True)
        return F.softplus(taken - found).mean() + penalty * slope.flatten(1).square().sum(dim=1).mean()

    def generate() -> Tensor:
        with frozen(model.discriminator):
            made = model.generator(noise(model, real), labels)
            taken = model.discriminator(jitter(made, model.changed), labels).float()
            with torch.no_grad():
                found = model.discriminator(jitter(real, model.changed), labels).float()
        return F.softplus(found - taken).mean()

    yield "discriminator", discriminate
    yield "generator", generate


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
