"""Peak memory and pace of `hounsfield inspect` on many small pictures: `python benchmarks/audit_memory.py [--files 10000]`.

Writes made-up pictures in two class folders, inspects them in a process of its own, once reading every pixel with a page, once
the headers alone, and prints one JSON document: peak resident memory in MB (10^6 bytes), seconds and files a second of each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

CHILD = """
import resource, sys
from hounsfield.workflow.inspect import inspect
found = inspect(sys.argv[1], fast=sys.argv[2] == "fast", html=sys.argv[3] or None)
unit = 1 if sys.platform == "darwin" else 1024
print(found.cases, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def write(folder: Path, files: int, side: int) -> None:
    """Soft blobs under noise, no two pictures alike."""
    draw = np.random.default_rng(0)
    for k in range(files):
        blobs = Pillow.fromarray(draw.standard_normal((12, 12)).astype(np.float32)).resize(
            (side, side), Pillow.Resampling.BICUBIC
        )
        field = np.asarray(blobs) + draw.normal(0, 0.05, (side, side))
        picture = (255 * (field - field.min()) / np.ptp(field)).astype(np.uint8)
        path = folder / ("healthy", "lesion")[k % 2] / f"{k:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(picture).save(path, compress_level=1)


def inspected(folder: Path, how: str, page: str) -> dict[str, float]:
    """One inspection in a process of its own."""
    begun = time.monotonic()
    command = [sys.executable, "-c", CHILD, str(folder), how, page]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - begun
    cases, peak = map(int, done.stdout.split())
    return {"peak_mb": round(peak / 1e6), "seconds": round(seconds, 1), "files_a_second": round(cases / seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=128)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ["HOUNSFIELD_CACHE"] = str(root / "cache")
        write(root / "data", given.files, given.side)
        found: dict[str, object] = {"files": given.files, "side": given.side}
        found["full"] = inspected(root / "data", "full", str(root / "page.html"))
        found["full, measured before"] = inspected(root / "data", "full", "")
        found["headers"] = inspected(root / "data", "fast", "")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
