"""Weights on disk: what is read is what was written, whatever its first bytes are, and pickles are refused unread."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from hounsfield.core.errors import InputError
from hounsfield.workflow.run import read_tensors, write_tensors


def test_a_header_that_begins_like_a_pickle_is_none(tmp_path: Path) -> None:
    """Safetensors begin with a length; over all lengths of one name, every multiple of 8 comes up as its lowest byte."""
    first = set()
    for k in range(0, 256, 8):
        path = tmp_path / f"{k}.safetensors"
        write_tensors(path, {"w" * (k + 1): torch.ones(2)})
        assert torch.equal(read_tensors(path)["w" * (k + 1)], torch.ones(2))
        first.add(path.read_bytes()[0])
    assert 0x80 in first


@pytest.mark.parametrize("kind", ["pickle", "archive"])
def test_a_pickle_is_refused_and_nothing_runs(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "weights.safetensors", tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (mark,)

    if kind == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    else:
        torch.save(Payload(), path)
    with pytest.raises(InputError, match=r"^UNSAFE_FILE .*pickle or torch archive"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"\x10" + bytes(7) + b"{", b"PK", bytes(100)])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"^(BAD_WEIGHTS|UNSAFE_FILE) "):
        read_tensors(path)
