"""Which reader reads, what is said where none does, and where patients come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.readers import READERS, open_dataset, unknown_layout

Picture = Callable[..., Path]


def test_what_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NOT_FOUND .*missing"):
        open_dataset(tmp_path / "missing")
    (tmp_path / ".hidden").write_text("x")
    with pytest.raises(InputError, match="EMPTY_FOLDER"):
        open_dataset(tmp_path)
    for name in ("a.npz", "a.csv", "a.png"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=rf"EMPTY_FILE .*{name}: found 0 bytes"):
            open_dataset(tmp_path / name)


def test_an_unknown_layout_says_in_one_line_what_each_reader_missed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(InputError) as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "UNKNOWN_LAYOUT"
    rows = dict(row.split(": ", 1) for row in caught.value.found.split("; "))
    assert set(rows) == set(READERS.names())
    assert all(missed.startswith("no ") and len(missed) > 8 for missed in rows.values())
    assert "\n" not in str(caught.value)


def test_the_table_for_images_without_labels_leaves_out_who_could_read(tmp_path: Path, picture: Picture, noise: Any) -> None:
    picture(tmp_path / "a.png", noise(0))
    error = unknown_layout(tmp_path)
    assert error.code == "UNKNOWN_LAYOUT"
    assert {row.split(":")[0] for row in error.found.split("; ")} == set(READERS.names()) - {"images"}


def test_a_named_reader_reads_or_says_what_it_misses(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for k in range(4):
        picture(tmp_path / "ab"[k % 2] / f"{k}.png", noise(k))
    assert open_dataset(tmp_path).reader == "class_folders"
    assert open_dataset(tmp_path, reader="images").reader == "images"
    with pytest.raises(InputError, match=r"UNKNOWN_LAYOUT .*found msd: no dataset\.json"):
        open_dataset(tmp_path, reader="msd")
    with pytest.raises(InputError, match=r"UNKNOWN_MEMBER .*did you mean 'images'"):
        open_dataset(tmp_path, reader="imges")


def test_a_manifest_goes_before_pairs_and_pairs_before_folders(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for folder in ("images", "masks"):
        picture(tmp_path / folder / "a.png", noise(0) // 255)
        picture(tmp_path / folder / "b.png", noise(1) // 255)
    assert open_dataset(tmp_path, reader="class_folders").reader == "class_folders"
    assert open_dataset(tmp_path).reader == "image_masks"
    (tmp_path / "manifest.csv").write_text("image,target\nimages/a.png,x\nimages/b.png,y\n")
    assert open_dataset(tmp_path).reader == "manifest"


def test_patients_come_from_a_pattern(tmp_path: Path, picture: Picture, noise: Any) -> None:
    for k, name in enumerate(("p1_a", "p1_b", "p22_a")):
        picture(tmp_path / f"{name}.png", noise(k))
    assert [s.patient for s in open_dataset(tmp_path, patient_regex=r"(p\d+)_").samples] == ["p1", "p1", "p22"]
    assert [s.patient for s in open_dataset(tmp_path, patient_regex=r"p\d+").samples] == ["p1", "p1", "p22"]
    assert [s.patient for s in open_dataset(tmp_path, patient_regex=r"x(\d)|p(\d+)").samples] == ["1", "1", "22"]
    assert [s.patient for s in open_dataset(tmp_path).samples] == [None] * 3


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", r"'\(': missing \)"), (r"p(\d\d)", r"2 of 3 cases where .* finds nothing, such as p1_a"), ("q*", "3 of 3 cases")],
)
def test_patterns_that_do_not_serve_are_refused(
    tmp_path: Path, picture: Picture, noise: Any, pattern: str, message: str
) -> None:
    for k, name in enumerate(("p1_a", "p1_b", "p22_a")):
        picture(tmp_path / f"{name}.png", noise(k))
    with pytest.raises(InputError, match=f"BAD_OPTION --patient-regex: found {message}"):
        open_dataset(tmp_path, patient_regex=pattern)


def test_bids_subjects_are_patients_unasked(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> None:
    for name in ("sub-01/anat/sub-01_T1w", "sub-01/anat/sub-01_T2w", "sub-02/anat/sub-02_T1w"):
        volume(tmp_path / f"{name}.nii.gz", noise(len(name), 4, 4, 4))
    volume(tmp_path / "sub-03_T1w.nii.gz", noise(9, 4, 4, 4))
    data = open_dataset(tmp_path, "images")
    assert (data.reader, data.kind) == ("images", None)
    assert {s.id: s.patient for s in data.samples} == {
        "sub-01/anat/sub-01_T1w": "sub-01",
        "sub-01/anat/sub-01_T2w": "sub-01",
        "sub-02/anat/sub-02_T1w": "sub-02",
        "sub-03_T1w": "sub-03",
    }


@pytest.mark.parametrize(
    ("name", "reader", "kind", "count", "channels", "values"),
    [
        ("breastmnist", "medmnist", "classification", 780, 1, [0, 1]),
        ("breastmnist/breastmnist.npz", "medmnist", "classification", 780, 1, [0, 1]),
        ("cxr_lungs", "image_masks", "segmentation", 470, 1, [255]),
        ("drive", "image_masks", "segmentation", 20, 3, [255]),
        ("drive/training", "image_masks", "segmentation", 20, 3, [255]),
        ("hippocampus", "msd", "segmentation", 208, 1, [1, 2]),
        ("bccd/JPEGImages", "images", None, 292, 3, []),
        ("dicom_hippocampus_studies", "images", None, 8, 1, []),
    ],
)
def test_real_sets(
    shared_data: Path, name: str, reader: str, kind: str | None, count: int, channels: int, values: list[int]
) -> None:
    data = open_dataset(shared_data / name)
    assert (data.reader, data.kind, len(data), len(data.channels)) == (reader, kind, count, channels)
    assert [c.value for c in data.classes] == values
    first = data.samples[0]
    image = first.images[0]()
    assert image.channels == channels
    if callable(first.target):
        assert image.geometry.same_grid(first.target().geometry)
