"""One file from a web server: whole and verified whatever happens on the way, or refused, and nothing in between."""

from __future__ import annotations

import errno
import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.web_server import Behaviour, Site, careless, claims, corrupts, drops, no_range, resets, serving, stalls, status

from hounsfield.core.errors import ResourceError
from hounsfield.io import download as module
from hounsfield.io.download import download

SIZE = 400_000
CONTENT = bytes(k * k % 251 for k in range(SIZE))
OTHER = bytes(k * k % 241 for k in range(SIZE))
TRIES = 3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.005)
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    monkeypatch.setattr(module, "TRIES", TRIES)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(CONTENT) as made:
        yield made


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def load(site: Site, folder: Path, content: bytes = CONTENT, room: int = 1) -> list[str]:
    """Downloads to folder/a.bin; what was said. The file must then be `content`."""
    said: list[str] = []
    path = folder / "a.bin"
    download(f"{site.base}/x/a.bin?y=1", path, md5(content), room=room, progress=lambda *_: None, tell=said.append)
    assert path.read_bytes() == content
    assert [p.name for p in folder.iterdir()] == ["a.bin"]
    return said


def fails(site: Site, folder: Path, content: bytes = CONTENT, left: bool = False) -> ResourceError:
    """The refusal; `left` says whether what has arrived is kept for the next time."""
    with pytest.raises(ResourceError) as caught:
        load(site, folder, content)
    assert caught.value.code == "FETCH_FAILED"
    assert caught.value.exit_code == 3
    assert sorted(p.name for p in folder.iterdir()) == (["a.bin.part", "a.bin.part.json"] if left else [])
    return caught.value


def test_a_file_arrives_whole(site: Site, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    said: list[str] = []
    path = tmp_path / "a.bin"
    download(
        f"{site.base}/x/a.bin?y=1",
        path,
        md5(CONTENT),
        progress=lambda done, total: steps.append((done, total)),
        tell=said.append,
    )
    assert path.read_bytes() == CONTENT
    assert said == [f"a.bin: {SIZE} bytes from 127.0.0.1"]
    assert steps[-1] == (SIZE, SIZE)
    assert [s["path"] for s in site.seen] == ["/x/a.bin?y=1"]
    assert site.seen[0]["user-agent"].startswith("hounsfield/")


def test_a_drop_is_continued_where_it_was(site: Site, tmp_path: Path) -> None:
    site.script = [drops(100_000), drops(150_000)]
    said = load(site, tmp_path)
    assert site.ranges == [None, "bytes=100000-", "bytes=250000-"]
    assert [s.get("if-range") for s in site.seen] == [None, '"1"', '"1"']
    assert sum(site.sent) == SIZE
    assert f"a.bin: the connection ended after 100000 of {SIZE} bytes; trying again in 0 s" in said
    assert f"a.bin: goes on at 250000 of {SIZE} bytes" in said


@pytest.mark.parametrize("tag", ["", 'W/"1"'])
def test_a_version_without_a_strong_tag_is_continued_too(tag: str, tmp_path: Path) -> None:
    with serving(CONTENT, tag) as site:
        site.script = [drops(100_000)]
        load(site, tmp_path)
        assert site.ranges == [None, "bytes=100000-"]
        assert "if-range" not in site.seen[1]


def test_a_killed_process_is_continued(site: Site, tmp_path: Path) -> None:
    site.script = [stalls(300_000)]
    code = (
        "import sys; from pathlib import Path; from hounsfield.io.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], progress=lambda *_: None, tell=lambda _: None)"
    )
    words = [sys.executable, "-c", code, f"{site.base}/a.bin", str(tmp_path / "a.bin"), md5(CONTENT)]
    part = tmp_path / "a.bin.part"
    with subprocess.Popen(words) as process:
        limit = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size > 200_000) and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    there = part.stat().st_size
    assert 200_000 < there <= 300_000
    load(site, tmp_path)
    assert site.ranges == [None, f"bytes={there}-"]
    assert site.sent[1] == SIZE - there


def test_a_kill_before_the_check_loads_nothing_again(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "md5_of", stop)
        with pytest.raises(KeyboardInterrupt):
            load(site, tmp_path)
    load(site, tmp_path)
    assert len(site.seen) == 1


def test_a_stall_is_given_up_and_continued(site: Site, tmp_path: Path) -> None:
    site.script = [stalls(100_000)]
    said = load(site, tmp_path)
    assert any("nothing arrived for 0.3 s" in line for line in said)
    assert site.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("behave", [status(503), status(429), status(500), status(408), resets])
def test_what_passes_is_tried_again(site: Site, tmp_path: Path, behave: Behaviour) -> None:
    site.script = [behave, behave]
    load(site, tmp_path)
    assert len(site.seen) == 3


