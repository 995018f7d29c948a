"""Unlabelled images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.readers import images, open_dataset
from hounsfield.io.formats import DEFAULT

Picture = Callable[..., Path]


def test_a_folder_and_a_file(tmp_path: Path, picture: Picture, noise: Any) -> None:
    picture(tmp_path / "b" / "2.png", noise(1, 8, 8, 3))
    picture(tmp_path / "a.tif", noise(0, 8, 8, 3))
    data = images.read(tmp_path, DEFAULT)
    assert [(s.id, s.target, s.split) for s in data.samples] == [("a", None, None), ("b/2", None, None)]
    assert (data.kind, data.classes, data.channels, data.found) == (
        None,
        (),
        ("red", "green", "blue"),
        "2 images without labels",
    )
    assert images.match(tmp_path).priority == 0
    only = open_dataset(tmp_path / "a.tif")
    assert [s.id for s in only.samples] == ["a"]
    assert only.root == tmp_path / "a.tif"


def test_a_file_that_is_no_image_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.7 ...")
    with pytest.raises(InputError, match=r"UNKNOWN_FORMAT .*x\.pdf: found a PDF document"):
        open_dataset(tmp_path / "x.pdf")
    assert images.match(tmp_path).found is None
