"""One file from a web server: continued where it stopped, tried again where that can help, named when its checksum fits."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from hounsfield import __version__
from hounsfield.core.errors import ResourceError
from hounsfield.io import limits
from hounsfield.io.checksum import PIECE, md5_of

TIMEOUT = 30.0  # seconds in which nothing arrives, until the connection is given up
TRIES = 6  # in a row without `GAIN` new bytes, until the file is given up
GAIN = 1 << 16
PAUSE = 2.0  # seconds before the second try, twice as many before the next
LONGEST = 120.0  # seconds that a server may ask to wait

_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that a later request may not get

Progress = Callable[[int, int], None]  # bytes done, of all
Tell = Callable[[str], None]


def download(url: str, path: Path, md5: str, *, room: int = 1, progress: Progress, tell: Tell) -> None:
    """The file at `url`, of http or https, as `path`, when its MD5 is `md5` (hex). One that is there already and has it stays.

    What has arrived lies in `path`.part, with what it is of in `path`.part.json; the next call goes on from there, also after a
    kill, as long as the server still has the same version and continues (HTTP Range). Answers that pass (429, 503, ...), drops
    and stalls are tried again after a growing pause. A damaged file is deleted; one that came in pieces is loaded once more.
    room: how many times the file's size must be free on the disk. progress: bytes done, of all.
    Raises ResourceError FETCH_FAILED (no connection, a final answer such as 404, too many drops, another MD5), DISK_FULL.
    """
    if path.is_file() and md5_of(path, progress) == md5:
        return
    part = _Part(path)
    for attempt in (1, 2):
        pieces = _load(url, part, room, progress, tell)
        found = md5_of(part.path, progress)
        if found == md5:
            part.path.replace(path)
            part.delete()
            return
        part.delete()
        if pieces == 1 or attempt == 2:
            break
        tell(f"{path.name}: the pieces do not make the published file (MD5 {found}); deleted, and loaded in one")
    raise _failed(
        url,
        f"a file of MD5 {found}, which is deleted",
        f"MD5 {md5}",
        "try it once more; if it stays so, the file on the server is another one than was published",
    )


@dataclass(frozen=True)
class _Version:
    """What tells one version of a file from another. total: bytes. tag: the server's ETag, else its date, "" for neither."""

    total: int
    tag: str


