"""COCO: a JSON file with images, categories and boxes; perhaps one for each part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.core.sample import Sample, Split
from hounsfield.data.dataset import Dataset, ImageFile, name_classes
from hounsfield.data.layout import channel_names, given_splits, image_files, split_of, stem
from hounsfield.data.readers import Match
from hounsfield.data.readers._boxes import Cleaned, checked, clean, sizes_of
from hounsfield.io import scan
from hounsfield.io.formats import Choices

KEYS = ("images", "annotations", "categories")
HEAD = 1 << 16  # bytes in which one of the keys stands


@dataclass(frozen=True, eq=False)
class Part:
    """One annotation file. split: as its name or its folder's says. boxes: by image number."""

    path: Path
    split: Split | None
    images: Mapping[int, Mapping[str, Any]]
    boxes: Mapping[int, list[Mapping[str, Any]]]
    categories: Mapping[int, str]


def match(path: Path) -> Match:
    """A folder with a COCO file and images, or such a file."""
    files = _files(path)
    if not files:
        return Match(missed="JSON file with images, annotations and categories")
    return Match(f"{len(files)} COCO annotation file{'s' * (len(files) > 1)}", priority=30)


def read(path: Path, choices: Choices) -> Dataset:
    """A sample for each image, those without a box included. Classes are the categories, by their number.

    Crowds, which mark a region and no object, are left out, and said so; so are images that no file lists.
    Raises InputError BAD_LABEL (a damaged file, a category or image that is not there, numbers that repeat, an image of another
    size, boxes that are none), UNPAIRED (images that are not there).
    """
    root = path if path.is_dir() else path.parent
    places = _Places(root)
    parts, listed = _listed(path, places)
    categories: dict[int, str] = {}
    for part in parts:
        for number, name in part.categories.items():
            if categories.setdefault(number, name) != name:
                raise _bad(part.path, f"category {number} named {name!r} and {categories[number]!r}", "one name in every file")
    index = {number: k for k, number in enumerate(sorted(categories))}
    images = [ImageFile(file, choices) for _, _, file in listed]
    shapes = sizes_of(path, images, [_shape(part.images[number]) for part, number, _ in listed])
    splits = dict(zip(parts, given_splits([part.split for part in parts]), strict=True))
    samples: list[Sample] = []
    cleaned: dict[str, Cleaned] = {}
    crowds = 0
    for (part, number, file), image, shape in zip(listed, images, shapes, strict=True):
        boxes = part.boxes.get(number, [])
        crowds += sum(bool(box.get("iscrowd")) for box in boxes)
        single = [box for box in boxes if not box.get("iscrowd")]
        name = _name(root, file)
        corners = [_corners(part.path, box) for box in single]
        cleaned[name] = clean(corners, [index[int(box["category_id"])] for box in single], shape)
        samples.append(Sample(name, (image,), cleaned[name].boxes, split=splits[part]))
    said = checked(path, cleaned, choices)
    counts = Counter(int(label) for one in cleaned.values() for label in one.boxes.labels)
    if not counts:
        raise InputError("BAD_LABEL", path, found="no box", expected="boxes", fix="check the annotations")
    used = [number for number in sorted(categories) if counts[index[number]]]
    notes = [f"{crowds} crowd regions were left out"] if crowds else []
    if unlisted := len(places.all - {file.resolve() for _, _, file in listed}):
        notes.append(f"{unlisted} images without an annotation were left out")
    return Dataset(
        tuple(samples),
        name_classes((number, categories[number]) for number in sorted(categories)),
        channel_names(*images),
        "detection",
        "coco",
        f"{len(samples)} images with {sum(counts.values())} boxes of {len(used)} classes",
        path,
        notes=(*notes, *said),
    )


def image_ids(path: Path) -> dict[str, int]:
    """By sample id, the number that the files at `path` give each image. Raises as `read` does."""
    places = _Places(path if path.is_dir() else path.parent)
    return {_name(places.root, file): number for _, number, file in _listed(path, places)[1]}


def _listed(path: Path, places: _Places) -> tuple[list[Part], list[tuple[Part, int, Path]]]:
    """The files, and the images that each lists with their numbers. Raises InputError BAD_LABEL, UNPAIRED."""
    parts = [_part(file) for file in _files(path)]
    found: list[tuple[Part, int, Path]] = []
    absent: list[str] = []
    for part in parts:
        for number, image in part.images.items():
            file = places.of(part, str(image["file_name"]))
            if file is None:
                absent.append(str(image["file_name"]))
            else:
                found.append((part, number, file))
    if absent:
        raise InputError(
            "UNPAIRED",
            path,
            found=f"{len(absent)} listed images that are not there, the first {absent[0]}",
            expected="every image below the folder",
            fix="add the images, or name the folder that holds images and annotations",
        )
    return parts, found


