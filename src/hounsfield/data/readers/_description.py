"""What the readers of a dataset.json share: reading it safely, and comparing what it lists with what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hounsfield.core.errors import InputError
from hounsfield.data.layout import stem
from hounsfield.io import scan


def description(path: Path) -> dict[str, Any] | None:
    """The object in dataset.json of a folder (or the file itself), {} for one that is broken, None where there is none."""
    file = file_of(path)
    if not file.is_file() or file.name != "dataset.json":
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def file_of(path: Path) -> Path:
    """dataset.json of the dataset at `path`."""
    return path / "dataset.json" if path.is_dir() else path


def required(path: Path, values: dict[str, Any], key: str, kind: type) -> Any:
    """values[key]. Raises InputError BAD_MANIFEST naming the key unless it is of `kind` and not empty."""
    if not isinstance(values.get(key), kind) or not values[key]:
        found = "broken JSON" if not values else f"{key!r} = {json.dumps(values.get(key))[:80]}"
        raise bad(path, found, f"{key!r}: {'a list' if kind is list else 'an object' if kind is dict else 'a text'}")
    return values[key]


def bad(path: Path, found: str, expected: str) -> InputError:
    """InputError BAD_MANIFEST for the dataset.json at `path`."""
    return InputError("BAD_MANIFEST", file_of(path), found=found, expected=expected, fix="mend the file")


def below(root: Path, relative: object) -> Path:
    """`relative` as a path below `root`. Raises InputError BAD_MANIFEST for what is no path, or leaves `root`."""
    if not isinstance(relative, str) or not (root / relative).resolve().is_relative_to(root.resolve()):
        raise bad(root, f"the path {relative!r}", "a path below the dataset's folder")
    return root / relative


def stems(folder: Path) -> set[str]:
    """Names without ending of the images that lie in `folder` itself."""
    return {stem(f) for f in scan.files(folder) if f.parent == folder and scan.is_image(f)} if folder.is_dir() else set()
