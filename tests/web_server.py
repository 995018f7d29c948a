"""A web server in a thread, of one file, that misbehaves as it is told."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What is served, at any address. script: how the next requests are answered, one after another; afterwards `well`.
    seen: the headers of each request, with its path as "path". sent: bytes of content that each answer sent."""

    def __init__(self, content: bytes, tag: str = '"1"') -> None:
        self.content = content
        self.tag = tag
        self.script: list[Behaviour] = []
        self.seen: list[dict[str, str]] = []
        self.sent: list[int] = []
        self.over = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append({**{k.lower(): v for k, v in self.headers.items()}, "path": self.path})
                site.sent.append(0)
                behave = site.script.pop(0) if site.script else well
                with suppress(ConnectionError):
                    behave(site, self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        """Answers no more: connections are refused from now on."""
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.seen]


Behaviour = Callable[[Site, BaseHTTPRequestHandler], None]


@contextmanager
def serving(content: bytes, tag: str = '"1"') -> Iterator[Site]:
    site = Site(content, tag)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        if not site.over.is_set():
            site.stop()


def well(site: Site, request: BaseHTTPRequestHandler) -> None:
    """As it should be: a range where one is asked for and the version is the same."""
    condition = request.headers.get("If-Range", site.tag)
    (careless if condition == site.tag else no_range)(site, request)


def careless(site: Site, request: BaseHTTPRequestHandler) -> None:
    """A range of whatever there is now, whichever version the client has begun with."""
    start = _start(request)
    if start and start >= len(site.content):
        status(416, **{"Content-Range": f"bytes */{len(site.content)}"})(site, request)
        return
    _head(site, request, start)
    _send(site, request, site.content[start:])


def no_range(site: Site, request: BaseHTTPRequestHandler) -> None:
    """All of it, whatever was asked for."""
    _head(site, request, 0)
    _send(site, request, site.content)


def drops(after: int, ranges: bool = True) -> Behaviour:
    """Ends the connection after so many bytes of content."""

    def behave(site: Site, request: BaseHTTPRequestHandler) -> None:
        start = _start(request) if ranges else 0
        _head(site, request, start)
        _send(site, request, site.content[start : start + after])

    return behave


def resets(site: Site, request: BaseHTTPRequestHandler) -> None:
    """Breaks the connection before any answer."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def stalls(after: int) -> Behaviour:
    """Sends so many bytes of content, then nothing until the test is over."""

    def behave(site: Site, request: BaseHTTPRequestHandler) -> None:
        drops(after)(site, request)
        site.over.wait(20)

    return behave


def corrupts(site: Site, request: BaseHTTPRequestHandler) -> None:
    """One bit is another."""
    content = bytearray(site.content)
    content[len(content) // 2] ^= 1
    _head(site, request, 0)
    _send(site, request, bytes(content))


def status(code: int, **headers: str) -> Behaviour:
    """This answer, with a body that is no data."""

    def behave(site: Site, request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for key, value in headers.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(b"<html>not the file</html>")

    return behave


def claims(length: int | None) -> Behaviour:
    """The file with another length in the header, or with none."""

    def behave(site: Site, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if length is not None:
            request.send_header("Content-Length", str(length))
        request.end_headers()
        _send(site, request, site.content)

    return behave


def _start(request: BaseHTTPRequestHandler) -> int:
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    return int(asked[1]) if asked else 0


def _head(site: Site, request: BaseHTTPRequestHandler, start: int) -> None:
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
    if site.tag:
        request.send_header("ETag", site.tag)
    request.send_header("Content-Length", str(len(site.content) - start))
    request.end_headers()


def _send(site: Site, request: BaseHTTPRequestHandler, content: bytes) -> None:
    site.sent[-1] = len(content)
    request.wfile.write(content)
    request.wfile.flush()