class _Part:
    """The bytes that have arrived, and which version of the file they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.about = path.with_name(f"{path.name}.part.json")

    def begin(self, version: _Version) -> None:
        """No bytes yet, of this version."""
        with limits.atomic(self.about) as beside:
            beside.write_text(json.dumps(asdict(version)))
        self.path.touch()

    def state(self) -> tuple[int, _Version | None]:
        """Bytes that are there, of which version; (0, None) where that is not known."""
        try:
            values = json.loads(self.about.read_text())
            return self.path.stat().st_size, _Version(int(values["total"]), str(values["tag"]))
        except (OSError, ValueError, TypeError, KeyError):
            return 0, None

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)


class _BrokenError(Exception):
    """The transfer ended early, for a reason that may pass. after: seconds that the server asks to wait. connected: whether
    there was a connection at all."""

    def __init__(self, reason: str, *, after: float = 0.0, connected: bool = True) -> None:
        super().__init__(reason)
        self.after = after
        self.connected = connected


def _load(url: str, part: _Part, room: int, progress: Progress, tell: Tell) -> int:
    """Makes the part whole; in how many pieces it came. Raises as `download` does."""
    opener = _opener(url)
    furthest = part.state()[0]
    pieces = 1 if furthest else 0
    tries, connected = 0, False
    while True:
        try:
            return pieces + _transfer(opener, url, part, room, progress, tell)
        except _BrokenError as broken:
            connected = connected or broken.connected
            if not connected:
                host = urlsplit(url).hostname
                fix = "check the network, and HTTPS_PROXY behind a proxy; what has arrived is kept"
                raise _failed(url, f"no connection ({broken})", f"an answer of {host}", fix) from broken
            size = part.state()[0]
            pieces = pieces + 1 if size else 0
            tries = 1 if size >= furthest + GAIN else tries + 1
            furthest = max(furthest, size)
            if tries == TRIES:
                fix = "run the same command later: it goes on where it stopped"
                raise _failed(url, f"{broken}, at the last of {TRIES} tries", "the whole file", fix) from broken
            pause = max(PAUSE * 2 ** (tries - 1), min(broken.after, LONGEST))
            tell(f"{part.path.stem}: {broken}; trying again in {pause:.0f} s")
            time.sleep(pause)


def _transfer(opener: request.OpenerDirector, url: str, part: _Part, room: int, progress: Progress, tell: Tell) -> int:
    """Loads what is missing of the part; 0 where that is nothing, else 1. Raises _BrokenError, or as `download` does."""
    start, version = part.state()
    if version is not None and start == version.total:
        return 0
    try:
        answer: HTTPResponse = opener.open(_request(url, start, version), timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            raise _refusal(url, error, part, start) from error
    except (OSError, HTTPException) as error:
        raise _BrokenError(_why(error), connected=not isinstance(error, URLError)) from error
    with answer:
        start, version = _begun(url, answer, part)
        if start == 0:
            part.delete()
        limits.check_disk(part.path.parent, room * version.total - start)
        if start == 0:
            part.begin(version)
            tell(f"{part.path.stem}: {limits.size_text(version.total)} from {urlsplit(url).hostname}")
        else:
            tell(f"{part.path.stem}: goes on at {start} of {limits.size_text(version.total)}")
        done = start
        try:
            with part.path.open("ab") as out:
                for piece in _pieces(answer, version.total - start):
                    out.write(piece)
                    done += len(piece)
                    progress(done, version.total)
        except OSError as error:  # of the disk: the network's are _BrokenError
            if error.errno in limits.NO_ROOM:
                raise limits.disk_full(part.path, "no space left", version.total - done) from error
            raise
    if done < version.total:
        raise _BrokenError(f"the connection ended after {done} of {version.total} bytes")
    return 1


def _request(url: str, start: int, version: _Version | None) -> request.Request:
    """A request for the bytes from `start` on, if the file is still of that version."""
    headers = {"User-Agent": f"hounsfield/{__version__}", "Accept-Encoding": "identity"}
    if start and version is not None:
        headers["Range"] = f"bytes={start}-"
        if version.tag and not version.tag.startswith("W/"):  # a weak tag fits no If-Range
            headers["If-Range"] = version.tag
    return request.Request(url, headers=headers)  # noqa: S310 - of http or https, see _opener


def _begun(url: str, answer: HTTPResponse, part: _Part) -> tuple[int, _Version]:
    """At which byte the answer begins, and of which version it is. Raises _BrokenError where it does not continue the part."""
    there, known = part.state()
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if answer.status == 200:
        length = answer.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _failed(url, "an answer without the file's size", "Content-Length", "load the file by hand")
        return 0, _Version(int(length), tag)
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    if answer.status != 206 or known is None:
        raise _failed(url, f"the answer {answer.status}", "200, or 206 for a part", "load the file by hand")
    if span is None or int(span[1]) != there or int(span[2]) != known.total or tag not in ("", known.tag):
        part.delete()
        raise _BrokenError("the file on the server has changed")
    return there, known


def _pieces(answer: HTTPResponse, left: int) -> Iterator[bytes]:
    """What arrives, as it arrives, `left` bytes at most."""
    while left:
        try:
            piece = answer.read1(min(left, PIECE))
        except (OSError, HTTPException) as error:
            raise _BrokenError(_why(error)) from error
        if not piece:
            return
        left -= len(piece)
        yield piece


def _refusal(url: str, error: HTTPError, part: _Part, start: int) -> Exception:
    """What an answer of 300 and above means: to try again, or the end."""
    if error.code == 416 and start:
        part.delete()
        return _BrokenError("the file on the server has become shorter")
    said = f"{error.code} {error.reason}".strip()
    if error.code in _PASSING:
        after = error.headers.get("Retry-After", "")
        return _BrokenError(f"the server answered {said}", after=float(after) if after.isdecimal() else 0.0)
    return _failed(url, f"the answer {said}", "the file", "look whether the publisher has moved it")


def _why(error: Exception) -> str:
    """What went wrong with a connection, in words."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"nothing arrived for {TIMEOUT:g} s"
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def _opener(url: str) -> request.OpenerDirector:
    """What opens addresses of http and https, through the system's proxy, and none of any other kind.

    Raises ResourceError FETCH_FAILED where `url` is of another kind.
    """
    _check(url, url)
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        _Redirects,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


class _Redirects(request.HTTPRedirectHandler):
    """Follows to http and https alone."""

    def redirect_request(self, req: request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check(req.full_url, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check(url: str, target: str) -> None:
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise _failed(url, f"an address of the kind {scheme!r}", "http or https", "load the file by hand")


def _failed(url: str, found: str, expected: str, fix: str) -> ResourceError:
    return ResourceError("FETCH_FAILED", url, found=found, expected=expected, fix=fix)
