"""How fast the series of a large folder are listed: python benchmarks/headers.py [--files 4000].

Copies the CT slice that comes with pydicom, each with a UID of its own, in ten series of two studies, and prints files a second
in one process and as `hounsfield.list_series` reads them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hounsfield import io
from hounsfield.io import scan
from hounsfield.io.series import read_header, series_of

TURNS = 3


def fill(folder: Path, count: int) -> None:
    import pydicom
    from pydicom.data import get_testdata_file
    from pydicom.uid import UID

    source = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for k in range(count):
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.3680043.8.498.1.{k + 1}")
        source.SeriesInstanceUID, source.SeriesNumber = f"1.2.826.0.1.3680043.8.498.2.{k % 10 + 1}", k % 10 + 1
        source.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.3.{k % 2 + 1}"
        source.save_as(folder / f"IM{k:05d}")


def rate(work: Callable[[], object], count: int) -> str:
    """Files a second: median, least and most of TURNS."""
    rates = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - begun))
    return f"{statistics.median(rates):,.0f} [{min(rates):,.0f}, {max(rates):,.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=4000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, count)
        listed = io.list_series(folder)
        assert [s.files for s in listed] == [count // 10] * 10
        assert {s.study for s in listed} == {1, 2}
        alone = rate(lambda: series_of([read_header(file) for file in scan.files(folder)]), count)
        both = rate(lambda: io.list_series(folder), count)
    sys.stdout.write(f"{count} files of 39 KB: one process {alone} files/s, two {both} files/s\n")


if __name__ == "__main__":
    main()
