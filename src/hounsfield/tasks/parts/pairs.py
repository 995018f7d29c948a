"""Pairs: two noisy acquisitions of one object, each of which is learned from the other.

Lehtinen et al., "Noise2Noise: learning image restoration without clean data", ICML 2018, section 2: where the noise of the two
is independent and 0 on average, what comes nearest to the other one by the mean square is what both show.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
