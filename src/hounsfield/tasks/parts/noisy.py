"""Noise for a network that takes it away: added in training, and told to the network where its strength varies.

Zhang, Zuo, Zhang: "FFDNet: toward a fast and flexible solution for CNN-based image denoising", IEEE Transactions on Image
Processing 27, 2018, section III: with the level of the noise as one more channel one network serves a range of levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hounsfield.core.image import Image
from hounsfield.data.degrade import Noise, add_noise, strengths
from hounsfield.tasks.parts.given import Given

ROOM = 1.25  # times a limit that an estimate may lie beyond it by its own error
NOISES = (0.01, 0.2)  # of the range of values: the deviations of noise that are learned where nobody says otherwise,
DOSES = [0.05, 0.5]  # and the parts of the full dose
USUAL = "deviations of 1% to 20% of it (of quanta at its top), or three e-folds of attenuation"


@dataclass(frozen=True, eq=False)
class Noisy(Image):
    """An image of which is known how strong its noise is. noise: as `Noise.key` of the plan counts it."""

    noise: float = field(kw_only=True)


def usual(low: float, span: float) -> dict[str, Any]:
    """Options of `Noise` for images with values from `low` on that span so many units."""
    values = {
        "sigma": [part * span for part in NOISES],
        "zero": [min(0.0, low)],
        "quanta": [1 / (part**2 * span) for part in reversed(NOISES)],
        "attenuation": [3 / span],
    }
    short = {key: [float(f"{value:.3g}") for value in each] for key, each in values.items()}
    return {"dose": DOSES, **{key: each if len(each) > 1 else each[0] for key, each in short.items()}}


def noised(clean: Tensor, units: Tensor, how: Noise, own: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """What the network is given of a batch, with the channel that tells the strength where it varies, and the clean truth in
    the same units; drawn from torch's own generators.

    clean: (B, C, *s) normalised. units: (B, 2 C) the mean and the deviation of each channel by which it was. own: which
    channels are normalised by each case's own values.
    """
    mean, std = units.float().reshape(len(clean), -1, 2, *[1] * (clean.ndim - 2)).unbind(2)
    source = clean * std + mean
    strength = strengths(how, len(clean), None, clean.device)
    noisy = add_noise(source, how, None, strength)
    if any(own):
        # In use a case is normalised by what it is with its noise.
        each = torch.tensor(own, device=clean.device).reshape(-1, *[1] * (clean.ndim - 2))
        noise = (noisy - source).flatten(2)
        mean = torch.where(each, mean + noise.mean(2).reshape(mean.shape), mean)
        std = torch.where(each, (std.square() + noise.var(2, correction=0).reshape(std.shape)).sqrt(), std)
    given = (noisy - mean) / std
    if how.varies:
        given = _with_level(given, level(how, strength, std.flatten(1)))
    return given, (source - mean) / std


def level(how: Noise, strength: Tensor, std: Tensor) -> Tensor:
    """(B,) what the network is told: the deviation of the noise over that of the image. Of noise that depends on the signal:
    where that is one deviation of the image high (poisson), or where nothing is attenuated (low_dose).

    strength: (B,). std: (B, C) by which the channels are normalised.
    """
    image = std.mean(dim=1)
    if how.kind == "poisson":
        return (strength * image).rsqrt()
    if how.kind == "low_dose":
        sent = strength * how.photons
        return (sent + how.electronic**2).sqrt() / sent / how.attenuation / image
    return strength / image


def tell(given: Given, how: Noise, strength: float) -> Given:
    """What is given with the channel that says how strong the noise is, or the nearest strength that was learned: then the
    image's notes say so."""
    low, high = how.limits
    nearest = torch.tensor([min(max(strength, low), high)])
    told = level(how, nearest, torch.tensor([[std for _, std in given.scale]])).to(given.tensor)
    note = beyond(how, strength)
    image = given.image.noted(note) if note else given.image
    return replace(given, tensor=_with_level(given.tensor[None], told)[0], image=image)


def beyond(how: Noise, strength: float) -> str:
    """A sentence on an estimated strength that clearly lies outside of what was learned; "" for one that does not."""
    low, high = how.limits
    if low / ROOM <= strength <= high * ROOM:
        return ""
    learned = f"{low:g} to {high:g}" if low < high else f"{low:g}"
    return f"noise.{how.key} seems to be {strength:.3g}, and {learned} was learned"


def _with_level(x: Tensor, told: Tensor) -> Tensor:
    """(B, C + 1, *s): x, and in the last channel what is told (B,) of each sample."""
    plane = told.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return torch.cat([x, plane.expand(len(x), 1, *x.shape[2:])], dim=1)
