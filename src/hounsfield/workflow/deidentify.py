"""Deidentify: a folder of images without what tells who the patients are, proved file by file, and a report."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from pydantic import Field

from hounsfield import __version__, io
from hounsfield.core.errors import InputError, ResourceError
from hounsfield.core.plan import Options
from hounsfield.io import deidentify as files
from hounsfield.io import limits, scan
from hounsfield.io.deidentify.identifiers import Identifiers
from hounsfield.io.deidentify.profile import Profile
from hounsfield.io.deidentify.result import Result
from hounsfield.io.deidentify.secret import Secret
from hounsfield.workflow.console import SILENT, Console, facts_table

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")
S = TypeVar("S")

REPORT: Final = "deidentification.json"
TITLES: Final = {**io.TITLES, "raster": "pictures"}
SHOWN: Final = 20  # refused files that the console names one by one
DEFAULT: Final = Profile()


class FileReport(Options):
    """number: the file's place, from 1, among the input's files sorted by path. output: below the output folder, None where
    nothing was written. code, reason: why not. actions: what was done, how often, by keyword."""

    number: int
    kind: str = ""
    output: str | None = None
    code: str | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    actions: dict[str, dict[str, int]] = Field(default_factory=dict)


class Report(Options):
    """Nothing of the input stands in it: no value, no name of a file. options: (code value, meaning) of DICOM's context group
    7050. pixels_searched: whether text in the pixels was looked for. left: files that were taken away again, as something
    identifying was still in them."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    hounsfield: str
    standard: str
    options: tuple[tuple[str, str], ...]
    pixels_searched: bool = False
    written: int
    refused: int
    left: int
    files: tuple[FileReport, ...]

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class _Done:
    """One file of the input. staged: what was made of it, before it has its name. error: why nothing was."""

    source: Path
    staged: Path
    result: Result | None = None
    error: InputError | None = None


def deidentify(
    source: str | Path, out: str | Path, *, key: Path | None = None, profile: Profile = DEFAULT, console: Console = SILENT
) -> Report:
    """De-identifies a file, a folder, the folder of a DICOMDIR, or a ZIP archive into the new folder `out`, with a report.

    key: the file of the secret key; without one a new key is written beside `out`, as `<out>.key`, for its owner alone.
    Raises InputError OUTPUT_EXISTS, BAD_OPTION (`out` or the key where they must not be), NOT_FOUND, EMPTY_FOLDER; the error of
    the first file where none could be written; IDENTIFIER_LEFT where the output of a file still held something identifying:
    that file was taken away, the others and the report are there. ResourceError DISK_FULL, OUT_OF_MEMORY.
    """
    source, out = Path(source), Path(out)
    _check(source, out, key)
    new_key = None if key else out.with_name(f"{out.name}.key")
    secret = Secret.read(key) if key else Secret.new()
    with io.unpacked(source) as place, files.quiet(), _beside(out) as folder:
        root, inputs = _inputs(place)
        limits.check_disk(folder, sum(path.stat().st_size for path in inputs))
        done = _each(console, "de-identifying", inputs, lambda at, path: _one(root, path, folder / str(at), profile, secret))
        if not any(one.result for one in done):
            raise _all_refused(source, done)
        shared = Identifiers.shared_by(one.result.identifiers for one in done if one.result)
        kept = _each(console, "searching for leftovers", done, lambda at, one: not one.result or _clean(one, shared))
        report = _report(_placed(folder, done, kept), profile)
        (folder / "out" / REPORT).write_text(json.dumps(report.to_json(), indent=1) + "\n")
        if new_key is not None:
            secret.write(new_key)
        _publish(folder / "out", out, new_key)
    _tell(console, root, done, new_key)
    if report.left:
        raise InputError(
            "IDENTIFIER_LEFT",
            out,
            found=f"something identifying in {report.left} of {report.left + report.written} new files, which were taken away",
            expected="nothing of the input",
            fix=f"look for IDENTIFIER_LEFT in {REPORT}, and leave those files out or clean them by hand",
        )
    return report


def _check(source: Path, out: Path, key: Path | None) -> None:
    """Raises InputError NOT_FOUND, OUTPUT_EXISTS, BAD_OPTION."""
    io.head(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            "OUTPUT_EXISTS", out, found="a path that holds something", expected="a new folder", fix="choose another name"
        )
    inside = out.resolve()
    if inside == source.resolve() or source.resolve() in inside.parents:
        raise InputError(
            "BAD_OPTION", out, found="an output within the input", expected="them apart", fix="write somewhere else"
        )
    if key is not None and inside in key.resolve().parents:
        raise InputError(
            "BAD_OPTION",
            key,
            found="the key within the output",
            expected="them apart",
            fix="never pass the key on with the images",
        )
    new = out.with_name(f"{out.name}.key")
    if key is None and new.exists():
        raise InputError(
            "OUTPUT_EXISTS", new, found="a key", expected="none, as a new one would be made", fix=f"use it with --key {new}"
        )


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, gone afterwards."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{secrets.token_hex(4)}.deidentify")
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if error.errno in limits.NO_ROOM:
            raise limits.disk_full(out, "no space left", 0) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _inputs(place: Path) -> tuple[Path, list[Path]]:
    """The folder and its files; of a single file that file; of a DICOMDIR the folder where it lies."""
    root = place.parent if place.name.upper() == "DICOMDIR" else place
    if root.is_file():
        return root.parent, [root]
    found = scan.files(root)
    if not found:
        raise InputError("EMPTY_FOLDER", place, found="no file", expected="images", fix="check the path")
    return root, found


