"""Reading and writing images: content decides the format, a name only suggests it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.image import Image
from hounsfield.io import archive
from hounsfield.io.formats import DEFAULT, FORMATS, Choices, Format, Peek
from hounsfield.io.series import Series
from hounsfield.io.sniff import describe
from hounsfield.io.values import check_finite

HEAD = 4096
TITLES = {"dicom": "DICOM", "metaimage": "MetaImage", "mgh": "MGH", "nifti": "NIfTI", "nrrd": "NRRD"}


def read(path: str | Path, choices: Choices = DEFAULT) -> Image:
    """The image at `path`, a file, or a folder, DICOMDIR or ZIP archive with one DICOM series, on its grid in the patient.

    Raises InputError NOT_FOUND, EMPTY_FILE, WRONG_FORMAT, UNKNOWN_FORMAT, NOT_FINITE and what the format's `read` names;
    ResourceError OUT_OF_MEMORY.
    """
    path = Path(path)
    with unpacked(path) as place:
        name, member = _member(place)
        try:
            image = member.read(place, choices)
            check_finite(place, image.array)
        except MemoryError as error:
            raise ResourceError(
                "OUT_OF_MEMORY",
                path,
                found="an image larger than the memory",
                expected="room for it",
                fix="use a larger machine",
            ) from error
    suggested = suffix_member(path)
    if suggested is not None and suggested != name:
        image = image.noted(f"the name says {_title(suggested, path)}, the content is {TITLES.get(name, name)}")
    return image


def peek(path: str | Path, choices: Choices = DEFAULT) -> Peek:
    """What the header at `path` tells, checked as `read` checks it, without reading voxels. Raises as `read` does."""
    with unpacked(Path(path)) as place:
        return _member(place)[1].peek(place, choices)


def list_series(path: str | Path) -> list[Series]:
    """The DICOM series at `path`, by number; none of another format. Raises what recognising the file raises."""
    with unpacked(Path(path)) as place:
        member = _member(place)[1]
        return member.series(place) if hasattr(member, "series") else []


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """`path` itself, or for a ZIP archive of DICOM files a temporary folder that holds them. Raises as `archive.unpacked`."""
    first = head(path)
    if not first.startswith(archive.ZIP) or content_member(path, first) is not None or not archive.holds_dicom(path):
        yield path
        return
    with archive.unpacked(path) as folder:
        yield folder


def write(image: Image, path: str | Path, overwrite: bool = False) -> None:
    """`image` in the format of the ending of `path`, beside it and then renamed.

    Raises InputError OUTPUT_EXISTS, BAD_OPTION (an ending that no format writes, values that the format cannot hold);
    ResourceError DISK_FULL.
    """
    path = Path(path)
    writers = {suffix: member for member in _members().values() for suffix in getattr(member, "WRITES", ())}
    ending = max((s for s in writers if path.name.lower().endswith(s)), key=len, default=None)
    if ending is None:
        raise InputError(
            "BAD_OPTION",
            path,
            found=f"the ending {path.suffix!r}",
            expected=f"one of {', '.join(sorted(writers))}",
            fix="rename it",
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError("OUTPUT_EXISTS", path, found="an existing path", expected="a new one", fix="choose another name")
    writers[ending].write(image, path)  # type: ignore[attr-defined]


def head(path: Path) -> bytes:
    """The first 4 KiB of a file; b"" of a folder. Raises InputError NOT_FOUND."""
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise InputError(
            "NOT_FOUND",
            path,
            found=f"{(error.strerror or 'no access').lower()}",
            expected="a readable file",
            fix="check the path",
        ) from error


def suffix_member(path: Path) -> str | None:
    """Name of the format that the ending of `path` suggests, or None."""
    name = path.name.lower()
    return next((member for member, module in _members().items() if name.endswith(tuple(module.SUFFIXES))), None)


def content_member(path: Path, first: bytes) -> str | None:
    """Name of the format that the content, of which `first` is the head, is of, or None."""
    suggested = suffix_member(path)
    order = sorted(_members(), key=lambda name: name != suggested)  # the likely one is asked first
    return next((name for name in order if _members()[name].recognises(path, first)), None)


@cache
def _members() -> dict[str, Format]:
    return FORMATS.all()


def _title(member: str, path: Path) -> str:
    return TITLES.get(member, path.suffix[1:].upper())


def _member(path: Path) -> tuple[str, Format]:
    first = head(path)
    if not first and not path.is_dir():
        raise InputError("EMPTY_FILE", path, found="0 bytes", expected="an image", fix="copy or export the file again")
    name = content_member(path, first)
    if name is not None:
        return name, _members()[name]
    suggested = suffix_member(path)
    looks = describe(first)
    if suggested is not None:
        title = _title(suggested, path)
        raise InputError(
            "WRONG_FORMAT", path, found=f"{looks}, not {title}", expected=title, fix="check where the file came from"
        )
    known = ", ".join(TITLES.get(member, member) for member in _members())
    raise InputError(
        "UNKNOWN_FORMAT", path, found=looks, expected=f"one of {known}", fix="convert it, for example to NIfTI or PNG"
    )
