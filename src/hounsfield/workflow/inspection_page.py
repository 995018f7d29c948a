"""The page of an inspection: whether the data are fit to train on, at one look, and the evidence for it below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

import hounsfield
from hounsfield.core.boxes import Boxes
from hounsfield.core.errors import InputError
from hounsfield.core.finding import SEVERITIES
from hounsfield.core.fingerprint import Spread
from hounsfield.core.image import Image
from hounsfield.core.sample import Sample
from hounsfield.data.channels import read_case
from hounsfield.data.dataset import Dataset
from hounsfield.data.facts import mask_of
from hounsfield.tasks import RGB
from hounsfield.tasks.parts import drawing
from hounsfield.workflow.charts import bars
from hounsfield.workflow.cohort import number, spreads
from hounsfield.workflow.confusions import MANY
from hounsfield.workflow.console import Console, track
from hounsfield.workflow.distributions import AXES, PIXELS
from hounsfield.workflow.inspection import Inspection
from hounsfield.workflow.page import render
from hounsfield.workflow.pictures import encode
from hounsfield.workflow.run import write_text
from hounsfield.workflow.tables import PARTS
from hounsfield.workflow.timeline import percent

SIDE: Final = 192  # pixels of a picture
CASES: Final = 12  # shown
EVIDENCE: Final = 6  # shown of one finding
# Findings that the eye can judge.
SEEN: Final = (
    "DUPLICATE_IMAGE",
    "NEAR_DUPLICATE",
    "LABEL_CONFLICT",
    "BURNED_IN_TEXT",
    "CONSTANT_IMAGE",
    "MIXED_UNITS",
    "DUPLICATE_WITHIN",
    "NEAR_WITHIN",
)


@dataclass(frozen=True)
class Shot:
    """A small picture. source: a data: address; width, height: px. colours: of the case's classes."""

    case: str
    caption: str
    source: str
    width: int
    height: int
    colours: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class ClassLine:
    """cases: per part. share: as text; bar: in per cent of the largest class's."""

    name: str
    colour: tuple[int, int, int]
    cases: tuple[int, ...]
    share: str
    bar: float


@dataclass(frozen=True)
class Line:
    """A measure that varies over cases. bars: an SVG path of its distribution."""

    name: str
    low: str
    middle: str
    high: str
    bars: str


def write(path: Path, found: Inspection, dataset: Dataset, console: Console) -> None:
    """The page as one file without scripts or network, written beside `path` and renamed."""
    write_text(path, render("inspection.html.jinja", _content(found, dataset, console)))
    console.say(f"page: {path}")


def _content(found: Inspection, dataset: Dataset, console: Console) -> dict[str, Any]:
    measured = found.measured
    samples = {s.id: s for s in dataset.samples}
    readable = [s for s in dataset.samples if s.id not in set(found.unread)]
    wanted = {f.code: f.cases[:EVIDENCE] for f in reversed(found.findings) if f.code in SEEN}
    shots: Mapping[str, list[Shot]] = {}
    chosen: list[Shot] = []
    if not found.fast:
        names = list(dict.fromkeys([*(s.id for s in _chosen(readable)), *(name for own in wanted.values() for name in own)]))
        drawn = dict(_shots([samples[name] for name in names], dataset, console))
        chosen = [drawn[s.id] for s in _chosen(readable) if s.id in drawn]
        shots = {code: [drawn[name] for name in own if name in drawn] for code, own in wanted.items()}
    parts = {part: PARTS[part] for part in found.parts}
    return {
        "version": hounsfield.__version__,
        "today": f"{date.today():%d %B %Y}".lstrip("0"),
        "folder": Path(found.data).resolve().name,
        "found": found,
        "counts": [(severity, found.number(severity)) for severity in SEVERITIES],
        "about": _about(found),
        "parts": parts,
        "classes": _classes(found, dataset),
        "share": {"segmentation": "voxels", "detection": "boxes"}.get(found.kind or "", "cases"),
        "shots": chosen,
        "evidence": shots,
        "lines": list(_lines(found)),
        "spreads": [] if measured is None else spreads(measured),
        "histograms": [] if measured is None else [bars(i.histogram) for i in measured.intensity],
        "many": MANY,
    }


