"""YOLO: a text file of boxes for each image, class numbers named by data.yaml or classes.txt (the layout of Ultralytics)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.layout import channel_names, given_splits, image_files, split_of, stem
from hounsfield.data.masks import in_threads
from hounsfield.data.readers import Match
from hounsfield.data.readers._boxes import Cleaned, checked, clean
from hounsfield.io import scan
from hounsfield.io.formats import Choices
from hounsfield.io.yaml import load_yaml

YAML = (".yaml", ".yml")
NAMES = "classes.txt"
MOST_BYTES = 16 << 20  # of one text file
LOOKS = 20  # text files among which one with boxes is looked for
ROUNDING = 1e-4  # by which a share of the image may pass its border unsaid

_KEYS = (re.compile(rb"^names\s*:", re.M), re.compile(rb"^(?:train|val|test)\s*:", re.M))
_ROW = re.compile(r"\s*\d+(?:\s+[\d.eE+-]+){4,}\s*")


@dataclass(frozen=True)
class _Layout:
    """names: of the classes, by their number. images: in order, with the parts that name each. notes: what was decided."""

    names: Mapping[int, str]
    images: Mapping[Path, frozenset[Split]]
    notes: tuple[str, ...] = field(default=())


def match(path: Path) -> Match:
    """A YAML file with names and parts, itself or in the folder; or classes.txt with images and rows of boxes."""
    file = _yaml(path)
    if file is not None:
        return Match(f"YOLO's {file.name}", priority=30)
    if path.is_dir() and (names := _names_file(path)) and any(_holds_rows(f) for f in _texts(path)[:LOOKS]):
        return Match(f"YOLO's boxes with {names.name}", priority=30)
    return Match(missed=f"data.yaml with names, train and val, nor {NAMES} with rows of boxes")


def read(path: Path, choices: Choices) -> Dataset:
    """A sample for each image; one whose text file is empty or absent has no box. Classes by their number. An outline counts
    as the box round it. A folder's parts are those that the YAML file names, else those of its folders.

    Raises InputError UNSAFE_FILE (YAML with tags, of which nothing is run), BAD_MANIFEST (a faulty description, or parts that
    are not there), BAD_LABEL (a class without a name, a row or a box that is none), UNPAIRED (boxes without their image).
    """
    file = _yaml(path)
    root = path if path.is_dir() else path.parent
    layout = _described(root, file) if file is not None else _plain(root)
    if not layout.images:
        raise InputError("EMPTY_FOLDER", root, found="no image in its parts", expected="images", fix="check the paths")
    texts = {image: _text_of(root, image) for image in layout.images}
    _check_orphans(root, set(image_files(root)) | set(layout.images))
    shapes = in_threads(lambda image: io.peek(image, choices).geometry.shape, list(layout.images))
    samples, cleaned = [], {}
    index = {number: k for k, number in enumerate(layout.names)}
    outlines = 0
    parts = [next(iter(of)) if len(of) == 1 else None for of in layout.images.values()]
    for (image, text), shape, split in zip(texts.items(), shapes, given_splits(parts), strict=True):
        name = "/".join((*image.relative_to(root).parts[:-1], stem(image)))
        rows = _rows(text, layout.names) if text.is_file() else []
        outlines += sum(len(numbers) > 4 for _, numbers in rows)
        cleaned[name] = _boxes(image, [(index[number], shares) for number, shares in rows], shape)
        samples.append(Sample(name, (ImageFile(image, choices),), cleaned[name].boxes, split=split))
    cleared = checked(root, cleaned, choices)
    counts = Counter(int(label) for one in cleaned.values() for label in one.boxes.labels)
    if not counts:
        raise InputError(
            "BAD_LABEL", root, found="no box", expected="boxes in labels/, or beside the images", fix="check the text files"
        )
    absent = sum(not text.is_file() for text in texts.values())
    said = [*layout.notes]
    said += [f"{absent} images without a text file count as images without boxes"] if absent else []
    said += [f"{outlines} outlines count as the boxes round them"] if outlines else []
    return Dataset(
        tuple(samples),
        name_classes(layout.names.items()),
        channel_names(ImageFile(next(iter(layout.images)), choices)),
        "detection",
        "yolo",
        f"{len(samples)} images with {sum(counts.values())} boxes of {len(counts)} classes",
        path,
        notes=(*said, *cleared),
    )


def _yaml(path: Path) -> Path | None:
    """The YAML file that describes the dataset at `path`."""
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    return next((f for f in files if f.suffix.lower() in YAML and f.name[0] != "." and f.is_file() and _begins_as_one(f)), None)


def _begins_as_one(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    return all(key.search(head) for key in _KEYS)


def _described(root: Path, file: Path) -> _Layout:
    """What a YAML file says."""
    values = _load(file)
    names = values.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if (
        not isinstance(names, dict)
        or not names
        or not all(type(k) is int and isinstance(v, str | int) for k, v in names.items())
    ):
        raise _bad(file, f"names = {_shown(names)}", "a list of names, or names by their number from 0")
    if values.get("nc", len(names)) != len(names):
        raise _bad(file, f"nc = {_shown(values['nc'])} and {len(names)} names", "as many names")
    images: dict[Path, frozenset[Split]] = {}
    for part in get_args(Split):
        given = values.get(part)
        for entry in given if isinstance(given, list) else [] if given is None else [given]:
            for image in _of_part(root, file, values.get("path"), part, entry):
                images[image] = images.get(image, frozenset()) | {part}
    twice = sum(len(of) > 1 for of in images.values())
    said = (f"{twice} images stand in several parts: those are not taken as a split",) if twice else ()
    return _Layout({k: str(names[k]) for k in sorted(names)}, images, said)


def _load(file: Path) -> dict[str, Any]:
    """The object in a YAML file, of plain values. Raises InputError UNSAFE_FILE, BAD_MANIFEST."""
    values = load_yaml(file, "BAD_MANIFEST")
    if not isinstance(values, dict):
        raise _bad(file, type(values).__name__, "names, train and val")
    return values


def _of_part(root: Path, file: Path, base: object, part: str, entry: object) -> list[Path]:
    """The images of one entry of a part: a folder, or a text file with a path a line. Exports name their parts from one folder
    further up, or from where they lay on another machine: what lies below the file's own folder counts.

    Raises InputError BAD_MANIFEST."""
    if not isinstance(entry, str):
        raise _bad(file, f"{part} = {_shown(entry)}", "a path, or a list of paths")
    place = _below(root, [Path(base) / entry] if isinstance(base, str) else [], entry)
    if place is None:
        raise _bad(file, f"{part}: {entry!r}, which is not there", "a folder of images, or a list, below this file's folder")
    if place.is_dir():
        return image_files(place)
    found = []
    for line in filter(None, map(str.strip, _text(place).splitlines())):
        image = _below(root, [place.parent.relative_to(root) / line], line)
        if image is None:
            raise _bad(place, f"{line!r}, which is not there", "a path of an image in every line")
        found.append(image)
    return found


def _below(root: Path, first: Sequence[Path], name: str) -> Path | None:
    """The first of `first` and `name`, also without its leading "..", that lies below `root`."""
    plain = Path(name)
    bare = Path(*[p for p in plain.parts if p not in ("..", plain.anchor)])
    for candidate in (*first, plain, bare):
        place = root / candidate
        if place.exists() and place.resolve().is_relative_to(root.resolve()):
            return root / place.resolve().relative_to(root.resolve())
    return None


def _plain(root: Path) -> _Layout:
    """A folder without YAML: every image, parts by the folders' names."""
    file = _names_file(root)
    assert file is not None
    names = [line.strip() for line in _text(file).rstrip().splitlines()]
    if not names or not all(names):
        raise _bad(file, "a line without a name" if names else "no name", "the name of a class in every line")
    images = {}
    for image in image_files(root):
        split = next((s for p in image.relative_to(root).parts[:-1] if (s := split_of(p))), None)
        images[image] = frozenset({split} if split else ())
    return _Layout(dict(enumerate(names)), images)