def test_pauses_grow_and_a_server_may_ask_for_longer(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(module, "PAUSE", 2.0)
    monkeypatch.setattr(module, "TRIES", 6)
    site.script = [
        status(503),
        status(503),
        status(429, **{"Retry-After": "30"}),
        status(503, **{"Retry-After": "99999"}),
        status(503, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ]
    load(site, tmp_path)
    assert pauses == [2, 4, 30, 120, 32]


def test_progress_begins_the_count_anew(site: Site, tmp_path: Path) -> None:
    site.script = [status(503), status(503), drops(100_000), status(503), drops(100_000)]
    load(site, tmp_path)
    assert len(site.seen) == 6


def test_there_is_an_end_to_trying(site: Site, tmp_path: Path) -> None:
    site.script = [status(503)] * 9
    error = fails(site, tmp_path)
    assert error.found == f"the server answered 503 Service Unavailable, at the last of {TRIES} tries"
    assert len(site.seen) == TRIES
    site.script = [drops(100_000)] + [drops(0)] * 9
    assert "goes on where it stopped" in fails(site, tmp_path, left=True).fix
    assert len(site.seen) == 2 * TRIES


@pytest.mark.parametrize(
    ("code", "said"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone"), (416, "416"), (204, "204")]
)
def test_other_answers_are_final(site: Site, tmp_path: Path, code: int, said: str) -> None:
    site.script = [status(code)]
    error = fails(site, tmp_path)
    assert error.found.startswith(f"the answer {said}")
    assert error.where == f"{site.base}/x/a.bin?y=1"
    assert len(site.seen) == 1


def test_a_server_that_knows_no_ranges_begins_anew(site: Site, tmp_path: Path) -> None:
    site.script = [drops(100_000), no_range]
    load(site, tmp_path)
    assert site.ranges == [None, "bytes=100000-"]
    assert site.sent[1] == SIZE


def test_a_server_that_knows_no_ranges_and_always_drops_is_given_up(site: Site, tmp_path: Path) -> None:
    site.script = [drops(300_000, ranges=False)] * 9
    fails(site, tmp_path, left=True)
    assert len(site.seen) == TRIES


@pytest.mark.parametrize("behave", [None, careless])
def test_another_version_begins_anew(site: Site, tmp_path: Path, behave: Behaviour | None) -> None:
    def first(site: Site, request: Any) -> None:
        drops(100_000)(site, request)
        site.content, site.tag = OTHER, '"2"'

    site.script = [first, *([behave] if behave else [])]
    load(site, tmp_path, OTHER)


def test_a_version_of_another_length_begins_anew(tmp_path: Path) -> None:
    def first(site: Site, request: Any) -> None:
        drops(100_000)(site, request)
        site.content = OTHER[:-1]

    with serving(CONTENT, "") as site:
        site.script = [first]
        load(site, tmp_path, OTHER[:-1])


def test_a_file_that_became_shorter_than_what_has_arrived(tmp_path: Path) -> None:
    def first(site: Site, request: Any) -> None:
        drops(100_000)(site, request)
        site.content = OTHER[:50_000]

    with serving(CONTENT, "") as site:
        site.script = [first]
        said = load(site, tmp_path, OTHER[:50_000])
        assert any("has become shorter" in line for line in said)


def test_pieces_of_two_versions_that_nothing_tells_apart(tmp_path: Path) -> None:
    def first(site: Site, request: Any) -> None:
        drops(100_000)(site, request)
        site.content = OTHER

    with serving(CONTENT, "") as site:
        site.script = [first]
        said = load(site, tmp_path, OTHER)
        assert site.ranges == [None, "bytes=100000-", None]
        mixed = md5(CONTENT[:100_000] + OTHER[100_000:])
        assert f"a.bin: the pieces do not make the published file (MD5 {mixed}); deleted, and loaded in one" in said


def test_a_damaged_file_is_deleted_and_named(site: Site, tmp_path: Path) -> None:
    site.script = [corrupts]
    error = fails(site, tmp_path)
    damaged = bytearray(CONTENT)
    damaged[SIZE // 2] ^= 1
    assert error.found == f"a file of MD5 {md5(bytes(damaged))}, which is deleted"
    assert error.expected == f"MD5 {md5(CONTENT)}"
    assert len(site.seen) == 1


def test_a_length_that_is_a_lie(site: Site, tmp_path: Path) -> None:
    site.script = [claims(SIZE + 1000)] * 9
    assert f"after {SIZE} of {SIZE + 1000} bytes" in fails(site, tmp_path, left=True).found
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    site.script = [claims(SIZE - 1000)]
    assert fails(site, tmp_path).found == f"a file of MD5 {md5(CONTENT[:-1000])}, which is deleted"


def test_a_length_that_is_not_told(site: Site, tmp_path: Path) -> None:
    site.script = [claims(None)]
    assert fails(site, tmp_path).found == "an answer without the file's size"


def test_nobody_there_is_said_at_once(site: Site, tmp_path: Path) -> None:
    site.stop()
    error = fails(site, tmp_path)
    assert error.found == "no connection (Connection refused)"
    assert error.expected == "an answer of 127.0.0.1"


def test_no_network_is_said_at_once(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*args: Any, **named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    assert fails(site, tmp_path).found == "no connection (Name or service not known)"
    assert site.seen == []


def test_a_network_that_goes_away_is_waited_for(site: Site, tmp_path: Path) -> None:
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if "trying again" in line and not site.over.is_set():
            site.stop()

    site.script = [drops(100_000)]
    with pytest.raises(ResourceError, match=r"Connection refused, at the last of 3 tries"):
        download(f"{site.base}/a", tmp_path / "a.bin", md5(CONTENT), progress=lambda *_: None, tell=tell)
    assert sum("trying again" in line for line in said) == TRIES - 1
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize(("room", "free", "enough"), [(1, SIZE, True), (1, SIZE - 1, False), (2, 2 * SIZE - 1, False)])
def test_the_disk_is_looked_at_first(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, free: int, enough: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    if enough:
        load(site, tmp_path, room=room)
        return
    with pytest.raises(ResourceError, match="DISK_FULL") as caught:
        load(site, tmp_path, room=room)
    assert caught.value.expected == f"{room * SIZE} bytes free"
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_missing_must_fit(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.script = [drops(300_000)] + [drops(0)] * 9
    fails(site, tmp_path, left=True)
    site.script = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    load(site, tmp_path)


def test_a_disk_that_fills_keeps_what_has_arrived(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def filling(answer: Any, left: int) -> Iterator[bytes]:
        yield answer.read(150_000)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_pieces", filling)
        with pytest.raises(ResourceError, match="DISK_FULL") as caught:
            load(site, tmp_path)
    assert caught.value.exit_code == 3
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:150_000]
    load(site, tmp_path)
    assert site.ranges == [None, "bytes=150000-"]


def test_redirects_are_followed_with_the_range(site: Site, tmp_path: Path) -> None:
    site.script = [status(302, Location="/elsewhere"), drops(100_000), status(307, Location=f"{site.base}/moved")]
    load(site, tmp_path)
    assert [s["path"] for s in site.seen] == ["/x/a.bin?y=1", "/elsewhere", "/x/a.bin?y=1", "/moved"]
    assert site.ranges == [None, None, "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a.bin", "data:text/plain,a"])
def test_only_the_web_is_followed(site: Site, tmp_path: Path, target: str) -> None:
    site.script = [status(302, Location=target)]
    fails(site, tmp_path)
    assert len(site.seen) == 1
    with pytest.raises(ResourceError, match=r"FETCH_FAILED .* expected http or https"):
        download(target, tmp_path / "a.bin", md5(CONTENT), progress=lambda *_: None, tell=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_circle_of_redirects_ends(site: Site, tmp_path: Path) -> None:
    site.script = [status(302, Location="/a")] * 40
    fails(site, tmp_path)
    assert len(site.seen) < 20


def test_a_file_that_is_there_is_not_loaded_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert load(site, tmp_path) == []
    assert site.seen == []
    (tmp_path / "a.bin").write_bytes(OTHER)
    load(site, tmp_path)
    assert len(site.seen) == 1


@pytest.mark.parametrize("about", ["", "[]", '{"total": 400000}', '{"total": "many", "tag": ""}'])
def test_a_part_of_unknown_origin_begins_anew(site: Site, tmp_path: Path, about: str) -> None:
    (tmp_path / "a.bin.part").write_bytes(OTHER[:100_000])
    (tmp_path / "a.bin.part.json").write_text(about)
    load(site, tmp_path)
    assert site.ranges == [None]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3000), max_size=6), st.booleans())
def test_any_row_of_drops_gives_the_file(lengths: list[int], ranges: bool) -> None:
    content = CONTENT[:2000]
    with pytest.MonkeyPatch.context() as patch, serving(content) as site, tempfile.TemporaryDirectory() as folder:
        patch.setattr(module, "TRIES", 9)
        patch.setattr(module, "PAUSE", 0.0)
        site.script = [drops(length, ranges) for length in lengths]
        load(site, Path(folder), content)
        if ranges:
            assert sum(site.sent) == len(content)
