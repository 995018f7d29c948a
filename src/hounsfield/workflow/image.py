"""Image: what one file, folder or archive holds, and the same voxels in another format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from hounsfield import io
from hounsfield.core.errors import InputError
from hounsfield.core.geometry import Geometry
from hounsfield.core.image import Image
from hounsfield.core.plan import Options
from hounsfield.io.formats import DEFAULT, Choices
from hounsfield.io.series import Series
from hounsfield.workflow.console import facts_table

if TYPE_CHECKING:
    from rich.console import RenderableType

SAMPLED = 2**22  # voxels from which percentiles are taken, evenly spread
TITLES = {**io.TITLES, "numpy": "NumPy", "raster": "picture"}


class Values(Options):
    """Of all channels together, in the source's units; percentiles of at most 4 million voxels, evenly spread."""

    low: float
    p1: float
    median: float
    p99: float
    high: float
    mean: float


class ImageFacts(Options):
    """What was found. shape: (d, h, w) or (h, w). affine: array index to R, A, S in mm, as `Geometry.affine`. values: None
    where a choice is lacking, which `needs` names. volumes: of a 4D file, or frames of a cine. written: the new file."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    path: str
    format: str
    modality: str | None = None
    shape: tuple[int, ...] = ()
    channels: int = 0
    dtype: str = ""
    space: str = ""
    spacing: tuple[float, ...] = ()
    unit: str = ""
    orientation: str = ""
    affine: tuple[tuple[float, ...], ...] = ()
    volumes: int = 1
    values: Values | None = None
    lossy: bool = False
    series: tuple[Series, ...] = ()
    notes: tuple[str, ...] = ()
    needs: str = ""
    written: str | None = None

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def image(path: str | Path, *, to: Path | None = None, choices: Choices = DEFAULT, overwrite: bool = False) -> ImageFacts:
    """What `path` holds; written to `to`, in the format of its ending, where one is given.

    Where a choice is lacking (one of several series, volumes or frames) and nothing is to be written, what there is to choose
    from is the answer. Raises what `io.read` and `io.write` raise.
    """
    path = Path(path)
    with io.unpacked(path) as place:
        series = tuple(io.list_series(place))
        try:
            found = io.read(place, choices)
        except InputError as error:
            if to is not None or error.code not in ("SEVERAL_SERIES", "WRONG_DIMENSION"):
                raise
            return _undecided(path, place, choices, series, error)
    if to is not None:
        io.write(found, to, overwrite)
    return ImageFacts(
        path=str(path),
        format=found.meta.format,
        modality=found.meta.modality,
        dtype=found.array.dtype.name,
        channels=found.channels,
        values=_values(found),
        lossy=found.meta.lossy,
        series=series,
        notes=found.meta.notes,
        written=None if to is None else str(to),
        **_grid(found.geometry),
    )


def _undecided(path: Path, place: Path, choices: Choices, series: tuple[Series, ...], error: InputError) -> ImageFacts:
    """What is known of `path`, whose files lie at `place`, while a choice is lacking. Raises `error` where the headers show
    nothing to choose from."""
    if error.code == "SEVERAL_SERIES":
        return ImageFacts(path=str(path), format="dicom", series=series, needs=f"{_counted(series)}; {error.fix}")
    told = io.peek(place, choices)
    if told.volumes < 2:
        raise error
    return ImageFacts(
        path=str(path),
        format=told.format,
        modality=told.modality,
        dtype=told.dtype.name,
        channels=told.channels,
        volumes=told.volumes,
        series=series,
        needs=f"{error.found}; {error.fix}",
        **_grid(told.geometry),
    )


def _grid(geometry: Geometry) -> dict[str, Any]:
    return {
        "shape": geometry.shape,
        "space": geometry.space,
        "spacing": geometry.spacing,
        "unit": geometry.unit,
        "orientation": geometry.orientation if geometry.space == "patient" else "",
        "affine": tuple(tuple(float(x) for x in row) for row in geometry.affine),
    }


def _values(found: Image) -> Values:
    flat = found.array.reshape(-1)
    some = flat[:: -(-flat.size // SAMPLED)].astype(np.float64)
    p1, median, p99 = (float(x) for x in np.percentile(some, (1, 50, 99)))
    mean = float(flat.mean(dtype=np.float64))
    return Values(low=float(flat.min()), p1=p1, median=median, p99=p99, high=float(flat.max()), mean=mean)


def show(found: ImageFacts) -> RenderableType:
    """The facts for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    blocks: list[RenderableType] = [facts_table(_rows(found))]
    if len(found.series) > 1:
        listed = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        several = _studies(found.series) > 1
        for heading in (*(["study"] if several else []), "series", "description", "modality", "files", "UID ends in"):
            listed.add_column(heading, justify="right" if heading == "files" else "left")
        for s in found.series:
            kind = f"{s.modality} localizer" if s.localizer else s.modality
            words = (s.number or "-", s.description, kind, f"{s.files:,}", s.uid[-6:])
            listed.add_row(*(Text(word) for word in (*([str(s.study)] if several else []), *words)))
        blocks += [Text(), listed]
    lines = [Text(f"note: {note}", style="yellow") for note in found.notes]
    lines += [Text(f"not read: {found.needs}", style="yellow")] if found.needs else []
    return Group(*blocks, *([Text()] if lines else []), *lines)


def _studies(series: Sequence[Series]) -> int:
    return len({s.study for s in series})


def _counted(series: Sequence[Series]) -> str:
    """13 series of 4 studies."""
    studies = _studies(series)
    return f"{len(series)} series{f' of {studies} studies' if studies > 1 else ''}"


def _rows(found: ImageFacts) -> Iterator[tuple[str, str]]:
    yield "image", found.path
    yield "format", f"{TITLES.get(found.format, found.format)}{f', {found.modality}' if found.modality else ''}"
    if found.shape:
        channels = f", {found.channels} channels" if found.channels > 1 else ""
        several = f", {found.volumes} volumes" if found.volumes > 1 else ""
        yield "shape", f"{'×'.join(str(n) for n in found.shape)} voxels of {found.dtype}{channels}{several}"
        yield from _place(found)
    if found.values is not None:
        v = found.values
        yield (
            "values",
            f"{v.low:g} to {v.high:g}, mean {v.mean:.4g}, 98% within {v.p1:.4g} and {v.p99:.4g}, median {v.median:.4g}",
        )
    if found.lossy:
        yield "compression", "lossy"
    if found.written is not None:
        yield "written", found.written


def _place(found: ImageFacts) -> Iterator[tuple[str, str]]:
    sides = "×".join(f"{s:.4g}" for s in found.spacing)
    if found.space == "none":
        yield "spacing", "unknown: distances are in pixels"
        return
    yield "spacing", f"{sides} mm{' on the detector' if found.space == 'detector' else ''}"
    if found.space == "patient":
        yield "orientation", f"{found.orientation} (towards these the axes {', '.join('dhw'[3 - len(found.shape) :])} run)"
        right, front, up = (row[-1] for row in found.affine[:3])
        yield "first voxel", f"at R {right:.2f}, A {front:.2f}, S {up:.2f} mm"
