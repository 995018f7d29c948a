"""Which device does the work, and what to say when its memory does not hold it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hounsfield.core.errors import InputError, ResourceError


def choose_device(name: str = "auto") -> torch.device:
    """auto: CUDA, else MPS, else the CPU; "cuda:1" names the second. Raises InputError BAD_OPTION for what is absent."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if there[d]))
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there.get(kind, False) or (":" in name and not (index.isdecimal() and int(index) < count)):
        have = ", ".join(d for d, ok in there.items() if ok)
        raise InputError(
            "BAD_OPTION", "--device", found=f"{name!r}, which is not here", expected=f"one of {have}", fix="leave --device out"
        )
    return torch.device(name)


@contextmanager
def memory_guard(where: str, smaller: str) -> Iterator[None]:
    """Turns every framework's out-of-memory into ResourceError OUT_OF_MEMORY that names the smaller setting."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _too_much(where, smaller, str(error)) from error
    except RuntimeError as error:
        # The CPU allocator raises a plain RuntimeError, with other words on Linux and Windows.
        if not any(words in str(error) for words in ("can't allocate memory", "not enough memory", "out of memory")):
            raise
        raise _too_much(where, smaller, str(error)) from error


def _too_much(where: str, smaller: str, message: str) -> ResourceError:
    first = next(iter(message.splitlines()), "")[:200] or "no memory left"
    return ResourceError("OUT_OF_MEMORY", where, found=first, expected="memory for it", fix=smaller)
