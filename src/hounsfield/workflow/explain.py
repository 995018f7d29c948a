"""Explain: the road of `predict` as far as the model grid, then a method on the score of one class, and back to the source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hounsfield.core.image import Image
from hounsfield.data.prepare import Prepared, prepare_labels
from hounsfield.explain.methods import METHODS
from hounsfield.workflow.predict import Predictor


def heatmap(predictor: Predictor, image: Image, target: int, where: Image | None = None, method: str = "gradcam") -> Image:
    """What in `image` speaks for class index `target`: (1, *source grid) float32, larger where it speaks more.

    One window of the model is explained, the whole image where the model sees it whole; outside the window the map is 0.
    where: labels on the source grid; the window is centred on those of `target`, else on the image. The mean over the members
    of an ensemble. Raises InputError UNKNOWN_MEMBER, and what the method raises for a network that it does not fit.
    """
    explain = METHODS.load(method).explain
    prepared = predictor.prepare(image)
    corner = _corner(predictor, prepared, target, where)
    window, inside = _window(prepared.tensor, corner, predictor.plan.patch)

    def score(model: nn.Module, x: Tensor) -> Tensor:
        return predictor.solver.score(model, x, target)

    maps = [explain(m, window[None].to(next(m.parameters()).device), score)[0].detach().float().cpu() for m in predictor.models]
    whole = torch.zeros(prepared.tensor.shape[1:])
    whole[tuple(slice(c, c + n) for c, n in zip(corner, inside, strict=True))] = torch.stack(maps).mean(dim=0)[
        tuple(slice(0, n) for n in inside)
    ]
    return prepared.back_image(whole[None])


def _corner(predictor: Predictor, prepared: Prepared, target: int, where: Image | None) -> tuple[int, ...]:
    """First index of the window on the model grid."""
    grid = prepared.tensor.shape[1:]
    centre = np.array(grid) / 2
    if where is not None:
        labels = prepare_labels(where, prepared.placement, predictor.plan.classes).numpy()
        found = np.argwhere(labels[target] == 1 if len(labels) > 1 else labels[0] == target + 1)
        centre = found.mean(axis=0) + 0.5 if len(found) else centre
    return tuple(
        int(np.clip(round(float(c) - p / 2), 0, max(0, n - p)))
        for c, p, n in zip(centre, predictor.plan.patch, grid, strict=True)
    )


def _window(x: Tensor, corner: Sequence[int], patch: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """(C, *patch) of x (C, *grid) from `corner` on, its border repeated where x is smaller; and how much of it is x."""
    window = x[(slice(None), *[slice(c, c + p) for c, p in zip(corner, patch, strict=True)])]
    inside = tuple(window.shape[1:])
    lacking = [amount for n, p in reversed(list(zip(inside, patch, strict=True))) for amount in (0, p - n)]
    return F.pad(window[None], lacking, mode="replicate")[0] if any(lacking) else window, inside
