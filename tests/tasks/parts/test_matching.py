"""The flow's loss against its formula, and what it converges to on data of which the velocity is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hounsfield.tasks.parts.matching import matching


class Asked(nn.Module):
    """Remembers what it is asked, and says 0."""

    noise_shape = (1, 2, 2)

    def velocity(self, x: Tensor, time: Tensor, asked: Tensor | None) -> Tensor:
        self.asked: tuple[Any, ...] = (x, time, asked)
        return torch.zeros_like(x)


def test_the_place_lies_on_the_line_and_the_velocity_is_its_direction() -> None:
    torch.manual_seed(0)
    model, real, labels = Asked(), torch.full((4000, 1, 2, 2), 0.5), torch.zeros(4000, dtype=torch.int64)
    ((player, loss),) = matching(model, real, labels)
    assert player == "model"
    value = loss()
    x, time, told = model.asked
    assert told is labels
    part = time.reshape(-1, 1, 1, 1)
    begun = (x - part * real) / (1 - part)
    assert float(begun.mean()) == pytest.approx(0, abs=0.02)
    assert float(begun.std()) == pytest.approx(1, abs=0.02)
    assert value.item() == pytest.approx(float((real - begun).square().mean()), rel=1e-4)
    assert 0 < float(time.min()) < 0.1
    assert 0.9 < float(time.max()) < 1
    assert float(time.median()) == pytest.approx(0.5, abs=0.02)
