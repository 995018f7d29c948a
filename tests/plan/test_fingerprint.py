"""The fingerprint, against NumPy on the raw arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.fingerprint import DERIVED, ClassFacts, Fingerprint, Spread
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.plan import Class
from hounsfield.core.sample import Sample, Target
from hounsfield.data.audit import measure_all
from hounsfield.data.dataset import Dataset
from hounsfield.plan.fingerprint import INTENSITY_BINS, fingerprint

Array = npt.NDArray[Any]


class Lazy:
    """An image in memory, on a grid of its own."""

    def __init__(self, name: str, array: Array, geometry: Geometry | None = None, modality: str | None = None) -> None:
        self.path, self.key = Path(name), name
        self.image = Image(array, geometry or Geometry.none(array.shape[1:]), Meta(modality=modality))

    def __call__(self) -> Image:
        return self.image


def of(samples: Sequence[Sample], kind: str | None, classes: Sequence[str] = (), first: int = 0, **more: Any) -> Fingerprint:
    """The fingerprint of samples; classes count from `first`."""
    named = tuple(Class(value=first + k, name=name) for k, name in enumerate(classes))
    data = Dataset(tuple(samples), named, more.pop("channels", ("a",)), kind, "test", "", Path("root"), **more)
    return fingerprint(data, measure_all(data, None, None)[0])


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(0, 200, shape or (1, 8, 8)).astype(np.uint8)


def pictures(targets: Sequence[Target], **more: Any) -> list[Sample]:
    return [Sample(f"{k:05}", (Lazy(f"{k}.png", noise(k)),), target, **more) for k, target in enumerate(targets)]


def check(spread: Spread | None, values: npt.ArrayLike) -> None:
    own = np.asarray(values, dtype=float)
    assert spread is not None
    assert (spread.min, spread.median, spread.max) == pytest.approx((own.min(), np.median(own), own.max()))
    assert spread.histogram == tuple(np.histogram(own, spread.edges)[0])
    assert sum(spread.histogram) == own.size
    assert len(spread.histogram) <= 16


def masked(n: int = 12) -> tuple[list[Sample], list[Array], list[Array], list[Array], list[tuple[float, ...]]]:
    """Volumes of two channels, with masks, valid parts and spacings of their own."""
    draw = np.random.default_rng(0)
    samples, images, masks, valids, spacings = [], [], [], [], []
    for k in range(n):
        shape = tuple(draw.integers(6, 14, 3).tolist())
        spacing = tuple((draw.integers(2, 9, 3) / 2).tolist())
        grid = Geometry.from_spacing(shape, spacing)
        image = draw.normal(100 * k, 40, (2, *shape)).astype(np.float32 if k % 2 else np.int16)
        mask = draw.choice([0, 0, 0, 1, 3] if k % 3 else [0, 1], (1, *shape)).astype(np.uint8)
        valid = (draw.random((1, *shape)) > 0.2).astype(np.uint8)
        lazy = [Lazy(f"{k}{name}", a, grid, "MR") for name, a in (("i", image), ("m", mask), ("v", valid))]
        samples.append(Sample(f"{k:02}", (lazy[0],), lazy[1], lazy[2], patient=f"p{k // 2}"))
        images.append(image)
        masks.append(mask[0])
        valids.append(valid[0] != 0)
        spacings.append(spacing)
    return samples, images, masks, valids, spacings


def test_masks_volumes_and_regions() -> None:
    samples, images, masks, valids, spacings = masked()
    found = of(samples, "segmentation", ("one", "two", "three", "none"), 1, channels=("a", "b"))
    assert (found.cases, found.patients, found.ndim, found.space, found.modality) == (12, 6, 3, "patient", "MR")
    assert found.orientations == {samples[0].images[0]().geometry.orientation: 12}
    shapes = np.array([m.shape for m in masks])
    assert found.shape_min == tuple(shapes.min(axis=0))
    assert found.shape_max == tuple(shapes.max(axis=0))
    for axis in range(3):
        check(found.shapes[axis], shapes[:, axis])
        check(found.spacings[axis], np.array(spacings)[:, axis])
    assert found.spacing_median == pytest.approx(np.median(spacings, axis=0))
    assert found.anisotropy == pytest.approx(np.median(spacings, axis=0).max() / np.median(spacings, axis=0).min())
    assert found.voxels == sum(m.size for m in masks)
    assert found.voxels_unknown == sum((~v).sum() for v in valids)

    for k in range(2):
        regions = (
            (found.intensity[k], [i[k].ravel() for i in images]),
            (found.intensity_foreground[k], [i[k][v & (m > 0)] for i, m, v in zip(images, masks, valids, strict=True)]),
            (found.intensity_background[k], [i[k][v & (m == 0)] for i, m, v in zip(images, masks, valids, strict=True)]),
        )
        edges = np.linspace(found.intensity[k].low, found.intensity[k].high, INTENSITY_BINS + 1)
        for measured, values in regions:
            pool = np.concatenate(values).astype(np.float64)
            assert measured.mean == pytest.approx(pool.mean())
            assert measured.std == pytest.approx(pool.std())
            median = np.median([np.quantile(v, 0.5, method="inverted_cdf") for v in values])
            assert measured.median == pytest.approx(median)
            # The histogram is drawn from quantiles: near to that of the voxels, in sum and bin by bin.
            shares = np.histogram(pool, edges)[0] / pool.size
            assert sum(measured.histogram) == pytest.approx(shares.sum(), abs=0.02)
            assert np.abs(np.cumsum(measured.histogram) - np.cumsum(shares)).max() < 0.02

    total = sum(m.size for m in masks)
    for c in found.classes:
        counts = np.array([(m == c.value).sum() for m in masks])
        held = counts > 0
        assert c.cases == held.sum()
        assert c.fraction == pytest.approx(counts.sum() / total)
        if held.any():
            check(c.voxels, counts[held])
            check(c.volume, (counts * np.prod(spacings, axis=1))[held])
        else:
            assert (c.voxels, c.volume) == (None, None)
    assert found.fewest_cases == 0


def test_volumes_are_unknown_where_spacing_is() -> None:
    samples = [
        Sample(f"{k}", (Lazy(f"{k}", noise(k)),), Lazy(f"{k}m", (noise(k + 50) > 99).astype(np.uint8))) for k in range(4)
    ]
    found = of(samples, "segmentation", ("c",), 1)
    assert found.classes[0].volume is None
    check(found.classes[0].voxels, [(noise(k + 50) > 99).sum() for k in range(4)])
    assert found.orientations == {}


def test_axes_are_canonical_whatever_the_files_store() -> None:
    affine = np.array([[0, 0, 2.0, 0], [3.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 0, 1]])  # axes forward, up, right
    grid = Geometry((4, 6, 9), affine)
    corners = np.array([[0, 1, 2, 1, 3, 5.0], [0, 0, 0, 2, 4, 8]])
    found = of([Sample("a", (Lazy("a", noise(0, 1, 4, 6, 9), grid),), Boxes(corners, np.array([0, 0])))], "detection", ("c",))
    assert (found.shape_median, found.spacing_median) == ((6, 4, 9), (5.0, 3.0, 2.0))
    (c,) = found.classes
    for side, expected in zip(c.box_sides, ([2, 4], [1, 2], [3, 8]), strict=True):
        check(side, expected)


def test_boxes_are_counted_by_class_and_case() -> None:
    draw = np.random.default_rng(1)
    targets: list[Target] = []
    for k in range(9):
        start = draw.integers(0, 3, (k % 4, 2))
        corners = np.concatenate([start, start + draw.integers(1, 5, (k % 4, 2))], axis=1).astype(float)
        targets.append(Boxes(corners.reshape(-1, 4), draw.integers(0, 2, k % 4)))
    found = of(pictures(targets), "detection", ("x", "y", "none"))
    boxes = [t for t in targets if isinstance(t, Boxes)]
    sides, labels = (np.concatenate(v) for v in ([b.sizes for b in boxes], [b.labels for b in boxes]))
    check(found.boxes, [len(b) for b in boxes if len(b)])
    assert found.empty_masks == sum(not len(b) for b in boxes) > 0
    for k, c in enumerate(found.classes):
        assert c.boxes == (labels == k).sum()
        assert c.fraction == pytest.approx((labels == k).mean())
        assert c.cases == sum((b.labels == k).any() for b in boxes)
        assert (c.voxels, c.volume) == (None, None)
        for axis, side in enumerate(c.box_sides):
            check(side, sides[labels == k, axis])
    assert len(found.classes[0].box_sides) == 2
    assert found.classes[2].box_sides == ()


def test_classes_of_whole_images() -> None:
    found = of(pictures([0, 1, 1, 1, 0]), "classification", ("x", "y", "z"))
    assert [(c.cases, c.fraction) for c in found.classes] == [(2, 0.4), (3, 0.6), (0, 0)]
    assert (found.fewest_cases, found.boxes, found.intensity_foreground, found.intensity_background) == (0, None, (), ())
    several = of(pictures([(0, 1), (), (1,), (1,)]), "classification", ("x", "y"), multilabel=True)
    assert [(c.cases, c.fraction) for c in several.classes] == [(1, 0.25), (3, 0.75)]
    assert of(pictures([None, None]), None).fewest_cases is None


def test_ignored_voxels_count_for_nothing() -> None:
    masks = [np.array([[[0, 1, 1, 255], [255, 255, 255, 255]]], np.uint8), np.array([[[0, 0, 255, 255]] * 2], np.uint8)]
    samples = [Sample(f"{k}", (Lazy(f"{k}", noise(k, 1, 2, 4)),), Lazy(f"{k}m", m)) for k, m in enumerate(masks)]
    found = of(samples, "segmentation", ("c",), 1, ignore_value=255)
    assert found.classes[0].fraction == pytest.approx(2 / 7)
    assert found.empty_masks == 1
    assert found.intensity_foreground[0].mean == pytest.approx(noise(0, 1, 2, 4)[0, 0, 1:3].mean())


def test_what_cases_were_not_searched_for_is_told_once() -> None:
    one, two, three, four = pictures([(0,), (), (1,), (2,)])
    samples = [replace(one, known_classes=(0, 2)), replace(two, known_classes=(0, 2)), replace(three, known_classes=(1, 0, 2))]
    assert of([*samples, four], "classification", "abc", multilabel=True).unknown_classes == ((1,),)
    assert of([three, four], "classification", "abc", multilabel=True).unknown_classes == ()


def test_landmarks_are_the_mean_over_cases_of_relative_percentiles() -> None:
    images = [noise(k, 1, 20, 20).astype(np.int16) * (k + 1) - 100 * k for k in range(3)]
    samples = [Sample(f"{k}", (Lazy(f"{k}.png", image),)) for k, image in enumerate(images)]
    samples.append(Sample("flat", (Lazy("flat.png", np.full((1, 20, 20), 7, np.int16)),)))
    (whole,) = of(samples, None).intensity
    levels = [level for level, _ in whole.landmarks]
    assert (levels[0], levels[-1]) == (0.5, 99.5)
    own = [np.percentile(image, levels, method="inverted_cdf") for image in images]
    expected = np.mean([(q - q[0]) / (q[-1] - q[0]) for q in own], axis=0)
    np.testing.assert_allclose([value for _, value in whole.landmarks], expected, atol=1e-6)
    (flat,) = of(samples[-1:], None).intensity
    assert flat.landmarks == ()


def test_constant_images_and_copies_are_counted() -> None:
    arrays = [np.full((1, 8, 8), 7, np.uint8), np.full((1, 8, 8), 9, np.uint8), noise(1), noise(1), noise(1), noise(2)]
    found = of([Sample(f"{k}", (Lazy(f"{k}", a),)) for k, a in enumerate(arrays)], None)
    assert (found.constant_images, found.all_constant, found.exact_copies, found.near_copies) == (2, False, 2, 0)
    flat = of([Sample("a", (Lazy("a", arrays[0]),))], None)
    assert flat.all_constant
    assert flat.intensity[0].histogram == ()
    assert flat.intensity[0].std == 0


@pytest.mark.parametrize(
    ("sizes", "histogram"),
    [
        ([7, 7, 7], (3,)),
        ([31, 33, 33, 43], (1, 0, 2, *[0] * 9, 1)),  # a bin for each whole number
        ([30, 31, 32, 33, 59], (2, 2, *[0] * 12, 1)),  # two in each
        ([1, 1, 2, 9], (2, 1, 0, 0, 0, 0, 0, 0, 1)),
        ([10, 10, 21, 42, 84, 160], (2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1)),  # 16 bins over four doublings
    ],
)
def test_bins_follow_the_range(sizes: list[int], histogram: tuple[int, ...]) -> None:
    found = of([Sample(f"{k}", (Lazy(f"{k}", noise(k, 1, n, 5)),)) for k, n in enumerate(sizes)], None)
    assert found.shapes[0].histogram == histogram
    check(found.shapes[0], sizes)


def test_flat_images_beside_volumes_are_refused() -> None:
    samples = [Sample("a", (Lazy("a", noise(0)),)), Sample("b", (Lazy("b", noise(0, 1, 4, 4, 4)),))]
    with pytest.raises(InputError, match="WRONG_DIMENSION"):
        of(samples, None)


def test_json_comes_back_and_an_older_file_is_read() -> None:
    samples, *_ = masked(4)
    found = of(samples, "segmentation", ("one", "three"), 1, channels=("a", "b"))
    values = json.loads(found.model_dump_json(by_alias=True))
    assert set(DERIVED) < set(values)
    assert values["anisotropy"] == found.anisotropy
    assert Fingerprint.parse(values, "f") == found
    with pytest.raises(InputError, match="voxel"):
        Fingerprint.parse({**values, "voxel": 3}, "f")
    new = {"voxels", "voxels_unknown", "orientations", "boxes", "constant_images", "exact_copies", "near_copies", *DERIVED}
    new |= {"shapes", "spacings", "intensity_foreground", "intensity_background"}
    old = Fingerprint.parse({k: v for k, v in values.items() if k not in new}, "f")
    assert (old.near_copies, old.intensity_foreground, old.fewest_cases) == (0, (), found.fewest_cases)
    assert ClassFacts(value=1, name="c", cases=1, fraction=0.5).box_sides == ()
