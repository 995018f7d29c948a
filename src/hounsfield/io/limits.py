"""How much a file may claim, whether the disk holds what is written, and writing that leaves no half a file."""

from __future__ import annotations

import errno
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hounsfield.core.errors import InputError, ResourceError

# Pixels of one 2D plane: a 30,000 x 30,000 mosaic passes, a header that says 50,000 x 50,000 does not.
MAX_PIXELS = 1_000_000_000
# Deflate cannot pack more than this many bytes into one (zlib's technical notes), so a smaller file is lying.
DEFLATE_RATIO = 1032
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # what the system says where a disk is full


def max_bytes() -> int:
    """Largest decoded image in bytes: 16 GiB, or what HOUNSFIELD_MAX_GIB says. Raises InputError BAD_OPTION."""
    text = os.environ.get("HOUNSFIELD_MAX_GIB", "16")
    try:
        limit = float(text) * 2**30
    except ValueError:
        limit = -1.0
    if not 0 < limit < math.inf:
        raise InputError(
            "BAD_OPTION",
            "HOUNSFIELD_MAX_GIB",
            found=repr(text),
            expected="GiB as a number above 0",
            fix="set it so, or unset it",
        )
    return int(limit)


def size_text(count: int) -> str:
    """A number of bytes for a message: exact, and from 1 MiB on also in GiB."""
    return f"{count} bytes" if count < 2**20 else f"{count} bytes ({count / 2**30:.2f} GiB)"


def claimed(path: Path, shape: Sequence[int], bits: int) -> int:
    """Bytes that a header's claim of `shape` voxels, its last two axes a plane, of `bits` each needs.

    Raises InputError TOO_LARGE past the limit of bytes or of pixels a plane, before anything is allocated.
    """
    needed = (math.prod(shape) * bits + 7) // 8
    pixels = math.prod(shape[-2:])
    allowed = max_bytes()
    if needed > allowed or pixels > MAX_PIXELS:
        limit = f"{size_text(allowed)} (HOUNSFIELD_MAX_GIB)" if needed > allowed else f"{MAX_PIXELS} pixels a plane"
        size = path.stat().st_size if path.is_file() else 0
        raise InputError(
            "TOO_LARGE",
            path,
            found=f"a claim of {'x'.join(str(s) for s in shape)} voxels, {size_text(needed)}, by a file of {size_text(size)}",
            expected=f"at most {limit}",
            fix="repair the header or cut the image up; a true claim of bytes needs a higher HOUNSFIELD_MAX_GIB",
        )
    return needed


def truncated(path: Path, found: int, needed: int, what: str) -> InputError:
    """The error TRUNCATED: `found` bytes of `what` where `needed` are."""
    return InputError(
        "TRUNCATED",
        path,
        found=f"{found} bytes of {what}",
        expected=f"{needed} bytes",
        fix="copy or export the file again",
    )


def check_disk(path: Path, needed: int) -> None:
    """Raises ResourceError DISK_FULL where the file system of the folder `path` has less than `needed` bytes free."""
    free = shutil.disk_usage(path).free
    if free < needed:
        raise disk_full(path, f"{size_text(free)} free", needed)


@contextmanager
def atomic(path: Path, needed: int = 0) -> Iterator[Path]:
    """A path beside `path`, of the same endings, that becomes `path` when the block ends; on any failure nothing is left
    and an older `path` is as it was. Missing parent folders are made.

    needed: bytes that will be written. Raises ResourceError DISK_FULL, before or while writing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_disk(path.parent, needed)
    beside = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(path, "no space left", needed) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def disk_full(path: Path, found: str, needed: int) -> ResourceError:
    """The error DISK_FULL: `found` room where `needed` bytes are, 0 for an unknown number."""
    expected = f"{size_text(needed)} free" if needed else "room for the file"
    return ResourceError("DISK_FULL", path, found=found, expected=expected, fix="free some space or write elsewhere")
