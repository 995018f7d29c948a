"""Pascal VOC: an XML file with boxes for each image, and perhaps lists of the parts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.layout import channel_names, given_splits, image_files, split_of, stem
from hounsfield.data.readers import Match
from hounsfield.data.readers._boxes import checked, clean, sizes_of
from hounsfield.io import scan
from hounsfield.io.formats import Choices

MOST_BYTES = 16 << 20  # of one annotation
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """path: its file. image: the name that it gives, "" where it gives none. shape: (H, W), None where it does not say.
    objects: class name and xmin, ymin, xmax, ymax as written."""

    path: Path
    image: str
    shape: tuple[int, int] | None
    objects: tuple[tuple[str, tuple[float, ...]], ...]


def match(path: Path) -> Match:
    """A folder with XML files that begin as annotations do, and images."""
    files = _files(path) if path.is_dir() else []
    if not files or not image_files(path):
        return Match(missed="XML files with annotations beside images")
    return Match(f"{len(files)} Pascal VOC annotations", priority=30)


def read(path: Path, choices: Choices) -> Dataset:
    """A sample for each annotation; images without one are left out, and said so. Classes by name, from 1.

    Corners are whole pixels from 1 on, both ends included, as the format has it, unless one of the set's is 0: then they count
    from 0 and the last is not included.
    Raises InputError BAD_LABEL (a damaged annotation, an image of another size, boxes that are none), UNSAFE_FILE (one with
    entities), UNPAIRED (one without its image, an image of the training or validation list without one).
    """
    found = [_annotation(file) for file in _files(path)]
    images = image_files(path)
    by_name = {image.name: image for image in reversed(images)}
    by_stem = {stem(image): image for image in reversed(images)}
    lost = [a.path for a in found if a.image not in by_name and a.path.stem not in by_stem]
    if lost:
        raise InputError(
            "UNPAIRED",
            path,
            found=f"{len(lost)} annotations without an image, the first {lost[0].name}",
            expected="an image of the same name",
            fix="add the images, or remove the annotations",
        )
    parts = _parts(path)
    annotated = {a.path.stem for a in found} | {stem(Path(a.image)) for a in found}
    _check_lists(path, parts, set(by_stem) - annotated)
    names = sorted({name for a in found for name, _ in a.objects})
    if not names:
        raise InputError("BAD_LABEL", path, found="no box in any annotation", expected="boxes", fix="check the annotations")
    index = {name: k for k, name in enumerate(names)}
    first = 0 if any(min(corners[:2]) < 1 for a in found for _, corners in a.objects) else 1
    own = [ImageFile(by_name.get(a.image) or by_stem[a.path.stem], choices) for a in found]
    cleaned = {
        a.path.stem: clean(
            [_half_open(corners, first) for _, corners in a.objects], [index[name] for name, _ in a.objects], shape
        )
        for a, shape in zip(found, sizes_of(path, own, [a.shape for a in found]), strict=True)
    }
    said = checked(path, cleaned, choices)
    splits = given_splits([parts.get(a.path.stem) for a in found])
    samples = tuple(
        Sample(a.path.stem, (image,), cleaned[a.path.stem].boxes, split=split)
        for a, image, split in zip(found, own, splits, strict=True)
    )
    unlabelled = len(images) - len({s.images[0].path for s in samples})
    left = (f"{unlabelled} images without an annotation were left out",) if unlabelled else ()
    boxes = sum(len(c.boxes) for c in cleaned.values())
    return Dataset(
        samples,
        name_classes((k + 1, name) for name, k in index.items()),
        channel_names(*own),
        "detection",
        "voc",
        f"{len(samples)} images with {boxes} boxes of {len(names)} classes ({', '.join(names[:10])})",
        path,
        notes=left + said,
    )


def _check_lists(path: Path, parts: Mapping[str, Split], without: set[str]) -> None:
    """without: names of images that have no annotation. Raises InputError UNPAIRED where the training or validation list names
    one; those of a test list are often kept back."""
    lacking = sorted(name for name, part in parts.items() if part != "test" and name in without)
    if lacking:
        raise InputError(
            "UNPAIRED",
            path,
            found=f"{len(lacking)} images of the training and validation lists without an annotation, the first {lacking[0]}",
            expected="an annotation of the same name",
            fix="add the annotations, or take the names out of the lists",
        )


def _half_open(corners: tuple[float, ...], first: int) -> tuple[float, float, float, float]:
    """First row and column, last row and column. Equal corners, which would be one pixel, are a slip: no extent."""
    xmin, ymin, xmax, ymax = corners
    thin = xmax <= xmin or ymax <= ymin
    return (0.0, 0.0, 0.0, 0.0) if thin else (ymin - first, xmin - first, ymax, xmax)


def _files(path: Path) -> list[Path]:
    """The annotations below `path`."""
    return [f for f in scan.files(path) if f.suffix.lower() == ".xml" and _begins_as_one(f)]


def _begins_as_one(file: Path) -> bool:
    with file.open("rb") as stream:
        return re.search(rb"<annotation[\s>]", stream.read(2048)) is not None


def _annotation(file: Path) -> Annotation:
    content = file.read_bytes() if file.stat().st_size <= MOST_BYTES else b""
    if not content:
        raise _bad(file, f"{file.stat().st_size} bytes", f"at most {MOST_BYTES}")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InputError(
            "UNSAFE_FILE", file, found="XML with a document type", expected="plain elements", fix="remove the declaration"
        )
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - without a document type it has no entities
        size = root.find("size")
        sides = [int(float(size.findtext(side, "0"))) for side in ("height", "width")] if size is not None else [0, 0]
        objects = tuple(
            (_text(o, "name"), tuple(float(_text(o, f"bndbox/{k}")) for k in _CORNERS)) for o in root.iter("object")
        )
    except (ElementTree.ParseError, ValueError, OverflowError) as error:
        raise _bad(file, f"a damaged annotation ({error})", "name, xmin, ymin, xmax and ymax of each object") from error
    return Annotation(file, root.findtext("filename", "").strip(), (sides[0], sides[1]) if min(sides) > 0 else None, objects)


def _text(element: ElementTree.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"no {path}")
    return text


def _parts(path: Path) -> dict[str, Split]:
    """The part of each image, by the lists train.txt, val.txt and test.txt; names in two lists are in none."""
    found: dict[str, Split] = {}
    twice: set[str] = set()
    for file in [f for f in scan.files(path) if f.suffix == ".txt" and split_of(f.stem)]:
        part = split_of(file.stem)
        for name in _listed(file):
            if part is not None and found.setdefault(name, part) != part:
                twice.add(name)
    return {name: part for name, part in found.items() if name not in twice}


def _listed(file: Path) -> Sequence[str]:
    """The first word of each line; a second one is a class's own mark."""
    try:
        return [words[0] for line in file.read_text(encoding="utf-8").splitlines() if (words := line.split())]
    except UnicodeDecodeError:
        return []


def _bad(file: Path, found: str, expected: str) -> InputError:
    return InputError("BAD_LABEL", file, found=found, expected=expected, fix="mend or remove the file")
