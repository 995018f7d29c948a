"""Copies: exact by content, near by correlation, and what is neither."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from hounsfield.core.boxes import Boxes
from hounsfield.core.sample import Sample, Target
from hounsfield.core.sample import Split as Part
from hounsfield.data.duplicates import NEAR_ALIGNED, Duplicate, aligned, count_within, exact, near
from hounsfield.data.facts import CaseFacts, measure

Array = npt.NDArray[Any]
Found = tuple[dict[str, Sample], dict[str, CaseFacts], dict[str, Part]]


@pytest.fixture
def found(lazy: Any) -> Any:
    """found({"train/a": array, ...}, targets={}): samples, facts and parts, the part being the id's beginning."""

    def build(arrays: dict[str, Array], targets: dict[str, int] | None = None) -> Found:
        samples = {name: Sample(name, (lazy(f"{name}.png", a[None]),), (targets or {}).get(name)) for name, a in arrays.items()}
        parts: dict[str, Part] = {name: name.split("/")[0] for name in arrays}  # type: ignore[misc]
        return samples, {name: measure(s) for name, s in samples.items()}, parts

    return build


def smooth(seed: int, *shape: int) -> Array:
    """Blobs that survive a change of size, like anatomy."""
    values: Array = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape or (64, 64)), 4)
    scaled: Array = (values - values.min()) / np.ptp(values) * 255
    return scaled.astype(np.uint8)


def pairs(duplicates: list[Duplicate]) -> list[tuple[str, str]]:
    return [(d.first, d.second) for d in duplicates]


def test_copies_stand_behind_the_one_in_the_part_that_is_kept(found: Any, noise: Any) -> None:
    arrays = {
        "train/a": noise(1),
        "train/b": noise(1),
        "val/c": noise(1),
        "test/d": noise(1),
        "train/e": noise(2),
        "train/f": noise(2),
        "train/g": noise(3),
    }
    copies = exact(*found(arrays, {"train/a": 1, "test/d": 0, "val/c": 0, "train/b": 0}))
    assert pairs(copies) == [
        ("test/d", "val/c"),
        ("test/d", "train/a"),
        ("test/d", "train/b"),
        ("train/e", "train/f"),
    ]
    assert [c.same_target for c in copies] == [True, False, True, True]
    assert {c.correlation for c in copies} == {1.0}
    assert str(copies[1]) == "test test/d.png = train train/a.png, labels differ"


def test_labels_agree_on_what_both_were_searched_for(found: Any, noise: Any) -> None:
    """Boxes in their number; what one of two was not searched for says nothing."""

    def agree(one: Target, other: Target, **known: tuple[int, ...]) -> bool:
        samples, facts, parts = found({"train/a": noise(1), "train/b": noise(1)})
        samples = {
            "train/a": replace(samples["train/a"], target=one, known_classes=known.get("a")),
            "train/b": replace(samples["train/b"], target=other, known_classes=known.get("b")),
        }
        (copy,) = exact(samples, facts, parts)
        return copy.same_target

    def boxes(*labels: int) -> Boxes:
        return Boxes(
            np.array([[0, 0, 4, 4 + k] for k in range(len(labels))], dtype=float).reshape(-1, 4), np.array(labels, int)
        )

    assert agree(boxes(0, 1, 1), boxes(1, 0, 1))
    assert not agree(boxes(0, 1, 1), boxes(0, 1))
    assert not agree(boxes(0), boxes())
    assert agree(boxes(0, 1, 1), boxes(0), b=(0,))
    assert not agree(boxes(0, 1, 1), boxes(), b=(0,))
    assert agree((0, 2), (0,), b=(0, 1))
    assert not agree((0, 2), (1,), a=(0, 2), b=(0, 1))
    assert agree((), (1,), a=(0,))


