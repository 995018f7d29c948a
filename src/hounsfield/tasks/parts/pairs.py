"""Pairs: two noisy acquisitions of one object, each of which is learned from the other.

Lehtinen et al., "Noise2Noise: learning image restoration without clean data", ICML 2018, section 2: where the noise of the two
is independent and 0 on average, what comes nearest to the other one by the mean square is what both show.
In use either may be given, or both: then each is restored, and the mean of the two is the answer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hounsfield.core.image import Image
from hounsfield.tasks.parts.given import Given, columns


def acquisitions(both: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Either acquisition of each sample, drawn from torch's own generators, and the other one in its units: (B, C, *s) each.

    both: (B, 2 C, *s) normalised, the channels of the first before those of the second. units: (B, 4 C) the mean and the
    deviation of each channel by which it was normalised.
    """
    mean, std = units.float().reshape(len(both), -1, 2, *[1] * (both.ndim - 2)).unbind(2)
    (one, two), (mean_one, mean_two), (std_one, std_two) = (part.chunk(2, dim=1) for part in (both, mean, std))
    turned = torch.rand((len(both), *[1] * (both.ndim - 1)), device=both.device) < 0.5
    first = (two * std_two + mean_two - mean_one) / std_one
    second = (one * std_one + mean_one - mean_two) / std_two
    return torch.where(turned, two, one), torch.where(turned, second, first)


def of_both(given: Given, second: Image) -> Given:
    """Both acquisitions given, in the units of the first: (3 C, *grid), their mean, which the answer is laid over, and behind
    it each by itself. given: the first, (C, *grid). second: (C, *spatial)."""
    x = torch.from_numpy(np.array(second.canonical().array, dtype=np.float32, order="C")).to(given.tensor.device)
    mean, std = columns(given.scale, x)
    x = (x - mean) / std
    return replace(given, tensor=torch.cat([(given.tensor + x) / 2, given.tensor, x]))


def separate(window: Tensor, channels: int) -> Tensor:
    """(N, C, *s), what the network is given of a window (1, ...) of what `of_both` or a single acquisition gives."""
    return window if window.shape[1] == channels else window[:, channels:].reshape(2, channels, *window.shape[2:])