def _names_file(root: Path) -> Path | None:
    return next((f for f in (root / NAMES, root / "labels" / NAMES) if f.is_file()), None)


def _texts(root: Path) -> list[Path]:
    return [f for f in scan.files(root) if f.suffix.lower() == ".txt" and f.name != NAMES]


def _holds_rows(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(4096).decode("utf-8", errors="replace")
    return _ROW.fullmatch(next((line for line in head.splitlines() if line.strip()), "")) is not None


def _text_of(root: Path, image: Path) -> Path:
    """Where the boxes of an image stand: below labels/ in the place of the last images/, else beside it."""
    parts = list(image.relative_to(root).parts[:-1])
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return root.joinpath(*parts, f"{stem(image)}.txt")


def _check_orphans(root: Path, images: set[Path]) -> None:
    """Raises InputError UNPAIRED for text files below a folder labels/ that no image has."""
    owned = {_text_of(root, image) for image in images}
    alone = [f for f in _texts(root) if "labels" in f.relative_to(root).parts[:-1] and f not in owned and _holds_rows(f)]
    if alone:
        raise InputError(
            "UNPAIRED",
            root,
            found=f"{len(alone)} text files of boxes without an image, the first {alone[0].relative_to(root)}",
            expected="an image of the same name in images/",
            fix="add the images, or remove the text files",
        )


def _rows(file: Path, names: Mapping[int, str]) -> list[tuple[int, list[float]]]:
    """Class numbers with centre, width and height, or with the corners of an outline: x and y as shares of the image."""
    found = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not (words := line.split()):
            continue
        try:
            label, *numbers = (float(word) for word in words)
        except ValueError as error:
            raise _no_box(file, number, line, "class, x, y, width and height as numbers") from error
        if label not in names:
            raise _no_box(file, number, f"class {words[0]}", f"one of the {len(names)} classes that have a name")
        if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
            raise _no_box(file, number, f"{len(words)} numbers", "class, x, y, width, height; or class, x, y, x, y, x, y, ...")
        if not all(0 <= share <= 1 + ROUNDING for share in numbers):
            raise _no_box(file, number, line, "shares of the image's width and height, from 0 to 1")
        found.append((int(label), numbers))
    return found


def _boxes(image: Path, rows: Sequence[tuple[int, Sequence[float]]], shape: tuple[int, ...]) -> Cleaned:
    if len(shape) != 2:
        raise InputError(
            "WRONG_DIMENSION", image, found=f"an image of {shape} voxels", expected="a picture", fix="write a manifest.csv"
        )
    height, width = shape
    corners = []
    for _, numbers in rows:
        if len(numbers) == 4:
            x, y, w, h = numbers
            left, right, top, bottom = x - w / 2, x + w / 2, y - h / 2, y + h / 2
        else:
            left, right, top, bottom = min(numbers[::2]), max(numbers[::2]), min(numbers[1::2]), max(numbers[1::2])
        top, left, bottom, right = (_snapped(share) for share in (top, left, bottom, right))
        corners.append((top * height, left * width, bottom * height, right * width))
    return clean(corners, [label for label, _ in rows], shape)


def _snapped(share: float) -> float:
    """The border of the image, where decimals that were cut off put a share just beyond it."""
    return min(max(share, 0.0), 1.0) if -ROUNDING <= share <= 1 + ROUNDING else share


def _text(file: Path) -> str:
    if file.stat().st_size > MOST_BYTES:
        raise _bad(file, f"{file.stat().st_size} bytes", f"at most {MOST_BYTES}")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(file, f"bytes that are not UTF-8 ({error.reason})", "UTF-8 text") from error


def _shown(value: object) -> str:
    """For a message: a few bytes of YAML can stand for a list of millions, which is not written out."""
    return repr(value)[:80] if isinstance(value, str | int | float) else f"a {type(value).__name__} of other things"


def _no_box(file: Path, number: int, found: str, expected: str) -> InputError:
    return InputError(
        "BAD_LABEL", file, found=f"{found.strip()[:80]} in line {number}", expected=expected, fix="mend or remove that line"
    )


def _bad(file: Path, found: str, expected: str) -> InputError:
    return InputError("BAD_MANIFEST", file, found=found, expected=expected, fix="mend the file")
