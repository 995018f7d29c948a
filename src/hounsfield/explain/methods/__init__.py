"""Explanation methods, one file each: what is explained is a callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hounsfield.core.registry import Folder

if TYPE_CHECKING:
    from torch import Tensor, nn


class Method(Protocol):
    """What a file in this folder defines.

    explain: heatmap (B, *spatial) float32, larger where the input speaks more for the score. `x` (B, C, *spatial) is model
        input; `score(model, x)` -> (B,) is what is explained. Gradients are enabled inside; the model is left as it was.
    """

    @staticmethod
    def explain(model: nn.Module, x: Tensor, score: Callable[[nn.Module, Tensor], Tensor]) -> Tensor: ...


METHODS: Folder[Method] = Folder("hounsfield.explain.methods", "method", ("explain",))
