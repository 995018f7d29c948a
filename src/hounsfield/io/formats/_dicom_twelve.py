"""JPEG of 12-bit samples, decoded in a second process: GDCM alone has them here, and ends its process on some damaged files."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# -P: no module is taken from the folder that the user happens to be in.
_DECODER: Final = ("-P", "-c", "from hounsfield.io.formats._dicom_twelve import answer; answer()")
_SECONDS, _A_SECOND = 30.0, 2**20  # to start, and values decoded in a second at least


def decoded(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint16] | None:
    """The stored values of all frames, as `shape` says; None where they cannot be decoded, or are of another number."""
    count = math.prod(shape)
    try:
        child = subprocess.run(  # noqa: S603
            [sys.executable, *_DECODER],
            input=str(path.resolve()).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS + count / _A_SECOND,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if child.returncode != 0 or len(child.stdout) != 2 * count:
        return None
    return np.frombuffer(child.stdout, np.uint16).reshape(shape)


def answer() -> None:
    """The second process: a path on the standard input is answered by the values, 16 bits each."""
    import gdcm

    reader: Any = gdcm.ImageReader()
    reader.SetFileName(sys.stdin.read())
    if not reader.Read():
        sys.exit(1)
    sys.stdout.buffer.write(reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape"))
