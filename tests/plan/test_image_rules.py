"""Plans of tasks whose truth is the image: nothing is resampled, cut off, recoloured or hidden by a norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.plan.test_rules import facts, plan

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Grid
from hounsfield.data.augment import augment, generator
from hounsfield.data.prepare import prepare

PICTURES: dict[str, Any] = {
    "ndim": 2,
    "space": "none",
    "dtype": "uint8",
    "shape_min": (90, 90),
    "shape_median": (96, 96),
    "shape_max": (99, 99),
    "spacing_min": (1.0, 1.0),
    "spacing_median": (1.0, 1.0),
    "spacing_max": (1.0, 1.0),
    "classes": (),
    "alike": 0.8,
    "alike_mirrored": (0.1, 0.8),
}


@pytest.mark.parametrize("changes", [PICTURES, {"classes": ()}, {"classes": (), "modality": "CT"}])
def test_an_image_reaches_the_network_as_it_is(changes: dict[str, Any]) -> None:
    """But for its scale, and for mirror images: every value of the type comes back exactly."""
    made = plan(facts(**changes), "restoration")
    assert made.grid == Grid()
    assert getattr(made.model_options, "norm", "") == "none"
    shape = (32,) * made.ndim
    kind = np.dtype(facts(**changes).dtype)
    array = np.linspace(max(-30000, np.iinfo(kind).min), np.iinfo(kind).max, int(np.prod(shape))).astype(kind)
    image = Image(array.reshape(1, *shape), Geometry.none(shape))
    x = prepare(image, made.grid, made.normalise).tensor
    (how,) = made.normalise
    mean, std = (how.mean, how.std) if how.scope == "dataset" else (float(array.mean()), float(array.std()))
    np.testing.assert_allclose(x.numpy() * std + mean, image.array, rtol=1e-5, atol=0.01)
    seen, _ = augment(x[None], None, shape, (1.0,) * made.ndim, made.augment, generator("cpu", 3))
    views = [x, *(x.flip(axis + 1) for axis in made.augment.mirror)]
    assert any(torch.allclose(seen[0], view, atol=1e-4) for view in views)


def test_what_was_decided_otherwise_has_its_reason() -> None:
    made, usual = plan(facts(**PICTURES), "restoration"), plan(facts())
    assert made.augment.mirror == (1,)
    assert made.training.lr < usual.training.lr
    for key in ("grid.spacing", "normalise", "augment", "augment.mirror", "training.lr", "model_options.norm"):
        assert made.reasons[key]
    assert "augment.rotation" not in made.reasons
    assert "rarest class" not in made.reasons["training.foreground"]
