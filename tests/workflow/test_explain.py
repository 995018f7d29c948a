"""Heatmaps lie on the source's grid, inside the window that was explained, and follow the class that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.workflow.explain import heatmap
from hounsfield.workflow.predict import Predictor
from hounsfield.workflow.run import Run


class Bright(nn.Module):
    """A dense network whose evidence for every class is the input's brightness; for the background its opposite."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, 1)
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.conv.weight[0] = -1.0
            self.conv.bias.zero_()  # type: ignore[union-attr]
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        out: Tensor = self.conv(x)
        return out


def bright(run: Run, patch: tuple[int, int]) -> tuple[Predictor, Bright]:
    plan = run.plan.override({"patch": list(patch)}, "test")
    model = Bright(len(plan.classes) + 1)
    return Predictor.of(plan, [model]), model


def picture(array: np.ndarray) -> Image:
    return Image(array[None], Geometry.none(array.shape))


def test_only_the_window_round_the_class_is_explained(segmenter: Run) -> None:
    predictor, model = bright(segmenter, (32, 32))
    labels = np.zeros((96, 80), dtype=np.uint8)
    labels[70:74, 8:12] = segmenter.plan.classes[1].value
    heat = heatmap(predictor, picture(np.full((96, 80), 255, dtype=np.uint8)), 1, picture(labels))
    assert model.seen == [(1, 1, 32, 32)]
    assert heat.array.shape == (1, 96, 80)
    expected = np.zeros((96, 80), dtype=bool)
    expected[72 - 16 : 72 + 16, 0:32] = True  # centred on (72, 10), moved inside
    assert np.array_equal(heat.array[0] > 0, expected)


def test_a_class_that_is_nowhere_is_sought_in_the_middle(segmenter: Run) -> None:
    predictor, _ = bright(segmenter, (32, 32))
    heat = heatmap(predictor, picture(np.full((96, 80), 255, dtype=np.uint8)), 0, picture(np.zeros((96, 80), dtype=np.uint8)))
    rows, columns = np.nonzero(heat.array[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 63, 24, 55)


def test_a_small_image_is_padded_to_the_window_and_cut_back(segmenter: Run) -> None:
    predictor, model = bright(segmenter, (64, 64))
    array = np.zeros((40, 50), dtype=np.uint8)
    array[:, 25:] = 255
    heat = heatmap(predictor, picture(array), 0)
    assert model.seen == [(1, 1, 64, 64)]
    assert heat.array.shape == (1, 40, 50)
    assert (heat.array[0, :, 25:] > 0).all()
    assert heat.array[0, :, :25].max() < heat.array[0, :, 25:].min()


def test_members_of_an_ensemble_are_averaged(segmenter: Run) -> None:
    predictor, model = bright(segmenter, (32, 32))
    image = picture(np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8))
    one = heatmap(predictor, image, 0).array
    twice = Bright(len(predictor.plan.classes) + 1)
    with torch.no_grad():
        twice.conv.weight.mul_(3)
    other = heatmap(Predictor.of(predictor.plan, [twice]), image, 0).array
    both = heatmap(Predictor.of(predictor.plan, [model, twice]), image, 0).array
    np.testing.assert_allclose(both, (one + other) / 2, rtol=1e-5)
    assert not np.allclose(one, other)


def test_a_classifier_is_explained_on_the_whole_image_and_left_as_it_was(classifier: Run) -> None:
    predictor = Predictor(classifier, "cpu")
    before = {k: v.clone() for k, v in predictor.models[0].state_dict().items()}
    image = picture(np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8))
    heat = heatmap(predictor, image, 1)
    assert heat.array.shape == image.array.shape
    assert heat.geometry == image.geometry
    assert np.isfinite(heat.array).all()
    assert heat.array.min() >= 0
    assert all(torch.equal(v, before[k]) for k, v in predictor.models[0].state_dict().items())
    assert all(p.grad is None for p in predictor.models[0].parameters())


def test_an_unknown_method_is_named(classifier: Run) -> None:
    with pytest.raises(InputError) as caught:
        heatmap(Predictor(classifier, "cpu"), picture(np.zeros((96, 96), dtype=np.uint8)), 0, method="gradcamm")
    assert caught.value.code == "UNKNOWN_MEMBER"
    assert "did you mean 'gradcam'?" in str(caught.value)
