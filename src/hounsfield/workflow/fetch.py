"""Fetch: a published dataset from its publisher's address, verified, with its licence beside it, as every verb reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, ValidationError

from hounsfield.core.errors import InputError, RunInterruptedError
from hounsfield.core.plan import Options
from hounsfield.data.catalogue import Published, find, published
from hounsfield.io import scan, tar
from hounsfield.io.checksum import md5_of
from hounsfield.io.download import download
from hounsfield.workflow.console import SILENT, Bar, Console

if TYPE_CHECKING:
    from rich.console import RenderableType

RECORD: Final = "fetched.json"
NOTE: Final = "LICENCE.txt"


class File(Options):
    """size: bytes. md5: hex."""

    size: int
    md5: str


class Record(Options):
    """What was fetched, beside the data. md5: of the published file. files: what it became, by path below the folder."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str
    url: str
    md5: str
    licence: str
    cite: tuple[str, ...]
    files: Mapping[str, File]


class Fetched(Options):
    """The dataset in the folder `out`. loaded: False where it lay there already, whole. files, size: of the data, in bytes."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str
    out: str
    loaded: bool
    url: str
    licence: str
    cite: tuple[str, ...]
    files: int
    size: int

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


def fetch(
    name: str,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    base: str | None = None,
    console: Console = SILENT,
) -> Fetched:
    """The published dataset `name` as the folder `out` (its name, unless given), which appears when it is complete; meanwhile
    what has arrived lies beside it in `.<out>.part`, and the next call goes on from there.

    A complete copy in `out` is verified, not loaded again; a damaged one is replaced with `overwrite`. base: another address
    before the file's name. Raises InputError UNKNOWN_MEMBER (nearest name), OUTPUT_EXISTS; ResourceError FETCH_FAILED,
    DISK_FULL; RunInterruptedError; and as `tar.unpack` does.
    """
    chosen = find(name)
    out = Path(chosen.name if out is None else out)
    url = chosen.url if base is None else f"{base}/{chosen.file}"
    if (record := _there(out, chosen, overwrite, console)) is not None:
        console.say(f"{out} is complete: every checksum fits, nothing is loaded")
        return _fetched(record, out, loaded=False)
    for line in _about(chosen):
        console.say(line)
    place = out.resolve()
    staging = place.with_name(f".{place.name}.part")
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"no folder can be made there ({error.strerror})"
        raise InputError("BAD_OPTION", out, found=found, expected="a place to write to", fix="choose another --out") from error
    folder, files = _loaded(chosen, url, staging, console)
    record = Record(
        schema=1, name=chosen.name, url=chosen.url, md5=chosen.md5, licence=chosen.licence, cite=chosen.cite, files=files
    )
    _annotate(folder, chosen, record)
    if place.exists():
        shutil.rmtree(staging / "replaced", ignore_errors=True)
        place.replace(staging / "replaced")
    folder.replace(place)
    shutil.rmtree(staging, ignore_errors=True)
    return _fetched(record, out, loaded=True)


def listed(name: str | None = None) -> list[Published]:
    """The sets whose name holds `name`, all without one. Raises InputError UNKNOWN_MEMBER where there is none."""
    found = [one for one in published().values() if name is None or name.lower() in one.name]
    return found if found or name is None else [find(name)]


def show(sets: list[Published]) -> RenderableType:
    """The list for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "name", "task", "cases", "licence", "shows", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim"
    )
    for one in sets:
        table.add_row(*(Text(cell) for cell in (one.name, one.task, f"{one.cases:,}", one.licence, one.shows)))
    return table


def to_json(sets: list[Published]) -> dict[str, Any]:
    keys = ("name", "title", "task", "shows", "cases", "licence", "terms", "cite", "homepage", "url", "md5")
    return {"schema": 1, "datasets": [{key: getattr(one, key) for key in keys} for one in sets]}