def test_another_size_brightness_or_a_little_noise_is_near(found: Any) -> None:
    one = smooth(0)
    arrays = {
        "train/same": one,
        "train/other": smooth(1),
        "val/larger": ndimage.zoom(one, 2, order=1),
        "val/darker": (one * 0.6 + 10).astype(np.uint8),
        "test/noisy": (one + np.random.default_rng(0).normal(0, 2, one.shape)).clip(0, 255).astype(np.uint8),
        "test/else": smooth(2),
    }
    alike = near(*found(arrays))
    assert set(pairs(alike)) == {
        ("val/larger", "train/same"),
        ("val/darker", "train/same"),
        ("test/noisy", "train/same"),
        ("test/noisy", "val/darker"),
    }
    assert [d.correlation for d in alike] == sorted((d.correlation for d in alike), reverse=True)
    assert all(0.99 <= d.correlation < 1 for d in alike)
    darker = next(d for d in alike if d.first == "val/darker")
    assert str(darker) == "val val/darker.png ~ train train/same.png (0.9999)"


def test_correlation_of_one_size_is_that_of_all_pixels(found: Any) -> None:
    one = smooth(0)
    noisy = (one + np.random.default_rng(0).normal(0, 6, one.shape)).clip(0, 255).astype(np.uint8)
    expected = np.corrcoef(one.ravel(), noisy.ravel())[0, 1]
    (only,) = near(*found({"train/a": one, "val/b": noisy}))
    assert only.correlation == pytest.approx(expected, abs=1e-6)


def test_alike_thumbnails_of_different_images_are_not_listed(found: Any) -> None:
    one = smooth(0)
    textured = one.astype(float) + 60 * (np.indices(one.shape).sum(axis=0) % 2 - 0.5)
    samples, facts, parts = found({"train/a": one, "val/b": textured.clip(0, 255).astype(np.uint8)})
    first, second = (np.frombuffer(facts[name].thumbnail, dtype=np.float32) for name in ("train/a", "val/b"))
    assert float(first @ second) > 0.98
    assert near(samples, facts, parts) == []


def test_exact_copies_one_part_and_constant_images_are_not_near(found: Any) -> None:
    one = smooth(0)
    close = (one * 0.9).astype(np.uint8)
    flat = np.full((64, 64), 7, np.uint8)
    assert near(*found({"train/a": one, "val/b": one})) == []
    assert near(*found({"train/a": one, "train/b": close})) == []
    assert near(*found({"train/a": flat, "val/b": flat + 1})) == []


def test_a_near_copy_behind_an_exact_one_is_still_found(found: Any) -> None:
    one = smooth(0)
    close = (one * 0.9).astype(np.uint8)
    assert pairs(near(*found({"val/a": one, "train/b": one, "train/c": close}))) == [("val/a", "train/c")]


def test_volumes_are_compared_among_themselves(found: Any) -> None:
    one = smooth(0, 24, 24, 24)
    arrays = {
        "train/a": one,
        "train/flat": smooth(0),
        "val/b": (one * 0.8).astype(np.uint8),
        "val/c": ndimage.zoom(one, (0.75, 1, 1.25), order=1),
    }
    assert set(pairs(near(*found(arrays)))) == {("val/b", "train/a"), ("val/c", "train/a")}


def test_only_the_most_alike_of_a_part_is_listed(found: Any) -> None:
    one = smooth(0)
    frames = {
        f"train/{k}": (one + np.random.default_rng(k).normal(0, k, one.shape)).clip(0, 255).astype(np.uint8) for k in (1, 2, 3)
    }
    assert pairs(near(*found({"val/x": one, **frames}))) == [("val/x", "train/1")]


def counted(found: Found) -> tuple[int, int]:
    samples, facts, _ = found
    return count_within(list(samples.values()), facts)


def noisy(array: Array, sigma: float, seed: int) -> Array:
    values: Array = (array + np.random.default_rng(seed).normal(0, sigma, array.shape)).clip(0, 255).astype(np.uint8)
    return values


def test_copies_within_a_part_are_those_that_could_go(found: Any) -> None:
    one, other = smooth(0), smooth(1)
    film = {f"train/film{k}": noisy(one, 2, k) for k in range(4)}
    arrays = {"train/a": one, "train/b": one, "train/c": one, **film, "train/d": other, "train/e": other, "train/f": smooth(2)}
    assert counted(found(arrays)) == (3, 4)  # b, c and e; the film but for a
    assert counted(found({"train/d": other, "train/f": smooth(2)})) == (0, 0)
    assert counted(found({"train/d": other})) == (0, 0)


