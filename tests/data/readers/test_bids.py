"""BIDS: sessions are cases of one patient, channels are what all of them have, masks come from derivatives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.core.errors import InputError
from hounsfield.data.dataset import Dataset
from hounsfield.data.readers import bids, open_dataset
from hounsfield.io.formats import DEFAULT

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, volume: Callable[..., Path], noise: Any) -> Make:
    """make(name, ...): a volume at the path that each name asks for; of masks, with the values given by name=(values)."""

    def write(*names: str, **values: Any) -> Path:
        for k, name in enumerate(names):
            parts = name.split("/")
            words = parts[-1].split("_")
            place = [*parts[:-2], words[0], *([words[1]] if words[1].startswith("ses-") else []), parts[-2], parts[-1]]
            array = noise(k, 3, 4, 5)
            if parts[0] == "derivatives":
                array = np.zeros((3, 4, 5), np.uint8)
                for row, value in enumerate(values.get("values", (1,))):
                    array[row] = value
            volume(tmp_path / "set" / "/".join(place[:-1]) / f"{parts[-1]}.nii.gz", array)
        return tmp_path / "set"

    return write


def pairs(make: Make, *kinds: str, **more: Any) -> Path:
    """Two subjects with a T1w image, and for each the masks of `kinds`, such as "manual/dseg"."""
    for who in ("sub-01", "sub-02"):
        make(f"anat/{who}_T1w")
        for kind in kinds:
            pipeline, _, word = kind.partition("/")
            folder = make(f"derivatives/{pipeline}/anat/{who}_{word}", **more)
    return folder


def refused(code: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        bids.read(folder, DEFAULT)
    assert caught.value.code == code
    return caught.value.found


def masks(data: Dataset) -> list[list[int]]:
    return [np.unique(s.target().array).tolist() for s in data.samples if callable(s.target)]


def test_sessions_are_cases_of_one_patient(make: Make) -> None:
    folder = make("anat/sub-01_ses-a_T1w", "anat/sub-01_ses-b_T1w", "anat/sub-02_ses-a_T1w")
    (folder / "participants.tsv").write_text("participant_id\tAge\tsex\nsub-01\t40\tn/a\nsub-02\t50\tF\nsub-09\t1\tM\n")
    data = open_dataset(folder)
    assert (data.reader, data.kind, data.channels) == ("bids", None, ("T1w",))
    assert data.found == "3 sessions of 2 subjects without labels, T1w"
    assert [(s.id, s.patient, dict(s.attributes)) for s in data.samples] == [
        ("sub-01_ses-a", "sub-01", {"age": "40"}),
        ("sub-01_ses-b", "sub-01", {"age": "40"}),
        ("sub-02_ses-a", "sub-02", {"age": "50", "sex": "F"}),
    ]


def test_channels_are_what_every_session_has(make: Make) -> None:
    folder = make("anat/sub-01_T2w", "anat/sub-01_T1w", "anat/sub-01_FLAIR", "func/sub-01_task-rest_bold")
    make("anat/sub-02_T1w", "anat/sub-02_run-1_T2w", "anat/sub-02_run-2_T2w", "anat/sub-02_defacemask")
    data = open_dataset(folder)
    assert data.channels == ("T1w", "T2w")
    assert [[i.path.name for i in s.images] for s in data.samples] == [
        ["sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz"],
        ["sub-02_T1w.nii.gz", "sub-02_run-1_T2w.nii.gz"],
    ]
    assert data.notes == (
        "func are left out: the images are those of anat",
        "left out, since not every session has them: FLAIR in 1 of 2",
        "1 repeated runs are left out: the first of each is taken",
    )


def test_strays_are_named(make: Make) -> None:
    folder = make("anat/sub-01_T1w")
    shutil.copy(folder / "sub-01" / "anat" / "sub-01_T1w.nii.gz", folder / "sub-02_T1w.nii.gz")
    assert open_dataset(folder).notes == ("1 images whose names are not BIDS are left out (sub-02_T1w.nii.gz, ...)",)


def test_what_tells_images_apart_names_the_channel(make: Make) -> None:
    folder = make(*(f"anat/{who}_{kind}_T1w" for who in ("sub-01", "sub-02") for kind in ("acq-low", "ce-gad")))
    assert open_dataset(folder).channels == ("acq-low_T1w", "ce-gad_T1w")


def test_no_image_in_common(make: Make) -> None:
    assert "T1w in 1 of 2, T2w in 1 of 2" in refused("CHANNELS", make("anat/sub-01_T1w", "anat/sub-02_T2w"))


def test_segmentations_with_names_and_colours(make: Make) -> None:
    folder = pairs(make, "manual/dseg", values=(0, 3, 7))
    (folder / "derivatives" / "manual" / "dseg.tsv").write_text(
        "index\tname\tcolor\n3\tcortex\t#ff8000\n7\tcyst\tn/a\n9\tnone\t#000000\n"
    )
    data = open_dataset(folder)
    assert data.kind == "segmentation"
    assert [(c.value, c.name) for c in data.classes] == [(3, "cortex"), (7, "cyst")]
    assert data.classes[0].colour == (255, 128, 0)
    assert masks(data) == [[0, 3, 7], [0, 3, 7]]
    # The table beside the mask goes before the one above.
    place = folder / "derivatives" / "manual" / "sub-01" / "anat" / "sub-01_dseg.tsv"
    place.write_text("index\tname\n3\tgrey matter\n")
    assert [c.name for c in open_dataset(folder).classes] == ["grey matter", "7"]


def test_masks_of_labels_become_one_label_image(make: Make) -> None:
    folder = pairs(make, "manual/label-lesion_mask", "manual/label-cyst_mask", values=(1,))
    assert "overlap" in refused("BAD_LABEL", folder)
    for who in ("sub-01", "sub-02"):
        make(f"derivatives/manual/anat/{who}_label-cyst_mask", values=(0, 1))
    (folder / "derivatives" / "manual" / "sub-02" / "anat" / "sub-02_label-cyst_mask.nii.gz").unlink()
    data = open_dataset(folder)
    assert [(c.value, c.name) for c in data.classes] == [(1, "cyst"), (2, "lesion")]
    assert masks(data) == [[0, 1, 2], [0, 2]]
    first = data.samples[0].target
    assert callable(first)
    assert first().array[0, :, 0, 0].tolist() == [2, 1, 0]


def test_one_label_names_the_class(make: Make) -> None:
    data = open_dataset(pairs(make, "labels/T1w_label-lesion_mask"))
    assert [(c.value, c.name) for c in data.classes] == [(1, "lesion")]


def test_masks_of_the_brain_and_of_other_spaces_are_left_out(make: Make) -> None:
    folder = pairs(make, "prep/desc-brain_mask", "prep/space-MNI152_dseg", "manual/space-orig_label-lesion_mask")
    data = open_dataset(folder)
    assert [c.name for c in data.classes] == ["lesion"]
    assert data.notes == (
        "2 masks in another space than their images are left out",
        "prep/desc-brain_mask is left out: there is another segmentation",
    )


def test_several_segmentations_are_named(make: Make) -> None:
    found = refused("UNKNOWN_LAYOUT", pairs(make, "a/dseg", "b/seg-eyes_dseg"))
    assert found == "several segmentations: a/dseg, b/seg-eyes_dseg"


def test_what_has_no_partner(make: Make) -> None:
    folder = pairs(make, "manual/dseg")
    make("anat/sub-03_T1w")
    assert refused("UNPAIRED", folder) == "1 images without a label (sub-03)"


def test_a_column_is_the_class_where_there_is_no_mask(make: Make) -> None:
    table = "participant_id\tdiagnosis\tsite\nsub-01\tMS\tA\nsub-02\thealthy\tA\nsub-03\tn/a\tB\n"
    folder = make("anat/sub-01_T1w", "anat/sub-02_T1w", "anat/sub-03_T1w")
    (folder / "participants.tsv").write_text(table)
    data = open_dataset(folder)
    assert (data.kind, [c.name for c in data.classes]) == ("classification", ["MS", "healthy"])
    assert [(s.id, s.target, dict(s.attributes)) for s in data.samples] == [
        ("sub-01", 0, {"site": "A"}),
        ("sub-02", 1, {"site": "A"}),
    ]
    assert data.notes == (
        "there is no mask: the column diagnosis of participants.tsv is taken as the class",
        "1 sessions without diagnosis are left out",
    )


def test_a_column_is_an_attribute_beside_masks_and_beside_its_like(make: Make) -> None:
    folder = pairs(make, "manual/dseg")
    (folder / "participants.tsv").write_text("participant_id\tgroup\nsub-01\ta\nsub-02\tb\n")
    data = open_dataset(folder)
    assert data.kind == "segmentation"
    assert data.samples[0].attributes == {"group": "a"}
    shutil.rmtree(folder / "derivatives")
    (folder / "participants.tsv").write_text("participant_id\tgroup\tdiagnosis\nsub-01\ta\tx\nsub-02\tb\ty\n")
    data = open_dataset(folder)
    assert data.kind is None
    assert data.notes == ("diagnosis and group of participants.tsv could both be the class: name one in a manifest.csv",)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("participants.tsv", "id\tage\nsub-01\t3\n", "a row without participant_id"),
        ("participants.tsv", "participant_id\tage\nsub-01\n", "1 cells in line 2"),
        ("participants.tsv", b"participant_id\n\xff\n", "no table"),
        ("derivatives/dseg.tsv", "number\tname\n1\ta\n", "a row without 'index'"),
        ("derivatives/dseg.tsv", "index\tname\nx\ta\n", "a row without invalid literal"),
    ],
)
def test_tables_that_are_faulty(make: Make, name: str, text: str | bytes, told: str) -> None:
    folder = pairs(make, "manual/dseg")
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert told in refused("BAD_MANIFEST", folder)
