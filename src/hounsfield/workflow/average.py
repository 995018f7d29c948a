"""The average of a network's weights over its training, which is what a run keeps."""

from __future__ import annotations

import torch
from torch import nn

from hounsfield.workflow.processes.team import local


class Average:
    """Exponential moving average of a model's weights and buffers, or without a decay the last of them; young averages forget
    faster (decay (1+t)/(10+t))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = [local(v) for v in model.state_dict().values()]
        self.kept = {k: v.detach().clone() if decay else v for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        if not self.decay:
            return
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for kept, live in zip(map(local, self.kept.values()), self.live, strict=True):
            if kept.is_floating_point():
                kept.lerp_(live.to(kept.dtype), weight)
            else:
                kept.copy_(live)