def test_alike_thumbnails_and_constant_images_are_no_copies_within_a_part(found: Any) -> None:
    one = smooth(0)
    textured = (one + 60 * (np.indices(one.shape).sum(axis=0) % 2 - 0.5)).clip(0, 255).astype(np.uint8)
    flat = np.full((64, 64), 7, np.uint8)
    assert counted(found({"train/a": one, "train/b": textured, "train/c": flat, "train/d": flat + 1})) == (0, 0)


def test_copies_within_a_part_are_those_of_every_pair(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks smaller than the part, against all pairs compared by NumPy.
    monkeypatch.setattr("hounsfield.data.duplicates.BLOCK", 7)
    arrays = {f"train/{k:02}": noisy(smooth(k % 20), 1 + k / 10, k) for k in range(40)}
    flat = np.array([a.ravel() for a in arrays.values()], dtype=np.float64)
    alike = np.corrcoef(flat) - np.eye(40)
    links = {frozenset((k, int(row.argmax()))) for k, row in enumerate(alike) if row.max() >= 0.99}
    assert 3 < len(links) < 20
    assert counted(found(arrays)) == (0, len(links))  # pairs: no image is of two
    monkeypatch.setattr("hounsfield.data.duplicates.NEIGHBOURS", 4)
    assert counted(found(arrays)) == (0, len(links))  # those alike stand side by side, and so do their mirror images


def test_what_would_take_long_to_confirm_is_not_counted(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {f"train/{k}{c}": noisy(smooth(k), 1 + k, ord(c)) for k in range(3) for c in "ab"}
    assert counted(found(arrays)) == (0, 3)
    monkeypatch.setattr("hounsfield.data.duplicates.READ_AGAIN", 2 * 2 * 64 * 64)
    assert counted(found(arrays)) == (0, 2)


def test_a_mirrored_copy_is_told_as_such(found: Any) -> None:
    one = smooth(0)
    (only,) = near(*found({"train/a": one, "val/b": one[:, ::-1], "val/c": one[::-1]}))
    assert (only.first, only.second, only.mirrored, only.correlation) == ("val/b", "train/a", True, 0.9999)
    assert str(only).endswith("(0.9999), mirrored")
    assert counted(found({"train/a": one, "train/b": one[:, ::-1]})) == (0, 1)


def textured(seed: int, size: int = 256) -> Array:
    """Blobs under fine strokes, as photographs have them."""
    draw = np.random.default_rng(seed)
    fine = ndimage.gaussian_filter(draw.standard_normal((size, size)), 1.2)
    values: Array = ndimage.zoom(smooth(seed), size // 64, order=3) * 0.6 + 60 + 12 * fine / fine.std()
    return values.clip(0, 255)


@pytest.mark.parametrize("scale", [0.99, 1.01])
def test_a_copy_that_was_enlarged_a_little_is_laid_over_the_other(found: Any, scale: float) -> None:
    one = textured(0)
    middle = (np.array(one.shape) - 1) / 2
    other = ndimage.affine_transform(one, np.eye(2) / scale, middle - middle / scale, order=1, mode="nearest")
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.99
    (only,) = near(
        *found({"train/a": one.astype(np.uint8), "val/b": other.astype(np.uint8), "val/c": textured(1).astype(np.uint8)})
    )
    assert (only.first, only.second) == ("val/b", "train/a")
    assert only.correlation >= NEAR_ALIGNED


def test_laying_over_undoes_a_small_shift_and_a_gain_in_two_and_three_dimensions() -> None:
    for shape in ((64, 64), (24, 24, 24)):
        one = smooth(3, *shape).astype(np.float32)
        other = 3 * ndimage.shift(one, 0.4, order=3, mode="nearest") + 50
        assert aligned(one, other) > max(0.999, float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))
        assert aligned(one, smooth(4, *shape).astype(np.float32)) < 0.9