def _loaded(chosen: Published, url: str, staging: Path, console: Console) -> tuple[Path, dict[str, File]]:
    """The dataset as a folder within `staging`, and its files; `staging` goes where it holds nothing to go on with."""
    made = staging / chosen.name  # of this set alone: another may have been begun for the same place
    file = (staging if chosen.folder else made) / chosen.file
    file.parent.mkdir(exist_ok=True)
    room = 2 if chosen.folder else 1
    try:
        with console.bar(chosen.file) as bar:
            download(url, file, chosen.md5, room=room, progress=_mebibytes(bar), tell=console.say)
        if not chosen.folder:
            return made, {chosen.file: File(size=file.stat().st_size, md5=chosen.md5)}
        shutil.rmtree(made, ignore_errors=True)
        with console.bar(f"unpacking {chosen.file}") as bar:
            return made / chosen.folder, _unpacked(chosen, file, made, _mebibytes(bar))
    except InputError:  # an archive that must not be unpacked
        shutil.rmtree(staging)
        raise
    except KeyboardInterrupt:
        fix = "run the same command again: it goes on where it stopped"
        raise RunInterruptedError("INTERRUPTED", staging, found="Ctrl-C", expected="the end", fix=fix) from None
    finally:
        for folder in (made, staging):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _about(chosen: Published) -> Iterator[str]:
    """What somebody must know who uses the set, a line each."""
    yield f"{chosen.name}: {chosen.title}, {chosen.cases:,} cases of {chosen.task}: {chosen.shows}"
    yield f"licence: {chosen.licence}, {chosen.terms}"
    for work in chosen.cite:
        yield f"cite: {work}"


def _there(out: Path, chosen: Published, overwrite: bool, console: Console) -> Record | None:
    """The record of a complete copy in `out`, None where it must be loaded.

    Raises InputError OUTPUT_EXISTS for what is not fetch's, and for a damaged or another copy that is not to be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        record = Record.model_validate_json((out / RECORD).read_bytes())
    except (OSError, ValidationError):
        raise _exists(out, "a path that holds something else", "choose another folder with --out") from None
    found = f"{record.name} of MD5 {record.md5}"
    if record.md5 == chosen.md5:
        with console.bar(f"verifying {out}") as bar:
            found = next(_differences(out, record, _mebibytes(bar)), "")
        if not found:
            return record
    if not overwrite:
        raise _exists(out, found, "--overwrite loads it anew")
    ours = {out / name for name in (*record.files, RECORD, NOTE, f"{record.name}.json")}
    if others := [file for file in scan.files(out) if file not in ours]:
        raise _exists(out, f"{len(others)} files that were not fetched, such as {others[0].name}", "move them away")
    return None


def _differences(out: Path, record: Record, progress: Callable[[int, int], None]) -> Iterator[str]:
    """What is not as it was fetched, in words."""
    total, done = sum(file.size for file in record.files.values()), 0
    for name, file in record.files.items():
        path = out / name
        if not path.is_file():
            yield f"a copy without {name}"
        elif path.stat().st_size != file.size or md5_of(path) != file.md5:
            yield f"a copy in which {name} has changed"
        done += file.size
        progress(done, total)


def _unpacked(chosen: Published, file: Path, made: Path, progress: Callable[[int, int], None]) -> dict[str, File]:
    """The archive `file` unpacked into the new folder `made`: the files of the dataset's folder in it.

    Raises InputError UNKNOWN_LAYOUT where the archive holds anything else, and as `tar.unpack` does.
    """
    found = tar.unpack(file, made, progress)
    inside = {name.partition("/")[2]: File(size=size, md5=md5) for name, (size, md5) in found.items()}
    if any(name.partition("/")[0] != chosen.folder for name in found) or "dataset.json" not in inside:
        raise InputError(
            "UNKNOWN_LAYOUT",
            file,
            found=f"{len(found)} files, not all of them in {chosen.folder}, or no dataset.json",
            expected=f"{chosen.folder}/dataset.json and what it lists",
            fix="report it: the published archive is another one",
        )
    return inside


def _annotate(folder: Path, chosen: Published, record: Record) -> None:
    """Licence, record and names of the classes, into the dataset's folder."""
    lines = [*_about(chosen), f"from: {chosen.url}", f"publisher: {chosen.homepage}", f"MD5: {chosen.md5}"]
    (folder / NOTE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / RECORD).write_text(json.dumps(record.model_dump(mode="json", by_alias=True), indent=1) + "\n")
    if chosen.labels:
        names = {"label": {str(value): label for value, label in enumerate(chosen.labels)}}
        (folder / f"{chosen.name}.json").write_text(json.dumps(names, indent=1) + "\n")


def _fetched(record: Record, out: Path, *, loaded: bool) -> Fetched:
    return Fetched(
        schema=1,
        name=record.name,
        out=str(out),
        loaded=loaded,
        url=record.url,
        licence=record.licence,
        cite=record.cite,
        files=len(record.files),
        size=sum(file.size for file in record.files.values()),
    )


def _exists(out: Path, found: str, fix: str) -> InputError:
    return InputError("OUTPUT_EXISTS", out, found=found, expected="a new folder, or a complete copy", fix=fix)


def _mebibytes(bar: Bar) -> Callable[[int, int], None]:
    """A bar that is told bytes, and counts MiB."""
    return lambda done, total: bar(-(-done // 2**20), -(-total // 2**20), "MiB")