def _about(found: Inspection) -> str:
    """ "dataset for segmentation in 2D"."""
    axes = "" if found.grid is None else f" in {len(found.grid.shape_min)}D"
    return f"dataset for {found.kind}{axes}" if found.kind else f"images without labels{axes}"


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    """CASES of them, as many of each class as of the others where each has one, far apart."""
    by_class: dict[Any, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.target if isinstance(sample.target, int) else None, []).append(sample)
    each = max(1, CASES // max(1, len(by_class)))
    shown: list[Sample] = []
    for key in sorted(by_class, key=lambda k: (k is None, k or 0))[:CASES]:
        own = by_class[key]
        at = np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(int))
        shown += [own[k] for k in at]
    return shown


def _shots(samples: Sequence[Sample], dataset: Dataset, console: Console) -> Iterator[tuple[str, Shot]]:
    """By id; what cannot be read any more is left out."""
    from PIL import Image as Pillow

    for sample in track(console, "drawing cases", samples):
        try:
            picture = Pillow.fromarray(_drawn(sample, dataset))
        except InputError:
            continue
        picture.thumbnail((SIDE, SIDE))
        own = [sample.target] if isinstance(sample.target, int) else []
        named = [dataset.classes[k] for k in own if k < len(dataset.classes)]
        caption = ", ".join([*(c.name for c in named), sample.id.rpartition("/")[2]])
        yield sample.id, Shot(sample.id, caption, *encode(np.asarray(picture)), tuple(c.colour for c in named))


def _drawn(sample: Sample, dataset: Dataset) -> RGB:
    """The image, under its labels where it has some."""
    image = read_case(sample)
    mask = mask_of(sample)
    if mask is not None:
        return drawing.filled(image, mask(), dataset.classes)
    if isinstance(sample.target, Boxes) and image.ndim == 2:
        return _boxed(image, sample.target, dataset)
    return drawing.picture(image)


def _boxed(image: Image, boxes: Boxes, dataset: Dataset) -> RGB:
    from PIL import Image as Pillow
    from PIL import ImageDraw

    plain = drawing.picture(image)
    times = plain.shape[0] / image.geometry.shape[0]
    picture = Pillow.fromarray(plain)
    pen = ImageDraw.Draw(picture)
    wide = max(1, max(plain.shape) // SIDE)
    for (top, left, bottom, right), label in zip((boxes.corners * times).tolist(), boxes.labels.tolist(), strict=True):
        pen.rectangle((left, top, right - 1, bottom - 1), outline=dataset.classes[label].colour, width=wide)
    return np.asarray(picture)


def _classes(found: Inspection, dataset: Dataset) -> list[ClassLine]:
    shares = {c.name: c.fraction for c in found.measured.classes} if found.measured else {}
    largest = max(shares.values(), default=0.0) or 1.0
    return [
        ClassLine(
            c.name,
            c.colour,
            tuple(part.classes.get(c.name, 0) for part in found.parts.values()),
            percent(shares[c.name]) if c.name in shares else "unknown",
            round(100 * shares.get(c.name, 0.0) / largest, 1),
        )
        for c in dataset.classes
        if any(part.classes for part in found.parts.values())
    ]


def _lines(found: Inspection) -> Iterable[Line]:
    """Sides and spacings."""
    if found.grid is None:
        return
    grid, m = found.grid, found.measured
    axes = AXES[len(grid.shape_min)]
    kinds = [("shape", PIXELS[len(axes)], m.shapes if m else ())]
    if grid.space != "none":
        kinds.append(("spacing", "mm", m.spacings if m else ()))
    for kind, unit, distributions in kinds:
        values = zip(*(getattr(grid, f"{kind}_{what}") for what in ("min", "median", "max")), strict=True)
        for k, (low, middle, high) in enumerate(values):
            yield Line(f"{axes[k]}, {unit}", number(low), number(middle), number(high), _path(distributions, k))


def _path(distributions: Sequence[Spread], axis: int) -> str:
    """ "" where nothing varies."""
    if axis >= len(distributions) or distributions[axis].min == distributions[axis].max:
        return ""
    return bars(distributions[axis].histogram)
