"""Streams: the same bytes from a plain and a gzip file, piece by piece, with damage found at the end."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hounsfield.core.errors import InputError
from hounsfield.io.stream import Inflated, open_stream

CONTENT = np.random.default_rng(7).integers(0, 256, 300_000, dtype=np.uint8).tobytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 120_000)), max_size=8),
    members=st.integers(0, 4),
)
def test_filling_and_skipping_in_any_order_gives_the_bytes_in_order(
    tmp_path: Path, steps: list[tuple[bool, int]], members: int
) -> None:
    path = tmp_path / "a"
    cuts = np.linspace(0, len(CONTENT), members + 1).astype(int) if members else ()
    packed = [gzip.compress(CONTENT[a:b], compresslevel=1) for a, b in pairwise(cuts)]
    path.write_bytes(b"".join(packed) or CONTENT)
    at = 0
    with path.open("rb") as file:
        stream = open_stream(file, path)
        for skip, count in steps:
            there = min(count, len(CONTENT) - at)
            if skip:
                assert stream.skip(count) == there
            else:
                out = bytearray(count)
                assert stream.fill(memoryview(out)) == there
                assert bytes(out[:there]) == CONTENT[at : at + there]
            at += there
        assert stream.skip(len(CONTENT) + 1) == len(CONTENT) - at
        assert stream.whole


def test_a_cut_stream_is_not_whole_and_padding_after_the_end_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    packed = gzip.compress(CONTENT)
    for content, whole in ((packed[:-1], False), (packed[:1000], False), (packed + bytes(999), True), (packed + b"mail", True)):
        path.write_bytes(content)
        with path.open("rb") as file:
            stream = open_stream(file, path)
            found = stream.skip(1 << 30)
            assert stream.whole is whole
            assert found == len(CONTENT) or content == packed[:1000]


def test_a_wrong_checksum_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT)[:-8] + bytes(8))
    with path.open("rb") as file, pytest.raises(InputError, match="CORRUPT_PIXELS"):
        open_stream(file, path).skip(1 << 30)


def test_a_bare_deflate_stream_ends_where_it_ends(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    (tmp_path / "a").write_bytes(packer.compress(CONTENT) + packer.flush() + b"\0")
    with (tmp_path / "a").open("rb") as file:
        stream = Inflated(file, tmp_path / "a", raw=True)
        out = bytearray(len(CONTENT))
        assert stream.fill(memoryview(out)) == len(CONTENT)
        assert stream.skip(1) == 0
        assert (bytes(out), stream.whole) == (CONTENT, True)


def test_a_bomb_is_passed_over_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    path.write_bytes(b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush())
    assert path.stat().st_size < 200_000
    with path.open("rb") as file:
        tracemalloc.start()
        assert open_stream(file, path).skip(100 << 20) == 100 << 20
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20
