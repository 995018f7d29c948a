"""Mask files: which values they keep, and what is no mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from hounsfield.core.errors import InputError
from hounsfield.data.masks import MaskFile, check_pairs, count_values, find_classes, in_threads
from hounsfield.io.formats import Choices

Array = npt.NDArray[Any]
Picture = Callable[..., Path]
Volume = Callable[..., Path]


def square(value: int = 255, size: int = 12) -> Array:
    array = np.zeros((size, size), np.uint8)
    array[3:6, 3:6] = value
    return array


def test_values_stay_as_stored(tmp_path: Path, picture: Picture) -> None:
    image = MaskFile((picture(tmp_path / "a.png", square(255)),))()
    assert image.array.shape == (1, 12, 12)
    assert np.issubdtype(image.array.dtype, np.integer)
    np.testing.assert_array_equal(image.array[0], square(255))


def test_a_palette_keeps_its_indices(tmp_path: Path, picture: Picture) -> None:
    path = picture(tmp_path / "a.png", square(2), palette=[0, 0, 0, 255, 0, 0, 0, 255, 0])
    np.testing.assert_array_equal(MaskFile((path,))().array[0], square(2))


@pytest.mark.parametrize("value", [0, 255])
def test_a_grey_palette_gives_its_greys(tmp_path: Path, picture: Picture, value: int) -> None:
    for name in ("a.gif", "b.png"):
        path = picture(tmp_path / name, np.zeros((6, 6)), palette=[value] * 3)
        np.testing.assert_array_equal(MaskFile((path,))().array, np.full((1, 6, 6), value))


def test_equal_colour_channels_are_grey(tmp_path: Path, picture: Picture) -> None:
    path = picture(tmp_path / "a.png", np.repeat(square()[..., None], 3, axis=2))
    np.testing.assert_array_equal(MaskFile((path,))().array, square()[None])


def test_colour_codes_are_refused_by_name(tmp_path: Path, picture: Picture) -> None:
    colours = np.zeros((6, 6, 3), np.uint8)
    colours[0, 0] = (255, 0, 0)
    colours[1, 1] = (0, 0, 255)
    with pytest.raises(InputError, match=r"BAD_LABEL .*a\.png: .*3 colours: \(0, 0, 0\), \(0, 0, 255\), \(255, 0, 0\)"):
        MaskFile((picture(tmp_path / "a.png", colours),))()


def test_lossy_masks_are_refused(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(InputError, match=r"LOSSY_MASK .*a\.jpg"):
        MaskFile((picture(tmp_path / "a.jpg", square()),))()


def test_float_masks_of_whole_numbers_are_labels(tmp_path: Path, volume: Volume) -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[1, 2, 3] = 2
    image = MaskFile((volume(tmp_path / "a.nii.gz", array),))()
    assert np.issubdtype(image.array.dtype, np.integer)
    assert count_values(image.array) == {0: 119, 2: 1}


def test_float_masks_with_fractions_name_values_and_file(tmp_path: Path, volume: Volume) -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[0, 0, :3] = (0.25, 0.5, 1.0)
    with pytest.raises(InputError, match=r"BAD_LABEL .*a\.nii\.gz: found label values such as 0\.25, 0\.5, expected whole"):
        MaskFile((volume(tmp_path / "a.nii.gz", array),))()


def test_a_volume_is_chosen_of_a_mask_that_has_several(tmp_path: Path, volume: Volume) -> None:
    """The image has several in either case: often one of them is annotated, in a file of its own."""
    several = np.stack([np.full((4, 5, 6), k, np.uint8) for k in (1, 2)])
    one, both = volume(tmp_path / "one.nii.gz", several[0]), volume(tmp_path / "both.nii.gz", several)
    assert (MaskFile((both,), Choices(volume=1))().array == 2).all()
    assert (MaskFile((one,), Choices(volume=1))().array == 1).all()
    assert MaskFile((both,), Choices(volume=0)).key != MaskFile((both,), Choices(volume=1)).key
    with pytest.raises(InputError, match=r"WRONG_DIMENSION .*both\.nii\.gz: found 2 volumes"):
        MaskFile((both,))()
    with pytest.raises(InputError, match=r"WRONG_DIMENSION .*both\.nii\.gz: found 2 volumes.*--volume 2"):
        MaskFile((both,), Choices(volume=2))()


def test_a_frame_is_chosen_of_a_mask_that_has_several(tmp_path: Path, picture: Picture) -> None:
    still, moving = picture(tmp_path / "still.png", square(3)), tmp_path / "moving.tif"
    frames = [Pillow.fromarray(square(k)) for k in (1, 2, 3)]
    frames[0].save(moving, save_all=True, append_images=frames[1:])
    for path in (still, moving):
        np.testing.assert_array_equal(MaskFile((path,), Choices(frame=2))().array[0], square(3))


def test_other_choices_hold_for_a_mask_too(tmp_path: Path, volume: Volume) -> None:
    path = volume(tmp_path / "a.nii.gz", square()[None])
    image: Any = nib.load(path)
    image.set_qform(np.diag([2, 2, 2, 1]), code=1)
    nib.save(image, tmp_path / "b.nii.gz")
    for form, spacing in (("sform", 1.0), ("qform", 2.0)):
        assert MaskFile((tmp_path / "b.nii.gz",), Choices(affine=form, volume=3))().geometry.spacing == (spacing,) * 2


def test_several_masks_of_one_image_merge(tmp_path: Path, picture: Picture) -> None:
    one, other = np.zeros((6, 6), np.uint8), np.zeros((6, 6), np.uint8)
    one[0, :3] = 255
    other[0, 2:5] = 255
    merged = MaskFile((picture(tmp_path / "1.png", one), picture(tmp_path / "2.png", other)))
    np.testing.assert_array_equal(merged().array[0], np.maximum(one, other))
    before = merged.key
    picture(tmp_path / "2.png", np.tile(one, (2, 2)))
    assert merged.key != before
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*2\.png: found shape \(12, 12\).*shape \(6, 6\)"):
        merged()


@given(hnp.arrays(st.sampled_from([np.uint8, np.int16, np.int32]), hnp.array_shapes(max_dims=3)))
def test_counts_are_those_of_unique(labels: Array) -> None:
    values, counts = np.unique(labels, return_counts=True)
    assert count_values(labels) == dict(zip(values.tolist(), counts.tolist(), strict=True))


def masks_of(tmp_path: Path, picture: Picture, *arrays: Array) -> dict[str, MaskFile]:
    return {f"{k}": MaskFile((picture(tmp_path / f"{k}.png", array),)) for k, array in enumerate(arrays)}


def test_classes_are_the_values_that_any_mask_has(tmp_path: Path, picture: Picture) -> None:
    masks = masks_of(tmp_path, picture, square(1), square(7), square(0))
    classes, counted = find_classes(masks, tmp_path, {7: "nodule"})
    assert [(c.value, c.name) for c in classes] == [(1, "1"), (7, "nodule")]
    assert classes[0].colour != classes[1].colour
    assert counted == {"0": {0: 135, 1: 9}, "1": {0: 135, 7: 9}, "2": {0: 144}}
    (only,), _ = find_classes(masks_of(tmp_path, picture, square(255)), tmp_path)
    assert (only.value, only.name) == (255, "foreground")


def test_empty_masks_everywhere_are_counted(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(InputError, match=r"NO_FOREGROUND .*found 3 masks, all of them empty"):
        find_classes(masks_of(tmp_path, picture, *[square(0)] * 3), tmp_path)


def test_smoothed_edges_are_no_classes(tmp_path: Path, picture: Picture) -> None:
    blurred = np.zeros((100, 100), np.uint8)
    blurred[20:80, 20:80] = 255
    blurred[20, 20:60] = np.arange(10, 210, 5)
    with pytest.raises(InputError, match=r"BAD_LABEL .*0\.png: found 41 label values .*grey edges.*threshold the masks"):
        find_classes(masks_of(tmp_path, picture, blurred), tmp_path)


def test_negative_values_and_too_many_are_no_classes(tmp_path: Path, volume: Volume) -> None:
    array = np.zeros((4, 4, 4), np.int16)
    array[0, 0, 0] = -3
    with pytest.raises(InputError, match=r"BAD_LABEL .*a\.nii: found 1 label values over all masks, from -3 to -3"):
        find_classes({"a": MaskFile((volume(tmp_path / "a.nii", array),))}, tmp_path)
    array = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    with pytest.raises(InputError, match=r"BAD_LABEL .*found 511 label values .*at most 255 classes"):
        find_classes({"a": MaskFile((volume(tmp_path / "a.nii", array),))}, tmp_path)


def test_unpaired_names_are_listed_up_to_ten(tmp_path: Path) -> None:
    check_pairs(tmp_path, [], [])
    with pytest.raises(InputError) as caught:
        check_pairs(tmp_path, [f"image{k:02d}" for k in range(12)], ["label"])
    found = caught.value.found
    assert caught.value.code == "UNPAIRED"
    assert found.startswith("12 images without a label (image00, image01,")
    assert "image09, ...)" in found
    assert "image10" not in found
    assert found.endswith("and 1 labels without an image (label)")


def test_threads_keep_order_report_progress_and_raise_the_first_fault() -> None:
    seen: list[tuple[int, int]] = []
    assert in_threads(lambda k: k * k, range(20), lambda done, all_: seen.append((done, all_)), threads=4) == [
        k * k for k in range(20)
    ]
    assert seen == [(k + 1, 20) for k in range(20)]

    def fail(k: int) -> int:
        if k >= 3:
            raise ValueError(k)
        return k

    with pytest.raises(ValueError, match="3"):
        in_threads(fail, range(10), threads=4)


def test_masks_that_cannot_be_read_are_left_to_the_audit(tmp_path: Path, picture: Any) -> None:
    masks = masks_of(tmp_path, picture, square(1), square(2))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    classes, counted = find_classes({**masks, "broken": MaskFile((broken,))}, tmp_path)
    assert [c.value for c in classes] == [1, 2]
    assert set(counted) == set(masks)
    with pytest.raises(InputError, match=r"EMPTY_FILE .*broken\.png"):
        find_classes({"broken": MaskFile((broken,))}, tmp_path)
