"""Segmentations that highdicom writes are read to the same voxels at the same places, as images and on the grid of theirs."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from tests import dicom_files
from tests.dicom_files import Array, oblique, series, upright, xray

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.io.formats import DEFAULT, dicom
from hounsfield.io.regions import Drawn, mark, paint

hd = pytest.importorskip("highdicom", reason="highdicom is not installed (the extra dicom)")
GRID = oblique((6, 9, 11))
RNG = np.random.default_rng(4)


def described(*names: str) -> list[Any]:
    algorithm = hd.AlgorithmIdentificationSequence("drawn", hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"), "1")
    return [
        hd.seg.SegmentDescription(
            k,
            name,
            hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"),
            hd.sr.CodedConcept("10200004", "SCT", "Liver"),
            "AUTOMATIC",
            algorithm,
        )
        for k, name in enumerate(names, start=1)
    ]


def written(
    path: Path, sources: list[Path], array: Array, kind: str = "BINARY", names: tuple[str, ...] = ("a", "b"), **more: Any
) -> Path:
    seg = hd.seg.Segmentation(
        [pydicom.dcmread(source) for source in sources],
        array,
        kind,
        described(*names),
        hd.UID(),
        1,
        hd.UID(),
        1,
        "Made up",
        "model",
        "1",
        "1",
        **more,
    )
    seg.save_as(path)
    return path


def images(folder: Path, grid: Geometry = GRID, **tags: Any) -> list[Path]:
    return series(folder / "ct", RNG.integers(0, 100, grid.shape, dtype=np.int16), grid, **tags)


def labels(shape: tuple[int, ...] = GRID.shape, values: int = 3) -> Array:
    return RNG.integers(0, values, shape, dtype=np.uint8)


def on(drawn: Drawn, grid: Geometry) -> Array:
    out = np.zeros(grid.shape, dtype=np.int32)
    paint(drawn, grid, {region.number: region.number for region in drawn.regions}, out)
    return out


@pytest.mark.parametrize("grid", [GRID, upright((6, 9, 11))])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_labels_come_back_bit_by_bit_where_they_were(tmp_path: Path, grid: Geometry, kind: str) -> None:
    array = labels()
    path = written(tmp_path / "seg.dcm", images(tmp_path, grid), array, kind)
    found = io.read(path)
    assert found.array.dtype == np.uint8
    np.testing.assert_array_equal(found.array[0], array)
    assert found.geometry.same_grid(grid)
    assert found.geometry.same_grid(io.read(tmp_path / "ct").geometry)
    assert found.meta.modality == "SEG"
    assert found.meta.notes == ("segments: 1 a; 2 b",)
    told = io.peek(path)
    assert (told.geometry, told.channels, told.dtype, told.modality) == (found.geometry, 1, found.array.dtype, "SEG")
    np.testing.assert_array_equal(on(dicom.segments(path), grid), array)


def test_frames_that_were_left_out_are_empty_slices(tmp_path: Path) -> None:
    array = labels()
    array[[0, 2, 3, 5]] = 0
    path = written(tmp_path / "seg.dcm", images(tmp_path), array)
    assert pydicom.dcmread(path).NumberOfFrames == 4
    found = io.read(path)
    np.testing.assert_array_equal(found.array[0], array[1:5])
    assert found.geometry.same_grid(GRID.crop((1, 0, 0), (4, 9, 11)))
    np.testing.assert_array_equal(on(dicom.segments(path), GRID), array)


def test_an_empty_segmentation_is_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "seg.dcm", images(tmp_path), np.zeros(GRID.shape, np.uint8))
    assert not io.read(path).array.any()


def test_segments_that_overlap_are_channels(tmp_path: Path) -> None:
    array = RNG.integers(0, 2, (*GRID.shape, 2), dtype=np.uint8)
    path = written(tmp_path / "seg.dcm", images(tmp_path), array)
    found = io.read(path)
    np.testing.assert_array_equal(found.array, np.moveaxis(array, -1, 0))
    assert found.meta.channels == ("a", "b")
    assert found.meta.notes == ("segments overlap, a channel for each: 1 a; 2 b",)
    assert io.peek(path).channels == 2
    channels = np.zeros((2, *GRID.shape), np.uint8)
    mark(dicom.segments(path), GRID, {1: 0, 2: 1}, channels)
    np.testing.assert_array_equal(channels, found.array)


def test_fractions_count_from_a_half_on_and_that_is_said(tmp_path: Path) -> None:
    array = np.linspace(0, 1, int(np.prod(GRID.shape))).reshape(GRID.shape)
    path = written(tmp_path / "seg.dcm", images(tmp_path), array, "FRACTIONAL", ("a",), max_fractional_value=200)
    found = io.read(path)
    np.testing.assert_array_equal(found.array[0], np.around(array * 200) >= 100)
    assert found.meta.notes == ("fractional segments: a voxel counts from a probability of 0.5 on", "segments: 1 a")


def test_the_colours_of_a_label_map_are_for_show(tmp_path: Path) -> None:
    array = labels()
    path = written(tmp_path / "seg.dcm", images(tmp_path), array, "LABELMAP")
    tags = pydicom.dcmread(path)
    tags.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        tags.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [3, 0, 8])
        tags.add_new(f"{colour}PaletteColorLookupTableData", "OW", bytes([9, 200, 30, 0]))
    tags.save_as(path)
    np.testing.assert_array_equal(io.read(path).array[0], array)


def test_a_segmentation_of_one_slice_is_flat(tmp_path: Path) -> None:
    paths = images(tmp_path)
    array = labels()
    path = written(tmp_path / "seg.dcm", paths[2:3], array[2:3])
    found = io.read(path)
    np.testing.assert_array_equal(found.array[0], array[2])
    assert found.geometry.same_grid(io.read(paths[2]).geometry)
    volume = on(dicom.segments(path), GRID)
    np.testing.assert_array_equal(volume[2], array[2])
    assert np.count_nonzero(volume) == np.count_nonzero(array[2])


def test_of_an_xray_it_lies_on_its_pixels(tmp_path: Path) -> None:
    image = xray(tmp_path / "x.dcm", RNG.integers(0, 100, (9, 11), dtype=np.uint16))
    array = labels((1, 9, 11))
    path = written(tmp_path / "seg.dcm", [image], array)
    found = io.read(path)
    assert found.geometry == Geometry.none((9, 11))
    np.testing.assert_array_equal(found.array, array)
    where = io.read(image).geometry
    assert where.space == "detector"
    out = np.zeros((1, 9, 11), np.int32)
    paint(dicom.segments(path), where, {1: 1, 2: 2}, out)
    np.testing.assert_array_equal(out, array)


def test_names_codes_and_what_it_was_drawn_on(tmp_path: Path) -> None:
    paths = images(tmp_path)
    drawn = dicom.segments(written(tmp_path / "seg.dcm", paths, labels()))
    assert [(r.number, r.name, r.code) for r in drawn.regions] == [
        (1, "a", ("SCT", "10200004", "Liver")),
        (2, "b", ("SCT", "10200004", "Liver")),
    ]
    assert drawn.references.series == {f"{dicom_files.ROOT}.1.1"}
    assert drawn.references.images == {str(pydicom.dcmread(p).SOPInstanceUID) for p in paths}
    assert drawn.references.frames == {f"{dicom_files.ROOT}.1.9"}


def test_a_segmentation_among_the_slices_is_none_of_them(tmp_path: Path) -> None:
    paths = images(tmp_path)
    written(tmp_path / "ct" / "seg.dcm", paths, labels())
    image = io.read(tmp_path / "ct")
    assert image.array.shape == (1, *GRID.shape)
    assert "1 files that are no DICOM images were left out" in image.meta.notes
    assert [s.files for s in io.list_series(tmp_path / "ct")] == [6]


def test_another_grid_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "seg.dcm", images(tmp_path), np.ones(GRID.shape, np.uint8))
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*seg\.dcm: found a plane of 9x11 pixels"):
        on(dicom.segments(path), oblique((6, 9, 11), seed=9))
    with pytest.raises(InputError, match=r"GRID_MISMATCH .*labelled pixels outside of the image, at slice [45]"):
        on(dicom.segments(path), GRID.crop((0, 0, 0), (4, 9, 11)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tags: setattr(tags, "SegmentationType", "SURFACE"), "BAD_HEADER .*SegmentationType 'SURFACE'"),
        (lambda tags: delattr(tags, "SegmentSequence"), r"MISSING_TAG .*no \(0062,0002\) SegmentSequence"),
        (lambda tags: delattr(tags, "PerFrameFunctionalGroupsSequence"), "MISSING_TAG .*PerFrameFunctionalGroupsSequence"),
        (lambda tags: setattr(tags, "SegmentSequence", tags.SegmentSequence[:1]), "BAD_LABEL .*segment 2, which is not"),
        (lambda tags: delattr(tags, "Rows"), "WRONG_FORMAT|MISSING_TAG"),
        (lambda tags: setattr(tags, "PixelData", tags.PixelData[:8]), "TRUNCATED"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: Any, told: str) -> None:
    path = written(tmp_path / "seg.dcm", images(tmp_path), labels())
    tags = pydicom.dcmread(path)
    change(tags)
    tags.save_as(path)
    with pytest.raises(InputError, match=told) as caught:
        io.read(path)
    assert not any(secret in str(caught.value) for secret in dicom_files.SECRETS)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_noise_raises_nothing_but_what_is_typed(tmp_path: Path, kind: str) -> None:
    whole = written(tmp_path / "seg.dcm", images(tmp_path), labels(), kind).read_bytes()
    header = whole.index(b"\xe0\x7f\x10\x00")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        spoilt = bytearray(whole)
        for at in rng.integers(300, header + 12, 8):
            spoilt[at] = rng.integers(256)
        (tmp_path / "noise.dcm").write_bytes(bytes(spoilt))
        with contextlib.suppress(InputError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about the damage
            io.read(tmp_path / "noise.dcm")


def test_an_image_is_no_segmentation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"WRONG_FORMAT .*DICOM that is no segmentation"):
        dicom.segments(images(tmp_path)[0])


def test_the_files_behind_an_image_are_in_its_slices_order(tmp_path: Path) -> None:
    paths = images(tmp_path, backwards=True)
    source = dicom.source(tmp_path / "ct", DEFAULT)
    assert [str(h.SOPInstanceUID) for h in source.headers] == [str(pydicom.dcmread(p).SOPInstanceUID) for p in paths]
    assert source.frames == tuple((k, 1) for k in range(6))
    assert not source.resampled
    assert source.geometry == io.read(tmp_path / "ct").geometry
    assert "PixelData" not in source.headers[0]
