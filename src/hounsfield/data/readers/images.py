"""Images without labels: one file, or every image and DICOM series below a folder."""

from __future__ import annotations

from pathlib import Path

from hounsfield.core.sample import Sample
from hounsfield.data.dataset import Dataset, ImageFile
from hounsfield.data.layout import Case, cases, channel_names, image_files, stem
from hounsfield.data.readers import Match
from hounsfield.io.formats import Choices


def match(path: Path) -> Match:
    """A file, or a folder with an image below it."""
    if path.is_file():
        return Match(f"the file {path.name}")
    count = len(image_files(path))
    return Match(f"{count} image files") if count else Match(missed="image in the folder or below")


def read(path: Path, choices: Choices) -> Dataset:
    """Ids are the relative names. Raises InputError for a first image whose header cannot be read, and as `cases` does."""
    found, notes = ([Case((stem(path),), ImageFile(path, choices))], ()) if path.is_file() else cases(path, choices)
    samples = tuple(Sample(c.name, (c.image,), patient=c.patient) for c in found)
    word = "image" if len(samples) == 1 else "images"
    what = f"{len(samples)} {word} without labels"
    return Dataset(samples, (), channel_names(*[case.image for case in found]), None, "images", what, path, notes=notes)
