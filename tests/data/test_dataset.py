"""Datasets and lazy files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image, Meta
from hounsfield.core.sample import Sample
from hounsfield.data.dataset import COLOURS, Dataset, ImageFile, file_key, look_up, name_classes
from hounsfield.io.formats import Choices

Picture = Callable[..., Path]


def dataset(*samples: Sample) -> Dataset:
    return Dataset(samples, (), ("intensity",), None, "test", "", Path("root"))


def sample(name: str, patient: str | None = None) -> Sample:
    return Sample(name, (ImageFile(Path(f"{name}.png")),), patient=patient)


def test_samples_are_sorted_and_selected_by_id() -> None:
    data = dataset(sample("b"), sample("a"), sample("c"))
    assert [s.id for s in data.samples] == ["a", "b", "c"]
    assert [s.id for s in data.select({"c", "a"}).samples] == ["a", "c"]
    assert len(data) == 3


def test_two_samples_of_one_id_are_refused() -> None:
    other = Sample("a", (ImageFile(Path("a.jpg")),))
    with pytest.raises(InputError, match=r"OUTPUT_COLLISION root: found a\.png and a\.jpg, both named 'a'"):
        dataset(sample("a"), other)


def test_no_sample_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="TOO_FEW root: found no case"):
        dataset()


def test_patients_are_counted_only_where_all_are_known() -> None:
    assert dataset(sample("a", "p1"), sample("b", "p1"), sample("c", "p2")).patients == 2
    assert dataset(sample("a", "p1"), sample("b")).patients is None


def test_keys_follow_content_and_choices(tmp_path: Path, picture: Picture, noise: Any) -> None:
    path = picture(tmp_path / "a.png", noise(0))
    key = ImageFile(path).key
    assert ImageFile(tmp_path / ".." / tmp_path.name / "a.png").key == key
    assert ImageFile(path, Choices(volume=1)).key != key
    os.utime(path, ns=(1, 1))
    assert ImageFile(path).key != key


def test_the_key_of_a_folder_follows_its_files(tmp_path: Path, picture: Picture, noise: Any) -> None:
    picture(tmp_path / "a.png", noise(0))
    key = file_key(tmp_path)
    assert file_key(tmp_path) == key
    os.utime(tmp_path / "a.png", ns=(1, 1))
    changed = file_key(tmp_path)
    assert changed != key
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert file_key(tmp_path) not in (key, changed)


def test_palettes_are_looked_up() -> None:
    def indexed(*colours: tuple[int, int, int]) -> Image:
        array = np.array([[[0, 1, 2]]], np.uint8)
        return Image(array, Geometry.none((1, 3)), Meta(format="raster", palette=colours))

    colours = look_up(indexed((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    assert colours.array.tolist() == [[[1, 4, 7]], [[2, 5, 8]], [[3, 6, 9]]]
    assert colours.meta.palette is None
    assert look_up(indexed((9, 9, 9), (4, 4, 4))).array.tolist() == [[[9, 4, 4]]]
    plain = Image(np.zeros((1, 1, 3), np.uint8), Geometry.none((1, 3)))
    assert look_up(plain) is plain


def test_classes_have_values_names_and_colours_that_differ() -> None:
    classes = name_classes([(3, "a"), (7, "b")])
    assert [(c.value, c.name) for c in classes] == [(3, "a"), (7, "b")]
    assert len({c.colour for c in name_classes((k, str(k)) for k in range(len(COLOURS)))}) == len(COLOURS)