def _name(root: Path, file: Path) -> str:
    return "/".join((*file.relative_to(root).parts[:-1], stem(file)))


class _Places:
    """Where listed images lie: at their path below the annotation file, its folder's siblings or the root, or else by a name
    that is one file's alone. all: the images there are, resolved."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_name: dict[str, list[Path]] = {}
        for file in image_files(root):
            self.by_name.setdefault(file.name, []).append(file)
        self.all = {file.resolve() for files in self.by_name.values() for file in files}

    def of(self, part: Part, name: str) -> Path | None:
        beside = part.path.parent
        for folder in (beside, beside / "images", beside.parent / "images", beside.parent, self.root):
            file = folder / name
            if file.is_file() and file.resolve().is_relative_to(self.root.resolve()):
                return file
        found = self.by_name.get(Path(name.replace("\\", "/")).name, [])
        same = [f for f in found if part.split and part.split in map(split_of, f.parent.parts[-2:])]
        chosen = found if len(found) == 1 else same
        return chosen[0] if len(chosen) == 1 else None


def _files(path: Path) -> list[Path]:
    """The COCO files at `path`, itself or below."""
    files = [path] if path.is_file() else scan.files(path) if path.is_dir() else []
    return [f for f in files if f.suffix.lower() == ".json" and _begins_as_one(f)]


def _begins_as_one(file: Path) -> bool:
    """Whether one of the three keys, as a key, stands at the beginning or the end of the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(HEAD)
        stream.seek(max(0, size - HEAD))
        ends = head + stream.read(HEAD)
    return (
        head.lstrip()[:1] == b"{"
        and any(f'"{key}"'.encode() in ends for key in ("annotations", "categories"))
        and (b'"file_name"' in ends or b'"bbox"' in ends or b'"images"' in ends)
    )


def _words(file: Path) -> Sequence[str]:
    """The words of a file's name and of its folder's, that may say a part: instances_train2017 has "train"."""
    words = f"{file.stem} {file.parent.name}".lower().replace("-", " ").replace("_", " ").split()
    return [word.rstrip("0123456789") for word in words]


def _part(file: Path) -> Part:
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        lists = [values[key] for key in KEYS]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad(
            file, f"no COCO file ({type(error).__name__} {error})"[:200], f"one object with {', '.join(KEYS)}"
        ) from error
    if not all(isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in lists):
        raise _bad(file, "entries that are no objects", "lists of objects")
    try:
        images = {int(image["id"]): {**image, "file_name": str(image["file_name"])} for image in lists[0]}
        categories = {int(category["id"]): str(category["name"]) for category in lists[2]}
        boxes: dict[int, list[Mapping[str, Any]]] = {}
        for box in lists[1]:
            boxes.setdefault(int(box["image_id"]), []).append({**box, "category_id": int(box["category_id"])})
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(file, f"an entry without {error}"[:200], "id, file_name, image_id, category_id, name") from error
    for key, entries in zip(KEYS, lists, strict=True):
        numbers = Counter(str(entry["id"]) for entry in entries if entry.get("id") is not None)
        if twice := [number for number, times in numbers.items() if times > 1]:
            raise _bad(file, f"{len(twice)} ids of {key} that repeat, the first {twice[0]}", "a number of its own for each")
    unknown = sorted({box["category_id"] for every in boxes.values() for box in every} - set(categories))
    if unknown:
        raise _bad(file, f"boxes of category {unknown[0]}", f"one of {sorted(categories)}"[:200])
    homeless = sorted(set(boxes) - set(images))
    if homeless:
        raise _bad(file, f"boxes of image {homeless[0]}, which is not listed", "every image of a box in images")
    split = next((found for word in _words(file) if (found := split_of(word))), None)
    return Part(file, split, images, boxes, categories)


def _corners(file: Path, box: Mapping[str, Any]) -> tuple[float, ...]:
    """First row, first column, last row, last column, half-open."""
    try:
        x, y, width, height = (float(value) for value in box["bbox"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(file, f"bbox {box.get('bbox')} of annotation {box.get('id')}"[:200], "[x, y, width, height]") from error
    return y, x, y + height, x + width


def _shape(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    known = isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    return (int(height), int(width)) if known else None  # type: ignore[arg-type]


def _bad(file: Path, found: str, expected: str) -> InputError:
    return InputError("BAD_LABEL", file, found=found, expected=expected, fix="mend or remove the file")