def _each(console: Console, label: str, items: Sequence[T], work: Callable[[int, T], S]) -> list[S]:
    """The results, in order, worked out in threads."""
    found: list[S] = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool, console.bar(label) as bar:
        try:
            for result in pool.map(work, range(len(items)), items):
                found.append(result)
                bar(len(found), len(items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _one(root: Path, path: Path, staged: Path, profile: Profile, secret: Secret) -> _Done:
    relative = PurePath(path.relative_to(root))
    try:
        return _Done(path, staged, result=files.deidentify(path, relative, staged, profile, secret))
    except InputError as error:
        staged.unlink(missing_ok=True)
        return _Done(path, staged, error=error)
    except MemoryError as error:
        raise ResourceError(
            "OUT_OF_MEMORY", path, found="a file larger than the memory", expected="room for it", fix="use a larger machine"
        ) from error


def _clean(one: _Done, shared: Identifiers) -> bool:
    """Whether nothing identifying is left in what was made; where something is, that is deleted."""
    assert one.result is not None
    if not files.holds(one.staged, one.result.kind, one.result.identifiers, shared):
        return True
    one.staged.unlink()
    return False


def _placed(folder: Path, done: Sequence[_Done], kept: Sequence[bool]) -> list[FileReport]:
    """Moves what was made to its name below `folder`/out; of two files of one name the second is refused."""
    out, reports = folder / "out", list[FileReport]()
    out.mkdir()
    for number, (one, clean) in enumerate(zip(done, kept, strict=True), start=1):
        if one.result is None:
            assert one.error is not None
            reports.append(FileReport(number=number, code=one.error.code, reason=one.error.found))
            continue
        target, kind = out / one.result.name, one.result.kind
        if not clean:
            left = "something identifying was still in it"
            reports.append(FileReport(number=number, kind=kind, code="IDENTIFIER_LEFT", reason=left))
        elif target.exists():
            twice = "the instance of another file of the input"
            reports.append(FileReport(number=number, kind=kind, code="DUPLICATE_UID", reason=twice))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            one.staged.replace(target)
            actions: dict[str, dict[str, int]] = {}
            for (action, keyword), count in sorted(one.result.actions.items()):
                actions.setdefault(action.value, {})[keyword] = count
            about = {"kind": kind, "output": one.result.name, "warnings": one.result.warnings, "actions": actions}
            reports.append(FileReport(number=number, **about))
    return reports


def _report(reports: Sequence[FileReport], profile: Profile) -> Report:
    left = sum(report.code == "IDENTIFIER_LEFT" for report in reports)
    written = sum(report.output is not None for report in reports)
    return Report(
        hounsfield=__version__,
        standard=files.STANDARD,
        options=profile.codes,
        written=written,
        refused=len(reports) - written - left,
        left=left,
        files=tuple(reports),
    )


def _publish(made: Path, out: Path, new_key: Path | None) -> None:
    """`made` becomes `out`; a key that was just written goes where that fails."""
    try:
        if out.exists():
            out.rmdir()
        made.replace(out)
    except OSError:
        if new_key is not None:
            new_key.unlink(missing_ok=True)
        raise


def _all_refused(source: Path, done: Sequence[_Done]) -> InputError:
    first = next(one.error for one in done if one.error)
    several = f"{len(done)} files, all refused; the first: " if len(done) > 1 else ""
    return InputError(first.code, source, found=several + first.found, expected=first.expected, fix=first.fix)


def _tell(console: Console, root: Path, done: Sequence[_Done], new_key: Path | None) -> None:
    """What the report must not hold: which files were refused, and where the key is."""
    refused = [(number, one) for number, one in enumerate(done, start=1) if one.error]
    for number, one in refused[:SHOWN]:
        assert one.error is not None
        console.say(f"  not written: {number}, {one.source.relative_to(root)}: {one.error.code}, {one.error.found}")
    if len(refused) > SHOWN:
        console.say(f"  and {len(refused) - SHOWN} more, which {REPORT} lists by number")
    if new_key is not None:
        console.say(
            f"  new key: {new_key} (keep it secret, and apart from the images; --key {new_key} gives the same pseudonyms)"
        )


def show(report: Report) -> RenderableType:
    """The report for a terminal."""
    kinds = Counter(file.kind for file in report.files if file.output)
    reasons = Counter(f"{file.code}: {file.reason}" for file in report.files if file.code)
    warnings = Counter(warning for file in report.files for warning in file.warnings)
    rows = [
        ("written", _files(report.written) + "".join(f", {count:,} {TITLES[kind]}" for kind, count in sorted(kinds.items()))),
        *(("not written", f"{_files(count)}: {reason}") for reason, count in reasons.most_common()),
        *(("look at", f"{_files(count)}: {warning}") for warning, count in warnings.most_common()),
        ("options", ", ".join(f"{code} {meaning}" for code, meaning in report.options)),
        ("searched", "every header that was written, for every name, id, day and UID of the input: none is left"),
        ("not searched", "pixels: whether they show text or a face was not looked at"),
    ]
    return facts_table(rows)


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"
