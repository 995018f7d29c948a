"""Stochastic depth: a training step leaves branches out, so that a deep network learns as an ensemble of shallower ones.

Huang et al., "Deep networks with stochastic depth", ECCV 2016: deep blocks are left out more often than early ones (section 3).
"""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """(B, ...) -> the same: in training 0 for `rate` of the samples, and 1 / (1 - rate) times the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty((len(branch), *(1,) * (branch.ndim - 1))).bernoulli_(1 - self.rate)
        return branch * (kept / (1 - self.rate))


def rates(deepest: float, count: int) -> list[float]:
    """Of `count` blocks one after another: from 0 to that of the deepest."""
    return [deepest * number / max(1, count - 1) for number in range(count)]
