"""What every file format must keep, one function for each promise of `hounsfield.io.formats.Format`."""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data

from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.io import HEAD
from hounsfield.io.formats import FORMATS, Choices, Format

TEXT = b"The patient did not attend.\n" * 20


def check_endings(member: Format, folder: Path) -> None:
    writes = getattr(member, "WRITES", ())
    for ending in (*member.SUFFIXES, *writes):
        assert ending.startswith("."), f"{ending!r} is no ending"
        assert ending == ending.lower(), f"{ending!r} is not lower-case"
    assert member.SUFFIXES, "no ending"
    assert set(writes) <= set(member.SUFFIXES), "writes what it does not read"
    assert hasattr(member, "write") == bool(writes), "WRITES and write do not agree"


def check_what_is_written_is_read_back(member: Format, folder: Path) -> None:
    for ending in getattr(member, "WRITES", ()):
        succeeded = 0
        for number, image in enumerate(images()):
            path = folder / f"{number}{ending}"
            try:
                member.write(image, path)  # type: ignore[attr-defined]
            except InputError:
                assert not list(folder.iterdir()), f"{ending}: a refused image left a file"
                continue
            assert [f.name for f in folder.iterdir()] == [path.name], f"{ending}: more than the file was written"
            again = member.read(path, Choices())
            assert np.array_equal(again.array, image.array), f"{ending}: other voxels"
            assert again.array.dtype == image.array.dtype, f"{ending}: {image.array.dtype} became {again.array.dtype}"
            assert again.geometry.same_grid(image.geometry), f"{ending}: another place"
            path.unlink()
            succeeded += 1
        assert succeeded, f"{ending}: no image can be written"


def check_content_is_read_by_this_member(member: Format, folder: Path) -> None:
    for path in examples(member, folder):
        assert member.recognises(path, head(path)), f"{path.name} is not recognised"
        # The first by name reads: a DICOM file may begin with a TIFF signature, and is DICOM all the same.
        taker = next((other for other in FORMATS.all().values() if other.recognises(path, head(path))), member)
        assert taker is member, f"{path.name} is read by {taker}"
    for name, content in {"empty": b"", "text": TEXT, "noise": np.random.default_rng(0).bytes(5000)}.items():
        path = folder / f"{name}{member.SUFFIXES[0]}"
        path.write_bytes(content)
        assert not member.recognises(path, head(path)), f"{name} is recognised"


def check_damage_is_told(member: Format, folder: Path) -> None:
    """A file cut short raises InputError where it is still recognised; noise in its middle raises nothing else."""
    for path in list(examples(member, folder)):
        whole = path.read_bytes()
        for part in (0.02, 0.2, 0.5, 0.8, 0.95):
            path.write_bytes(whole[: int(len(whole) * part)])
            assert outcome(member, path) != "an image", f"{path.name} cut to {part:.0%} is read as if it were whole"
        for seed in range(5):
            rng = np.random.default_rng(seed)
            spoilt = bytearray(whole)
            for at in rng.integers(0, len(whole), 20):
                spoilt[at] = rng.integers(256)
            path.write_bytes(bytes(spoilt))
            outcome(member, path)


def check_peek_says_what_read_gives(member: Format, folder: Path) -> None:
    for path in examples(member, folder):
        peek, image = member.peek(path, Choices()), member.read(path, Choices())
        assert peek.geometry == image.geometry, f"{path.name}: another grid"
        assert peek.channels == image.channels, f"{path.name}: {peek.channels} channels, read gives {image.channels}"
        assert peek.format == image.meta.format, f"{path.name}: {peek.format}, read says {image.meta.format}"
        assert peek.modality == image.meta.modality, f"{path.name}: another modality"


def check_reading_leaves_the_file_alone(member: Format, folder: Path) -> None:
    paths = list(examples(member, folder))
    before = [(p.read_bytes(), p.stat().st_mtime_ns) for p in paths]
    for path in paths:
        member.read(path, Choices())
        member.peek(path, Choices())
    assert before == [(p.read_bytes(), p.stat().st_mtime_ns) for p in paths], "a file was touched"
    assert sorted(folder.iterdir()) == sorted(paths), "a file was left"


CHECKS = (
    check_endings,
    check_what_is_written_is_read_back,
    check_content_is_read_by_this_member,
    check_damage_is_told,
    check_peek_says_what_read_gives,
    check_reading_leaves_the_file_alone,
)


def images() -> Iterator[Image]:
    """Pictures and volumes of several types, some oblique in the patient."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * (0.7, 0.8, 2.5)
    oblique = np.vstack([np.column_stack([turn, (-31.0, 12.5, 7.0)]), (0, 0, 0, 1)])

    def voxels(dtype: Any, *shape: int) -> np.ndarray[Any, Any]:
        return rng.integers(0, 200, shape).astype(dtype)

    for dtype in (np.uint8, np.int16, np.uint16, np.float32):
        yield Image(voxels(dtype, 1, 9, 11), Geometry.none((9, 11)))
        yield Image(voxels(dtype, 1, 5, 9, 11), Geometry((5, 9, 11), oblique))
    yield Image(voxels(np.uint8, 3, 9, 11), Geometry.none((9, 11)))


def examples(member: Format, folder: Path) -> Iterator[Path]:
    """Good files of this format in `folder`: one for each image that it can write; else of a package."""
    names = count()
    name = member.__name__.rpartition(".")[2] if hasattr(member, "__name__") else ""
    if name in ELSEWHERE:
        yield ELSEWHERE[name](folder)
    for ending in getattr(member, "WRITES", ()):
        for image in images():
            path = folder / f"{next(names)}{ending}"
            try:
                member.write(image, path)  # type: ignore[attr-defined]
            except InputError:
                continue
            yield path


def a_dicom(folder: Path) -> Path:
    return Path(shutil.copy(str(pydicom.data.get_testdata_file("CT_small.dcm")), folder))


def an_mgz(folder: Path) -> Path:
    nibabel: Any = importlib.import_module("nibabel")  # untyped
    array = np.random.default_rng(0).integers(0, 200, (11, 9, 5)).astype(np.int16)
    nibabel.save(nibabel.MGHImage(array, np.diag([2.0, 1.0, 3.0, 1.0])), folder / "a.mgz")
    return folder / "a.mgz"


# Files of formats that write nothing themselves, by member.
ELSEWHERE: dict[str, Callable[[Path], Path]] = {"dicom": a_dicom, "mgh": an_mgz}


def head(path: Path) -> bytes:
    return path.read_bytes()[:HEAD]


def outcome(member: Format, path: Path) -> str:
    """Whatever is neither an image nor an InputError passes through, and fails the check."""
    if not member.recognises(path, head(path)):
        return "not recognised"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders, about the damage
            member.read(path, Choices())
    except InputError as error:
        return error.code
    return "an image"
