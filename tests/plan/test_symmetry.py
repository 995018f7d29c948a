"""Mirror images that a body part allows, on made-up layouts whose symmetry is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.data.facts import CaseFacts, standardise, thumbnail
from hounsfield.plan.symmetry import likeness

EMPTY = CaseFacts.__dataclass_fields__


def case(image: npt.NDArray[np.float64], orientation: str = "", space: str = "none") -> CaseFacts:
    """Facts whose thumbnail is that of `image`."""
    flat = thumbnail(Image(image[None].astype(np.float32), Geometry.none(image.shape)))
    known = {"shape": image.shape, "orientation": orientation, "space": space, "thumbnail": flat.astype("<f4").tobytes()}
    return CaseFacts(**{name: known.get(name) for name in EMPTY})  # type: ignore[arg-type]


def noisy(layout: npt.NDArray[np.float64], count: int = 12) -> list[npt.NDArray[np.float64]]:
    draw = np.random.default_rng(0)
    return [layout + 0.3 * draw.standard_normal(layout.shape) for _ in range(count)]


def ramp(shape: tuple[int, ...], *axes: int) -> npt.NDArray[np.float64]:
    """Rises along the given axes, symmetric along all others."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.asarray(sum(grid[k] for k in axes) - 0.5 * sum(g**2 for g in grid))


def test_only_the_axes_of_a_symmetric_layout_are_allowed() -> None:
    for axes in ((), (0,), (1,), (0, 1)):
        found = likeness([case(i) for i in noisy(ramp((32, 48), *axes))])
        assert [found.allows(k) for k in range(2)] == [k not in axes for k in range(2)]


def test_the_likeness_is_the_mean_correlation_with_the_others() -> None:
    images = noisy(ramp((16, 16), 0), 4)
    found = likeness([case(i) for i in images])
    flat = [standardise(i) for i in images]
    turned = [standardise(i[::-1]) for i in images]
    rest = [np.sum([f for j, f in enumerate(flat) if j != k], axis=0) for k in range(4)]
    unit = [r / np.linalg.norm(r) for r in rest]
    assert found.as_is == pytest.approx(np.mean([f @ u for f, u in zip(flat, unit, strict=True)]), abs=1e-5)
    assert found.mirrored[0] == pytest.approx(np.mean([t @ u for t, u in zip(turned, unit, strict=True)]), abs=1e-5)


def test_images_without_a_common_layout_have_no_special_direction() -> None:
    draw = np.random.default_rng(1)
    found = likeness([case(draw.standard_normal((64, 64))) for _ in range(20)])
    assert abs(found.as_is) < 0.2
    assert found.allows(0)
    assert found.allows(1)


def test_volumes_are_compared_as_they_lie_in_the_patient() -> None:
    """Half of them stored with other axes first and turned round: the same bodies."""
    bodies = noisy(ramp((16, 16, 16), 2))  # canonical (d, h, w): rises towards the right
    stored = [case(b, "SAR", "patient") for b in bodies[:6]]
    stored += [case(np.flip(b, (0, 2)).transpose(2, 0, 1), "LIA", "patient") for b in bodies[6:]]
    found = likeness(stored)
    straight = likeness([case(b, "SAR", "patient") for b in bodies])
    assert found.as_is == pytest.approx(straight.as_is, abs=1e-6)
    assert [found.allows(k) for k in range(3)] == [True, True, False]
    confused = likeness([replace(c, orientation="SAR") for c in stored])
    assert confused.as_is < 0.8 * found.as_is


def test_a_single_case_is_like_no_other() -> None:
    found = likeness([case(ramp((16, 16), 0))])
    assert (found.as_is, found.mirrored) == (0.0, (0.0, 0.0))
